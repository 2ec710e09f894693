"""What a release needs of a device's agent is compared with what its hello announces."""

from __future__ import annotations

import pytest
from litefleet_controller.devices.deliver import old_agent_findings
from litefleet_controller.devices.release import Release

PLAIN = Release("1" * 64, manifest={"schema": 1})
ASKS = Release("2" * 64, manifest={"schema": 1, "engine": {"threads": 2, "power_mode": "LITE_POWER_HIGH"}})


@pytest.mark.parametrize("hello", [{}, {"engine_settings": False}, {"engine_settings": "yes"}, {"kept_inputs": True}])
def test_an_agent_that_announces_no_engine_settings_gets_no_release_with_some(hello: dict[str, object]) -> None:
    (found,) = old_agent_findings(hello, ASKS)
    assert found.code == "LF435"
    assert found.decides
    assert found.observed.endswith("the release asks for threads 2, power mode LITE_POWER_HIGH.")
    assert old_agent_findings(hello, PLAIN) == ()


def test_an_agent_that_announces_them_gets_it() -> None:
    assert old_agent_findings({"engine_settings": True}, ASKS) == ()


def test_what_a_newer_litefleet_asks_is_said_without_its_words() -> None:
    newer = Release("3" * 64, manifest={"engine": {"npu_priority": 1}})
    assert newer.asked == "settings that this litefleet does not know"
    assert PLAIN.asked == ""
