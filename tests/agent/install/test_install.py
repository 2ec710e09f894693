"""Bundle files on a device without a network: the real thing once, and every way in which a file can be wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from litefleet_agent.cli import main
from litefleet_agent.facts import Facts, gather
from litefleet_agent.findings import finding
from litefleet_agent.install import pending_reports as inbox
from litefleet_agent.install.bundle import Bundle
from litefleet_agent.install.install import _choose, install
from litefleet_agent.install.pending_reports import InstallReport, ReleaseOutcome
from litefleet_agent.releases import trust
from litefleet_agent.releases.store import Store, StoreError, release_id

from tests.agent.support import nb_builder
from tests.agent.support.real_paddlelite import make_goldens
from tests.agent.support.ssh_signing import Key, canonical

AGENT = Path(__file__).parents[3] / "agent"
RUN = "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.cli import main; sys.exit(main(sys.argv[2:]))"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "root"))


@pytest.fixture(scope="session")
def facts() -> Facts:
    return gather("/nonexistent")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: Key(folder, name) for name in ("ops", "foe")}


class Maker:
    """Writes a bundle file as the controller does; `index` and `blobs` may be bent before `write`."""

    def __init__(self, path: Path, kind: str, fleet: str = "doors") -> None:
        self.path = path
        self.kind = kind
        self.blobs: dict[str, bytes] = {}
        self.index: dict = {"schema": 1, "created": 1, "fleet": fleet, "releases": [], "blobs": {}, "runtimes": {}}
        self.index["agent"] = "a" * 64
        self.extra: dict[str, bytes] = {}

    def blob(self, data: bytes) -> str:
        self.blobs[sha(data)] = data
        self.index["blobs"][sha(data)] = len(data)
        return sha(data)

    def runtime(self, key: str, data: bytes, unpacked: int) -> None:
        self.blobs[sha(data)] = data
        self.index["runtimes"][key] = {"sha256": sha(data), "size": len(data), "unpacked": unpacked}

    def release(
        self, name: str, nb: bytes, golden: list[bytes], runtime: str = "system", key: Key | None = None, **seal: object
    ) -> str:
        model = {"name": name, "nb": self.blob(nb)}
        manifest = {"model": model, "golden": [self.blob(g) for g in golden], "runtime": runtime, "verify": {}}
        identity = release_id(manifest)
        sealed = None
        if seal:
            whole = {"schema": 1, "release": identity, "model": name, "fleet": self.index["fleet"], "issued": 1, **seal}
            sealed = key.seal(whole) if key else {"seal": whole, "signature": ""}
        self.index["releases"].append({"manifest": manifest, "sealed": sealed, "kind": self.kind})
        return identity

    def write(self, key: Key | None = None, method: int = zipfile.ZIP_STORED) -> Path:
        index = canonical(self.index)
        with zipfile.ZipFile(self.path, "w", method) as bundle:
            bundle.writestr("index.json", index)
            if key:
                bundle.writestr("index.json.sig", key.sign(index, "litefleet-bundle"))
            for name, data in self.blobs.items():
                bundle.writestr(f"blobs/{name}", data)
            bundle.writestr("../../etc/passwd", b"ignored")
            bundle.writestr("README", b"ignored")
            for name, data in self.extra.items():
                bundle.writestr(name, data)
        return self.path


@pytest.fixture
def maker(tmp_path: Path, facts: Facts) -> Maker:
    kind = f"{facts.arch} {facts.python.tag} {facts.libc.kind} {facts.libc.version}"
    return Maker(tmp_path / "bundle.zip", kind)


def files(store: Store) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path(store.root).rglob("*") if p.is_file() and not p.name.endswith("lock")}


def refused(code: str, store: Store, path: Path, facts: Facts, given: str = "") -> str:
    """Return the sentence of the refusal, after which nothing may have changed."""
    before = files(store)
    with pytest.raises(StoreError) as caught:
        install(store, str(path), facts, given)
    assert caught.value.code == code, caught.value
    assert files(store) == before
    return str(caught.value)


def codes(outcome: ReleaseOutcome) -> list:
    return [f.code for f in outcome.findings]


# --- the real thing


def test_a_signed_bundle_is_proven_and_current(
    tmp_path: Path, lite_python: Path, paddle_python: Path, models: dict[str, Path], nb_files, keys: dict[str, Key]
) -> None:
    goldens = make_goldens(paddle_python, models["cls"], "cls", tmp_path)
    root = tmp_path / "device"
    kind = "x86_64 cp310 glibc 2.17"
    bundle = Maker(tmp_path / "b.zip", kind)
    parts = [g.read_bytes() for g in goldens]
    seal = {"number": 3, "expires": 1 << 40}
    identity = bundle.release("cls", nb_files("cls", "x86").read_bytes(), parts, "system", keys["ops"], **seal)
    bundle.kind = "aarch64 cp310 glibc 2.17"
    bundle.release("cls", b"for another machine", parts)
    bundle.write(keys["ops"], zipfile.ZIP_DEFLATED)
    signers = tmp_path / "signers"
    signers.write_text(keys["ops"].line)
    argv = [lite_python, "-I", "-c", RUN, AGENT, "install", bundle.path, "--root", root, "--trust", signers, "--json"]
    for _ in range(2):  # a second time changes nothing
        done = subprocess.run([str(a) for a in argv], capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        report = json.loads(done.stdout.decode())
        (outcome,) = report["outcomes"]
        assert (outcome["verdict"], outcome["activated"]) == ("verified", True), outcome
        assert (outcome["model"], outcome["release"]) == ("cls", identity)
        assert outcome["measurements"]
        assert f"cls: verified, release {identity[:12]} is active" in done.stderr.decode()
    store = Store(str(root))
    assert store.current() == {"cls": identity}
    assert trust.describe(store).numbers == {"cls": 3}
    assert trust.signers(store) == keys["ops"].line
    waiting = inbox.pending(store)
    assert [r["kind"] for r in waiting] == ["install", "install"]
    assert waiting[-1] == report
    assert len(store.blobs()) == 3  # what is for another machine stayed in the bundle


def small(maker: Maker, **seal: object) -> str:
    """Add a release that no proof will pass: this interpreter has no Paddle-Lite."""
    return maker.release("small", nb_builder.small(), [b"no golden"], **seal)


def test_what_is_not_proven_is_not_switched_on(maker: Maker, store: Store, facts: Facts) -> None:
    identity = small(maker)
    report = install(store, str(maker.write()), facts)
    (outcome,) = report.outcomes
    assert outcome.activated is False
    assert outcome.verdict != "verified"
    assert outcome.findings
    assert store.current() == {}
    assert store.release(identity)
    assert inbox.pending(store) == [report.to_dict()]


def test_a_runtime_is_unpacked(maker: Maker, store: Store, facts: Facts) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("numpy/__init__.py", b"")
    maker.runtime("r1", packed.getvalue(), 10)
    maker.release("small", nb_builder.small(), [b"no golden"], "r1")
    install(store, str(maker.write()), facts)
    assert store.runtimes() == ["r1"]
    assert sha(packed.getvalue()) not in store.blobs()


def test_the_agent_that_came_along_is_kept(maker: Maker, store: Store, facts: Facts) -> None:
    small(maker)
    agent = b"the agent's archive"
    maker.index["agent"] = sha(agent)
    store.lock()
    maker.extra = {f"agent/{sha(agent)}.pyz": b"another"}
    refused("bundle-damaged", store, maker.write(), facts)
    maker.extra = {f"agent/{sha(agent)}.pyz": agent}
    install(store, str(maker.write()), facts)
    assert Path(store.path("agent", "litefleet-agent.pyz")).read_bytes() == agent


# --- signatures and seals


def test_a_device_with_signers_takes_signed_bundles_only(
    maker: Maker, store: Store, facts: Facts, keys: dict[str, Key]
) -> None:
    store.lock()
    trust.set_signers(store, keys["ops"].line)
    small(maker, key=keys["ops"], number=1, expires=1 << 40)
    refused("unsigned", store, maker.write(), facts)
    refused("bad-signature", store, maker.write(keys["foe"]), facts)
    said = refused("bad-signature", store, maker.write(keys["foe"]), facts, keys["foe"].line)
    assert "trusts other signers already" in said
    report = install(store, str(maker.write(keys["ops"])), facts)
    assert trust.describe(store).numbers == {"small": 1}
    assert not {"LF606", "LF609", "LF610"} & set(codes(report.outcomes[0]))


def test_signers_that_the_operator_gives_must_have_signed(
    maker: Maker, store: Store, facts: Facts, keys: dict[str, Key]
) -> None:
    store.lock()
    small(maker, key=keys["ops"], number=1, expires=1 << 40)
    refused("unsigned", store, maker.write(), facts, keys["ops"].line)
    refused("bad-signature", store, maker.write(keys["foe"]), facts, keys["ops"].line)
    assert trust.signers(store) == ""


def test_an_index_changed_after_signing_is_noticed(
    maker: Maker, store: Store, facts: Facts, keys: dict[str, Key]
) -> None:
    store.lock()
    small(maker, key=keys["ops"], number=1, expires=1 << 40)
    maker.write(keys["ops"])
    with zipfile.ZipFile(maker.path) as bundle:
        parts = {n: bundle.read(n) for n in bundle.namelist()}
    parts["index.json"] = parts["index.json"].replace(b'"created":1', b'"created":2')
    with zipfile.ZipFile(maker.path, "w") as bundle:
        for name, data in parts.items():
            bundle.writestr(name, data)
    refused("bad-signature", store, maker.path, facts, keys["ops"].line)


@pytest.mark.parametrize(
    ("second", "code"),
    [({"number": 4, "expires": 1 << 40}, "LF606"), ({"number": 6, "expires": 2}, "LF607")],
)
def test_an_old_seal_is_that_release_s_outcome(
    second: dict, code: str, maker: Maker, store: Store, facts: Facts, tmp_path: Path
) -> None:
    small(maker, number=5, expires=1 << 40)
    install(store, str(maker.write()), facts)
    other = Maker(tmp_path / "second.zip", maker.kind)
    identity = other.release("small", nb_builder.small(), [b"another golden"], **second)
    fine = other.release("other", nb_builder.small(), [b"a third golden"], number=1, expires=1 << 40)
    report = install(store, str(other.write()), facts)
    outcomes = {o.release: o for o in report.outcomes}
    assert codes(outcomes[identity]) == [code]
    assert outcomes[identity].verdict == "refused"
    assert code not in codes(outcomes[fine])
    assert identity not in {p.stem for p in Path(store.path("releases")).iterdir()}


def test_a_bundle_of_another_fleet_is_refused(maker: Maker, store: Store, facts: Facts, tmp_path: Path) -> None:
    small(maker, number=5, expires=1 << 40)
    install(store, str(maker.write()), facts)
    other = Maker(tmp_path / "second.zip", maker.kind, "windows")
    small(other)
    assert "windows" in refused("foreign", store, other.write(), facts)


# --- choice


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        (["x86_64 cp310 glibc 2.17", "x86_64 cp310 glibc 2.31", "x86_64 cp310 glibc 2.39"], 1),
        (["x86_64 cp310 glibc 2.39", "x86_64 cp310 glibc 2.38"], 1),
        (["x86_64 cp310 musl 1.2", "x86_64 cp310 glibc 2.36"], 1),
        (["aarch64 cp310 glibc 2.36", "x86_64 cp310 glibc 2.36", "x86_64 cp39 glibc 2.36"], 1),
        (["x86_64 cp310"], 0),
    ],
)
def test_the_kind_that_fits_best_is_chosen(kinds: list, chosen: int, tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b.zip", "")
    ids = []
    for n, kind in enumerate(kinds):
        maker.kind = kind
        ids.append(maker.release("cls", b"nb %d" % n, [b"golden"]))
    here = {"machine": "x86_64", "arch": "x86_64", "python": {"tag": "cp310"}}
    device = Facts.from_dict({**here, "libc": {"kind": "glibc", "version": "2.36"}})
    with Bundle(str(maker.write())) as bundle:
        assert [o.identity for o in _choose(bundle.offers, device)] == [ids[chosen]]


def test_a_bundle_with_nothing_for_this_device_says_what_it_has(maker: Maker, store: Store, facts: Facts) -> None:
    maker.kind = "riscv64 cp399 glibc 9"
    small(maker)
    store.lock()
    said = refused("none", store, maker.write(), facts)
    assert "riscv64 cp399 glibc 9" in said
    assert facts.python.tag in said


# --- damage


def bend_hash(maker: Maker) -> None:
    name = next(iter(maker.blobs))
    maker.blobs[name] = bytes(len(maker.blobs[name]))


def bend_size(maker: Maker) -> None:
    maker.blobs[next(iter(maker.blobs))] += b"\0" * 100


def bend_missing(maker: Maker) -> None:
    del maker.blobs[next(iter(maker.blobs))]


def bend_bomb(maker: Maker) -> None:
    maker.blobs[next(iter(maker.blobs))] = bytes(50 << 20)  # the index says a few hundred bytes


def bend_runtime(maker: Maker) -> None:
    maker.index["releases"][0]["manifest"]["runtime"] = "r9"


BENDS = {
    "schema": lambda m: m.index.update(schema=2),
    "no releases": lambda m: m.index.update(releases=[]),
    "releases": lambda m: m.index.update(releases={"a": 1}),
    "manifest": lambda m: m.index["releases"][0].update(manifest=[]),
    "name": lambda m: m.index["releases"][0]["manifest"]["model"].update(name="../../etc"),
    "kind": lambda m: m.index["releases"][0].update(kind=7),
    "fleet": lambda m: m.index.update(fleet="a\nb"),
    "sizes": lambda m: m.index["blobs"].update(dict.fromkeys(m.index["blobs"], -1)),
    "runtimes": lambda m: m.index["runtimes"].update({"../x": {"sha256": "a" * 64, "size": 1, "unpacked": 1}}),
    "not named": lambda m: m.index.update(blobs={}),
    "hash": bend_hash,
    "size": bend_size,
    "missing": bend_missing,
    "bomb": bend_bomb,
    "runtime": bend_runtime,
}


@pytest.mark.parametrize("bend", BENDS)
def test_a_damaged_bundle_changes_nothing(bend: str, maker: Maker, store: Store, facts: Facts) -> None:
    store.lock()
    small(maker)
    BENDS[bend](maker)
    assert refused("bundle-damaged", store, maker.write(method=zipfile.ZIP_DEFLATED), facts).startswith(
        "the bundle is "
    )


def test_a_bundle_that_was_cut_is_a_sentence(maker: Maker, store: Store, facts: Facts, tmp_path: Path) -> None:
    store.lock()
    small(maker)
    data = maker.write().read_bytes()
    bent = tmp_path / "bent.zip"
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        bent.write_bytes(data[:cut])
        refused("bundle-damaged", store, bent, facts)
    refused("bad-request", store, tmp_path / "none.zip", facts)


def test_a_bundle_with_any_byte_changed_is_right_or_a_sentence(maker: Maker, tmp_path: Path) -> None:
    small(maker)
    data = maker.write().read_bytes()
    bent = tmp_path / "bent.zip"
    seen = set()
    rng = random.Random(1)
    for _ in range(300):
        place = rng.randrange(len(data))
        bent.write_bytes(data[:place] + bytes([data[place] ^ rng.randrange(1, 256)]) + data[place + 1 :])
        try:
            with Bundle(str(bent)) as bundle:
                for name in maker.blobs:
                    bundle.check(name)
            seen.add("right")
        except StoreError as error:
            seen.add(error.code)
    assert seen == {"right", "bundle-damaged"}  # right: a date, or a part that nobody reads


# --- the command


def run(capsys: pytest.CaptureFixture, *argv: object) -> tuple[int, str, str]:
    mask = os.umask(0o022)
    try:
        code = main(["install", *[str(a) for a in argv]])
    finally:
        os.umask(mask)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("argv", [[], ["a", "b"], ["--root"], ["a", "--what"], ["a", "--trust"]])
def test_wrong_usage(argv: list, capsys: pytest.CaptureFixture) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert err.startswith("usage: litefleet-agent install FILE")


def test_failures_are_sentences(maker: Maker, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "root"
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK")
    code, out, err = run(capsys, bad, "--root", root, "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] == "LF617"
    assert "LF617 bundle-damaged: the bundle is damaged" in err
    assert run(capsys, tmp_path / "none.zip", "--root", root)[0] == 1
    small(maker)
    code, out, err = run(capsys, maker.write(), "--root", root, "--trust", tmp_path / "none")
    assert code == 1
    assert "No such file" in err
    code, out, err = run(capsys, maker.path, "--root", root)
    assert (code, out) == (1, "")
    assert "was not activated" in err
    done = subprocess.run([sys.executable, "-I", "-c", RUN, str(AGENT), "install"], stderr=subprocess.PIPE, timeout=20)
    assert done.returncode == 2


# --- waiting reports


def test_reports_wait_until_they_are_collected(store: Store) -> None:
    store.lock()
    made = [inbox.add_report(store, InstallReport(n, "b.zip", [])).id for n in range(55)]
    assert len(set(made)) == 55
    waiting = inbox.pending(store)
    assert [r["at"] for r in waiting] == list(range(5, 25))  # 50 are kept, 20 are returned at once, the oldest first
    assert inbox.remove_collected(store, [waiting[0]["id"], "../../etc/passwd", 7, "20200101T000000Z-1"]) == 1
    assert inbox.pending(store)[0]["at"] == 6


def test_a_long_report_is_shortened(store: Store) -> None:
    store.lock()
    found = [finding("LF900", "x" * 10)] * 20
    outcome = ReleaseOutcome("m", "0" * 64, "1" * 64, "failed", found, {"a": "b" * 500})
    report = inbox.add_report(store, InstallReport(1, "b.zip", [outcome] * 100))
    assert report.shortened is True
    assert len(report.outcomes) == 100
    huge = inbox.add_report(store, InstallReport(1, "b.zip", [outcome._replace(model="m" * 5000)] * 100))
    assert 0 < len(json.dumps(huge.to_dict())) < 70_000
    Path(store.path("reports", report.id + ".json")).write_text("{")
    assert inbox.pending(store)[0] == {"id": report.id}  # so that it can be collected, and goes
