"""The runtime of a device, as `litefleet advise` describes it."""

from __future__ import annotations

from litefleet_agent.facts import Facts
from litefleet_inventory import Device

from ..build.runtimes import ChosenRuntime, choose_runtime, own_runtime_findings
from ..config import Config
from .kinds import Runtime

__all__ = ["runtime_on"]


def runtime_on(config: Config, device: Device, facts: Facts) -> Runtime:
    """Return the runtime that a device of these facts would get; an empty one where its architecture is unknown.

    Raises: ConfigError when the inventory names a runtime that `runtimes:` lacks.
    """
    if not facts.arch:
        return Runtime()
    chosen = choose_runtime(config, device, facts)
    if chosen.choice.kind == "system":
        version = facts.paddlelite.version
        label = f"its own Paddle-Lite {version}".rstrip()
        return Runtime(label, version, findings=own_runtime_findings(facts))
    return _brought(chosen)


def _brought(chosen: ChosenRuntime) -> Runtime:
    """Return a runtime that litefleet sends; only a published wheel's version is known without reading files."""
    choice, refusals = chosen.choice, chosen.refusals
    if choice.kind != "wheels":
        return Runtime(f"{choice.kind} {choice.path.name}", findings=refusals)
    label = "" if refusals else f"published wheel of {choice.paddlelite}"
    return Runtime(label, choice.paddlelite, published=not refusals, findings=refusals)
