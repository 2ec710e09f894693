"""Opens a project: checks configuration, inventory and command-line options together, and builds the parts of a run.

What contacts devices or builds releases is imported when it is asked for: commands that read the state start without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from litefleet_inventory import Device, Inventory, InventoryError, SelectError, kind_of_path, load, select

from ..common.errors import ConfigError, UsageError
from ..config import Config, load_config
from . import Options

if TYPE_CHECKING:
    from ..build.releases import ReleaseBuilder
    from ..devices.progress import Progress
    from ..devices.transport.hostkeys import HostKeys, HostTrust
    from ..devices.transport.ssh import SshTransport
    from ..devices.transport.ssh_config import SshConfig
    from ..devices.visit import SessionFactory
    from ..state import State, StateReader


_MOST_SKIPPED = 5


@dataclass(frozen=True)
class Project:
    """An open project: all selected devices, models and runtimes exist."""

    options: Options
    config: Config
    inventory: Inventory
    devices: tuple[Device, ...]  # the selected ones, in the inventory's order
    models: tuple[str, ...]
    ssh_config: SshConfig

    def hops(self, device: Device) -> tuple[Device, ...]:
        """Return the jump hosts on the way to a device, first hop first."""
        return self.ssh_config.hops(self.inventory, device)

    def host_keys(self) -> HostKeys:
        """Return the trusted host keys; new keys are pinned where the options or litefleet.yaml allow it."""
        from ..devices.transport.hostkeys import HostKeys

        ssh = self.config.ssh
        accept_new = self.options.accept_new_host_keys or ssh.accept_new_host_keys
        return HostKeys([ssh.known_hosts], self.config.store / "known_hosts", accept_new)

    def session_factory(self, progress: Progress, keep_agent: bool = True) -> SessionFactory:
        """Return the factory of sessions with the project's devices; `keep_agent` leaves the agent's archive on them."""
        from ..build.pythons.make import PythonBundles
        from ..build.toolchain import default_cache, interpreters
        from ..devices.agent_archive import agent_archive
        from ..devices.code_packs import CodePacks
        from ..devices.visit import SessionFactory

        limit_s, transport = self.config.ssh.step_time_limit_s, self.transport()
        for sentence in skipped_lines(transport.host_keys):
            progress.message(sentence)
        pythons = PythonBundles(self.config.python, default_cache(), progress.message)
        archive = agent_archive(folder := default_cache() / "agent")
        if keep_agent:  # what does not stay on a device is not worth more bytes
            archive = replace(archive, packs=CodePacks(archive.data, archive.sha256, folder, interpreters))
        return SessionFactory(transport, archive, progress.device_step, limit_s, keep_agent, pythons)

    def transport(self) -> SshTransport:
        """Return the transport to the project's devices."""
        from ..devices.transport.bandwidth import Bandwidth, BandwidthLimits
        from ..devices.transport.ssh import SshLimits, SshTransport

        ssh = self.config.ssh
        limits = SshLimits(ssh.connect_time_limit_s, ssh.connect_time_limit_s)
        bits = self.config.bandwidth
        sites = {site: rate / 8 for site, rate in bits.per_site.items()}
        most = BandwidthLimits((bits.fleet or 0.0) / 8, (bits.per_jump_host or 0.0) / 8, sites)
        return SshTransport(self.host_keys(), self.hops, limits, Bandwidth(most, self._sites))

    def _sites(self, device: Device) -> list[str]:
        """Return the groups with a limit of their own that a device is in."""
        limited = self.config.bandwidth.per_site
        return [group.name for group in self.inventory.groups if group.name in limited and device.name in group.devices]

    def site_of(self, device: Device) -> str:
        """Return the site within which a device shares files with others, "jump NAME" or "site GROUP"; "" for none."""
        if device.jump and device.jump in self.config.site_cache.jump_hosts:
            return f"jump {device.jump}"
        return next((f"site {name}" for name, devices in self._sharing if device.name in devices), "")

    @cached_property
    def _sharing(self) -> list[tuple[str, frozenset[str]]]:
        """The groups of `site_cache.sites`, in the inventory's order, with their devices."""
        shared = self.config.site_cache.sites
        return [(group.name, frozenset(group.devices)) for group in self.inventory.groups if group.name in shared]

    def release_builder(self, progress: Progress) -> ReleaseBuilder:
        """Return the builder of the project's releases; the caller closes it."""
        from ..build.releases import ReleaseBuilder
        from ..build.toolchain import Toolchains, default_cache

        return ReleaseBuilder(self.config, Toolchains(), default_cache(), progress.message)

    def models_of(self, device: Device) -> list[str]:
        """Return the names of a device's models: its `model:`, else all selected ones."""
        return [m for m in self.models if device.model in ("", m)]

    def selected(self, limit: str, models: tuple[str, ...] = ()) -> Project:
        """Return the same project with another selection, without reading its files again.

        Raises: UsageError for what selects nothing.
        """
        options = replace(self.options, limit=limit, models=models)
        devices = _selected(self.inventory, limit)
        return replace(self, options=options, devices=devices, models=tuple(chosen_models(self.config, models)))

    @property
    def verify_limit_s(self) -> float:
        """Time limit for verifying one model on a device, in seconds."""
        return self.config.verify.time_limit_s + self.config.ssh.step_time_limit_s


def skipped_lines(host_keys: HostTrust) -> list[str]:
    """Return sentences about the lines of known_hosts files that are no host keys, the first ones by their numbers."""
    skipped = host_keys.skipped
    more = [f"{len(skipped) - _MOST_SKIPPED} more lines of known_hosts files are skipped: `litefleet doctor`"]
    return [str(line) for line in skipped[:_MOST_SKIPPED]] + (more if len(skipped) > _MOST_SKIPPED else [])


def open_project(options: Options) -> Project:
    """Return the project.  Raises: ConfigError or UsageError with every problem, before a device is contacted."""
    from ..devices.transport.ssh_config import SshConfig

    config = load_config(options.config)
    inventory, devices = _devices(config, options)
    ssh_config = SshConfig(_ssh_files(config), "known_hosts" not in config.ssh.model_fields_set)
    inventory = replace(inventory, devices=tuple(map(ssh_config.applied, inventory.devices)))
    devices = tuple(inventory.by_name[device.name] for device in devices)
    models = chosen_models(config, options.models)
    _check_names(config, devices)
    _check_sites(config, inventory)
    _check_receivers(config, inventory)
    return Project(options, config, inventory, devices, tuple(models), ssh_config)


def _ssh_files(config: Config) -> tuple[Path, ...]:
    """Return the files of the SSH configuration that `ssh.config` asks for."""
    from ..devices.transport.ssh_config import DEFAULT_FILES

    chosen = config.ssh.config
    return DEFAULT_FILES if chosen is True else (chosen,) if isinstance(chosen, Path) else ()


def _devices(config: Config, options: Options) -> tuple[Inventory, tuple[Device, ...]]:
    try:
        given = options.inventory
        kind = config.inventory.kind if given is None else kind_of_path(given)
        inventory = load(given or config.inventory.path, kind)
    except InventoryError as error:
        raise ConfigError([str(problem) for problem in error.problems]) from error
    return inventory, _selected(inventory, options.limit)


def _selected(inventory: Inventory, limit: str) -> tuple[Device, ...]:
    try:
        devices = select(inventory, limit) if limit else inventory.devices
    except SelectError as error:
        raise UsageError(f"--limit: {error}") from error
    if not devices:
        raise UsageError("no device is selected: the inventory is empty, or --limit excludes all")
    return devices


def chosen_models(config: Config, wanted: tuple[str, ...]) -> list[str]:
    """Return the wanted models, all by default; UsageError for an unknown one."""
    unknown = [m for m in wanted if m not in config.models]
    if unknown:
        raise UsageError(f"no model {unknown[0][:60]!r} in litefleet.yaml. Available: {', '.join(config.models)}.")
    return list(wanted or config.models)


def _check_names(config: Config, devices: tuple[Device, ...]) -> None:
    """Raise ConfigError for the models and runtimes that the inventory names and litefleet.yaml lacks."""
    problems = []
    for device in devices:
        if device.model and device.model not in config.models:
            problems.append(
                f"{device.source}: {device.name}: model '{device.model}' is not under `models:` in litefleet.yaml"
            )
        if device.runtime and device.runtime != "system" and device.runtime not in config.runtimes:
            problems.append(
                f"{device.source}: {device.name}: runtime '{device.runtime}' is not under `runtimes:` in litefleet.yaml"
            )
    if problems:
        raise ConfigError(problems)


def _check_sites(config: Config, inventory: Inventory) -> None:
    """Raise ConfigError for sites that are no groups of the inventory, and for jump hosts of none of its devices."""
    groups, jumps = {group.name for group in inventory.groups}, {device.jump for device in inventory.devices} - {""}
    sites = {"bandwidth.per_site": tuple(config.bandwidth.per_site), "site_cache.sites": config.site_cache.sites}
    problems = [
        f"{key}: the inventory has no group {name!r}; it has: {', '.join(sorted(groups)[:20]) or 'none'}"
        for key, names in sites.items()
        for name in names
        if name not in groups
    ]
    problems += [
        f"site_cache.jump_hosts: no device of the inventory has `jump: {name}`; they have: "
        f"{', '.join(sorted(jumps)[:20]) or 'none'}"
        for name in config.site_cache.jump_hosts
        if name not in jumps
    ]
    if problems:
        raise ConfigError(problems)


def _check_receivers(config: Config, inventory: Inventory) -> None:
    """Raise ConfigError for the receivers of notices whose `limit` selects no device."""
    problems = []
    for name, receiver in config.notify.items():
        try:
            if receiver.limit:
                select(inventory, receiver.limit)
        except SelectError as error:
            problems.append(f"notify.{name}.limit: {error}")
    if problems:
        raise ConfigError(problems)


def open_state(config: Config) -> State:
    """Return the project's state, created or migrated if needed; StateError when it is unusable."""
    from ..state import State, Subscription  # takes 0.2 s to import, and few commands need it

    told = [Subscription(config.fleet, name, frozenset(one.events)) for name, one in config.notify.items()]
    return State.open(_state_of(config), beside=beside_of(config), told=told)


def open_reader(config: Config) -> StateReader:
    """Return the project's state to read a rollout from, created or migrated if needed; StateError when it is unusable."""
    from ..state import open_reader as opened

    return opened(_state_of(config), beside=beside_of(config))


def _state_of(config: Config) -> str:
    return config.state or str(config.store / "state.db")


def beside_of(config: Config) -> Path | None:
    """Return the file for a state's identity where its database is a server's; None: beside the SQLite file."""
    return config.store / "state.id" if "://" in config.state and not config.state.startswith("sqlite:") else None
