"""Which host keys are trusted: known_hosts files as OpenSSH writes them, pins, first contact."""

from __future__ import annotations

import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.devices.transport.base import TransportError
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_inventory.model import Device, SshSettings

BOARD = Device(name="board", host="board.example")
OTHER_PORT = Device(name="board", host="board.example", port=2222)


@pytest.fixture(scope="module")
def keys() -> list[asyncssh.SSHKey]:
    return [asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(3)]


def text(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def host_keys(folder: Path, *lines: str, accept_new: bool = False) -> HostKeys:
    known = folder / "known_hosts"
    known.write_text("".join(line + "\n" for line in lines))
    return HostKeys([known], folder / "state" / "pins", accept_new)


def said(trust: HostKeys, device: Device, key: asyncssh.SSHKey) -> str:
    """Return "yes", "new" or the finding's code."""
    decision = trust.decision(device)
    if decision.trusts(key):
        return "new" if decision.accepted is not None else "yes"
    assert decision.refused is not None
    return decision.refused.code


def test_names_hashed_by_ssh_keygen(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"board.example {text(keys[0])}\n[board.example]:2222 {text(keys[1])}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert "board.example" not in known.read_text()
    trust = HostKeys([known], tmp_path / "pins", accept_new=False)
    assert [said(trust, BOARD, k) for k in keys] == ["yes", "LF503", "LF503"]
    assert [said(trust, OTHER_PORT, k) for k in keys] == ["LF503", "yes", "LF503"]


def test_a_host_may_have_several_keys(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    trust = host_keys(tmp_path, *(f"board.example,10.0.0.9 {text(k)}" for k in keys[:2]))
    assert [said(trust, BOARD, k) for k in keys] == ["yes", "yes", "LF503"]
    assert said(trust, Device(name="b", host="10.0.0.9"), keys[1]) == "yes"


def test_an_ipv6_host_with_a_port(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    trust = host_keys(tmp_path, f"[::1]:2222 {text(keys[0])}")
    assert said(trust, Device(name="b", host="::1", port=2222), keys[0]) == "yes"
    assert said(trust, Device(name="b", host="::1"), keys[0]) == "LF502"


@pytest.mark.parametrize("name", ["board.example", "*", "[board.example]:2222"])
def test_a_revoked_key_is_refused_even_when_it_is_pinned(
    name: str, tmp_path: Path, keys: list[asyncssh.SSHKey]
) -> None:
    trust = host_keys(tmp_path, f"@revoked {name} {text(keys[0])}", accept_new=True)
    pinned = Device(name="b", host="board.example", port=2222, host_keys=(text(keys[0]), text(keys[1])))
    decision = trust.decision(pinned)
    assert not decision.trusts(keys[0])
    assert decision.refused is not None
    assert decision.refused.code == "LF503"
    assert "revoked" in decision.refused.observed
    assert said(trust, pinned, keys[1]) == "yes"
    assert said(trust, OTHER_PORT, keys[0]) == "LF503"  # on first contact too


def test_pins_of_the_inventory_are_the_only_keys_that_count(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    trust = host_keys(tmp_path, f"board.example {text(keys[1])}", accept_new=True)
    pinned = Device(name="b", host="board.example", host_keys=(text(keys[0]),))
    assert [said(trust, pinned, k) for k in keys] == ["yes", "LF503", "LF503"]


def test_a_pin_that_is_no_key_is_named(tmp_path: Path) -> None:
    broken = Device(name="b", host="h", host_keys=("ssh-ed25519 nonsense",), source="fleet.yaml:12")
    with pytest.raises(ConfigError, match=r"fleet\.yaml:12: host_key: not an SSH public key"):
        host_keys(tmp_path).decision(broken)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"junk", "not of the form HOST TYPE KEY"),
        (b"@weird h ssh-ed25519 AAAA", "the marker @weird is unknown"),
        (b"\0" * 16, "NUL bytes"),
        (b"caf\xe9 ssh-ed25519", "not of the form"),
        (b"192.0.2.1 ssh-ed25519 AAAA", "no key of type ssh-ed25519"),
        (b"h ssh-ed25519 not*base64", "not base64"),
        (b"|1|short KEY", "names no host"),
        (b"host 1024 35 14412", "not base64"),
        (b"\xff\xfe\x00h", "NUL bytes"),
        (b"h ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKWR", "its key is cut short"),  # a full disk, in the middle of a key
        (b"0.0.0.0/0,::/0 KEY", "names a network"),
        (b"@cert-authority @revoked h KEY", "not base64"),
    ],
)
def test_a_line_that_is_no_host_key_is_skipped_and_named(
    tmp_path: Path, keys: list[asyncssh.SSHKey], line: bytes, why: str
) -> None:
    good = f"board.example {text(keys[0])}\n".encode()
    (tmp_path / "known").write_bytes(
        good
        + b"# caf\xe9\n\n"
        + line.replace(b"KEY", text(keys[0]).encode())
        + b"\n"
        + good.replace(b"board", b"other")
    )
    trust = HostKeys([tmp_path / "known"], tmp_path / "pins", False)
    assert said(trust, BOARD, keys[0]) == "yes"
    assert said(trust, Device(name="o", host="other.example"), keys[0]) == "yes"
    (skipped,) = trust.skipped
    assert skipped.number == 4
    assert f"{tmp_path}/known:4: " in str(skipped)
    assert why in skipped.why


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("10.0.0.0/8", "10.1.2.3", 22),  # asyncssh's own form; a network to nobody else
        ("gw,10.0.0.0/8", "gw", 22),
        ("[*.example]:2222", "board.example", 2222),
        ("[*.example]:*,![board.example]:2222", "board.example", 2222),
        ("board.exampl?", "board.example", 22),
        ("board[0-9]", "board7", 22),  # brackets are no set of characters
        ("*,!board.example", "board.example", 22),
        ("board.example,,", "board.example", 22),
        ("\ufeffboard.example", "board.example", 22),
    ],
)
def test_names_match_as_in_openssh(
    tmp_path: Path, keys: list[asyncssh.SSHKey], name: str, host: str, port: int
) -> None:
    trust = host_keys(tmp_path, f"\t {name}\t{text(keys[0])}\tits comment\r")
    looked_up = host if port == 22 else f"[{host}]:{port}"
    argv = ["ssh-keygen", "-F", looked_up, "-f", str(tmp_path / "known_hosts")]
    is_known = subprocess.run(argv, capture_output=True, check=False).returncode == 0
    assert said(trust, Device(name="b", host=host, port=port), keys[0]) == ("yes" if is_known else "LF502")


def test_the_null_device_is_a_file_without_keys(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    """As in `UserKnownHostsFile /dev/null`, which many have for their boards."""
    device = replace(BOARD, ssh=SshSettings(known_hosts=("/dev/null",)))
    assert said(host_keys(tmp_path, f"board.example {text(keys[0])}"), device, keys[0]) == "LF502"


def test_a_key_of_a_type_that_nobody_knows_is_no_mistake(tmp_path: Path) -> None:
    trust = host_keys(tmp_path, "h ssh-future AAAACnNzaC1mdXR1cmU=")
    assert trust.skipped == ()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known_hosts cannot be read: is a folder, not a regular file"):
        HostKeys([], tmp_path, False)


def test_unknown_keys_are_taken_only_when_asked_for(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    assert said(host_keys(tmp_path), BOARD, keys[0]) == "LF502"
    assert said(host_keys(tmp_path, accept_new=True), BOARD, keys[0]) == "new"


def test_accept_new_never_overrides_another_known_key(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    trust = host_keys(tmp_path, f"board.example {text(keys[0])}", accept_new=True)
    decision = trust.decision(BOARD)
    assert not decision.trusts(keys[1])
    assert decision.accepted is None
    assert decision.refused is not None
    assert decision.refused.code == "LF503"
    assert keys[0].get_fingerprint() in decision.refused.observed
    assert keys[1].get_fingerprint() in decision.refused.observed


def test_another_port_is_another_host(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    trust = host_keys(tmp_path, f"board.example {text(keys[0])}", accept_new=True)
    assert said(trust, OTHER_PORT, keys[1]) == "new"
    trust.pin(OTHER_PORT, keys[1])
    assert [said(trust, OTHER_PORT, k) for k in keys[:2]] == ["LF503", "yes"]
    assert [said(trust, BOARD, k) for k in keys[:2]] == ["yes", "LF503"]


def test_a_new_pin_holds_at_once_and_in_the_next_run(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    pins = tmp_path / "state" / "pins"
    first = HostKeys([], pins, accept_new=True)
    first.pin(BOARD, keys[0])
    first.pin(OTHER_PORT, keys[1])
    for trust in (first, HostKeys([], pins, accept_new=True)):
        assert [said(trust, BOARD, k) for k in keys] == ["yes", "LF503", "LF503"]
        assert [said(trust, OTHER_PORT, k) for k in keys] == ["LF503", "yes", "LF503"]
    assert stat.S_IMODE(pins.stat().st_mode) == 0o600
    found = subprocess.run(
        ["ssh-keygen", "-F", "[board.example]:2222", "-f", str(pins)], capture_output=True, text=True, check=True
    )
    assert text(keys[1]) in found.stdout  # OpenSSH reads what we wrote


def test_a_pin_never_joins_a_line_that_has_no_end(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    pins = tmp_path / "pins"
    pins.write_text(f"other.example {text(keys[1])}")
    HostKeys([], pins, accept_new=True).pin(BOARD, keys[0])
    again = HostKeys([], pins, accept_new=False)
    assert said(again, BOARD, keys[0]) == "yes"
    assert said(again, Device(name="o", host="other.example"), keys[1]) == "yes"


def test_algorithms_of_known_keys_are_offered_first(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    rsa = asyncssh.generate_private_key("ssh-rsa", key_size=2048).convert_to_public()
    trust = host_keys(
        tmp_path,
        f"board.example {text(rsa)}",
        f"both.example {text(rsa)}",
        f"both.example {text(keys[0])}",
        f"@cert-authority *.hall.example {text(keys[1])}",
    )
    assert trust.decision(BOARD).algorithms[:3] == ["rsa-sha2-256", "rsa-sha2-512", "ssh-ed25519"]
    both = trust.decision(Device(name="b", host="both.example")).algorithms
    assert both[:3] == ["ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512"]
    unknown = trust.decision(Device(name="u", host="unknown.example")).algorithms
    assert {"ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512"} < set(unknown)
    assert "ssh-rsa" not in unknown
    assert trust.decision(Device(name="u", host="u", legacy=True)).algorithms[-1] == "ssh-rsa"
    certified = trust.decision(Device(name="c", host="c.hall.example", port=2222))
    assert certified.algorithms[0] == "ssh-ed25519-cert-v01@openssh.com"
    assert certified.is_known


def test_an_authority_is_trusted_for_its_hosts_and_not_when_it_is_revoked(
    tmp_path: Path, keys: list[asyncssh.SSHKey]
) -> None:
    lines = (
        f"@cert-authority *.example {text(keys[0])}",
        f"@cert-authority * {text(keys[1])}",
        f"@revoked * {text(keys[1])}",
    )
    decision = host_keys(tmp_path, *lines).decision(OTHER_PORT)
    assert [decision.trusts_authority(key) for key in keys] == [True, False, False]
    assert decision.refused is not None
    assert decision.refused.code == "LF503"
    assert not decision.trusts(keys[2])  # a key without a certificate
    assert "no certificate of the authority" in decision.refused.observed
    pinned = Device(name="p", host="p.example", host_keys=(text(keys[2]),))
    assert not host_keys(tmp_path, *lines).decision(pinned).trusts_authority(keys[0])


def test_an_alias_and_files_of_the_ssh_configuration(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    other = tmp_path / "other"
    other.write_text(f"hall-7 {text(keys[1])}\n")
    trust = host_keys(tmp_path, f"hall-7 {text(keys[0])}")
    alias = Device(name="b", host="10.0.0.9", port=2222, ssh=SshSettings(known_as="hall-7"))
    assert [said(trust, alias, key) for key in keys] == ["yes", "LF503", "LF503"]
    elsewhere = replace(alias, ssh=SshSettings(known_as="hall-7", known_hosts=(str(other),)))
    assert [said(trust, elsewhere, key) for key in keys] == ["LF503", "yes", "LF503"]


def test_pins_of_earlier_versions_and_files_with_capitals_serve_folded_hosts(
    tmp_path: Path, keys: list[asyncssh.SSHKey]
) -> None:
    lines = (f"[Board.Example]:2222,GW {text(keys[0])} A Comment", f"@revoked BOARD.example {text(keys[1])}")
    trust = host_keys(tmp_path, *lines)
    assert [said(trust, OTHER_PORT, key) for key in keys] == ["yes", "LF503", "LF503"]
    assert said(trust, Device(name="gw", host="gw"), keys[0]) == "yes"
    assert said(trust, BOARD, keys[1]) == "LF503"


@pytest.mark.parametrize(
    ("line", "spelled"),
    [
        ("board.example", "board.example."),  # absolute for a resolver, and the same host
        ("board.example.", "board.example"),
        ("[board.example]:22", "board.example"),
        ("gw,[Board.Example.]:22", "board.example."),
        ("fe80:0:0:0:0:0:0:1", "fe80::1"),
        ("[FE80:0:0:0:0:0:0:1]:22", "fe80::1"),
        ("FE80:0::1%eth0", "fe80::1%eth0"),
    ],
)
@pytest.mark.parametrize("alias", [False, True], ids=["host", "alias"])
def test_one_host_has_one_key_however_it_is_spelled(
    tmp_path: Path, keys: list[asyncssh.SSHKey], line: str, spelled: str, alias: bool
) -> None:
    """Else a first contact under another spelling would accept whatever key is shown."""
    settings = SshSettings(known_as=spelled.upper() if "%" not in spelled else spelled) if alias else SshSettings()
    device = Device(name="b", host="10.0.0.9" if alias else spelled, ssh=settings)
    trust = host_keys(tmp_path, f"{line} {text(keys[0])}", accept_new=True)
    assert [said(trust, device, key) for key in keys[:2]] == ["yes", "LF503"]
    pinned = host_keys(tmp_path, accept_new=True)
    pinned.pin(device, keys[0])
    again = Device(name="b", host=line.rpartition(",")[2].removesuffix("]:22").removeprefix("[").lower())
    assert [said(host_keys(tmp_path, accept_new=True), again, key) for key in keys[:2]] == ["yes", "LF503"]
    pinned.replace(again, keys[1])
    assert [said(host_keys(tmp_path, accept_new=True), device, key) for key in keys[:2]] == ["LF503", "yes"]


_FIRST_CONTACT = """
import sys, asyncssh
from litefleet_controller.devices.transport.base import TransportError
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_inventory.model import Device
key = asyncssh.import_public_key(sys.argv[2])
device = Device(name="board", host="board.example")
trust = HostKeys([], __import__("pathlib").Path(sys.argv[1]), accept_new=True)
decision = trust.decision(device)
assert decision.trusts(key)
print("ready", flush=True)
sys.stdin.readline()
try:
    trust.keep_accepted(device, decision)
    print("pinned")
except TransportError as error:
    print(error.found.code)
"""


def test_first_contacts_at_once_pin_one_key(tmp_path: Path) -> None:
    """Of several processes that all saw an unknown host, with a key each, one pins its key; the others are refused."""
    pins = tmp_path / "state" / "pins"
    shown = [asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(4)]
    pipe = subprocess.PIPE
    racers = [
        subprocess.Popen([sys.executable, "-c", _FIRST_CONTACT, pins, text(key)], stdin=pipe, stdout=pipe, text=True)
        for key in shown
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"  # each has decided before any has pinned
    ended = [racer.communicate("go\n")[0].strip() for racer in racers]
    assert sorted(ended) == ["LF503", "LF503", "LF503", "pinned"]
    assert len(pins.read_text().splitlines()) == 1
    winner = shown[ended.index("pinned")]
    later = HostKeys([], pins, accept_new=True)
    assert [said(later, BOARD, key) for key in shown] == ["yes" if key == winner else "LF503" for key in shown]


def test_first_contacts_of_one_run_pin_one_key(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    """As when an inventory reaches one address under two names."""
    trust = HostKeys([], tmp_path / "pins", accept_new=True)
    decisions = [trust.decision(BOARD) for _ in range(3)]
    assert [d.trusts(k) for d, k in zip(decisions, (keys[0], keys[1], keys[0]), strict=True)] == [True] * 3
    trust.keep_accepted(BOARD, decisions[0])
    with pytest.raises(TransportError, match="just pinned"):
        trust.keep_accepted(BOARD, decisions[1])
    trust.keep_accepted(BOARD, decisions[2])
    assert len((tmp_path / "pins").read_text().splitlines()) == 1


def test_a_replaced_key_takes_the_place_of_the_pinned_one_alone(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    pins = tmp_path / "state" / "pins"
    pins.parent.mkdir()
    pins.write_text(f"board.example {text(keys[0])}\n[board.example]:2222 {text(keys[1])}\nother {text(keys[0])}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(pins)], check=True, capture_output=True)
    with pins.open("a") as file:
        file.write(f"\nBoard.example {text(keys[2])}\n@revoked * {text(keys[2])}\n# kept\n\n")
    pins.chmod(0o600)
    trust = host_keys(tmp_path)
    trust.replace(BOARD, keys[1])
    now = HostKeys([tmp_path / "known_hosts"], pins, accept_new=False)
    for after in (trust, now):
        assert said(after, BOARD, keys[1]) == "yes"
    assert [said(now, BOARD, k) for k in keys] == ["LF503", "yes", "LF503"]
    assert said(now, OTHER_PORT, keys[1]) == "yes"
    assert said(now, Device(name="o", host="other"), keys[0]) == "yes"
    lines = pins.read_text().splitlines()
    assert f"@revoked * {text(keys[2])}" in lines
    assert "# kept" in lines
    assert stat.S_IMODE(pins.stat().st_mode) == 0o600
