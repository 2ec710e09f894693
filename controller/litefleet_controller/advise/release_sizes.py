"""The state database's part of the advice: devices' last facts, and the variants confirmed on each CPU part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts

from ..common.checked import mapping_or_empty
from ..config import Config
from ..project.project import open_state
from ..state import State
from .kinds import DeviceReport, Origin
from .options import Proof


@dataclass(frozen=True)
class KnownFleet:
    """Facts and proofs of the state database; empty without one."""

    devices: Mapping[str, DeviceReport] = field(default_factory=dict)
    proofs: tuple[Proof, ...] = ()
    notes: tuple[str, ...] = ()

    def device_report(self, device: str) -> DeviceReport:
        """Return the last facts of a device; empty ones for an unknown device."""
        return self.devices.get(device) or DeviceReport(device, Facts(), Origin.NONE)


def load_known(config: Config) -> KnownFleet:
    """Return the facts and proofs of the project's state; a missing database is not created.

    Raises: StateError when it cannot be used.
    """
    if not config.state and not (config.store / "state.db").exists():
        return KnownFleet(notes=("there is no state database yet: earlier proofs are unknown",))
    state = open_state(config)
    try:
        return known_from_state(state)
    finally:
        state.close()


def known_from_state(state: State) -> KnownFleet:
    """Return the facts and proofs of a state."""
    devices = {}
    for name, known in state.known().items():
        try:
            devices[name] = DeviceReport(name, Facts.from_dict(dict(known.facts)), Origin.STATE, known.seen_at)
        except AgentError:  # an older litefleet's facts: treated as unknown
            continue
    counted: Counter[tuple[str, tuple[str, ...], str, str, str]] = Counter()
    for (device, model), confirmed in state.confirmed().items():
        device_report, release = devices.get(device), state.stored_release(confirmed.release)
        if device_report is not None and release is not None:
            facts = device_report.facts
            label, version = _variant(release.manifest)
            counted[(facts.arch, tuple(sorted(facts.cpu.parts)), model, label, version)] += 1
    return KnownFleet(devices, tuple(Proof(*key, devices=count) for key, count in sorted(counted.items())))


def _variant(manifest: Mapping[str, object]) -> tuple[str, str]:
    """Return (the variant's label, the Paddle-Lite version) of a release: ("arm fp16", "v2.13-rc")."""
    about = mapping_or_empty(manifest.get("model"))
    variant = mapping_or_empty(about.get("variant"))
    parts = [variant.get("target") or "ready-made", "fp16" if variant.get("fp16") else "", variant.get("quant") or ""]
    return " ".join(str(part) for part in parts if part), str(about.get("opt_version", ""))
