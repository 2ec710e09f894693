"""One machine under two names, and clones, are told by their SSH host keys."""

from __future__ import annotations

from litefleet_agent.findings import Severity
from litefleet_controller.rollout_engine.fleet_survey import ProbeResult, same_machines
from litefleet_inventory.model import Device


def probed(name: str, key: str, boot: str = "") -> ProbeResult:
    hello = {"boot": boot} if boot else {}
    return ProbeResult(Device(name, name), hello=hello, host_key=key)


def test_equal_host_keys_are_named_and_the_boot_tells_what_they_are() -> None:
    probes = [
        probed("a", "SHA256:one", "b1"),
        probed("b", "SHA256:one", "b1"),
        probed("c", "SHA256:two", "b1"),
        probed("d", "SHA256:three", "b2"),
        probed("e", "SHA256:three", "b3"),
        probed("f", ""),
        probed("g", ""),
    ]
    first, second = same_machines({probe.device.name: probe for probe in probes})
    assert (first[0], second[0]) == (["a", "b"], ["d", "e"])
    assert "one machine under several names" in first[1].observed
    assert "SHA256:one" in first[1].observed
    assert "started separately" in second[1].observed
    assert {found.severity for _, found in (first, second)} == {Severity.WARNING}


def test_an_agent_that_tells_no_boot_is_no_proof_of_one_machine() -> None:
    ((_, found),) = same_machines({name: probed(name, "SHA256:one") for name in ("a", "b")})
    assert "started separately" in found.observed
