"""Mail by SMTP, and commands that get a notice on their standard input."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import smtplib
import tempfile
from email.message import EmailMessage
from pathlib import Path

from ..common.errors import LitefleetError
from ..common.subprocesses import run_subprocess
from ..config.notify import CommandConfig, EmailConfig
from .message import Message, own_template, rendered
from .sending import DeliveryError, in_words, secret_of, tls_context, within

_MOST_SUBJECT = 200  # characters
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def send_mail(config: EmailConfig, message: Message, notice_id: str, template: Path | None) -> None:
    """Send a message as one mail to all recipients.  Raises: DeliveryError unless the server took it for all of them."""
    mail = EmailMessage()
    mail["From"], mail["To"] = config.sender, ", ".join(config.to)
    mail["Subject"] = " ".join(message.title.split())[:_MOST_SUBJECT]
    mail["Date"] = email.utils.localtime()
    mail["Message-ID"] = f"<{notice_id}@{config.sender.partition('@')[2]}>"  # a mail that came twice is seen as one
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text if template is None else rendered(own_template(template), message.document))
    password = secret_of(config.password, "`password`") if config.password is not None else ""
    within(config.time_limit_s, lambda: _submit(config, mail, password))


def _submit(config: EmailConfig, mail: EmailMessage, password: str) -> None:
    host, port = config.address
    limit_s = config.time_limit_s
    try:
        if config.tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=limit_s, context=tls_context(config.ca))
        else:
            server = smtplib.SMTP(host, port, timeout=limit_s)
        with server:
            if config.tls == "starttls":
                server.starttls(context=tls_context(config.ca))
            if config.user:
                server.login(config.user, password)
            refused = server.send_message(mail)
    except smtplib.SMTPNotSupportedError as error:
        raise DeliveryError(
            "the mail server does not offer what `tls` or `user` need: is the port the right one?"
        ) from error
    except smtplib.SMTPResponseException as error:
        raise DeliveryError(f"the mail server responded with {error.smtp_code} ({type(error).__name__})") from error
    except smtplib.SMTPRecipientsRefused as error:
        raise DeliveryError("the mail server refused every recipient in `to`") from error
    except (OSError, smtplib.SMTPException) as error:
        raise DeliveryError(in_words(error)) from error
    if refused:
        raise DeliveryError(f"the mail server refused {', '.join(sorted(refused))[:300]}")


def run_command(config: CommandConfig, message: Message) -> None:
    """Run a command with the document as JSON on its standard input.

    Its environment has PATH, HOME, LANG and nothing else; its folder is /.  Raises: DeliveryError unless it exits with 0.
    """
    environment = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": os.path.expanduser("~")}  # noqa: PTH111 - may be unknown
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as document:
        json.dump(message.document, document, ensure_ascii=False)
        document.flush()
        running = run_subprocess(
            config.argv,
            time_limit_s=config.time_limit_s,
            env=environment,
            cwd=Path("/"),
            stdin=Path(document.name),
        )
        try:
            end = asyncio.run(running)
        except LitefleetError as error:
            raise DeliveryError(str(error)) from error
    if not end.ok:
        said = end.last_lines(2)
        raise DeliveryError(f"{config.argv[0]}: {end.ending}{f' ({said})' if said else ''}")
