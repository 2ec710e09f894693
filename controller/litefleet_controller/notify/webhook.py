"""Webhooks: one POST for each notice, signed as Standard Webhooks says (HMAC-SHA256 over id, time and body)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

from .. import __version__
from ..config.notify import SecretConfig, WebhookConfig, checked_url
from .message import MOST_BODY, Message, body_of
from .sending import DeliveryError, in_words, secret_of, tls_context, within

_PREFIX = "whsec_"  # of secrets in base64


def send_webhook(config: WebhookConfig, message: Message, notice_id: str, template: Path | None) -> None:
    """Send a message.  Raises: DeliveryError unless the receiver responds with a status from 200 to 299."""
    body = body_of(message, template).encode()
    if len(body) > MOST_BODY:
        raise DeliveryError(f"the body is larger than {MOST_BODY} bytes")
    if template is not None and config.content_type == "application/json":
        try:
            json.loads(body)
        except ValueError as error:
            raise DeliveryError(
                f"the template {template} does not write JSON ({error}): use `| tojson`, or set `content_type`"
            ) from error
    url = _url(config)
    headers = {
        "Content-Type": config.content_type,
        "User-Agent": f"litefleet/{__version__}",
        "webhook-id": notice_id,
        **_signature(config.secret, notice_id, body),
    }
    within(config.time_limit_s, lambda: _post(url, config, body, headers))


def where(config: WebhookConfig) -> str:
    """Return the receiver's host for people: a path may be secret."""
    if isinstance(config.url, SecretConfig):
        return f"the URL in {config.url.file or config.url.env}"
    parts = urlsplit(config.url)
    return f"{parts.scheme}://{parts.netloc}/…"


def signature(secret: str, notice_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: "v1," and the HMAC-SHA256 of "id.timestamp.body" in base64.

    A secret that begins with "whsec_" is base64, any other one is taken as it is.  Raises: DeliveryError for bad base64.
    """
    try:
        coded = secret.removeprefix(_PREFIX)
        key = base64.b64decode(coded, validate=True) if secret.startswith(_PREFIX) else secret.encode()
    except binascii.Error as error:
        raise DeliveryError("`secret` begins with whsec_ and is not base64") from error
    digest = hmac.new(key, f"{notice_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _signature(secret: SecretConfig | None, notice_id: str, body: bytes) -> dict[str, str]:
    now = int(time.time())
    sent = {"webhook-timestamp": str(now)}
    if secret is not None:
        sent["webhook-signature"] = signature(secret_of(secret, "`secret`"), notice_id, now, body)
    return sent


def _url(config: WebhookConfig) -> str:
    if isinstance(config.url, str):
        return config.url
    try:
        return checked_url(secret_of(config.url, "`url`"))
    except ValueError as error:
        raise DeliveryError(f"the URL in {config.url.file or config.url.env} cannot be used: {error}") from None


def _post(url: str, config: WebhookConfig, body: bytes, headers: dict[str, str]) -> None:
    parts = urlsplit(url)
    limit_s, host = config.time_limit_s, parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=limit_s, context=tls_context(config.ca))
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=limit_s)
    )
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    try:
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status  # the response's body is not read
    except (OSError, http.client.HTTPException) as error:
        raise DeliveryError(in_words(error)) from error
    finally:
        connection.close()
    if 300 <= status < 400:
        raise DeliveryError(
            f"it responded with a redirect ({status}), which is not followed: write the new URL in `url`"
        )
    if not 200 <= status < 300:
        raise DeliveryError(f"it responded with status {status}")
