"""Which Paddle-Lite a device would run with, judged by what is known without fetching or asking anything."""

from __future__ import annotations

from litefleet_agent.facts import Facts
from litefleet_agent.facts.runtime import RuntimeFacts
from litefleet_agent.findings import Finding, finding
from litefleet_agent.findings.runtime import check_numpy
from litefleet_inventory import Device

from ..build.runtimes import DeviceKind
from ..build.runtimes.compatibility import PUBLISHED, refusal_of_device, refusal_of_elf, refusal_of_wheel
from ..config import Config, runtime_for
from ..config.choices import RuntimeChoice
from . import Runtime

__all__ = ["runtime_on"]


def runtime_on(config: Config, device: Device, facts: Facts) -> Runtime:
    """Return the runtime that a device would get, as a delivery chooses it; nothing where its kind is not known."""
    if not facts.arch:
        return Runtime()
    choice = runtime_for(config, facts.arch, device.runtime)
    if choice.kind == "system":
        return _own(facts)
    kind = DeviceKind(facts.arch, facts.python.tag, facts.libc.kind, facts.libc.version)
    refused = _refusal(choice, kind)
    named = device.runtime or facts.arch in config.runtimes
    if refused is not None and refused.code == "LF302" and not named and facts.paddlelite.path:
        return _own(facts)
    found = (refused,) if refused is not None else ()
    return Runtime(_words(choice, refused), _version(choice), choice.kind == "wheels" and not found, found)


def _own(facts: Facts) -> Runtime:
    if not facts.paddlelite.path:
        python_name = facts.python.executable or "this Python"
        return Runtime(
            "its own Paddle-Lite", findings=(finding("LF302", f"No paddlelite is installed for {python_name}."),)
        )
    runtime = RuntimeFacts("system", facts.paddlelite.path, numpy_version=facts.numpy.version)
    version = facts.paddlelite.version
    return Runtime(f"its own Paddle-Lite {version}".rstrip(), version, findings=tuple(check_numpy(runtime)))


def _refusal(choice: RuntimeChoice, kind: DeviceKind) -> Finding | None:
    refused = refusal_of_device(choice, kind)
    if refused is not None:
        return refused
    if choice.kind == "wheel":
        return refusal_of_wheel(choice.path, kind)
    if choice.kind == "folder":
        return refusal_of_elf(choice.path, kind, choice.path.name)
    pythons = PUBLISHED.get(choice.paddlelite, ())
    if kind.python_tag in ["cp" + python.replace(".", "") for python in pythons]:
        return None
    has = " and ".join(pythons) or "no known CPython"
    observed = f"paddlelite {choice.paddlelite} has x86_64 wheels for CPython {has}; this device has {kind.python_tag}."
    return finding("LF302", observed)


def _words(choice: RuntimeChoice, refused: Finding | None) -> str:
    if refused is not None and choice.kind == "wheels":
        return ""
    return f"published wheel of {choice.paddlelite}" if choice.kind == "wheels" else f"{choice.kind} {choice.path.name}"


def _version(choice: RuntimeChoice) -> str:
    """Return the version, without the metadata of a folder or wheel being read: theirs the device tells."""
    return choice.paddlelite if choice.kind == "wheels" else ""
