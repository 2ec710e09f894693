"""The operator's project: litefleet.yaml, the inventory, and everything that the two name.  Nothing is made or changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from litefleet_inventory import Device, Inventory, InventoryError, load

from ..config import Config, load_config
from ..errors import ConfigError, LitefleetError, UsageError
from ..options import Options
from ..project import open_project
from ..signing import Signer
from ..transport.hostkeys import HostKeys
from .diagnosis import Diagnosis, Kind
from .host_ssh import Agent, look_at_key, look_at_known_hosts
from .host_tools import look_at_folder
from .looked import Looked, fact, joined, trouble, works
from .project_models import look_at_model
from .project_runtimes import look_at_runtimes
from .project_state import look_at_state

__all__ = ["Opened", "diagnose_project", "open_quietly"]

_MB = 10**6
_STORE_NEED = 100 * _MB  # room for converted files, goldens and the database


class Opened:
    """What of a project could be read: `config` and `inventory` are None where they could not; `found` says why."""

    def __init__(self, config_path: Path, inventory_path: Path | None) -> None:
        self.path = config_path
        self.config: Config | None = None
        self.inventory: Inventory | None = None
        self.found = Looked()
        try:
            self.config = load_config(config_path)
            self.found += works(f"{config_path} has no mistakes.")
        except ConfigError as error:
            self.found += joined(trouble("LF708", problem) for problem in error.problems)
        self._read_inventory(inventory_path or (self.config.inventory if self.config else None))
        if self.config and self.inventory:
            self._check_together(inventory_path)

    def _read_inventory(self, path: Path | None) -> None:
        if path is None:
            return
        try:
            self.inventory = load(path)
        except InventoryError as error:
            self.found += joined(trouble("LF708", str(problem)) for problem in error.problems)
            return
        self.found += fact("inventory", f"{path}, {len(self.inventory.devices)} devices")

    def _check_together(self, inventory_path: Path | None) -> None:
        try:
            open_project(Options(self.path, inventory_path))
            self.found += works("The inventory has no mistakes, and names nothing that litefleet.yaml lacks.")
        except ConfigError as error:
            self.found += joined(trouble("LF708", problem) for problem in error.problems)
        except UsageError as error:
            self.found += trouble("LF708", f"{error}.")

    @property
    def devices(self) -> tuple[Device, ...]:
        """The inventory's devices, none when it could not be read."""
        return self.inventory.devices if self.inventory else ()

    @property
    def needs_identity(self) -> bool:
        """Whether some device is reached by the SSH agent or the default keys; so it is where nothing is known."""
        return not self.devices or any(not device.key for device in self.devices)


def open_quietly(config_path: Path, inventory_path: Path | None) -> Opened | None:
    """Return the project, however broken; None where there is none and none was asked for."""
    asked = inventory_path is not None or config_path != Path("litefleet.yaml")
    return Opened(config_path, inventory_path) if asked or config_path.exists() else None


async def diagnose_project(opened: Opened, agent: Agent) -> Diagnosis:
    """Look at everything that a project names on this machine; no device is asked."""
    found = opened.found + _keys(opened.devices, agent)
    if opened.config is not None:
        found += await _configured(opened.config, opened.devices)
    subject = f"the project {opened.path.absolute().parent.name or opened.path}"
    return Diagnosis(Kind.HOST, subject, found.facts, found.works, found.findings, opened.path)


async def _configured(config: Config, devices: tuple[Device, ...]) -> Looked:
    found = joined([look_at_model(name, model, config) for name, model in config.models.items()])
    found += look_at_runtimes(config, devices)
    found += _known_hosts(config, devices)
    found += look_at_folder("store", config.store, _STORE_NEED, "store:") + look_at_state(config)
    return found + (await _signing(config))


async def _signing(config: Config) -> Looked:
    if config.signing is None:
        return Looked()
    try:
        await Signer(config.signing).check()
    except LitefleetError as error:
        problems = error.problems if isinstance(error, ConfigError) else (str(error),)
        return joined(trouble("LF708", problem) for problem in problems)
    return works("A release can be signed, and the list of trusted signers names the key.")


def _keys(devices: Iterable[Device], agent: Agent) -> Looked:
    users: defaultdict[str, list[str]] = defaultdict(list)
    for device in devices:
        if device.key:
            users[device.key].append(device.name)
    return joined(look_at_key(key, names, agent) for key, names in users.items())


def _known_hosts(config: Config, devices: Iterable[Device]) -> Looked:
    files = [config.ssh.known_hosts, config.store / "known_hosts"]
    found = look_at_known_hosts(files[0]) + (
        look_at_known_hosts(files[1], "pinned keys") if files[1].exists() else Looked()
    )
    try:
        keys = HostKeys(files[:1], files[1], False)
        unknown = [d.name for d in devices if not keys.decision(d).is_known]
    except ConfigError as error:
        return found + joined(trouble("LF708", problem) for problem in error.problems)
    if not unknown or config.ssh.accept_new_host_keys:
        return found
    named = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    seen = (
        f"No host key is known of {named}; they are refused until `litefleet probe --accept-new-host-keys` pins them."
    )
    return found + trouble("LF707", seen)
