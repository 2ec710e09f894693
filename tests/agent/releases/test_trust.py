"""What a device accepts: real keys and signatures, every field tampered with, old numbers, expiry and clocks set back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from litefleet_agent.releases import signature, trust
from litefleet_agent.releases.lease import Clock
from litefleet_agent.releases.store import Store, StoreError

from tests.agent.support.ssh_signing import Key

NOW = 1_800_000_000
RELEASE, OTHER = "a" * 64, "b" * 64


def seal(**change: object) -> dict:
    whole = {
        "schema": 1,
        "release": RELEASE,
        "model": "cls",
        "fleet": "doors",
        "number": 7,
        "issued": NOW - 100,
        "expires": NOW + 1000,
    }
    return {**whole, **change}


def bare(**change: object) -> dict:
    """A seal that nobody signed."""
    return {"seal": seal(**change), "signature": ""}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(str(tmp_path / "root"))
    opened.lock()
    return opened


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: Key(folder, name) for name in ("ops", "next", "foe")}


@pytest.fixture
def trusting(store: Store, keys: dict[str, Key]) -> Store:
    assert trust.set_signers(store, keys["ops"].line) is True
    return store


def accept(store: Store, sealed: object, now: float = NOW, **more: object) -> list[str]:
    return [f.code for f in trust.accept(store, RELEASE, "cls", sealed, now, **more)]


def refused(code: str, call, *args: object, **more: object) -> str:
    """Return the sentence of the refusal, after which nothing may have changed."""
    store = args[0]
    before = files(store)
    with pytest.raises(StoreError) as caught:
        call(*args, **more)
    assert caught.value.code == code, caught.value
    assert files(store) == before
    return str(caught.value)


def files(store: Store) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path(store.root).rglob("*") if p.is_file() and not p.name.endswith("lock")}


def accepted(store: Store) -> dict:
    return json.loads(Path(store.path("trust", "accepted.json")).read_text())


# --- without trusted signers


def test_a_device_without_signers_takes_what_has_no_seal(store: Store) -> None:
    assert accept(store, None) == []
    assert files(store) == {}


def test_a_seal_counts_even_where_no_signer_is_trusted(store: Store) -> None:
    assert accept(store, bare()) == []
    entry = {"number": 7, "release": RELEASE, "expires": NOW + 1000}
    assert accepted(store) == {"fleet": "doors", "latest": NOW, "models": {"cls": entry}}
    assert json.loads(Path(store.path("seals", RELEASE + ".json")).read_text()) == bare()
    assert accept(store, bare()) == []  # the same again
    assert "7" in refused("too-old", accept, store, bare(number=6))
    assert "windows" in refused("foreign", accept, store, bare(fleet="windows", number=8))
    refused("expired", accept, store, bare(number=8, expires=NOW - 1))
    assert trust.describe(store).numbers == {"cls": 7}


def test_an_equal_number_is_for_the_same_release_only(store: Store) -> None:
    accept(store, bare())
    said = refused("too-old", trust.accept, store, OTHER, "cls", bare(release=OTHER), NOW)
    assert RELEASE[:12] in said
    assert trust.accept(store, OTHER, "cls", bare(release=OTHER, number=8), NOW) == []
    assert (
        trust.accept(store, OTHER, "det", bare(release=OTHER, model="det", number=1), NOW) == []
    )  # numbers are a model's
    assert {name: e["number"] for name, e in accepted(store)["models"].items()} == {"cls": 8, "det": 1}


def test_a_seal_is_for_its_own_release_and_model(store: Store) -> None:
    refused("foreign", accept, store, bare(release=OTHER))
    refused("foreign", accept, store, bare(model="det"))


@pytest.mark.parametrize(
    "sealed",
    [
        {},
        [],
        "seal",
        {"seal": None},
        {"seal": seal(), "signature": 7},
        bare(schema=2),
        bare(number=-1),
        bare(number=1.0),
        bare(number=True),
        bare(number=1 << 60),
        bare(fleet=""),
        bare(fleet="x" * 200),
        bare(fleet="a\nb"),
        bare(model=None),
        bare(issued=NOW + 2000),
        bare(extra=1),
        {"seal": {k: v for k, v in seal().items() if k != "expires"}, "signature": ""},
    ],
)
def test_what_is_no_seal_is_refused(sealed: object, store: Store) -> None:
    refused("bad-request", accept, store, sealed)


# --- time


def test_a_clock_set_back_does_not_bring_an_old_seal_to_life(store: Store) -> None:
    accept(store, bare(number=1, expires=NOW + 9000), now=NOW + 5000)
    said = refused("expired", accept, store, bare(number=2), now=NOW)  # ended at NOW + 1000
    assert "the latest time that this device has seen" in said
    refused("expired", accept, store, bare(number=2), now=0)


def test_a_clock_that_was_never_set_is_not_believed(store: Store) -> None:
    assert accept(store, bare(), now=1_000) == []  # 1970: neither believed nor a reason to refuse
    assert accepted(store)["latest"] == NOW - 100  # but the seal's own time is
    refused("expired", accept, store, bare(number=8, issued=0, expires=NOW - 101), now=1_000)


def test_a_refused_seal_does_not_move_the_clock(store: Store) -> None:
    refused("expired", accept, store, bare(), now=NOW + 10**9)
    assert accept(store, bare(), now=NOW) == []


# --- with trusted signers


def test_a_trusted_signature_is_accepted(trusting: Store, keys: dict[str, Key]) -> None:
    assert accept(trusting, keys["ops"].seal(seal())) == []
    assert accepted(trusting)["models"]["cls"]["number"] == 7
    assert list(Path(trusting.path("work")).iterdir()) == []


def test_no_seal_and_no_signature_are_refused(trusting: Store) -> None:
    refused("unsigned", accept, trusting, None)
    refused("unsigned", accept, trusting, bare())


@pytest.mark.parametrize(
    "change",
    [
        {"number": 8},
        {"fleet": "windows"},
        {"issued": NOW - 101},
        {"expires": NOW + 10**6},
    ],
)
def test_a_field_changed_after_signing_is_noticed(change: dict, trusting: Store, keys: dict[str, Key]) -> None:
    sealed = keys["ops"].seal(seal())
    sealed["seal"].update(change)
    refused("bad-signature", accept, trusting, sealed)


def test_a_seal_moved_to_another_release_or_model_is_noticed(trusting: Store, keys: dict[str, Key]) -> None:
    sealed = keys["ops"].seal(seal())
    for change in ({"release": OTHER}, {"model": "det"}):
        moved = {"seal": {**sealed["seal"], **change}, "signature": sealed["signature"]}
        release, model = moved["seal"]["release"], moved["seal"]["model"]
        refused("bad-signature", trust.accept, trusting, release, model, moved, NOW)


def test_another_key_and_another_purpose_are_refused(trusting: Store, keys: dict[str, Key]) -> None:
    said = refused("bad-signature", accept, trusting, keys["foe"].seal(seal()))
    assert "not among the trusted signers" in said
    said = refused("bad-signature", accept, trusting, keys["ops"].seal(seal(), "litefleet-bundle"))
    assert "namespace" in said


@pytest.mark.parametrize(
    "damage", ["", "x" * 70000, "-----BEGIN SSH SIGNATURE-----\n%s\n-----END SSH SIGNATURE-----\n"]
)
def test_what_is_no_signature_is_refused(damage: str, trusting: Store) -> None:
    sealed = {"seal": seal(), "signature": damage or "no signature"}
    refused("bad-signature", accept, trusting, sealed)


def test_a_cut_signature_is_refused(trusting: Store, keys: dict[str, Key]) -> None:
    sealed = keys["ops"].seal(seal())
    lines = sealed["signature"].splitlines()
    refused("bad-signature", accept, trusting, {**sealed, "signature": "\n".join([lines[0], *lines[2:]])})


def test_one_key_among_several_and_several_names_of_one_key(store: Store, keys: dict[str, Key]) -> None:
    line = keys["ops"].line.replace("ops@example", "a@example,ops@example")
    trust.set_signers(store, f"# the team\n\n{keys['next'].line}{line}")
    assert accept(store, keys["ops"].seal(seal())) == []


def test_a_key_that_is_for_another_namespace_only_is_refused(store: Store, keys: dict[str, Key]) -> None:
    name, rest = keys["ops"].line.split(" ", 1)
    trust.set_signers(store, f'{name} namespaces="git" {rest}')
    refused("bad-signature", accept, store, keys["ops"].seal(seal()))


def test_number_fleet_and_expiry_hold_for_signed_ones_too(trusting: Store, keys: dict[str, Key]) -> None:
    accept(trusting, keys["ops"].seal(seal()))
    refused("too-old", accept, trusting, keys["ops"].seal(seal(number=6)))
    refused("foreign", accept, trusting, keys["ops"].seal(seal(number=8, fleet="windows")))
    refused("expired", accept, trusting, keys["ops"].seal(seal(number=8)), now=NOW + 1001)


# --- an ssh-keygen that can't


def program(folder: Path, text: str) -> str:
    path = folder / "ssh-keygen"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_device_that_cannot_check_says_so_and_checks_the_rest(
    trusting: Store, keys: dict[str, Key], tmp_path: Path
) -> None:
    sealed = keys["ops"].seal(seal())
    assert accept(trusting, sealed, program="") == ["LF611"]
    old = program(tmp_path, 'echo "unknown option -- Y" >&2; echo "usage: ssh-keygen" >&2; exit 1')
    assert accept(trusting, sealed, program=old) == ["LF611"]
    refused("too-old", accept, trusting, keys["ops"].seal(seal(number=6)), program="")
    refused("unsigned", accept, trusting, bare(number=8), program="")


@pytest.mark.parametrize(
    "text",
    ["kill -9 $$", "sleep 60", 'test "$2" = find-principals && { echo ops@example; exit 0; }; kill -9 $$', None],
    ids=["killed", "hangs", "killed in its second step", "cannot be started"],
)
def test_a_check_that_did_not_run_is_never_taken_for_a_good_one(
    text: str | None, trusting: Store, keys: dict[str, Key], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature, "_LIMIT_S", 0.5)
    broken = program(tmp_path, text) if text is not None else str(tmp_path / "gone")
    for sealed in (keys["ops"].seal(seal()), keys["foe"].seal(seal())):
        assert "did not run to its end" in refused("bad-signature", accept, trusting, sealed, program=broken)
    new = keys["next"].line
    signed = keys["ops"].sign(new.encode(), "litefleet-trust")
    refused("bad-signature", trust.set_signers, trusting, new, signed, program=broken)


def test_only_a_device_that_never_checked_a_signature_accepts_an_unchecked_one(
    trusting: Store, keys: dict[str, Key]
) -> None:
    assert accept(trusting, keys["ops"].seal(seal(number=1)), program="") == ["LF611"]
    assert accept(trusting, keys["ops"].seal(seal(number=2))) == []
    said = refused("bad-signature", accept, trusting, keys["ops"].seal(seal(number=3)), program="")
    assert "this device has no ssh-keygen" in said


def test_the_list_decides_whether_an_unchecked_signature_is_accepted(store: Store, keys: dict[str, Key]) -> None:
    trust.set_signers(store, headed(keys["ops"], number=1, unchecked="refuse"))
    refused("bad-signature", accept, store, keys["ops"].seal(seal()), program="")
    assert accept(store, keys["ops"].seal(seal())) == []


def test_ssh_keygen_sees_nothing_of_our_environment(
    trusting: Store, keys: dict[str, Key], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITEFLEET_SECRET", "x")
    seen = tmp_path / "seen"
    accept(trusting, keys["ops"].seal(seal()), program=program(tmp_path, f"env > {seen}; echo usage: >&2; exit 1"))
    assert "PATH=" in seen.read_text()
    assert "LITEFLEET_SECRET" not in seen.read_text()


# --- the list of signers


def test_signers_are_rotated_by_a_trusted_one(trusting: Store, keys: dict[str, Key]) -> None:
    new = keys["next"].line
    assert trust.set_signers(trusting, keys["ops"].line) is False  # what is there already
    refused("bad-signature", trust.set_signers, trusting, new)
    refused("bad-signature", trust.set_signers, trusting, new, keys["next"].sign(new.encode(), "litefleet-trust"))
    refused("bad-signature", trust.set_signers, trusting, new, keys["ops"].sign(new.encode(), "litefleet-release"))
    refused("bad-signature", trust.set_signers, trusting, new, keys["ops"].sign(b"other", "litefleet-trust"))
    good = keys["ops"].sign(new.encode(), "litefleet-trust")
    refused("bad-signature", trust.set_signers, trusting, new, good, program="")  # not checked is not enough here
    assert trust.set_signers(trusting, new, good) is True
    assert accept(trusting, keys["next"].seal(seal())) == []
    refused("bad-signature", accept, trusting, keys["ops"].seal(seal(number=8)))


@pytest.mark.parametrize(
    "text",
    ["", "\n# nothing\n", "ops@example", "ops@example ssh-ed25519", "ops@example ssh-ed25519 AAAA", 7, None, "a\0b"],
)
def test_a_list_that_would_lock_the_device_is_refused(text: object, store: Store) -> None:
    refused("bad-request", trust.set_signers, store, text)


def test_a_list_that_is_too_long_is_refused(store: Store, keys: dict[str, Key]) -> None:
    refused("bad-request", trust.set_signers, store, keys["ops"].line * 1000)


def headed(key: Key, fleet: str = "doors", **fields: object) -> str:
    return trust.SignersHeader(fleet, **fields).line() + key.line


def replace(store: Store, key: Key, listed: str, **more: object) -> bool:
    return trust.set_signers(store, listed, key.sign(listed.encode(), "litefleet-trust"), **more)


def test_a_list_from_before_a_removal_is_not_accepted_again(store: Store, keys: dict[str, Key]) -> None:
    both = headed(keys["ops"], number=1) + keys["next"].line
    assert trust.set_signers(store, both) is True
    assert replace(store, keys["next"], headed(keys["next"], number=2)) is True  # the key "ops" was lost
    signed_then = keys["next"].sign(both.encode(), "litefleet-trust")
    assert "2" in refused("too-old", trust.set_signers, store, both, signed_then)
    refused("too-old", replace, store, keys["next"], headed(keys["ops"], number=2))
    refused("too-old", replace, store, keys["next"], keys["ops"].line)  # an older controller's, from before
    refused("bad-signature", accept, store, keys["ops"].seal(seal()))
    assert replace(store, keys["next"], headed(keys["ops"], number=3)) is True


def test_a_list_is_for_its_own_fleet(store: Store, keys: dict[str, Key]) -> None:
    accept(store, bare())
    refused("foreign", trust.set_signers, store, headed(keys["ops"], "windows", number=1))
    assert trust.set_signers(store, headed(keys["ops"], number=1)) is True
    refused("foreign", replace, store, keys["ops"], headed(keys["next"], "windows", number=2))
    refused("foreign", replace, store, keys["ops"], headed(keys["next"], "", number=2))


def test_a_new_device_belongs_to_the_fleet_of_its_signers(store: Store, keys: dict[str, Key]) -> None:
    trust.set_signers(store, headed(keys["ops"], "windows", number=1))
    refused("foreign", accept, store, keys["ops"].seal(seal()))
    assert accept(store, keys["ops"].seal(seal(fleet="windows"))) == []


def test_lists_of_older_controllers_are_accepted_as_before(trusting: Store, keys: dict[str, Key]) -> None:
    assert replace(trusting, keys["ops"], keys["next"].line) is True
    assert replace(trusting, keys["next"], headed(keys["ops"], number=1)) is True  # and a newer controller takes over


@pytest.mark.parametrize(
    "header",
    ["", "{}", "[]", '{"number": -1}', '{"number": 1e999}', '{"number": true}', '{"number": 1, "unchecked": "maybe"}',
     '{"number": 1, "fleet": 7}', '{"number": 1, "reset": -5}', '{"number": ' + "[" * 3000],
)  # fmt: skip
def test_a_header_that_is_not_well_formed_is_refused(header: str, store: Store, keys: dict[str, Key]) -> None:
    refused("bad-request", trust.set_signers, store, f"# litefleet-signers {header}\n{keys['ops'].line}")


# --- clocks that are wrong by years

IN_2099 = 4_070_908_800


def test_a_seal_from_the_future_is_refused_where_the_clock_is_believed(store: Store) -> None:
    ahead = {"issued": IN_2099, "expires": IN_2099 + 1000, "number": IN_2099}
    said = refused("expired", accept, store, bare(**ahead))
    assert "days ahead of this device's clock" in said
    assert accept(store, bare()) == []  # honest releases go on
    month = 31 * 86400
    assert accept(store, bare(issued=NOW + month - 9, expires=NOW + month, number=8)) == []
    refused("expired", accept, store, bare(issued=NOW + 2 * month, expires=NOW + 3 * month, number=9))


def test_a_clock_that_was_never_set_refuses_nothing(store: Store) -> None:
    assert accept(store, bare(), now=1000) == []
    assert accepted(store)["latest"] == NOW - 100


def poison(store: Store) -> None:
    """Let the device accept a seal of 2099, as agents before this check did, or one whose own clock was wrong then."""
    assert accept(store, bare(issued=IN_2099, expires=IN_2099 + 1000, number=IN_2099), now=IN_2099) == []


def test_a_signed_list_leads_back_from_a_wrong_time(store: Store, keys: dict[str, Key]) -> None:
    store.clock = SetClock(NOW)
    poison(store)
    refused("too-old", accept, store, keys["ops"].seal(seal(number=NOW)))
    refused("expired", accept, store, keys["ops"].seal(seal(number=IN_2099 + 1)))
    trust.set_signers(store, headed(keys["ops"], number=1, reset=NOW - 50))
    refused(
        "too-old", accept, store, keys["ops"].seal(seal(number=NOW))
    )  # the first list is not signed: it resets nothing
    back = headed(keys["ops"], number=2, reset=NOW - 50)
    refused("bad-signature", replace, store, keys["foe"], back)
    assert replace(store, keys["ops"], back) is True
    assert accepted(store) == {"fleet": "doors", "latest": NOW - 50, "models": {}}
    assert accept(store, keys["ops"].seal(seal(number=NOW))) == []
    assert replace(store, keys["ops"], headed(keys["ops"], number=3)) is True
    refused("too-old", replace, store, keys["ops"], back)  # nobody leads it back a second time
    assert accepted(store)["models"]["cls"]["number"] == NOW


def test_a_reset_to_the_future_is_refused(store: Store, keys: dict[str, Key]) -> None:
    store.clock = SetClock(NOW)
    trust.set_signers(store, headed(keys["ops"], number=1))
    refused("expired", replace, store, keys["ops"], headed(keys["ops"], number=2, reset=IN_2099))


def test_a_reset_repairs_a_damaged_record(store: Store, keys: dict[str, Key]) -> None:
    store.clock = SetClock(NOW)
    trust.set_signers(store, headed(keys["ops"], number=1))
    Path(store.path("trust", "accepted.json")).write_text("{")
    assert replace(store, keys["ops"], headed(keys["ops"], number=2, reset=NOW)) is True
    assert accept(store, keys["ops"].seal(seal())) == []


class SetClock(Clock):
    """A clock that stands still."""

    def __init__(self, now: float) -> None:
        self._now = now

    def wall(self) -> float:
        return self._now


# --- damage


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"fleet":"doors","latest":0}', b'{"models":{"cls":7}}', b"\xff"]
)
def test_a_damaged_record_lets_nothing_in(damage: bytes, store: Store) -> None:
    accept(store, bare())
    Path(store.path("trust", "accepted.json")).write_bytes(damage)
    assert "accepted.json is damaged" in refused("damaged", accept, store, bare())
    assert "damaged" in trust.describe(store).problem


@pytest.mark.parametrize("damage", [b"", b"ops@example ssh-ed25519", b"\xff" * 9, b"# only words\n", b"x" * 70000])
def test_damaged_signers_are_not_no_signers(damage: bytes, trusting: Store, keys: dict[str, Key]) -> None:
    Path(trusting.path("trust", "allowed_signers")).write_bytes(damage)
    refused("damaged", accept, trusting, None)
    refused("damaged", accept, trusting, keys["ops"].seal(seal()))


# --- the way into the store


def put(store: Store, data: bytes) -> str:
    import hashlib

    sha = hashlib.sha256(data).hexdigest()
    store.put(sha, len(data), [data])
    return sha


def test_what_is_not_accepted_is_not_kept(trusting: Store, keys: dict[str, Key]) -> None:
    whole = {
        "model": {"name": "cls", "nb": put(trusting, b"nb")},
        "golden": [put(trusting, b"golden")],
        "runtime": "system",
        "verify": {},
    }
    from litefleet_agent.releases.store import release_id

    identity = release_id(whole)
    refused("unsigned", trust.receive, trusting, whole, None, NOW)
    refused("missing", trust.receive, trusting, {**whole, "runtime": "gone"}, keys["ops"].seal(seal()), NOW)
    assert trust.receive(trusting, whole, keys["ops"].seal(seal(release=identity)), NOW) == (identity, [])
    assert trusting.release(identity).document == whole
    assert accepted(trusting)["models"]["cls"]["release"] == identity
