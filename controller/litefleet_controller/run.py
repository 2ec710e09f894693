"""One run: reads configuration and inventory, builds the parts, fans out, and returns the report."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from litefleet_agent.arch import ARCHES, arch_of
from litefleet_agent.findings import Finding
from litefleet_inventory import Device, Inventory, InventoryError, SelectError, load
from litefleet_inventory.select import select
from pydantic import ValidationError

from .config import Config, load_config
from .config.model import OptionsConfig, check_targets
from .conversion.variant import parse_targets
from .device import Mode, run_device
from .errors import ConfigError, FindingError, LitefleetError, UsageError
from .fleet import fan_out
from .outcome import DeviceOutcome, RunReport
from .pyz import agent_archive
from .reports.as_json import to_json
from .reports.progress import Progress
from .supply import Supply
from .toolchain import Toolchains, default_cache
from .transport.hostkeys import HostKeys
from .transport.ssh import SshLimits, SshTransport

__all__ = ["ConvertChoice", "ConvertRow", "Interrupted", "Options", "convert_models", "read_report", "run_fleet"]

_MODES = {
    "probe": {"stage": False},
    "rollout": {"activate": True},
    "verify": {"activate": False, "again": True},
}


@dataclass(frozen=True)
class Options:
    """What the command line chose."""

    config: Path
    inventory: Path | None = None
    limit: str = ""
    models: tuple[str, ...] = ()
    accept_new_host_keys: bool = False


class Interrupted(Exception):
    """Ctrl-C; `report` holds what was known by then."""

    def __init__(self, report: RunReport) -> None:
        super().__init__("interrupted")
        self.report = report


async def run_fleet(command: str, options: Options, progress_for: Callable[[int], Progress]) -> RunReport:
    """Do `command` ("probe", "rollout" or "verify") on the selected devices.

    Raises: ConfigError and UsageError before anything is done; Interrupted after Ctrl-C.
    """
    config = load_config(options.config)
    inventory, devices = _devices(config, options)
    models = _models(config, options.models)
    _check_names(config, devices)
    transport = SshTransport(
        HostKeys(
            [config.ssh.known_hosts],
            config.store / "known_hosts",
            options.accept_new_host_keys or config.ssh.accept_new_host_keys,
        ),
        inventory.jump_chain,
        SshLimits(config.ssh.connect_time_limit_s, config.ssh.connect_time_limit_s),
    )
    mode = Mode(
        step_limit_s=config.ssh.step_time_limit_s,
        verify_limit_s=config.verify.time_limit_s + config.ssh.step_time_limit_s,
        **_MODES[command],
    )
    started, clock = datetime.now(UTC), time.monotonic()
    wanted = {d.name: _wanted(d, models, command) for d in devices}
    with progress_for(sum(map(len, wanted.values()))) as progress:
        supply = Supply(config, Toolchains(), default_cache(), progress.message)

        async def work(device: Device) -> list[DeviceOutcome]:
            asked = wanted[device.name]
            return await run_device(device, asked, mode, transport, agent_archive(), supply, progress.device_step)

        try:
            outcomes, interrupted = await fan_out(devices, work, config.ssh.concurrency, progress.device_done)
        finally:
            await supply.close()
    stamp = started.isoformat(timespec="seconds").replace("+00:00", "Z")
    report = RunReport(command, stamp, time.monotonic() - clock, outcomes)
    _keep(config, report, started)
    if interrupted:
        raise Interrupted(report)
    return report


def _devices(config: Config, options: Options) -> tuple[Inventory, tuple[Device, ...]]:
    try:
        inventory = load(options.inventory or config.inventory)
        devices = select(inventory, options.limit) if options.limit else inventory.devices
    except InventoryError as error:
        raise ConfigError([str(problem) for problem in error.problems]) from error
    except SelectError as error:
        raise UsageError(f"--limit: {error}") from error
    if not devices:
        raise UsageError("no device is selected: the inventory is empty, or --limit leaves nothing")
    return inventory, devices


def _models(config: Config, wanted: tuple[str, ...]) -> list[str]:
    unknown = [m for m in wanted if m not in config.models]
    if unknown:
        raise UsageError(f"no model {unknown[0]!r} in litefleet.yaml; there are {', '.join(config.models)}")
    return list(wanted or config.models)


def _wanted(device: Device, models: list[str], command: str) -> list[str]:
    """Return the models that a device gets: its own, else all; a probe asks for none in particular."""
    if command == "probe":
        return [""]
    return [m for m in models if device.model in ("", m)]


def _check_names(config: Config, devices: tuple[Device, ...]) -> None:
    """Refuse an inventory that names models or runtimes which litefleet.yaml lacks, all at once."""
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


def _keep(config: Config, report: RunReport, started: datetime) -> None:
    """Keep the report in the project's store, for `litefleet report`."""
    folder = config.store / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{started.strftime('%Y%m%dT%H%M%S')}-{report.command}.json"
    path.write_text(to_json(report), encoding="utf-8")


@dataclass(frozen=True)
class ConvertRow:
    """One file that `litefleet convert` made or had, or why not."""

    model: str
    arch: str
    sha256: str
    path: str
    cached: bool
    seconds: float
    findings: tuple[Finding, ...]
    failed: bool

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        found = [f.to_dict() for f in self.findings]
        return {**{k: v for k, v in self.__dict__.items() if k != "findings"}, "findings": found}

    def to_text(self) -> str:
        """Return the lines for a terminal."""
        how = "refused" if self.failed else ("in the store" if self.cached else f"converted in {self.seconds:.1f} s")
        lines = [f"{self.model}  {self.arch:8}  {how}  {self.sha256[:12]}  {self.path}".rstrip()]
        for found in self.findings:
            lines.append(f"    {found.code} {found.seen}")
            lines.append(f"          Why: {found.entry.why}")
            lines.append(f"          Do:  {found.entry.do}")
        return "\n".join(lines)


@dataclass(frozen=True)
class ConvertChoice:
    """What the command line chose for `litefleet convert`; what it leaves out is as litefleet.yaml says."""

    arches: tuple[str, ...] = ()
    targets: str = ""
    fp16: bool = False
    quant: str = ""


async def convert_models(
    config_path: Path, models: tuple[str, ...], choice: ConvertChoice, out: Path | None
) -> list[ConvertRow]:
    """Convert each model for each architecture and return a row each; copies go to `out` as MODEL-ARCH.nb.

    Raises: FindingError LF102 for two CPU instruction sets in one request; UsageError, ConfigError.
    """
    targets = parse_targets(choice.targets) if choice.targets else ()
    config = load_config(config_path)
    names = [_canonical(a) for a in choice.arches] or _arches_of(targets) or _expected(config)
    config = _overridden(config, names, ",".join(targets), choice)
    supply = Supply(config, Toolchains(), default_cache(), lambda text: None)
    try:
        return [await _convert_one(supply, m, a, out) for m in _models(config, models) for a in names]
    finally:
        await supply.close()


def _arches_of(targets: tuple[str, ...]) -> list[str]:
    return [{"x86": "x86_64", "arm": "aarch64"}[t] for t in targets if t in ("x86", "arm")]


def _overridden(config: Config, arches: list[str], targets: str, choice: ConvertChoice) -> Config:
    """Return the configuration with the command line's targets and options in every model."""
    changes: dict[str, object] = {}
    try:
        if targets:
            changes["targets"] = {arch: check_targets(arch, targets) for arch in arches}
        if choice.fp16 or choice.quant:
            options = {"fp16": choice.fp16, "quant": choice.quant or "none"}
            changes["options"] = OptionsConfig.model_validate(options)
    except ValueError as error:  # pydantic's own is one too
        words = (
            [e["msg"].removeprefix("Value error, ") for e in error.errors()]
            if isinstance(error, ValidationError)
            else []
        )
        raise UsageError("--targets, --fp16, --quant: " + ("; ".join(words) or str(error))) from error
    models = {name: model.model_copy(update=changes) for name, model in config.models.items()}
    return config.model_copy(update={"models": models})


def _canonical(name: str) -> str:
    arch = arch_of(name)
    if arch is None:
        raise UsageError(f"--for {name}: Paddle-Lite has no CPU backend for it; known are {', '.join(ARCHES)}")
    return arch.name


def _expected(config: Config) -> list[str]:
    if config.inventory.exists():
        named = {_canonical(d.arch) for d in load(config.inventory).devices if d.arch}
        if named:
            return sorted(named)
    return ["x86_64", "aarch64"]


async def _convert_one(supply: Supply, model: str, arch: str, out: Path | None) -> ConvertRow:
    try:
        made = await supply.artifact(model, ARCHES[arch])
    except FindingError as error:
        return ConvertRow(model, arch, "", "", False, 0.0, error.findings, True)
    path = made.path
    if out is not None:
        path = out / f"{model}-{arch}.nb"
        try:
            out.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made.path, path)
        except OSError as error:
            raise LitefleetError(f"{path} can't be written: {error.strerror}") from error
    return ConvertRow(model, arch, made.sha256, str(path), made.cached, made.seconds, made.findings, False)


def read_report(path: Path) -> RunReport:
    """Return a kept report; UsageError when the file is something else."""
    try:
        return RunReport.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a litefleet report (the JSON that --json prints): {error}") from error
