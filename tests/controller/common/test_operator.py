"""Who acts: the person's name, from a variable, CI, the configuration, sudo or the system, in this order."""

from __future__ import annotations

import socket

import pytest
from litefleet_controller.common.operator import actor, operator, system_user


@pytest.mark.parametrize(
    ("environ", "configured", "name"),
    [
        ({}, "", ""),
        ({}, "ops team", "ops team"),
        ({"SUDO_USER": "ann"}, "", "ann"),
        ({"SUDO_USER": "ann"}, "ops team", "ops team"),
        ({"GITHUB_ACTOR": "bo", "SUDO_USER": "ann"}, "ops team", "bo"),
        ({"GITLAB_USER_LOGIN": "cy"}, "", "cy"),
        ({"LITEFLEET_OPERATOR": "dee", "GITHUB_ACTOR": "bo"}, "ops team", "dee"),
        ({"LITEFLEET_OPERATOR": "  "}, "ops team", "ops team"),
        ({"LITEFLEET_OPERATOR": "a\x1b[31m\nb"}, "", "a\\x1b[31m b"),
    ],
)
def test_the_nearest_name_counts(environ: dict[str, str], configured: str, name: str) -> None:
    user = system_user()
    assert operator(configured, environ) == (f"{name} as {user}" if name else user)


def test_the_systems_own_user_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITEFLEET_OPERATOR", system_user())
    assert actor() == f"{system_user()}@{socket.gethostname()}"
    monkeypatch.setenv("LITEFLEET_OPERATOR", "dee")
    assert actor("bo") == f"dee as {system_user()}@{socket.gethostname()}"
