"""One delivery by each way, against real servers: signed, verified, bounded, and in both languages."""

from __future__ import annotations

import email
import email.policy
import json
import os
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from litefleet_controller.config.notify import ReceiverConfig
from litefleet_controller.notify import DeliveryError, send_now
from litefleet_controller.notify.webhook import signature
from litefleet_controller.rollout import DeviceState
from litefleet_controller.state import Notice
from pydantic import ValidationError

from tests.controller.notify.receivers import Certificate, Hook, Mails, hook, mail_server, make_certificate

STOPPED = {
    "rollout": {
        "id": "r-20261128-0001",
        "kind": "rollout",
        "state": "paused",
        "wave": 1,
        "waves": 3,
        "models": ["cls"],
        "by": "ann@desk",
        "reason": "pause was asked for by an operator",
        "rows": {"confirmed": 2, "failed": 1},
    },
    "devices": [{"name": "cam-1"}],
    "device_count": 1,
}
LOST = {
    "devices": [{"name": f"d{n}", "code": "LF501", "reason": "\x1b[2J{{ 7 * 7 }}"} for n in range(30)],
    "device_count": 40,
}


def notice(event: str = "stopped", content: dict[str, Any] = STOPPED, rollout: str = "r-20261128-0001") -> Notice:
    return Notice(1, "n-12", 1_795_000_000.0, "lab", "chat", event, rollout, content, "waiting", 0, 0.0, 0.0, "")


def webhook(url: str, **other: Any) -> ReceiverConfig:
    return ReceiverConfig.model_validate({"webhook": {"url": url, **other.pop("webhook", {})}, **other})


@pytest.fixture
def server() -> Iterator[Hook]:
    with hook() as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_a_webhook_gets_a_signed_document(server: Hook, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    send_now(webhook(server.url + "x?y=1", webhook={"secret": {"file": str(tmp_path / "key")}}), notice())
    (got,) = server.received
    assert got.path == "/x?y=1"
    assert got.headers["content-type"] == "application/json"
    stamp = int(got.headers["webhook-timestamp"])
    assert abs(stamp - time.time()) < 60
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert got.headers["webhook-signature"] == signature(key, "n-12", stamp, got.body)
    document = json.loads(got.body)
    assert document["title"] == "lab: rollout r-20261128-0001 is paused in wave 1 of 3"
    assert document["commands"][1] == "litefleet resume r-20261128-0001"
    assert (document["schema"], document["id"], document["event"], document["fleet"]) == (1, "n-12", "stopped", "lab")
    assert document["rollout"]["rows"] == {"confirmed": 2, "failed": 1}


def test_the_signature_is_the_one_of_standard_webhooks() -> None:
    # The example of the specification's own test suite.
    body = b'{"test": 2432232314}'
    made = signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    with pytest.raises(DeliveryError, match="not base64"):
        signature("whsec_!", "", 0, b"")


@pytest.mark.parametrize(
    ("status", "sentence"), [(301, "redirect .301., which is not followed"), (404, "status 404"), (503, "status 503")]
)
def test_a_receiver_that_refuses(server: Hook, status: int, sentence: str) -> None:
    server.statuses = [status]
    with pytest.raises(DeliveryError, match=sentence):
        send_now(webhook(server.url), notice())
    assert len(server.received) == 1


def test_a_receiver_that_drips_is_left_after_the_limit(server: Hook) -> None:
    server.drip_s = 5.0
    began = time.monotonic()
    with pytest.raises(DeliveryError, match=r"did not respond within 0\.5 s"):
        send_now(webhook(server.url, webhook={"time_limit_s": 0.5}), notice())
    assert time.monotonic() - began < 4


def test_a_certificate_is_verified(certificate: Certificate) -> None:
    with hook(certificate) as server:
        with pytest.raises(DeliveryError, match="certificate cannot be trusted"):
            send_now(webhook(server.url), notice())
        assert server.received == []
        by_name = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(DeliveryError, match="certificate cannot be trusted"):
            send_now(webhook(by_name, webhook={"ca": str(certificate.file)}), notice())
        send_now(webhook(server.url, webhook={"ca": str(certificate.file)}), notice())
        assert len(server.received) == 1


def test_a_url_that_is_secret_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = ReceiverConfig.model_validate({"webhook": {"url": {"env": "HOOK"}}})
    with pytest.raises(DeliveryError, match="HOOK is not set"):
        send_now(receiver, notice())
    for url, sentence in [("http://example.org/s3cret", "not encrypted"), ("https://127.0.0.1:1/s3cret", "refused")]:
        monkeypatch.setenv("HOOK", url)
        with pytest.raises(DeliveryError, match=sentence) as raised:
            send_now(receiver, notice())
        assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"webhook": {"url": "http://example.org/"}}, "not encrypted"),
        ({"webhook": {"url": "https://user:word@example.org/"}}, "holds a user or a password"),
        ({"webhook": {"url": "ftp://example.org/"}}, "not a URL"),
        ({"webhook": {"url": "https://example.org/a b"}}, "not a URL"),
        ({"webhook": {"url": "https://e/", "secret": "word"}}, "valid dictionary"),
        ({"webhook": {"url": "https://e/", "secret": {}}}, "write `{file: FILE}`"),
        ({"email": {"server": "m:25", "sender": "a@b", "to": ["c@d"], "tls": "none"}}, "on this machine only"),
        ({"email": {"server": "m", "sender": "a@b", "to": ["c@d"]}}, "is not HOST:PORT"),
        ({"email": {"server": "m:25", "sender": "a@b", "to": ["c@d"], "user": "u"}}, "go together"),
        ({"email": {"server": "m:25", "sender": "a@b", "to": ["c@d\nBcc: e@f"]}}, "pattern"),
        ({"command": {"argv": []}}, "at least 1"),
        ({"command": {"argv": ["./x"]}}, "absolute path"),
        ({}, "give one of"),
        ({"command": {"argv": ["x"]}, "template": "t"}, "a command gets JSON"),
        ({"command": {"argv": ["x"]}, "events": ["everything"]}, "Input should be"),
    ],
)
def test_a_receiver_that_cannot_be(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        ReceiverConfig.model_validate(given)


def mailing(server: Mails, **other: Any) -> ReceiverConfig:
    settings = {"server": f"127.0.0.1:{server.port}", "sender": "fleet@example.org", "to": ["ops@example.org"]}
    return ReceiverConfig.model_validate({"email": {**settings, **other.pop("email", {})}, **other})


def read(mails: Mails) -> EmailMessage:
    content = mails.taken[-1].content
    assert isinstance(content, bytes)
    read = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


@pytest.mark.parametrize("at_once", [False, True])
def test_a_mail_goes_encrypted_with_a_login(
    certificate: Certificate, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL", "secret word")
    login = {"user": "litefleet", "password": {"env": "MAIL"}, "ca": str(certificate.file)}
    login["tls"] = "tls" if at_once else "starttls"
    with mail_server(certificate, at_once) as mails:
        send_now(mailing(mails, email=login, language="zh"), notice())
        mail = read(mails)
        assert mail["Subject"] == "lab：部署 r-20261128-0001 在第 1 波（共 3 波）已暂停"
        assert (mail["To"], mail["Message-ID"]) == ("ops@example.org", "<n-12@example.org>")
        assert "操作者" in mail.get_content()
        with pytest.raises(DeliveryError, match="certificate cannot be trusted"):
            send_now(mailing(mails, email={**login, "ca": None}), notice())
        monkeypatch.setenv("MAIL", "wrong word")
        with pytest.raises(DeliveryError, match="535") as raised:
            send_now(mailing(mails, email=login), notice())
        assert "wrong word" not in str(raised.value)
        assert len(mails.taken) == 1


def test_a_mail_server_without_tls_gets_no_mail() -> None:
    with mail_server(None) as mails:
        with pytest.raises(DeliveryError, match="does not offer"):
            send_now(mailing(mails), notice())
        with pytest.raises(DeliveryError, match="refused"):
            send_now(mailing(mails, email={"tls": "none", "to": ["nobody@example.org"]}), notice())
        send_now(mailing(mails, email={"tls": "none"}), notice("device-lost", LOST))
        text = read(mails).get_content()
    assert "\x1b" not in text
    assert "{{ 7 * 7 }}" in text  # what a device sends is no template
    assert "- and 20 more" in text
    assert len(mails.taken) == 1


def test_a_command_gets_json_and_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", "secret")
    script = tmp_path / "hook.sh"
    script.write_text(f'#!/bin/sh\n{{ cat; echo; env; pwd; echo "$@"; }} > {tmp_path}/got\n')
    script.chmod(0o755)
    send_now(ReceiverConfig.model_validate({"command": {"argv": [str(script), "$(id)", ";"]}}), notice())
    document, *rest = (tmp_path / "got").read_text().splitlines()
    assert json.loads(document)["event"] == "stopped"
    assert rest[-1] == "$(id) ;"
    assert "/" in rest
    assert not [line for line in rest if line.startswith("WORD=")]


def test_a_command_that_fails_hangs_or_is_missing(tmp_path: Path) -> None:
    def running(*argv: str) -> Callable[[], None]:
        receiver = ReceiverConfig.model_validate({"command": {"argv": argv, "time_limit_s": 0.5}})
        return lambda: send_now(receiver, notice())

    with pytest.raises(DeliveryError, match=r"exit code 3 \(no bridge\)"):
        running("sh", "-c", "echo no bridge >&2; exit 3")()
    with pytest.raises(DeliveryError, match="stopped at its time limit"):
        running("sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait")()
    child = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not os.path.exists(f"/proc/{child}") or "zombie" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("the command's child still runs")
    with pytest.raises(DeliveryError, match="cannot be started"):
        running("/nonexistent/hook")()


# --- words and templates


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("event", "content"),
    [
        ("stopped", STOPPED),
        ("approval-wanted", STOPPED),
        ("finished", STOPPED),
        ("finished", {**STOPPED, "devices": [], "device_count": 0}),
        ("drift", {"devices": [{"name": "cam-1", "findings": 1}], "device_count": 1}),
        ("device-lost", LOST),
        ("test", {}),
    ],
)
def test_every_event_has_words_in_both_languages(
    server: Hook, language: str, event: str, content: dict[str, Any]
) -> None:
    send_now(webhook(server.url, language=language), notice(event, content))
    document = json.loads(server.received[0].body)
    assert document["title"].startswith("lab")
    assert ("lab：" in document["title"]) == (language == "zh")
    assert "\n\n\n" not in document["text"]
    assert language == "en" or not [state for state in DeviceState if f"{state.value} " in document["text"]]
    assert not [line for line in document["text"].splitlines() if line != line.rstrip()]


def test_an_own_template(server: Hook, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text('{"text": {{ (title ~ " " ~ devices | map(attribute="name") | join(",")) | tojson }}}')
    send_now(webhook(server.url, template=str(file)), notice())
    assert json.loads(server.received[0].body) == {
        "text": "lab: rollout r-20261128-0001 is paused in wave 1 of 3 cam-1"
    }


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("{{ title.__class__.__mro__ }}", "unsafe"),
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% for x in %}", "line 1"),
        ("{% for x in range(9999) %}{{ title }}{{ text }}{% endfor %}", "more than 262144 bytes"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ title }}", "does not write JSON"),
    ],
)
def test_a_template_that_is_wrong(server: Hook, tmp_path: Path, source: str, sentence: str) -> None:
    file = tmp_path / "own.txt"
    file.write_text(source)
    with pytest.raises(DeliveryError, match=sentence):
        send_now(webhook(server.url, template=str(file)), notice())
    assert server.received == []
