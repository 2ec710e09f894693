"""What a device says of its listener is checked before another device is sent there."""

import pytest
from litefleet_controller.devices.site_cache import listener_of


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7", "fe80::1%eth0", "127.0.0.1"])
def test_an_address_of_one_machine_is_taken(address: str) -> None:
    assert listener_of({"address": address, "port": 40000}) == (address, 40000)


@pytest.mark.parametrize(
    "offered",
    [
        {},
        {"address": "metadata.internal", "port": 80},
        {"address": "0.0.0.0", "port": 22},
        {"address": "::", "port": 22},
        {"address": "224.0.0.1", "port": 22},
        {"address": "192.0.2.7"},
        {"address": "192.0.2.7", "port": 0},
        {"address": "192.0.2.7", "port": 65536},
        {"address": "192.0.2.7", "port": "22"},
        {"address": None, "port": 22},
    ],
)
def test_anything_else_is_not(offered: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        listener_of(offered)
