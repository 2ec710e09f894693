"""Checks of the operator's project: litefleet.yaml, the inventory, and the files that they name.  Changes nothing."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from litefleet_agent.facts.arch import ARCHES, arch_of
from litefleet_agent.findings import Certainty, Finding
from litefleet_agent.findings.runtime import check_interface, check_system
from litefleet_inventory import Device, Inventory, InventoryError, kind_of_path, load

from ..build.conversion.preflight import SourceFacts, check_age, load_source
from ..build.golden.files import check_cases, read_npz
from ..build.runtimes.compatibility import DeviceKind, refusal_of_elf, refusal_of_wheel, wheel_name
from ..build.runtimes.library import is_library, read_library
from ..build.toolchain import default_cache
from ..common.errors import ConfigError, FindingError, LitefleetError, UsageError
from ..common.files import expanded
from ..config import Config, ModelConfig, load_config
from ..config.choices import PUBLISHED_PYTHONS, RuntimeChoice
from ..devices.transport.hostkeys import HostKeys
from ..inspection.model import inspect_file
from ..project import Options
from ..project.project import open_project
from ..signing.signer import Signer
from ..state.schema import HEAD, VERSION_TABLE
from .datasets import check_dataset
from .diagnosis import CheckResult, Diagnosis, Kind, fact, failed_check, joined, works
from .host_programs import check_folder
from .host_ssh import Agent, check_key, check_known_hosts


def check_model(name: str, model: ModelConfig, config: Config) -> CheckResult:
    """Check the files of one model; nothing is converted."""
    source, found = _source(name, model, config.toolchain.paddlelite)
    found += joined(_ready(name, arch, path) for arch, path in model.nb.items())
    return found + _golden(name, model.golden.files, source) + check_dataset(name, model, source)


def _source(name: str, model: ModelConfig, opt_version: str) -> tuple[SourceFacts | None, CheckResult]:
    if model.source is None:
        return None, CheckResult()
    path = model.source.folder or model.source.model
    assert path is not None  # the configuration holds one of the two
    try:
        facts = load_source(path, model.source.params).facts
    except FindingError as error:
        return None, _named(name, error.findings)
    found = _named(name, (*facts.findings, *check_age(facts, opt_version)))
    return facts, found + works(f"{name}: the source model is complete, {sum(facts.ops.values())} operators.")


def _ready(name: str, arch: str, path: Path) -> CheckResult:
    try:
        inspection = inspect_file(path, arch)
    except LitefleetError as error:
        return failed_check("LF201", f"{name}: {error}")
    found = _named(name, inspection.findings, f" ({path.name} for {arch})")
    return found + (works(f"{name}: {path.name} fits {arch}.") if inspection.exit_code == 0 else CheckResult())


def _golden(name: str, files: tuple[Path, ...], source: SourceFacts | None) -> CheckResult:
    if not files:
        return CheckResult()
    try:
        cases = [(path.name, read_npz(path)) for path in files]
        if source is not None:
            check_cases(cases, source.inputs, source.outputs)
    except FindingError as error:
        return _named(name, error.findings)
    return works(f"{name}: {len(files)} golden files can be read.")


def _named(name: str, findings: Iterable[Finding], where: str = "") -> CheckResult:
    """Return findings, each sentence preceded by the model's name."""
    return joined(failed_check(f.code, f"{name}{where}: {f.observed}", f.certainty) for f in findings)


_NEW_ENOUGH = "9.9"  # newer than every libc: the devices' own are unknown here


def check_runtimes(config: Config, devices: Iterable[Device]) -> CheckResult:
    """Check each named runtime's files, and that every architecture that the inventory expects has a runtime."""
    version = config.toolchain.paddlelite
    choices = [(name, one.choice(version)) for name, given in config.runtimes.items() for one in given]
    found = fact("runtimes", ", ".join(f"{name}: {_words(choice)}" for name, choice in choices))
    found += joined(_judge(name, choice) for name, choice in choices)
    if "x86_64" not in config.runtimes:
        found += _published("x86_64 (not named)", RuntimeChoice(paddlelite=config.toolchain.paddlelite))
    return found + _without(config, devices)


def _words(choice: RuntimeChoice) -> str:
    if choice.kind == "wheels":
        return f"wheels of paddlelite {choice.paddlelite}, {choice.numpy}"
    return "the device's own" if choice.kind == "system" else f"{choice.kind} {choice.path}"


def _judge(name: str, choice: RuntimeChoice) -> CheckResult:
    if choice.kind == "system":
        return CheckResult()
    if choice.kind == "wheels":
        return _published(name, choice)
    if is_library(choice):
        return _of_library(name, choice)
    refusal = _of_wheel(name, choice) if choice.kind == "wheel" else _of_folder(name, choice)
    if refusal is not None:
        return failed_check(refusal.code, f"runtimes.{name}: {refusal.observed}")
    return works(f"runtimes.{name}: {choice.path.name} exists and fits.")


def _published(name: str, choice: RuntimeChoice) -> CheckResult:
    if choice.paddlelite in PUBLISHED_PYTHONS:
        return CheckResult()
    observed = f"runtimes.{name}: no published wheels of paddlelite {choice.paddlelite} are known; there are "
    return failed_check("LF302", f"{observed}{', '.join(PUBLISHED_PYTHONS)}.", Certainty.POSSIBLE)


def _of_library(name: str, choice: RuntimeChoice) -> CheckResult:
    """Judge a C++ library by what it is for; its tree is made in the user's cache."""
    try:
        library = read_library(choice.path, default_cache())
    except FindingError as error:
        return joined(failed_check(f.code, f"runtimes.{name}: {f.observed}") for f in error.findings)
    wrong = [*check_system(library.runtime), *check_interface(library.runtime)]
    if wrong:
        return joined(failed_check(f.code, f"runtimes.{name}: {f.observed}") for f in wrong)
    machine = library.runtime.so_machine
    if machine not in _arches(name):
        return failed_check("LF308", f"runtimes.{name}: {library.words} is for {machine}.")
    return works(f"runtimes.{name}: {library.words} is for {machine}, and can be driven without a Python binding.")


def _of_wheel(name: str, choice: RuntimeChoice) -> Finding | None:
    """Judge a wheel by its architecture alone, for a device that otherwise fits; `name` is the runtime's name."""
    python, libc = _python_of(choice), "musl" if "musllinux" in choice.path.name else "glibc"
    kind = DeviceKind("", python, libc, _NEW_ENOUGH)
    refusals = [refusal_of_wheel(choice.path, replace(kind, arch=arch)) for arch in _arches(name)]
    return None if None in refusals else refusals[0]


def _python_of(choice: RuntimeChoice) -> str:
    """Return an interpreter that the wheel's name fits ("cp310"; "cp310" too for a wheel of any CPython)."""
    wheel = wheel_name(choice.path.name)
    return next((tag for tag in wheel.pythons if tag.startswith("cp3")), "cp310") if wheel else "cp310"


def _of_folder(name: str, choice: RuntimeChoice) -> Finding | None:
    label = str(choice.path)
    kind = DeviceKind("", "cp310", "glibc", _NEW_ENOUGH)
    refusals = [refusal_of_elf(choice.path, replace(kind, arch=arch), label) for arch in _arches(name)]
    found = None if None in refusals else refusals[0]
    if found is not None and found.code == "LF308" and arch_of(name) is not None:
        return replace(found, observed=f"{choice.path.name}/paddlelite/lite.so is not for {name}.")
    return found


def _arches(name: str) -> tuple[str, ...]:
    """Return the architectures that a runtime of this name can be for."""
    arch = arch_of(name)
    return (arch.name,) if arch is not None else tuple(ARCHES)


def _without(config: Config, devices: Iterable[Device]) -> CheckResult:
    """Return LF302 for architectures that the inventory expects, and neither `runtimes:` nor a published wheel serves."""
    expected = Counter(a.name for d in devices if d.arch and not d.runtime and (a := arch_of(d.arch)) is not None)
    return joined(
        failed_check(
            "LF302",
            f"The inventory expects {arch} of {number} device{'' if number == 1 else 's'}; `runtimes:` names nothing for "
            f"{arch}, and nothing is published for it: only a Paddle-Lite of the device's own could run the models.",
            Certainty.POSSIBLE,
        )
        for arch, number in expected.items()
        if arch != "x86_64" and arch not in config.runtimes
    )


def check_state(config: Config) -> CheckResult:
    """Check the project's state database; a server is not contacted."""
    scheme, separator, rest = config.state.partition("://")
    if separator and scheme != "sqlite":
        return _on_a_server(scheme)
    path = expanded(rest.removeprefix("/") if separator else config.state or config.store / "state.db")
    if not path.exists():
        return fact("state", f"{path}, made by the first rollout")
    return fact("state", str(path)) + _check_state(path)


def _on_a_server(scheme: str) -> CheckResult:
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        return failed_check("LF708", f"`state:` names {scheme[:40]}://; give a path, or postgresql://HOST/DATABASE.")
    if importlib.util.find_spec("psycopg") is None:
        observed = "`state:` names PostgreSQL, and psycopg is not installed: `pip install 'litefleet[postgres]'`."
        return failed_check("LF710", observed)
    return fact("state", "PostgreSQL, not contacted here")


def _check_state(path: Path) -> CheckResult:
    try:
        schema = _schema(path)
    except (sqlite3.Error, OSError) as error:
        return failed_check(
            "LF708", f"The state database {path} cannot be read: {error}. Move it away, or name another."
        )
    if schema == HEAD:
        return works("The state database has this litefleet's schema.")
    if schema > HEAD:
        observed = (
            f"The state database {path} was written by a newer litefleet (schema {schema}, this one knows {HEAD})."
        )
        return failed_check("LF708", observed)
    return failed_check("LF708", f"The state database {path} has no litefleet tables yet.", Certainty.POSSIBLE)


def _schema(path: Path) -> str:
    """Return the schema's number, "" without one.  Unlike a usual read by SQLite, this creates no file beside the database."""
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=2)) as connection:
        table = connection.execute("SELECT name FROM sqlite_master WHERE name = ?", (VERSION_TABLE,)).fetchone()
        row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone() if table else None  # noqa: S608
    return str(row[0]) if row else ""


_MB = 10**6
_STORE_NEED = 100 * _MB  # space for converted files, goldens and the database


class Opened:
    """A project as far as it is readable: `config` and `inventory` are None when they are not; `found` holds the reasons."""

    def __init__(self, config_path: Path, inventory_path: Path | None) -> None:
        self.path = config_path
        self.config: Config | None = None
        self.inventory: Inventory | None = None
        self.found = CheckResult()
        try:
            self.config = load_config(config_path)
            self.found += works(f"{config_path} has no errors.")
        except ConfigError as error:
            self.found += joined(failed_check("LF708", problem) for problem in error.problems)
        configured = self.config.inventory if self.config else None
        if inventory_path is not None or configured is not None:
            kind = (
                configured.kind if inventory_path is None and configured is not None else kind_of_path(inventory_path)
            )
            self._read_inventory(inventory_path or (configured.path if configured else Path()), kind)
        if self.config and self.inventory:
            self._check_together(inventory_path)

    def _read_inventory(self, path: Path, kind: str) -> None:
        try:
            self.inventory = load(path, kind)
        except InventoryError as error:
            self.found += joined(failed_check("LF708", str(problem)) for problem in error.problems)
            return
        self.found += fact("inventory", f"{path}, {len(self.inventory.devices)} devices")

    def _check_together(self, inventory_path: Path | None) -> None:
        try:
            open_project(Options(self.path, inventory_path))
            self.found += works("The inventory has no errors, and names nothing that litefleet.yaml lacks.")
        except ConfigError as error:
            self.found += joined(failed_check("LF708", problem) for problem in error.problems)
        except UsageError as error:
            self.found += failed_check("LF708", f"{error}.")

    @property
    def devices(self) -> tuple[Device, ...]:
        """The inventory's devices; none when it is unreadable."""
        return self.inventory.devices if self.inventory else ()

    @property
    def needs_identity(self) -> bool:
        """Whether some device needs the SSH agent or a default key; True when no device is known."""
        return not self.devices or any(not device.key for device in self.devices)


def open_quietly(config_path: Path, inventory_path: Path | None) -> Opened | None:
    """Return the project, readable or not; None when there is none and none was named."""
    asked = inventory_path is not None or config_path != Path("litefleet.yaml")
    return Opened(config_path, inventory_path) if asked or config_path.exists() else None


async def diagnose_project(opened: Opened, agent: Agent) -> Diagnosis:
    """Check everything on this machine that a project names; no device is contacted."""
    found = opened.found + _keys(opened.devices, agent)
    if opened.config is not None:
        found += await _configured(opened.config, opened.devices)
    subject = f"the project {opened.path.absolute().parent.name or opened.path}"
    return Diagnosis(Kind.HOST, subject, found.facts, found.works, found.findings, opened.path)


async def _configured(config: Config, devices: tuple[Device, ...]) -> CheckResult:
    found = joined([check_model(name, model, config) for name, model in config.models.items()])
    found += check_runtimes(config, devices)
    found += _known_hosts(config, devices)
    found += check_folder("store", config.store, _STORE_NEED, "store:") + check_state(config)
    return found + (await _signing(config))


async def _signing(config: Config) -> CheckResult:
    if config.signing is None:
        return CheckResult()
    try:
        await Signer(config.signing).check()
    except LitefleetError as error:
        problems = error.problems if isinstance(error, ConfigError) else (str(error),)
        return joined(failed_check("LF708", problem) for problem in problems)
    return works("A release can be signed, and the list of trusted signers names the key.")


def _keys(devices: Iterable[Device], agent: Agent) -> CheckResult:
    users: defaultdict[str, list[str]] = defaultdict(list)
    for device in devices:
        if device.key:
            users[device.key].append(device.name)
    return joined(check_key(key, names, agent) for key, names in users.items())


def _known_hosts(config: Config, devices: Iterable[Device]) -> CheckResult:
    files = [config.ssh.known_hosts, config.store / "known_hosts"]
    found = check_known_hosts(files[0]) + (
        check_known_hosts(files[1], "pinned keys") if files[1].exists() else CheckResult()
    )
    try:
        keys = HostKeys(files[:1], files[1], False)
        unknown = [d.name for d in devices if not keys.decision(d).is_known]
    except ConfigError as error:
        return found + joined(failed_check("LF708", problem) for problem in error.problems)
    if not unknown or config.ssh.accept_new_host_keys:
        return found
    named = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    observed = (
        f"No host key is known of {named}; they are rejected until `litefleet probe --accept-new-host-keys` pins them."
    )
    return found + failed_check("LF707", observed)
