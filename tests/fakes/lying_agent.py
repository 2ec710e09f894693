"""Agents that speak the protocol well and say what none would: each name in `LIES` is one kind of wrong value.

A peer (`hostile_server.hostile(name)`) answers every request of a controller, so that each command gets as far as the lie.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from litefleet_agent import facts as facts_package
from litefleet_agent.protocol import FrameDecoder, Header

__all__ = ["LIES", "answer_to", "decoder"]

Hello = dict[str, Any]
HUGE = 10**400
RELEASE = "ab" * 32


def decoder() -> FrameDecoder:
    """Return a decoder for what the controller sends."""
    return FrameDecoder()


def _hello() -> Hello:
    facts = facts_package.gather("/").to_dict()
    return {
        "agent": "cd" * 32,
        "root": "/var/lib/litefleet",
        "boot": "one",
        "facts": facts,
        "fingerprint": "ef" * 32,
        "blobs": {},
        "runtimes": [],
        "current": {"cls": RELEASE},
        "previous": {},
        "verified": {RELEASE: {"fingerprint": "ef" * 32, "at": 1, "measurements": {"latency_ms": {"min": 1.0}}}},
        "leases": {},
        "undone": [],
        "kept": {},
        "trust": {},
        "reports": [],
        "heartbeat_s": 5,
    }


def _alien(hello: Hello) -> Hello:
    return {**hello, "facts": {**hello["facts"], "arch": "riscv64", "machine": "riscv64"}}


def _huge(hello: Hello) -> Hello:
    return {**hello, "undone": [{"model": "cls", "release": RELEASE, "at": HUGE}]}


def _huge_facts(hello: Hello) -> Hello:
    return {**hello, "facts": {**hello["facts"], "memory": {"total": HUGE, "available": 1}}}


def _infinite(hello: Hello) -> Hello:
    return {
        **hello,
        "heartbeat_s": float("inf"),
        "undone": [{"model": "cls", "release": RELEASE, "at": float("inf")}],
        "leases": {"cls": {"release": RELEASE, "before": "", "remaining_s": float("nan")}},
        "verified": {RELEASE: {"fingerprint": "ef" * 32, "at": float("nan"), "measurements": _measured(1e308)}},
    }


def _unhashable(hello: Hello) -> Hello:
    return {
        **hello,
        "fingerprint": ["x"],
        "current": {"cls": [{}]},
        "previous": {"cls": {}},
        "runtimes": [[1], {}],
        "kept": {"cls": [[{}]]},
        "reports": [{"id": [], "release": {}, "model": []}, 7],
        "undone": [[], {"at": [1]}, None],
        "leases": {"cls": [1]},
        "blobs": {"x": []},
    }


def _wrong_types(hello: Hello) -> Hello:
    return {name: 5 if name != "facts" else value for name, value in hello.items()}


def _nothing(hello: Hello) -> Hello:
    return {name: None if name != "facts" else value for name, value in hello.items()}


def _surrogates(hello: Hello) -> Hello:
    return {**hello, "root": "/\ud800", "fingerprint": "\udfff", "current": {"cls": "\ud800" * 64}, "boot": "\udc80"}


def _odd_names(hello: Hello) -> Hello:
    facts = {**hello["facts"], "hostname": "\x1b[31m\n", "model": "\ud800"}
    return {**hello, "facts": facts, "current": {"../../pwn": RELEASE, "": ""}}


LIES: dict[str, Callable[[Hello], Hello]] = {
    "alien": _alien,
    "huge": _huge,
    "huge-facts": _huge_facts,
    "infinite": _infinite,
    "unhashable": _unhashable,
    "wrong-types": _wrong_types,
    "nothing": _nothing,
    "surrogates": _surrogates,
    "odd-names": _odd_names,
}


def _measured(value: float) -> dict[str, object]:
    return {
        "load_ms": value,
        "latency_ms": {"min": value, "p50": float("nan"), "p90": -value, "p99": float("inf")},
        "peak_rss_bytes": value,
        "outputs": [{"name": [], "max_abs": value, "cosine": float("nan"), "ok": "yes"}, 7],
        "threads": {},
    }


def _result(name: str) -> dict[str, object]:
    """The answer to every request but hello: as true as needed for the next request, and as wrong as possible."""
    value = HUGE if name == "huge" else 1e308
    return {
        "verified": True,
        "verdict": "verified",
        "measurements": _measured(value),
        "findings": [{"code": [], "seen": {}}, 7, {"code": "LF403", "seen": ["x"], "certainty": {}}],
        "detail": {"a": "\ud800"},
        "models": {"cls": {"release": [], "findings": [None, {"code": "LF601"}]}},
        "changed": "perhaps",
        "current": [],
        "releases": [{"release": 7, "warm": {"min": value}}],
        "answers": [[]],
        "by": {},
        "release": {},
        "parts": {"seccomp": 5},
    }


def answer_to(name: str, request: Header) -> bytes:
    """Return the frame with which the agent `name` answers a request, as JSON that Python's encoder writes."""
    result = LIES[name](_hello()) if request.get("op") == "hello" else _result(name)
    data = json.dumps({"re": request.get("id"), "result": result}).encode()
    return b"LFF1" + len(data).to_bytes(4, "big") + bytes(8) + data
