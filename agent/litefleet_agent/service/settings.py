"""service.json: the settings of the service on this device; missing ones have defaults.  Pure, except `load_settings`."""

import difflib
import json
import os
from dataclasses import dataclass, fields
from typing import Dict, Tuple, Union

from ..errors import AgentError
from ..formats.checked import is_safe_name
from ..formats.engine_settings import POWER_MODES
from ..formats.files import read_regular

NAME = "service.json"  # in the agent's root folder
_MOST = 1 << 16  # bytes
_Value = Union[str, int, float, bool, Tuple[str, ...]]


class SettingsError(AgentError):
    """service.json cannot be read, or holds an invalid value."""

    code = "bad-settings"


@dataclass(frozen=True)
class Settings:
    """The settings.  Names in `_bytes` are bytes, names in `_s` seconds; docs/service.md explains each."""

    socket: str = ""  # path; "" = $RUNTIME_DIRECTORY/agent.sock, else run/agent.sock in the root folder
    models: Tuple[str, ...] = ()  # to serve; empty = every model that has a current release
    users: Tuple[str, ...] = ()  # names or numbers of permitted users, besides root and the service's own user
    groups: Tuple[str, ...] = ()  # likewise; the socket belongs to the first
    workers: int = 1  # processes for each model
    threads: int = 0  # of each worker; 0 leaves it to Paddle-Lite
    power_mode: str = ""  # LITE_POWER_HIGH, ..., where the runtime has it (ARM)
    input_sizes: int = 1  # number of input sizes for which a worker keeps the model loaded, each with its own memory
    queue: int = 32  # waiting requests of one model
    queue_bytes: int = 256 << 20  # of all waiting inputs together
    max_batch: int = 1  # requests that run together where the model allows it; 1 = never
    batch_wait_s: float = 0.0  # time for which a request may wait for others to join it
    time_limit_s: float = 30.0  # of one request, from its acceptance to its answer
    start_limit_s: float = 120.0  # for loading a release and passing its goldens
    memory_limit_bytes: int = 0  # resident, of one worker; 0 = seven eighths of the memory of the device
    growth_limit_bytes: int = 256 << 20  # growth after a worker's hundredth run, above which it is replaced
    connections: int = 64  # open client connections
    idle_limit_s: float = 300.0  # after which an idle connection is closed
    io_limit_s: float = 10.0  # within which a client must send the rest of a frame, or read the next answer
    health_window_s: float = 60.0  # after a switch, during which failures revert the release
    probe_every_s: float = 10.0  # without an answered request, after which a golden is run
    check_every_s: float = 300.0  # between drift checks
    status_every_s: float = 10.0  # between writes of status.json and the textfile
    textfile: str = ""  # path for node_exporter's textfile collector; "" = none
    history_bytes: int = 1 << 20  # of the history on disk
    roll_back: bool = True  # whether the service reverts a release that fails here


# field -> (least, most)
_BOUNDS: Dict[str, Tuple[float, float]] = {
    "workers": (1, 64),
    "threads": (0, 256),
    "input_sizes": (1, 64),
    "queue": (1, 10000),
    "queue_bytes": (1 << 10, 1 << 40),
    "max_batch": (1, 256),
    "batch_wait_s": (0, 10),
    "time_limit_s": (0.05, 3600),
    "start_limit_s": (1, 3600),
    "memory_limit_bytes": (0, 1 << 50),
    "growth_limit_bytes": (1 << 20, 1 << 50),
    "connections": (1, 10000),
    "idle_limit_s": (1, 86400),
    "io_limit_s": (0.1, 3600),
    "health_window_s": (0, 86400),
    "probe_every_s": (1, 3600),
    "check_every_s": (1, 86400),
    "status_every_s": (0.1, 3600),
    "history_bytes": (1 << 12, 1 << 30),
}


def settings_of(data: object) -> Settings:
    """Read the JSON form.  Raises SettingsError, which names the setting."""
    if not isinstance(data, dict):
        raise SettingsError("%s must hold a JSON object" % NAME)
    known = {field.name: field for field in fields(Settings)}
    for name in sorted(set(data) - set(known)):
        near = difflib.get_close_matches(name, known, 1)
        meant = "did you mean `%s`?" % near[0] if near else "known are %s" % ", ".join(known)
        raise SettingsError("%s has no setting `%.80s`; %s" % (NAME, name, meant))
    values = {name: _value(name, known[name].default, value) for name, value in data.items()}
    settings = Settings(**values)  # type: ignore[arg-type]  # each has its default's type
    _check_texts(settings)
    return settings


def _check_texts(settings: Settings) -> None:
    mode = settings.power_mode
    if mode and mode not in ["LITE_POWER_" + word for word in POWER_MODES]:
        modes = ", ".join(POWER_MODES)
        raise SettingsError("%s: `power_mode` is %.40r; it must be LITE_POWER_ and one of %s" % (NAME, mode, modes))
    for name, path in (("socket", settings.socket), ("textfile", settings.textfile)):
        if path and not os.path.isabs(path):
            raise SettingsError("%s: `%s` is %.200r; it must be a path that begins with /" % (NAME, name, path))
    for model in settings.models:
        if not is_safe_name(model):
            raise SettingsError("%s: `models` names %.80r, which is not a valid model name" % (NAME, model))


def _value(name: str, default: object, value: object) -> _Value:
    """Return a setting of its default's type, within its bounds.  Raises SettingsError."""
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(type(item) in (str, int) for item in value):
            raise SettingsError("%s: `%s` must be a list of names" % (NAME, name))
        return tuple(str(item) for item in value)
    if isinstance(default, (bool, str)):
        if not isinstance(value, (bool, str)) or type(value) is not type(default):
            raise SettingsError(
                "%s: `%s` must be %s" % (NAME, name, "true or false" if default in (True, False) else "a text")
            )
        return value
    least, most = _BOUNDS[name]
    whole = isinstance(default, int)
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and not (whole and isinstance(value, float))
    if not valid or not isinstance(value, (int, float)) or not least <= value <= most:
        raise SettingsError("%s: `%s` is %.40r; it must be a number from %s to %s" % (NAME, name, value, least, most))
    return value


def load_settings(root: str) -> Settings:
    """Return the settings in `root`'s service.json, the defaults where it is missing.  Raises SettingsError."""
    path = os.path.join(root, NAME)
    try:
        data = read_regular(path, _MOST + 1)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise SettingsError("cannot read %s: %s" % (path, error.strerror or error)) from error
    if len(data) > _MOST:
        raise SettingsError("%s has more than %d bytes" % (path, _MOST))
    try:
        return settings_of(json.loads(data.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise SettingsError("%s is not JSON: %s" % (path, error)) from error
