"""Who sends a request, and what that person may do: tokens, the one-time link, a proxy's header, sessions, CSRF."""

from __future__ import annotations

from .people import Person, Role
from .requests import csrf_token, needs, person_of

__all__ = ["Person", "Role", "csrf_token", "needs", "person_of"]
