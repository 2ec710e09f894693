"""What the state database remembers for the advice: devices' last facts, and what was proven on which CPU part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts

from ..config import Config
from ..devices.deliver import mapping
from ..project.project import open_state
from ..state import State
from . import DeviceReport, Origin, Proof

__all__ = ["KnownFleet", "known_from_state", "load_known"]


@dataclass(frozen=True)
class KnownFleet:
    """What is remembered; empty where there is no database."""

    devices: Mapping[str, DeviceReport] = field(default_factory=dict)
    proofs: tuple[Proof, ...] = ()
    notes: tuple[str, ...] = ()

    def device_report(self, device: str) -> DeviceReport:
        """Return what is remembered of a device."""
        return self.devices.get(device) or DeviceReport(device, Facts(), Origin.NONE)


def load_known(config: Config) -> KnownFleet:
    """Return what the project's state remembers; a database is not made where there is none.

    Raises: StateError when it can't be used.
    """
    if not config.state and not (config.store / "state.db").exists():
        return KnownFleet(notes=("there is no state database yet: nothing is known of earlier proofs",))
    state = open_state(config)
    try:
        return known_from_state(state)
    finally:
        state.close()


def known_from_state(state: State) -> KnownFleet:
    """Return what a state remembers."""
    devices = {}
    for name, known in state.known().items():
        try:
            devices[name] = DeviceReport(name, Facts.from_dict(dict(known.facts)), Origin.STATE, known.seen_at)
        except AgentError:  # an older litefleet's facts: as if it had never been met
            continue
    counted: Counter[tuple[str, tuple[str, ...], str, str, str]] = Counter()
    for (device, model), confirmed in state.confirmed().items():
        device_report, release = devices.get(device), state.stored_release(confirmed.release)
        if device_report is not None and release is not None:
            facts = device_report.facts
            label, version = _variant(release.manifest)
            counted[(facts.arch, tuple(sorted(facts.cpu.parts)), model, label, version)] += 1
    return KnownFleet(devices, tuple(Proof(*key, devices=count) for key, count in sorted(counted.items())))


def _variant(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """Return a release's variant as people call it, and its Paddle-Lite."""
    about = mapping(manifest.get("model"))
    variant = mapping(about.get("variant"))
    words = [variant.get("target") or "ready-made", "fp16" if variant.get("fp16") else "", variant.get("quant") or ""]
    return " ".join(str(word) for word in words if word), str(about.get("opt_version", ""))
