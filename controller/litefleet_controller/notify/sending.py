"""What all ways of delivery share: the error of an attempt, secrets, and a limit of time that nothing exceeds."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from ..config.notify import SecretConfig

_MOST_SECRET = 4096  # bytes


class DeliveryError(Exception):
    """An attempt that failed: what was seen and what to do, in one sentence.  It holds no secret."""


def secret_of(where: SecretConfig, what: str) -> str:
    """Return a secret, read now.  Raises: DeliveryError where it is missing, empty or too long."""
    if where.file is None:
        found = os.environ.get(where.env, "")
        if not found:
            raise DeliveryError(f"{what}: the environment variable {where.env} is not set for this process")
    else:
        try:
            with where.file.open("rb") as file:
                found = file.read(_MOST_SECRET + 1).decode().strip()
        except OSError as error:
            raise DeliveryError(f"{what}: {where.file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise DeliveryError(f"{what}: {where.file} is not text") from error
    if not found or len(found) > _MOST_SECRET or any(c in found for c in "\r\n\0"):
        raise DeliveryError(f"{what}: it must be one line of at most {_MOST_SECRET} characters, and not be empty")
    return found


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """Return a context that verifies certificates and names.  Raises: DeliveryError where `ca` cannot be used."""
    try:
        return ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    except (OSError, ssl.SSLError) as error:
        raise DeliveryError(f"`ca`: {ca} cannot be used as a list of authorities: {error}") from error


def within(limit_s: float, send: Callable[[], None]) -> None:
    """Call `send` and return when it has ended, or raise DeliveryError after `limit_s` seconds whatever it waits for.

    Time limits of sockets count from each received byte, and name resolution has none: so it runs in a thread of its own,
    which is left behind where it does not end.
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            send()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="notice", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        raise DeliveryError(f"it did not respond within {limit_s:g} s")
    if failed:
        raise failed[0]


def in_words(error: BaseException) -> str:
    """Return why a connection failed, without what the other end sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {error.verify_message}. Name its authority in `ca`"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or type(error).__name__})"
    if isinstance(error, TimeoutError):
        return "it did not respond in time"
    if isinstance(error, OSError):
        return f"the connection failed: {error.strerror or type(error).__name__}"
    return f"the connection failed: {type(error).__name__}"
