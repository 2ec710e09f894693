"""`litefleet provision`: the steps for each selected device, and the text that reports them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
from litefleet_agent.errors import AgentError
from litefleet_agent.findings import Finding, finding
from litefleet_agent.service.settings import settings_of
from litefleet_inventory import checks
from litefleet_inventory.model import Device

from ..catalogue.articles import advice
from ..catalogue.translate import tr, translated, translated_cell, translated_sentence
from ..catalogue.wrap import padded
from ..common.errors import LitefleetError, UsageError
from ..common.files import expanded
from ..common.text import LINE_LIMIT, sanitize
from ..devices.agent_archive import AgentArchive, agent_archive
from ..devices.outcome import unexpected
from ..devices.python_bundle import PythonMaker
from ..devices.transport.base import TransportError
from .account import Wanted, account_steps, command_steps
from .carry_out import Remote, State, StepOutcome, carry_out, shown
from .login import Login, shown_fingerprint
from .python import named_python, python_steps, without_python
from .services import DETECT, UNITS, Init, device_steps, script_of, why_unfit
from .steps import HOME, PYTHON, USER, Step, removal
from .sudo import SudoRemote

_FOLDERS = (Path(__file__).parent / "units", Path(__file__).parents[3] / "systemd")  # installed; in a checkout
_MOST = 1 << 16


@dataclass(frozen=True)
class Choice:
    """What the command line chose for every device."""

    key: Path | None = None
    settings: Path | None = None
    remove: bool = False
    purge: bool = False
    dry_run: bool = False
    check: bool = False


@dataclass
class Provision:
    """One run over the chosen devices; `say` takes lines for a person, `password` asks for sudo's once."""

    choice: Choice
    say: Callable[[str], None]
    password: Callable[[], str]
    pythons: PythonMaker | None = None  # makes what is brought to devices without Python; None: nothing is
    archive: AgentArchive = field(default_factory=agent_archive)
    _settings: bytes = field(default=b"", init=False)
    _seen: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)  # host key: (device, its boot)

    def __post_init__(self) -> None:
        self._settings = read_settings(self.choice.settings) if self.choice.settings else b""

    def planned_steps(
        self, device: Device, init: Init, python: str = "", first: tuple[Step, ...] = ()
    ) -> tuple[Step, ...]:
        """Return the device's steps; UsageError when it cannot be done with what is given.

        `python` is the interpreter that the device was found to have, `first` the step that brings it.
        """
        root, python = device.root or HOME, python or named_python(device)
        if unfit := why_unfit(init, root, PYTHON if self.choice.remove else python):
            raise UsageError(f"{device.name}: {unfit}")
        keys = () if self.choice.remove else (public_key(device, self.choice.key),)
        settings, keep = self._settings or _generated(device), not self._settings
        wanted = Wanted(self.archive.data, self.archive.sha256, keys, settings, keep, root, python)
        first = (without_python(),) if self.choice.remove else first
        steps = (*first, *account_steps(wanted), *device_steps(init, wanted, _files(init)), *command_steps(wanted))
        return removal(steps, self.choice.purge) if self.choice.remove else steps

    def show(self, device: Device, init: Init) -> None:
        """Print every command that would be run, without connecting."""
        self.say(f"{device.name} ({init.value}):")
        for step in self.planned_steps(device, init):
            self.say(f"  {translated(step.name)}")
            for word, command in (("unless", step.check), ("do", step.do)):
                if command:
                    self.say(f"    {padded(tr(word), 6)} {shown(step, command)}")

    def device(self, device: Device, login: Login) -> bool:
        """Carry out the chosen steps on one device and print the results; False when a step failed."""
        self.say(f"{device.name}:")
        try:
            with login.open(device) as connection:
                remote = SudoRemote(connection, self.password)
                self._check_machine(device, shown_fingerprint(connection), remote)
                return self.remote(device, remote)
        except TransportError as error:
            self._failed(error.found)
        except LitefleetError as error:
            self.say(f"  {tr('failed')}: {translated(sanitize(error, LINE_LIMIT))}")
        except Exception as error:  # a bug, or an unforeseen answer, must not stop the other devices
            self._failed(*unexpected(device.name, "", error).findings)
        return False

    def _check_machine(self, device: Device, host_key: str, remote: Remote) -> None:
        """Raise TransportError with LF513 where this machine was provisioned under another name; say where a key is shared."""
        boot = remote.run("cat /proc/sys/kernel/random/boot_id 2>/dev/null; :").out.strip()
        name, its_boot = self._seen.setdefault(host_key, (device.name, boot))
        if name == device.name:
            return
        shared = f"{device.name} and {name} show the same host key {host_key}"
        if boot and boot == its_boot:
            observed = f"{shared}, and the same boot: one machine under several names; it was provisioned as {name}"
            raise TransportError(finding("LF513", observed))
        found = finding("LF513", f"{shared}, and started separately")
        self.say(f"  {tr('warning')}: {_in_words(found)}")

    def _failed(self, found: Finding) -> None:
        self.say(f"  {tr('failed')}: {_in_words(found)}")

    def remote(self, device: Device, remote: Remote) -> bool:
        """As `device`, on a connection that stands."""
        init = detect(remote)
        python, first = ("", ()) if self.choice.remove else python_steps(device, remote, self.pythons)
        steps = self.planned_steps(device, init, python, first)
        check_only = self.choice.dry_run
        if self.choice.remove and check_only:
            for step in steps:
                self._report(StepOutcome(step, State.DUE))
            return True
        outcomes = carry_out(remote, steps, self._report, check_only)
        counts = {state: sum(done.state is state for done in outcomes) for state in State}
        self.say(
            "  " + ", ".join(f"{number} {translated_cell(state.value)}" for state, number in counts.items() if number)
        )
        self._advise(device)
        return not counts[State.FAILED]

    def _advise(self, device: Device) -> None:
        if not self.choice.remove and device.user != USER:
            said = f"From now on litefleet must log in as {USER}: write `user: {USER}` for {device.name}."
            self.say(f"  {translated(said)}")

    def _report(self, done: StepOutcome) -> None:
        self.say(f"  {padded(translated_cell(done.state.value), 8)} {translated(done.step.name)}")
        if done.state is not State.OK and (done.step.do or done.state is State.FAILED):
            first, *more = shown(done.step, done.step.do or done.step.check).splitlines()
            left_out = tr(" … ({count} more lines: --dry-run shows them)", count=len(more)) if more else ""
            self.say(f"           {first}{left_out}")
        if done.message:
            self.say(f"           {translated_sentence(done.message)}")


def _in_words(found: Finding) -> str:
    """Return a finding's code, sentence and remedy in the language of this process's messages."""
    return f"{found.code} {translated_sentence(sanitize(found.observed, LINE_LIMIT))} {advice(found.code)[1]}"


def detect(remote: Remote) -> Init:
    """Ask a device what starts its services; LitefleetError where it is nothing that litefleet knows."""
    message = remote.run(DETECT).out.strip()
    if message not in {init.value for init in Init}:
        known = ", ".join(init.value for init in Init)
        raise LitefleetError(f"nothing that starts services was found (known are {known}); start the agent yourself")
    return Init(message)


def _files(init: Init) -> Mapping[str, bytes]:
    names = UNITS if init is Init.SYSTEMD else (script_of(init),)
    for folder in _FOLDERS:
        place = folder if init is Init.SYSTEMD else folder / "init"
        if place.joinpath(names[0]).is_file():
            return {name: place.joinpath(name).read_bytes() for name in names}
    raise LitefleetError("litefleet's own units are missing: install it again")


def _generated(device: Device) -> bytes:
    """Return a first service.json: members of the socket's group may connect, and the device's own model is served."""
    message: dict[str, object] = {"groups": [USER]}
    if device.model:
        message["models"] = [device.model]
    return json.dumps(message, indent=2).encode() + b"\n"


def read_settings(path: Path) -> bytes:
    """Return a service.json as it is; UsageError when it is none."""
    try:
        data = path.read_bytes()
        if len(data) > _MOST:
            raise UsageError(f"{path} is over {_MOST} bytes")
        settings_of(json.loads(data))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (AgentError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be used as service.json: {error}") from error
    return data


def public_key(device: Device, file: Path | None) -> str:
    """Return the public key that is to log in: of `file`, else the public half of the inventory's key; UsageError."""
    if file is None and not device.key:
        raise UsageError(f"{device.name} has no `key:` in the inventory: name the public key with --key FILE.pub")
    try:
        given = file.read_bytes()[:_MOST].decode("utf-8").strip() if file is not None else ""
        text = given if file is not None else _public_half(expanded(device.key))
    except (OSError, ValueError, asyncssh.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"the key {file or device.key} cannot be read ({why}): name its .pub file with --key"
        ) from error
    if wrong := checks.host_key(text):  # the same form: type, data, comment
        raise UsageError(f"{file or device.key} holds no public key: {wrong.replace('public host key', 'public key')}")
    return " ".join(text.split()[:2])


def _public_half(private: Path) -> str:
    beside = private.with_name(private.name + ".pub")
    if beside.is_file():
        return beside.read_text(encoding="utf-8")[:_MOST].strip()
    return asyncssh.read_private_key(private).export_public_key("openssh").decode().strip()
