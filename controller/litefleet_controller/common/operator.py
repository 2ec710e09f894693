"""Who acts: the name under which rollouts and the audit log record a person, also from a timer, in CI and under sudo."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from .text import sanitize

VARIABLE = "LITEFLEET_OPERATOR"
# What CI systems call the person who started a job: GitHub, GitLab, Jenkins, Azure Pipelines, CircleCI, Buildkite, Drone,
# Travis CI; each from the list of predefined variables in its documentation.
_CI_VARIABLES = (
    "GITHUB_ACTOR",
    "GITLAB_USER_LOGIN",
    "BUILD_USER_ID",
    "BUILD_REQUESTEDFOREMAIL",
    "CIRCLE_USERNAME",
    "BUILDKITE_BUILD_CREATOR_EMAIL",
    "DRONE_COMMIT_AUTHOR",
    "TRAVIS_BUILD_USER",
)
_LONGEST = 80  # characters of a name
_person: ContextVar[str] = ContextVar("person", default="")  # whom a server acts for at the moment


@contextmanager
def acting_as(person: str) -> Iterator[None]:
    """Record what this thread or task does in the context as done by `person`, before any other name."""
    token = _person.set(person)
    try:
        yield
    finally:
        _person.reset(token)


def system_user() -> str:
    """Return the name of this process's user, its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        return str(os.getuid())


def operator(configured: str = "", environ: Mapping[str, str] | None = None) -> str:
    """Return who acts: "alice", or "alice as root" where that is not the system's user.

    In this order: whom `acting_as` names, the variable LITEFLEET_OPERATOR, the person a CI system names, `operator:` in
    litefleet.yaml (`configured`), the user who called sudo, the system's user.
    """
    found = os.environ if environ is None else environ
    user = system_user()
    given = (
        _person.get(),
        found.get(VARIABLE),
        *(found.get(name) for name in _CI_VARIABLES),
        configured,
        found.get("SUDO_USER"),
    )
    names = (" ".join(sanitize(name, _LONGEST).split()) for name in given if name)
    name = next((name for name in names if name), user)
    return user if name == user else f"{name} as {user}"


def actor(configured: str = "") -> str:
    """Return who acts and where, as rollouts and the audit log record it: "alice as root@host"."""
    return f"{operator(configured)}@{socket.gethostname()}"
