"""Facts of many devices: equal to what was read, shared where they are alike, and JSON as before."""

from __future__ import annotations

import json
import pickle

import pytest
from litefleet_agent.facts import Facts
from litefleet_controller.common.text import json_ready
from litefleet_controller.devices.shared_facts import FactsForm, SharedValues, shared_facts


def facts(host: str) -> Facts:
    """Return facts as a device sends them, made anew."""
    form = json.loads(json.dumps({**Facts().to_dict(), "hostname": host, "libraries": ["libgomp.so.1"], "uid": 1}))
    return Facts.from_dict({**form, "cpu": {**form["cpu"], "parts": ["Cortex-A72"]}})


def test_what_devices_report_alike_is_one_object() -> None:
    first, second = shared_facts(facts("a")), shared_facts(facts("b"))
    assert (first, second) == (facts("a"), facts("b"))
    assert type(first.cpu) is type(facts("a").cpu)
    assert first.cpu is second.cpu
    assert first.libraries is second.libraries
    assert first.hostname != second.hostname


def test_equal_records_of_other_types_stay_apart() -> None:
    shared = SharedValues()
    memory, disk = Facts().memory, Facts().disk
    assert memory == disk or len(memory) != len(disk)
    assert type(shared.one(memory)) is type(memory)
    assert type(shared.one(disk)) is type(disk)


def test_no_more_values_are_remembered_than_the_bound() -> None:
    shared = SharedValues(most=10)
    assert [shared.one(str(number)) for number in range(1000)] == [str(number) for number in range(1000)]
    assert len(shared._known) <= 10


def test_the_json_form_is_that_of_the_facts() -> None:
    form = FactsForm(facts("a"))
    assert form == facts("a").to_dict()
    assert json.dumps(json_ready(form)) == json.dumps(facts("a").to_dict())
    assert pickle.loads(pickle.dumps(form)) == form
    assert Facts.from_dict(dict(form)) == facts("a")
    with pytest.raises(KeyError):
        form["of_a_newer_agent"]
