"""The OpenAPI document, and a real server held against it by schemathesis: no internal error, every answer as described."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, settings
from litefleet_controller.serve.api.openapi import openapi
from schemathesis import Case

from tests.e2e.serving import Server

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server, behind a proxy that it trusts, over a project whose only device does not answer."""
    folder = tmp_path_factory.mktemp("schema")
    (folder / "fleet.yaml").write_text("devices: {cam-1: {host: 127.0.0.1, port: 1}}\n")
    config = {"fleet": "shop", "inventory": "fleet.yaml", "store": "store", "models": {"cls": {"source": "model"}}}
    (folder / "litefleet.yaml").write_text(yaml.safe_dump(config))
    made = Server(folder / "litefleet.yaml", arguments=("--trusted-proxy", "127.0.0.1"))
    made.start()
    assert made.get("/audit").status == 200  # the first request makes the state, which takes seconds on a busy machine
    yield made
    assert made.end() == 0


schema = schemathesis.openapi.from_dict(openapi())  # with every check of schemathesis


@schema.parametrize()
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_it_is_described(case: Case, server: Server) -> None:
    number = next(_NUMBERS)
    # Each case is of another address: schemathesis tries wrong tokens too, and a few of one address hold it up for a while.
    given = {
        "Authorization": f"Bearer {server.tokens['admin']}",
        "X-Forwarded-For": f"198.51.{number >> 8}.{number % 256}",
    }
    if case.meta is not None and case.meta.generation.mode.is_positive and "Idempotency-Key" in case.headers:
        given["Idempotency-Key"] = f"key-{number}"  # the description cannot say that a key is of one request
    case.call_and_validate(server.url, headers=given, timeout=60)


def test_the_document_names_every_operation_once(server: Server) -> None:
    document = server.get("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(names) == len(set(names)) >= 30
    for path in document["paths"].values():
        for method, one in path.items():
            assert one["summary"], one
            assert ("Idempotency-Key" in str(one["parameters"])) == (method != "get"), one
            assert any(code in one["responses"] for code in ("200", "202"))
