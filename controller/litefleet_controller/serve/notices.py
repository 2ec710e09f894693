"""Delivers notices while the server runs: to the receivers of `notify:` as litefleet.yaml names them now."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from ..common.errors import LitefleetError
from ..config import Config
from ..notify import Dispatcher
from ..project.project import Project

LOOK_S = 5.0  # between two looks at the configuration
_LOG = logging.getLogger("litefleet.serve")


class Receivers:
    """The dispatcher of one server, replaced when configuration or inventory have changed; used by any thread."""

    def __init__(self, config: Callable[[], Config], project: Callable[[], Project]) -> None:
        self._config, self._project = config, project
        self._dispatcher: Dispatcher | None = None
        self._of: Project | None = None  # what the dispatcher was made from
        self._problem = ""
        self._one, self._closed = threading.Lock(), False

    def renew(self) -> None:
        """Deliver from now on as the files say; what cannot be read is logged once, and the receivers stay as they were."""
        try:
            with self._one:
                if not self._closed:
                    self._renew()
            self._problem = ""
        except LitefleetError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _LOG.warning("notices are delivered as before, or not at all: %s", error)

    def close(self) -> None:
        """Deliver what is due, for some seconds at most, and stop; nothing begins again."""
        with self._one:
            self._closed = True
            self._stop()

    def _renew(self) -> None:
        if not self._config().notify:
            self._stop()
            return
        project = self._project()
        if project is not self._of:
            self._stop()
            made = Dispatcher(project.config, project.inventory)
            made.start()
            self._dispatcher, self._of = made, project

    def _stop(self) -> None:
        dispatcher, self._dispatcher, self._of = self._dispatcher, None, None
        if dispatcher is not None:
            for receiver, reason in dispatcher.close().items():
                _LOG.warning(
                    "%s was not told everything: %s. `litefleet notify list` shows what is left", receiver, reason
                )


@asynccontextmanager
async def telling(config: Callable[[], Config], project: Callable[[], Project]) -> AsyncIterator[None]:
    """Deliver notices until the server stops."""
    receivers = Receivers(config, project)

    async def follow() -> None:
        while True:
            try:
                await asyncio.to_thread(receivers.renew)
            except Exception:  # a bug must not end the deliveries to come
                _LOG.exception("cannot look at the receivers of notices")
            await asyncio.sleep(LOOK_S)

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await asyncio.to_thread(receivers.close)
