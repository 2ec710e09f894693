"""HTTP requests to a litefleet server: TLS is verified, redirects are not followed, sizes and times are bounded."""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from litefleet_agent.findings import Finding
from litefleet_controller.common.errors import ConfigError, FindingError, LitefleetError, UsageError
from litefleet_controller.common.text import sanitize
from litefleet_controller.operations.open_rollouts import StillOpen

PREFIX = "/api/v1"
_LIMIT_S = 60.0
_MOST_BYTES = 256 << 20  # of an answer: the plan of 10,000 devices has 30 MB
_TRIES = 4
_AGAIN_S = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Answer:
    """A server's answer."""

    document: dict[str, Any]
    next_page: str = ""  # path and query below PREFIX


class Connection:
    """A server and the token that it knows a person by.  Each request is a connection of its own."""

    def __init__(self, url: str, token: str, ca_file: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise UsageError(f"{url[:200]} is no address of a litefleet server: write https://HOST:PORT")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise UsageError(
                f"{url[:200]}: over http anybody on the way can read the token. Write https://, or http:// for 127.0.0.1 only"
            )
        if not re.fullmatch(r"[!-~]{1,500}", token):
            raise UsageError("token= is empty, or no token: `litefleet serve token NAME` makes one")
        self._host, self._token = parts.hostname, token
        self._address = f"{parts.scheme}://{parts.netloc}"
        self._tls: ssl.SSLContext | None = None
        try:
            self._port = parts.port
            if parts.scheme == "https":
                self._tls = ssl.create_default_context(cafile=ca_file or None)
        except (ValueError, OSError) as error:
            raise UsageError(f"{url[:200]}: {error}") from error

    def __repr__(self) -> str:
        return f"Connection({self._address!r})"  # without the token

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, key: str = "") -> Answer:
        """Send a request and return its answer; it is sent again where the connection breaks and that is harmless.

        Raises: the error that the command would raise, with the server's sentence; LitefleetError when it cannot be reached.
        """
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        for wait in (*_AGAIN_S, None):
            try:
                return self._once(method, path, data, headers)
            except ssl.SSLCertVerificationError as error:
                raise LitefleetError(
                    f"{self._address} shows a certificate that is not trusted: {error.verify_message}. "
                    "Name its authority's file with ca_file="
                ) from error
            except (OSError, http.client.HTTPException) as error:
                if wait is None or isinstance(error, ssl.SSLError):
                    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                    raise LitefleetError(
                        f"{self._address} cannot be reached: {why}. Check the address, and that `litefleet serve` runs there"
                    ) from error
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _once(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        if self._tls is None:
            made = http.client.HTTPConnection(self._host, self._port, timeout=_LIMIT_S)
        else:
            made = http.client.HTTPSConnection(self._host, self._port, timeout=_LIMIT_S, context=self._tls)
        try:
            made.request(method, PREFIX + path, data, dict(headers))
            response = made.getresponse()
            text = response.read(_MOST_BYTES + 1)
            if len(text) > _MOST_BYTES:
                raise LitefleetError(f"{self._address} answers with more than {_MOST_BYTES >> 20} MB")
            found = self._document(response.status, text)
            if response.status >= 300:
                raise self._refused(response.status, found)
            link = re.match(rf'<{re.escape(PREFIX)}([^>]+)>; rel="next"', response.headers.get("Link", ""))
            return Answer(found, link[1] if link else "")
        finally:
            made.close()

    def _document(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise LitefleetError(
                f"{self._address} is no litefleet server of this version: it answers {status} without JSON"
            )
        return found

    def _refused(self, status: int, problem: Mapping[str, Any]) -> LitefleetError:
        said = {"message": problem.get("detail") or problem.get("title"), **problem}
        code = problem.get("exit_code")
        usage = 2 if status in (400, 401, 403, 404, 413, 415, 422) else 1
        return self.error_of(said, code if isinstance(code, int) else usage)

    def error_of(self, said: Mapping[str, Any] | None, exit_code: int) -> LitefleetError:
        """Return the error that a command with this exit code would have raised."""
        found = said or {}
        message = sanitize(str(found.get("message") or "the server gives no reason"), 4000)
        if isinstance(found.get("problems"), list) and found["problems"]:
            return ConfigError([sanitize(str(problem), 2000) for problem in found["problems"]])
        if isinstance(found.get("findings"), list) and found["findings"]:
            try:
                return FindingError([Finding.from_dict(item) for item in found["findings"]])
            except (KeyError, TypeError, ValueError):  # of a newer server: its words count
                return LitefleetError(message)
        return {2: UsageError, 3: StillOpen}.get(exit_code, LitefleetError)(message)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
