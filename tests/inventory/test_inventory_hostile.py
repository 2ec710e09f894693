"""Whatever the text: an Inventory or an InventoryError, in bounded time and memory."""

import contextlib
import json
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from litefleet_inventory import Inventory, InventoryError, SelectError
from litefleet_inventory.fields import FIELDS
from litefleet_inventory.parse import parse
from litefleet_inventory.select import select

WORDS = st.sampled_from([
    *FIELDS, "devices", "groups", "children", "defaults",
    "cam-[01:03]", "cam-01", "10.0.0.[1:3]", "{n}", "{0n2}", "{name}",
    "a", "b", "all", "<<", "22", "-x", "[1:2]", "[2:1]", "[1:2:0]", "::1", "me@gw:22", "@", "", "\x00", "\ud800", "é",
])  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), WORDS)
TREES = st.recursive(
    LEAVES, lambda t: st.one_of(st.lists(t, max_size=4), st.dictionaries(WORDS, t, max_size=5)), max_leaves=25
)
BODY = st.dictionaries(st.sampled_from([*FIELDS, "nope"]), LEAVES, max_size=5)
DEVICES = st.dictionaries(st.sampled_from(["a", "b", "g", "cam-[01:03]", "cam-02", "r[1:2]-[1:2]"]), BODY, max_size=4)
GROUP = st.builds(
    lambda body, devices, children: {**body, "devices": devices, "children": children},
    BODY,
    st.one_of(DEVICES, st.lists(WORDS, max_size=3)),
    st.lists(st.sampled_from(["g", "h", "i", "none"]), max_size=3),
)
FLEETS = st.fixed_dictionaries(
    {},
    optional={
        "defaults": BODY,
        "devices": DEVICES,
        "groups": st.dictionaries(st.sampled_from(["g", "h", "i"]), GROUP, max_size=3),
    },
)


def checked(error: InventoryError) -> InventoryError:
    assert error.problems
    assert all(p.message and p.file == "fleet.yaml" and "\n" not in str(p) for p in error.problems)
    return error


def outcome(text: str) -> Inventory | InventoryError:
    try:
        inventory = parse(text)
    except InventoryError as err:
        return checked(err)
    for device in inventory.devices:
        assert 1 <= device.port <= 65535
        assert device.host
        assert not device.host.startswith("-")
        assert not device.user.startswith("-")
        assert len(inventory.jump_chain(device)) <= len(inventory.devices)
    return inventory


@settings(max_examples=300, deadline=None)
@given(st.text())
@example("\ufeffdevices:")
@example("\ud800")
@example("%YAML 9.9\n---\n")
def test_any_text(text: str) -> None:
    outcome(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=string.ascii_letters[:4] + "[]{}:,-&*!|>'\"#%@ \n\t019<~?", max_size=80))
def test_any_text_that_looks_like_yaml(text: str) -> None:
    outcome("devices:\n  " + text)


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_any_tree(tree: object) -> None:
    outcome(json.dumps(tree))


@settings(max_examples=400, deadline=None)
@given(FLEETS, st.text(max_size=12))
def test_any_fleet_and_any_selection(tree: object, pattern: str) -> None:
    made = outcome(json.dumps(tree))
    if isinstance(made, Inventory):
        with contextlib.suppress(SelectError):
            assert set(select(made, pattern)) <= set(made.devices)


LABEL = st.from_regex(r"[a-z][a-z0-9-]{0,6}[a-z0-9]", fullmatch=True)
GOOD = st.fixed_dictionaries(
    {"port": st.integers(1, 65535)},
    optional={
        "user": LABEL.map(lambda u: f"u-{u}"),
        "key": LABEL.map(lambda k: f"/keys/{k}"),
        "tags": st.lists(LABEL.map(lambda t: f"t-{t}"), unique=True),
    },
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(LABEL.filter(lambda n: n != "all").map(lambda n: f"d-{n}"), GOOD))
def test_what_was_written_is_what_comes_back(fleet: dict[str, dict[str, object]]) -> None:
    inventory = parse(json.dumps({"devices": fleet}))
    assert [d.name for d in inventory.devices] == list(fleet)
    for device in inventory.devices:
        for key, value in fleet[device.name].items():
            assert getattr(device, key) == (tuple(value) if isinstance(value, list) else value)


def test_ten_thousand_devices() -> None:
    lines = ["defaults: {user: edge}", "groups:"]
    for site in range(10):
        lines += [f"  site-{site}:", f"    jump: 'gw-{site}.example:22'", "    devices:"]
        lines += [
            f"      cam-{site}-{n:03}:\n        host: 10.{site}.{n // 250}.{n % 250}\n        tags: [t{n % 7}]"
            for n in range(1000)
        ]
    inventory = parse("\n".join(lines))
    assert len(inventory.devices) == 10_000
    assert len({d.host for d in inventory.devices}) == 10_000
    assert len(select(inventory, "site-3,!cam-3-00*,!@t1")) == 849


def test_ten_thousand_devices_in_one_range() -> None:
    inventory = parse("devices:\n  d[0001:10000]: {host: 'h[1:10000].example'}\n")
    assert [(d.name, d.host) for d in inventory.devices][-1] == ("d10000", "h10000.example")


def test_an_alias_bomb_is_just_a_wrong_type() -> None:
    lines = ["x-a0: &a0 [b, b, b, b, b, b, b, b, b, b]"]
    lines += [f"x-a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    lines += ["devices:", "  d: {tags: *a29}"]
    made = outcome("\n".join(lines))
    assert isinstance(made, InventoryError)
    assert str(made) == "fleet.yaml:29: devices.d.tags: expected a list of texts, found a list in it"


def test_a_merge_bomb_is_stopped() -> None:
    base = "x-a: &a {" + ", ".join(f"k{n}: 1" for n in range(2000)) + "}\n"
    made = outcome(base + "x-b:\n" + "".join(f"  m{n}: {{<<: *a}}\n" for n in range(600)))
    assert isinstance(made, InventoryError)
    assert "'<<' copies more than 1,000,000 entries" in str(made)


def test_memberships_by_alias_are_bounded() -> None:
    text = "devices: &all\n  d[1:2000]: {}\ngroups:\n" + "".join(f"  g{n}: {{devices: *all}}\n" for n in range(600))
    made = outcome(text)
    assert isinstance(made, InventoryError)
    assert "more than 1,000,000 group memberships; use tags, or fewer groups" in str(made)


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 10_000, "devices: " + "[" * 50])
def test_depth_is_bounded(text: str) -> None:
    made = outcome(text)
    assert isinstance(made, InventoryError)
    assert "nested deeper than 32 levels" in str(made)


def test_a_thousand_mistakes_are_enough() -> None:
    made = outcome("devices:\n" + "".join(f"  d{n}: {{prot: 1}}\n" for n in range(1500)))
    assert isinstance(made, InventoryError)
    assert len(made.problems) == 1001
    assert str(made.problems[-1]) == "fleet.yaml: and 500 more problems"


def test_a_thousand_typos_among_many_names_do_not_take_minutes() -> None:
    names = ", ".join(f"camera-{n:05}x" for n in range(1000))
    made = outcome(f"devices:\n  camera-[00001:20000]: {{}}\ngroups:\n  g: {{devices: [{names}]}}\n")
    assert isinstance(made, InventoryError)
    assert len(made.problems) == 1000
    hinted = [p for p in made.problems if "did you mean 'camera-" in p.message]
    assert len(hinted) == 10


def test_long_chains_of_jumps_and_groups_do_not_recurse() -> None:
    chain = "devices:\n" + "".join(f"  d{n}: {{jump: d{n + 1}}}\n" for n in range(5000)) + "  d5000: {}\n"
    assert isinstance(parse(chain), Inventory)
    groups = "groups:\n" + "".join(f"  g{n}: {{children: [g{n + 1}]}}\n" for n in range(1500)) + "  g1500: {}\n"
    made = outcome(groups)
    assert isinstance(made, InventoryError)
    assert str(made) == "fleet.yaml:2: groups.g0: groups nest deeper than 32 levels"
