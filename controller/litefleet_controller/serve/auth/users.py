"""The file of users: names, roles, and the hashes of their tokens."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import threading
import time
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...common.errors import UsageError
from .people import Person, Role, is_name

PREFIX = "lfs_"  # a secret scanner finds a token by it
_MOST = 1000  # users
_LARGEST = 1 << 20  # bytes of the file
_LONGEST = 200  # characters of a token that is looked up


class User(BaseModel):
    """One entry of the file.  `hash` is the SHA-256 of the token, which has 256 random bits; "" for a proxy's users."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    role: Role
    hash: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    made_at: float = 0.0


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_: Annotated[int, Field(alias="schema", ge=1, le=1)] = 1
    users: Annotated[list[User], Field(max_length=_MOST)] = Field(default_factory=list)


class Users:
    """The users of one file, read again when the file changes: a revoked token is rejected from the next request on."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._one = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._users: tuple[User, ...] = ()

    def all(self) -> tuple[User, ...]:
        """Return the users; none without a file.  Raises: UsageError for a file that cannot be used."""
        if self.path is None:
            return ()
        with self._one:
            try:
                found = self.path.stat()
            except FileNotFoundError:
                return ()
            except OSError as error:
                raise UsageError(f"{self.path} cannot be read: {error.strerror}") from error
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp != self._stamp:
                _check_mode(self.path, found)
                self._users, self._stamp = _read(self.path), stamp
            return self._users

    def of_token(self, token: str) -> tuple[Person, str] | None:
        """Return whose token this is, and the key under which a session refers to it; None for an unknown token."""
        if not token or len(token) > _LONGEST:
            return None
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        person = self.of_key(key)
        return None if person is None else (person, key)

    def of_key(self, key: str) -> Person | None:
        """Return whose token has this hash, with the role that the file gives now; None when it was revoked."""
        # Hashes are compared: how long it takes says nothing about a token.
        return next((Person(u.name, u.role) for u in self.all() if u.hash and u.hash == key), None)

    def role_of(self, name: str) -> Role | None:
        """Return the role of a name; None for an unknown one."""
        return next((user.role for user in self.all() if user.name == name), None)

    def add(self, name: str, role: Role) -> str:
        """Write a user with a new token, instead of the one of this name, and return the token; it is stored nowhere."""
        if not is_name(name):
            raise UsageError(f"{name[:80]!r} is no user's name: use letters, digits and . _ @ + -, at most 80 of them")
        token = PREFIX + secrets.token_urlsafe(32)
        digest = hashlib.sha256(token.encode()).hexdigest()
        kept = [user for user in self.all() if user.name != name]
        self._write([*kept, User(name=name, role=role, hash=digest, made_at=round(time.time(), 3))])
        return token

    def remove(self, name: str) -> None:
        """Remove a user.  Raises: UsageError for an unknown one."""
        kept = [user for user in self.all() if user.name != name]
        if len(kept) == len(self.all()):
            known = ", ".join(user.name for user in kept[:20]) or "none"
            raise UsageError(f"{self.path} has no user {name[:80]!r}. It has: {known}.")
        self._write(kept)

    def _write(self, users: list[User]) -> None:
        assert self.path is not None
        if len(users) > _MOST:
            raise UsageError(f"{self.path} has {_MOST} users already. Remove one with `litefleet serve revoke NAME`.")
        document = {"schema": 1, "users": [user.model_dump(mode="json") for user in users]}
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.unlink(missing_ok=True)
            with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(json.dumps(document, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error.strerror}") from error


def _check_mode(path: Path, found: os.stat_result) -> None:
    """Raise UsageError where others could add themselves to the file, or read its hashes."""
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
        raise UsageError(f"{path} is no file of users: it is no regular file, or larger than 1 MiB")
    if found.st_uid not in (0, os.geteuid()):
        raise UsageError(f"{path} belongs to another user (uid {found.st_uid}). Run `chown {os.geteuid()} {path}`.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        mode = oct(stat.S_IMODE(found.st_mode))[2:]
        raise UsageError(f"{path} can be read or written by other users (mode {mode}). Run `chmod 600 {path}`.")


def _read(path: Path) -> tuple[User, ...]:
    try:
        users = _Document.model_validate_json(path.read_bytes()).users
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UsageError(f"{path} is no file of users: {why}. `litefleet serve token NAME` writes one.") from None
    names = [user.name for user in users]
    wrong = [name for name in names if not is_name(name) or names.count(name) > 1]
    if wrong:
        raise UsageError(f"{path}: the name {wrong[0][:80]!r} is given twice, or is no user's name")
    return tuple(users)
