"""The real server over real sockets: slow and silent clients, raw paths, large headers, many connections, and its end."""

import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from litefleet_controller.common.errors import UsageError
from litefleet_controller.serve.auth import Role
from litefleet_controller.serve.guard import MOST_OF_ONE
from litefleet_controller.serve.start import Wanted, run

from tests.controller.serve.serving import ends_within, project, running, service_in

FAST = {"headers_s": 1.0, "body_s": 1.0, "read_s": 1.0, "look_s": 0.1}
_PATIENT_S = 30  # the machine of the tests may be busy


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    service = service_in(tmp_path_factory.mktemp("served"))
    token = service.auth.users.add("op", Role.OPERATE)
    with running(service, **FAST) as port:
        yield port, token


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=_PATIENT_S)


def asked(port, raw):
    """Return all that comes back for raw bytes."""
    with connected(port) as connection:
        connection.sendall(raw)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
    return found


def test_who_sends_no_headers_is_cut_off(served):
    port, _ = served
    with connected(port) as silent, connected(port) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert ends_within(silent, _PATIENT_S)
        assert ends_within(slow, _PATIENT_S)


def test_who_sends_a_byte_now_and_then_is_cut_off_too(served):
    port, _ = served
    with connected(port) as slow:
        slow.setblocking(False)
        for _ in range(_PATIENT_S * 5):
            try:
                slow.sendall(b"G")
            except OSError:
                return
            time.sleep(0.2)
        pytest.fail("the connection is still open")


def test_who_does_not_send_the_body_is_cut_off(served):
    port, token = served
    head = f"POST /t/echo HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\nx"
    with connected(port) as slow:
        slow.sendall(head.encode())
        assert ends_within(slow, _PATIENT_S)


def test_who_reads_nothing_is_cut_off(served):
    port, token = served
    with connected(port) as deaf:
        deaf.sendall(f"GET /t/large HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        time.sleep(3)
        came = 0
        with contextlib.suppress(ConnectionError):
            while chunk := deaf.recv(1 << 20):
                came += len(chunk)
    assert came < 30_000_000  # the kernel's buffers hold a few megabytes of it


def test_the_server_answers_while_many_are_silent(served):
    port, _ = served
    silent = [connected(port) for _ in range(MOST_OF_ONE - 10)]
    try:
        assert b"200 OK" in asked(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    finally:
        for connection in silent:
            connection.close()


def test_one_address_gets_so_many_connections_and_no_more(served):
    port, _ = served
    time.sleep(0.5)
    many = [connected(port) for _ in range(MOST_OF_ONE + 20)]
    try:
        assert ends_within(many[-1], 1.0) or ends_within(many[-2], _PATIENT_S)
    finally:
        for connection in many:
            connection.close()


@pytest.mark.parametrize(
    "target",
    [
        "/static/../../etc/passwd",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2f..%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/..%5c..%5cusers.json",
        "/static/%00",
        "/../users.json",
    ],
)
def test_no_path_leads_out_of_the_static_folder(served, target):
    port, token = served
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    found = asked(port, head.encode())
    assert re.match(rb"HTTP/1.1 (400|401|404|405)", found), found[:200]
    assert b"root:" not in found
    assert b'"hash"' not in found


def test_large_headers_and_nonsense_are_rejected(served):
    port, _ = served
    many = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 5000 + b"\r\n"
    long = b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for raw in (long, many, b"\x16\x03\x01\x00" * 20 + b"\r\n\r\n"):
        with contextlib.suppress(ConnectionError):  # the rest of what was sent was not read
            assert re.match(rb"HTTP/1.1 4(00|31)", asked(port, raw))
    two = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b"200 OK" not in asked(port, two + b"0\r\n\r\nGET /t/admin")


def test_the_process_prints_a_link_that_logs_in_and_ends_at_a_signal(tmp_path):
    options = project(tmp_path)
    call = [sys.executable, "-m", "litefleet_controller", "serve", "-c", str(options.config), "--port", "0"]
    with subprocess.Popen(
        call, stderr=subprocess.PIPE, text=True, env={**os.environ, "LITEFLEET_LANG": "en"}
    ) as process:
        try:
            line = process.stderr.readline()
            port, path = re.fullmatch(
                r"Open this link, which works once: http://127.0.0.1:(\d+)(/\S+)\n", line
            ).groups()
            client = http.client.HTTPConnection("127.0.0.1", int(port), timeout=_PATIENT_S)
            client.request("GET", path)
            response = client.getresponse()
            assert response.status == 303
            cookie = response.headers["Set-Cookie"].split(";")[0]
            client.close()
            client.request("GET", "/healthz", headers={"Cookie": cookie})
            assert client.getresponse().read() == b"ok\n"
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
        assert process.wait(_PATIENT_S) == 0
    assert rest == ""


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (Wanted(host="0.0.0.0"), "there are no users yet"),
        (Wanted(no_link=True), "there are no users yet"),
        (Wanted(user_header="X-User"), "needs --trusted-proxy"),
        (Wanted(user_header="X-User", proxies=("proxy",)), "is no address or network"),
        (Wanted(key=Path("key.pem")), "--key needs --cert"),
        (Wanted(certificate=Path("none.pem")), "cannot be used: No such file"),
        (Wanted(host="192.0.2.1", user_header="X-User", proxies=("10.0.0.5",)), "cannot listen on 192.0.2.1"),
    ],
)
def test_what_cannot_be_served_safely_is_not_served(tmp_path, wanted, sentence):
    with pytest.raises(UsageError, match=sentence):
        run(project(tmp_path), wanted, print)


def test_over_tls_the_cookie_is_secure(tmp_path):
    certificate = tmp_path / "cert.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(certificate)]
    subprocess.run([*made, *names, *files], check=True, capture_output=True)
    service = service_in(tmp_path, certificate=certificate, key=tmp_path / "key.pem")
    context = ssl.create_default_context(cafile=str(certificate))
    with running(service) as port:
        client = http.client.HTTPSConnection("localhost", port, timeout=_PATIENT_S, context=context)
        client.request("GET", f"/login?link={service.auth.link.secret}")
        assert "; Secure" in client.getresponse().headers["Set-Cookie"]
