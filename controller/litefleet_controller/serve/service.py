"""`Service`: what every request uses: the project, its state, who may do what, what runs in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import HTTPConnection

from ..config import Config, load_config
from ..project import Options
from ..project.project import Project, open_project, open_state
from ..state import State
from .auth.audit_queue import AuditQueue
from .auth.auth import Auth
from .jobs import Jobs
from .live import Live
from .metrics import KeptMetrics
from .queries.roster import Roster
from .roster import KeptRoster


@dataclass(frozen=True)
class ServeSettings:
    """How `litefleet serve` listens.  `hosts` are the names under which browsers may call it, beside its addresses."""

    host: str = "127.0.0.1"
    port: int = 8470
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    most_body: int = 1 << 20  # bytes of a request


class Opened:
    """The project and its state, opened again when their files change."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._one = threading.Lock()
        self._config: tuple[object, Config] | None = None
        self._project: tuple[object, Project] | None = None
        self._state: tuple[object, State] | None = None

    def config(self) -> Config:
        """Return the configuration as its file is now."""
        with self._one:
            stamp = _stamp(self._options.config)
            if self._config is None or self._config[0] != stamp:
                self._config = (stamp, load_config(self._options.config))
            return self._config[1]

    def project(self) -> Project:
        """Return the project as its files are now; the inventory of a large fleet is read when it changed only."""
        config = self.config()
        with self._one:
            inventory = self._options.inventory or config.inventory.path
            stamp = (_stamp(self._options.config), _stamp(inventory))
            if self._project is None or self._project[0] != stamp:
                self._project = (stamp, open_project(self._options))
            return self._project[1]

    def state(self) -> State:
        """Return the state, which threads share; another one after its database file was replaced."""
        config = self.config()
        with self._one:
            where = Path(config.state) if config.state and "://" not in config.state else config.store / "state.db"
            stamp: object = config.state if "://" in config.state else _identity(where)
            if self._state is None or self._state[0] != stamp:
                if self._state is not None:
                    self._state[1].close()
                opened = open_state(config)
                self._state = (config.state if "://" in config.state else _identity(where), opened)
            return self._state[1]

    def close(self) -> None:
        """Close the state."""
        with self._one:
            if self._state is not None:
                self._state[1].close()
                self._state = None


@dataclass(frozen=True)
class Service:
    """One server's parts."""

    options: Options
    auth: Auth
    settings: ServeSettings = ServeSettings()
    live: Live = field(default_factory=Live)
    metrics: KeptMetrics = field(default_factory=KeptMetrics)
    kept_roster: KeptRoster = field(default_factory=KeptRoster)
    opened: Opened = field(init=False)
    jobs: Jobs = field(init=False)
    entries: AuditQueue = field(init=False)  # for the audit log

    def __post_init__(self) -> None:
        object.__setattr__(self, "opened", Opened(self.options))
        object.__setattr__(self, "jobs", Jobs(lambda: self.config().store / "serve.db"))
        entries = AuditQueue(self._log, lambda: self.jobs.journal)
        object.__setattr__(self, "entries", entries)
        self.auth.log.write = entries.add

    def _log(self, who: str, action: str, what: Mapping[str, object]) -> None:
        with self.state() as state:
            state.log(who, action, what)

    def config(self) -> Config:
        """Return the configuration as its file is now.  Raises: ConfigError."""
        return self.opened.config()

    def project(self) -> Project:
        """Return the project as its files are now.  Raises: ConfigError, UsageError."""
        return self.opened.project()

    def roster(self) -> Roster:
        """Return the roster of the project, as inventory and kept reports are now.  Raises: ConfigError."""
        return self.kept_roster.of(self.project())

    @contextmanager
    def state(self) -> Iterator[State]:
        """Give the state to one request.  It blocks: call it in a thread.  Raises: StateError."""
        yield self.opened.state()


def service_of(request: HTTPConnection) -> Service:
    """Return the service that a request is for."""
    found: Service = request.app.state.service
    return found


def _stamp(path: Path) -> object:
    """Return what changes when a file, or a file of a folder, changes."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [(str(file), file.stat()) for file in files]
    except OSError:
        return None
    return tuple((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in found)


def _identity(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return (str(path), found.st_dev, found.st_ino)
