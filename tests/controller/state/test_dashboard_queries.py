"""The dashboard's pages over both kinds of databases."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.controller.serve.serving import HTML, app_of, service_in


@pytest.fixture
def client(where: str, tmp_path: Path) -> TestClient:
    service = service_in(tmp_path)
    config = tmp_path / "litefleet.yaml"
    config.write_text(config.read_text() + f"state: {where!r}\n")
    client = TestClient(app_of(service), base_url="http://127.0.0.1:8470")
    page = client.get(f"/login?link={service.auth.link.secret}", headers=HTML)
    assert page.status_code == 200, page.text
    return client


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/devices?q=cam&sort=last_seen",
        "/devices?drift=1&status=new",
        "/devices/cam-1",
        "/rollouts",
        "/models",
        "/metrics",
    ],
)
def test_each_page_reads_either_database(client: TestClient, path: str) -> None:
    page = client.get(path, headers=HTML)
    assert page.status_code == 200, page.text[:2000]
    if path in ("/", "/devices?q=cam&sort=last_seen"):
        assert "cam-1" in page.text
