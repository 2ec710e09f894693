"""The role of every route of the application, by the application's own table: a route without a role fails here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from litefleet_controller.serve.app import make_app
from litefleet_controller.serve.auth import Role
from litefleet_controller.serve.auth.requests import ROLE
from litefleet_controller.serve.service import Service
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from tests.controller.serve.serving import service_in

# What needs no role: /logout ends the session of whoever has one; the others are for people who have not logged in yet.
PUBLIC = {"/login", "/logout", "/healthz", "/static"}
_READING = ("GET", "HEAD")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = service_in(Path(tmp_path_factory.mktemp("roles")))
    yield made
    made.jobs.close()
    made.opened.close()


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(make_app(service), base_url="http://127.0.0.1:8470", follow_redirects=False)


@pytest.fixture(scope="module")
def tokens(service: Service) -> dict[Role, dict[str, str]]:
    return {role: {"authorization": f"Bearer {service.auth.users.add(f'{role}-user', role)}"} for role in Role}


def table(service: Service) -> list[tuple[str, str, Role]]:
    """Return (method, path, role) of everything that the application answers, except for what is public."""
    found = []
    for route in make_app(service).routes:
        assert isinstance(route, Route | Mount)
        if route.path in PUBLIC:
            continue
        assert isinstance(route, Route), f"{route.path}: what is mounted has no role"
        role = getattr(route.endpoint, ROLE, None)
        assert role is not None, f"{route.path} has no role: decorate its endpoint with @needs, or name it in PUBLIC"
        for method in sorted((route.methods or set()) - {"HEAD"}):
            needed = role if isinstance(role, Role) else role[method]
            found.append((method, re.sub(r"\{[^}]*\}", "x", route.path), needed))
    return found


def test_every_route_refuses_nobody_and_each_lower_role(
    service: Service, client: TestClient, tokens: dict[Role, dict[str, str]]
) -> None:
    rows = table(service)
    assert len(rows) > 40
    assert {role for _, _, role in rows} == set(Role)
    for method, path, needed in rows:
        for asked in (method, "HEAD") if method == "GET" else (method,):
            assert client.request(asked, path).status_code == 401, (asked, path)
            for role, headers in tokens.items():
                if not role.includes(needed):
                    assert client.request(asked, path, headers=headers).status_code == 403, (asked, path, role)


def test_what_changes_something_needs_more_than_view_except_for_ones_own_views(service: Service) -> None:
    changing = {path for method, path, role in table(service) if method not in _READING and role is Role.VIEW}
    assert changing == {"/views", "/views/delete"}


def test_who_has_the_role_is_not_refused(
    service: Service, client: TestClient, tokens: dict[Role, dict[str, str]]
) -> None:
    for method, path, needed in table(service):
        if method == "GET" and not path.endswith("/events"):
            response = client.request(method, path, headers=tokens[needed])
            assert response.status_code in (200, 303, 404, 422, 502), (path, response.status_code, response.text)


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PATCH", "PROPFIND", "X" * 40])
def test_other_methods_do_nothing(client: TestClient, tokens: dict[Role, dict[str, str]], method: str) -> None:
    for path in ("/", "/api/v1/devices/cam-1", "/devices/cam-1/forget", "/login", "/healthz", "/static/dashboard.css"):
        refused = client.request(method, path, headers=tokens[Role.ADMIN])
        assert refused.status_code == 405, path
        assert refused.headers["allow"]
