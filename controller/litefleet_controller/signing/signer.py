"""Seals: who sent a release, to which fleet, under which number, until when.  Devices that trust signers accept nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from litefleet_agent.releases.atomic import write_atomic
from litefleet_agent.releases.store import StoreError
from litefleet_agent.releases.trust import SignersHeader, check_signers, seal_payload

from ..common.errors import ConfigError, FindingError
from ..config.model import SigningConfig
from .keys import PublicKey, allowed_line, private_file, read_key
from .sshsig import SigningError, sign, signer_of

RELEASE_NAMESPACE, BUNDLE_NAMESPACE, TRUST_NAMESPACE = "litefleet-release", "litefleet-bundle", "litefleet-trust"
_TEXTS, _NUMBERS = ("release", "model", "fleet"), ("number", "issued", "expires")


def seal_bytes(seal: Mapping[str, object]) -> bytes:
    """Return the bytes of a seal that are signed: its canonical JSON."""
    return seal_payload(dict(seal))


class Signer:
    """Signs with the configured key, and returns only signatures that the list of trusted signers accepts."""

    def __init__(self, config: SigningConfig) -> None:
        self._config = config

    async def check(self) -> None:
        """Sign a test text, so that a problem is reported before anything is done.

        Raises: ConfigError with the sentence that says what to do.
        """
        key = read_key(self._config.key)
        signers = self.allowed_signers()
        if key.text not in signers.split():
            path = self._config.allowed_signers
            raise ConfigError(
                [f"signing.allowed_signers: {path} does not name the signing key; add this line: {allowed_line(key)}"]
            )
        try:
            await self.sign_text("litefleet", RELEASE_NAMESPACE)
        except SigningError as error:
            raise ConfigError([f"signing: {error}"]) from error

    def allowed_signers(self) -> str:
        """Return the text of the list of trusted signers, as devices get it.

        Raises: ConfigError when it cannot be read.
        """
        path = self._config.allowed_signers
        try:
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            line = allowed_line(read_key(self._config.key))
            raise ConfigError([f"signing.allowed_signers: {path} is missing; make it with this line: {line}"]) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"signing.allowed_signers: {path} cannot be read: {error}"]) from None
        try:
            return check_signers(text)
        except StoreError as error:
            line = allowed_line(read_key(self._config.key))
            raise ConfigError(
                [f"signing.allowed_signers: {path}: {error}; a right line for the signing key is: {line}"]
            ) from None

    def numbered_signers(self, fleet: str, now: float, reset: bool = False) -> str:
        """Return the list of trusted signers with a header for `fleet` whose number is greater after each change.

        The header is kept in the file's first line, so that the number grows wherever the file is.  `reset` asks devices to set
        the latest time that they know to `now` (epoch) and to clear the numbers that they have accepted.
        Raises: ConfigError when the list is not usable, or the file cannot be written.
        """
        listed = self.allowed_signers()
        header = SignersHeader.of(listed)
        body = listed.split("\n", 1)[1] if header.number >= 0 else listed
        digest = hashlib.sha256(body.encode("utf-8")).hexdigest()[:16]
        wanted = SignersHeader(
            fleet, header.number, self._config.unchecked, int(now) if reset else header.reset, digest
        )
        if header == wanted and not reset and header.number >= 0:
            return listed
        # A list whose first line was lost begins at the clock, in milliseconds: two lists of one second must not share a number.
        number = header.number + 1 if header.number >= 0 else int(now * 1000)
        numbered = wanted._replace(number=number, reset=int(now) if reset else -1).line() + body
        path = self._config.allowed_signers
        try:
            write_atomic(str(path.resolve()), [numbered.encode("utf-8")], path.stat().st_mode & 0o777, exact_mode=True)
        except OSError as error:
            line = numbered.split("\n", 1)[0]
            raise ConfigError(
                [
                    f"signing.allowed_signers: {path} cannot be written ({error}); make it writable, or begin it with: {line}"
                ]
            ) from None
        return numbered

    async def seal(self, release: str, model: str, fleet: str, number: int, now: float) -> dict[str, object]:
        """Return `{"seal": {...}, "signature": "..."}` for a release, valid from `now` (epoch) on.

        Raises: SigningError when it cannot be signed.
        """
        issued = int(now)
        seal = {
            "schema": 1,
            "release": release,
            "model": model,
            "fleet": fleet,
            "number": number,
            "issued": issued,
            "expires": issued + int(self._config.expires_after),
        }
        return {"seal": seal, "signature": await self._sign(seal_bytes(seal), RELEASE_NAMESPACE)}

    async def sign_text(self, text: str, namespace: str) -> str:
        """Return the armored signature of a text; SigningError when it cannot be signed."""
        return await self._sign(text.encode("utf-8"), namespace)

    async def verify(
        self, signed: Mapping[str, object] | None, release: str, model: str, fleet: str, now: float
    ) -> None:
        """Check a seal as a device does, except for its number.

        Raises: FindingError LF609 (not signed), LF610 (signature), LF608 (another's), LF607 (expired).
        """
        seal, signature = _parts(signed)
        if not await signer_of(self._config.allowed_signers, seal_bytes(seal), signature, RELEASE_NAMESPACE):
            raise FindingError.of(
                "LF610", f"no signer in {self._config.allowed_signers} made the signature of {release[:12]}."
            )
        for name, wanted in (("release", release), ("model", model), ("fleet", fleet)):
            if seal[name] != wanted:
                raise FindingError.of("LF608", f"the seal is for the {name} '{seal[name][:80]}', not for '{wanted}'.")
        if now > seal["expires"]:
            raise FindingError.of("LF607", f"the seal of {release[:12]} expired {int(now) - seal['expires']} s ago.")

    async def _sign(self, data: bytes, namespace: str) -> str:
        """Sign, and check the result: a key that no device trusts is found out here and not on a thousand of them."""
        key = read_key(self._config.key)
        try:
            signature = await sign(self._config.key, data, namespace)
        except SigningError as error:
            raise SigningError(self._explain(key, error)) from error
        if not await signer_of(self._config.allowed_signers, data, signature, namespace):
            raise SigningError(
                f"{self._config.allowed_signers} does not accept {self._config.key} for '{namespace}' at this time: "
                f"check the dates and namespaces of its line, or add this one: {allowed_line(key)}"
            )
        return signature

    def _explain(self, key: PublicKey, error: SigningError) -> str:
        private = private_file(self._config.key)
        if key.locked:
            return f"{private} has a passphrase and no SSH agent holds it: run `ssh-add {private}` first. ({error})"
        if not private.exists():
            return (
                f"no SSH agent holds the key {self._config.key}: run `ssh-add` with its private file first. ({error})"
            )
        return f"ssh-keygen cannot sign with {self._config.key}: {error}"


def _parts(signed: Mapping[str, object] | None) -> tuple[dict[str, Any], str]:
    """Return seal and signature of what is well formed."""
    if not signed or not signed.get("signature"):
        raise FindingError.of("LF609", "the release bears no signature.")
    seal, signature = signed.get("seal"), signed["signature"]
    if not isinstance(seal, dict) or not isinstance(signature, str) or seal.get("schema") != 1 or not _typed(seal):
        raise FindingError.of("LF610", "the seal is not well formed.")
    return seal, signature


def _typed(seal: Mapping[str, object]) -> bool:
    texts = all(isinstance(seal.get(name), str) for name in _TEXTS)
    return texts and all(type(seal.get(name)) is int for name in _NUMBERS)
