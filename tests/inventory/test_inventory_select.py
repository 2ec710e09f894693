"""--limit: who is chosen, and what is said when nobody is."""

import pytest
from litefleet_inventory import SelectError, select
from litefleet_inventory.parse import parse

FLEET = parse("""
groups:
  berlin:
    devices: {"cam-[01:12]": {host: "10.0.0.[1:12]", tags: outdoor}}
  munich:
    devices: {kiosk-1: , kiosk-2: {tags: [broken]}}
  germany:
    children: [berlin, munich]
devices:
  lab: {tags: [outdoor, lab]}
""")


def chosen(patterns: str) -> list[str]:
    return [d.name for d in select(FLEET, patterns)]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("lab", ["lab"]),
        ("lab,kiosk-1", ["kiosk-1", "lab"]),  # the inventory's order, not the pattern's
        ("lab kiosk-1\tlab,,", ["kiosk-1", "lab"]),
        ("kiosk-*", ["kiosk-1", "kiosk-2"]),
        ("cam-0[12]", ["cam-01", "cam-02"]),
        ("cam-[11:20]", ["cam-11", "cam-12"]),
        ("munich", ["kiosk-1", "kiosk-2"]),
        ("germany,!berlin", ["kiosk-1", "kiosk-2"]),
        ("mun*", ["kiosk-1", "kiosk-2"]),
        ("@lab", ["lab"]),
        ("tag:outdoor,!berlin", ["lab"]),
        ("!germany", ["lab"]),
        ("!cam-*,!@broken", ["kiosk-1", "lab"]),
        ("!lab,munich,lab", ["kiosk-1", "kiosk-2"]),  # an exclusion holds wherever it stands
        ("!@unheard-of,lab", ["lab"]),
        ("!none-*,lab", ["lab"]),
    ],
)
def test_select(patterns: str, names: list[str]) -> None:
    assert chosen(patterns) == names


@pytest.mark.parametrize("patterns", ["", "  ", "all", "*", "all,cam-01", ","])
def test_everything(patterns: str) -> None:
    assert len(chosen(patterns)) == 15


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ("cam-1", ["no device or group is named 'cam-1'; did you mean 'cam-12'?"]),
        ("berln", ["no device or group is named 'berln'; did you mean 'berlin'?"]),
        ("xyzzy", ["no device or group is named 'xyzzy'"]),
        ("@outdor", ["no device has the tag 'outdor'; did you mean 'outdoor'?"]),
        ("zz-*", ["no device or group matches 'zz-*'"]),
        ("cam-[1:3]", ["no device is named in 'cam-[1:3]'; did you mean 'cam-12'?"]),
        ("cam-[3:1]", ["range [3:1] runs backwards; write the smaller number first"]),
        ("all,!cam-1", ["no device or group is named 'cam-1'; did you mean 'cam-12'?"]),
        ("lab,!lab", ["'lab,!lab' leaves no device"]),
        ("nope,@none", ["no device or group is named 'nope'", "no device has the tag 'none'"]),
        ("!", ["no device or group is named ''"]),
    ],
)
def test_what_matches_nothing_is_an_error(patterns: str, said: list[str]) -> None:
    with pytest.raises(SelectError) as caught:
        chosen(patterns)
    assert list(caught.value.messages) == said
