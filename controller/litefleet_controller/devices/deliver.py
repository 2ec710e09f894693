"""What to send of a device's release, whether it fits, and what the device reported.  Pure, but for file sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from litefleet_agent.facts import Facts
from litefleet_agent.facts.values import Disk
from litefleet_agent.findings import Certainty, Finding, finding
from litefleet_agent.formats.checked import shortened
from litefleet_inventory.model import Device

from ..common.checked import findings_or_empty, mapping_or_empty, number_or, sequence_or_empty
from ..rollout.policy import Keep
from .agent_client import Request
from .delta import delta_request, packed_request
from .release import Release
from .resume import parts_of


def kind_of(facts: Facts) -> str:
    """Return the kind of device that a release is built for: "x86_64 cp311 glibc 2.36"."""
    return f"{facts.arch or facts.machine} {facts.python.tag} {facts.libc.kind} {facts.libc.version}".strip()


def is_special(device: Device) -> bool:
    """Return whether a device has a file or runtime of its own, which is not for others of its kind."""
    return bool(device.artifact or device.runtime)


def pushes(hello: Mapping[str, object], built: Release) -> list[Request]:
    """Return the requests that send what the device lacks, and only that."""
    puts = {sha: Request("put", {"sha256": sha}, path) for sha, (path, _) in _lacking(hello, built).items()}
    if built.runtime_blob is None or not _lacks_runtime(hello, built):
        return list(puts.values())
    sha, _ = built.runtime_blob
    archive = [puts.pop(sha)] if sha in puts else []
    return [*archive, Request("runtime", {"key": built.runtime_key, "sha256": sha}), *puts.values()]


def _lacks_runtime(hello: Mapping[str, object], built: Release) -> bool:
    """Return whether the release brings a runtime that is not unpacked on the device."""
    return built.runtime_blob is not None and built.runtime_key not in sequence_or_empty(hello.get("runtimes"))


def _lacking(hello: Mapping[str, object], built: Release) -> dict[str, tuple[Path, int]]:
    """Return the files that the device lacks by SHA-256, the runtime's first: where each is, and its bytes."""
    present = mapping_or_empty(hello.get("blobs"))
    wanted = {}
    if built.runtime_blob is not None and _lacks_runtime(hello, built):
        sha, path = built.runtime_blob
        wanted[sha] = path, path.stat().st_size
    wanted |= {sha: (path, built.sizes[sha]) for sha, path in built.blobs.items()}
    return {sha: found for sha, found in wanted.items() if present.get(sha) != found[1]}


def with_blobs(hello: Mapping[str, object], sizes: Mapping[str, object]) -> Mapping[str, object]:
    """Return a device's `hello` after it got files; `sizes` are their bytes by SHA-256."""
    return {**hello, "blobs": {**mapping_or_empty(hello.get("blobs")), **sizes}}


def with_files(hello: Mapping[str, object], built: Release) -> Mapping[str, object]:
    """Return a device's `hello` after it was sent all files of a release."""
    runtimes = [*sequence_or_empty(hello.get("runtimes")), *([built.runtime_key] if built.runtime_blob else [])]
    return {**with_blobs(hello, built.sizes), "runtimes": list(dict.fromkeys(runtimes))}


def deltas(hello: Mapping[str, object], built: Release) -> list[Request]:
    """Return the requests that make files which the device lacks from files that it holds.  Reads files: slow at the first."""
    missing = [str(r.fields["sha256"]) for r in pushes(hello, built) if r.op == "put"]
    found = [delta_request(hello, sha, built.blobs[sha]) for sha in missing if sha in built.blobs]
    return [request for request in found if request is not None]


def for_neighbours(
    hello: Mapping[str, object], disk: Disk, built: Release, least: int
) -> tuple[list[Request], dict[str, int]]:
    """Return the best request for each file that the device lacks and that takes `least` bytes or more, and all sizes by SHA-256.

    Reads files: slow at the first.
    """
    puts = [request for request in pushes(hello, built) if request.op == "put"]
    made = {str(request.fields["sha256"]): request for request in deltas(hello, built)}
    best = [made.get(str(r.fields["sha256"])) or packed(hello, disk, built, [r])[0] for r in puts]
    sizes = {str(r.fields["sha256"]): r.size for r in puts}
    return [request for request in best if request.size >= least], sizes


def packed(hello: Mapping[str, object], disk: Disk, built: Release, requests: Sequence[Request]) -> list[Request]:
    """Return the same requests, with files that compress well compressed.  Reads files: slow at the first."""

    def smallest(request: Request) -> Request:
        sha = str(request.fields["sha256"]) if request.op == "put" else ""
        path = built.blobs.get(sha)
        return (packed_request(hello, sha, path, disk) if path is not None else None) or request

    return [smallest(request) for request in requests]


def bytes_to_store(hello: Mapping[str, object], built: Release) -> int:
    """Return the bytes that a release takes on a device beside what is there of it."""
    parts = parts_of(hello)
    unpacked = built.runtime_size if _lacks_runtime(hello, built) else 0
    return sum(size - min(parts.get(sha, 0), size) for sha, (_, size) in _lacking(hello, built).items()) + unpacked


def room_request(
    hello: Mapping[str, object], built: Release | None, keep: Keep, needed: Collection[str] = ()
) -> Request:
    """Return the request that frees space for a release (or, without one, only deletes what is not needed).

    `needed` are files, by SHA-256, that stay though no release on the device refers to them yet.
    """
    fields: dict[str, object] = {
        "bytes": bytes_to_store(hello, built) if built else 0,
        "keep": keep.releases,
        "pinned": list(keep.pinned),
        "quota": int(keep.quota_mb * 2**20) if keep.quota_mb else None,
        "wanted": sorted(needed),
        "runtime": "",
    }
    if built is not None:
        fields["wanted"] = list(dict.fromkeys([*built.files, *sorted(needed)]))
        fields["runtime"] = built.runtime_key
    return Request("room", fields)


def space_finding(facts: Facts, hello: Mapping[str, object], built: Release) -> Finding | None:
    """Return the finding for a device with too little free space, before anything is sent."""
    need, free = bytes_to_store(hello, built), facts.disk.free
    if need and need > free:
        where = hello.get("root")
        return finding(
            "LF312", f"{need / 1e6:.0f} MB would be stored under {where}, where {free / 1e6:.0f} MB are free"
        )
    return None


def space_beforehand(facts: Facts, hello: Mapping[str, object], built: Release) -> Finding | None:
    """Return the finding of `space_finding` as `plan` and `doctor` judge it; None where the device reports no disk.

    What a device holds, it may drop for a new release: then too little free space is possible, and it decides itself.
    """
    short = space_finding(facts, hello, built) if facts.disk.total else None
    if short is None:
        return None
    holds = any(hello.get(what) for what in ("current", "kept", "runtimes", "blobs"))
    return replace(short, certainty=Certainty.POSSIBLE) if holds else short


def valid_proof(hello: Mapping[str, object], release: str) -> Mapping[str, object] | None:
    """Return the device's record of a verification that is still valid: this release, in this environment."""
    proof = mapping_or_empty(mapping_or_empty(hello.get("verified")).get(release))
    return proof if proof and proof.get("fingerprint") == hello.get("fingerprint") else None


def measurements_of(hello: Mapping[str, object], release: str) -> Mapping[str, object]:
    """Return a release's measurements when it was last verified on this device; empty when it was not."""
    return mapping_or_empty(mapping_or_empty(mapping_or_empty(hello.get("verified")).get(release)).get("measurements"))


def with_reasons(measured: Mapping[str, object], built: Release) -> Mapping[str, object]:
    """Return a device's measurements with the reason, `why`, for which each output is compared in its way."""
    reasons = {output["name"]: output["why"] for output in built.outputs}
    found = measured.get("outputs")
    if not reasons or not isinstance(found, list):
        return measured
    outputs = [mapping_or_empty(one) for one in found]
    return {**measured, "outputs": [{**one, "why": reasons.get(str(one.get("name")), "")} for one in outputs]}


def old_agent_findings(hello: Mapping[str, object], built: Release) -> tuple[Finding, ...]:
    """Return LF435 where the agent that gave this `hello` would ignore what the release asks of the engine; else nothing.

    A proof without the settings would stand for a release with them.
    """
    if "engine" not in built.manifest or hello.get("engine_settings") is True:
        return ()
    observed = (
        f"The device's agent does not know engine settings, and the release asks for {shortened(built.asked, 300)}."
    )
    return (finding("LF435", observed),)


def fingerprint_of(hello: Mapping[str, object]) -> str:
    """Return the fingerprint of the device's environment, "" when it reported none."""
    return str(hello.get("fingerprint", ""))[:64]


def open_lease(hello: Mapping[str, object], model: str) -> Mapping[str, object] | None:
    """Return the lease under which a model's current release runs, or None."""
    return mapping_or_empty(mapping_or_empty(hello.get("leases")).get(model)) or None


def merge_findings(findings: Sequence[Finding], reported: object, built: Release) -> list[Finding]:
    """Return our findings and the device's; where the device has no runtime, ours say which one would fit."""
    device_findings = findings_or_empty(reported, 100)
    if any(f.code == "LF302" for f in device_findings) and built.no_runtime:
        device_findings = [*built.no_runtime, *(f for f in device_findings if f.code != "LF302")]
    return list(dict.fromkeys([*findings, *device_findings]))


def revert_findings(hello: Mapping[str, object], since: float) -> tuple[Finding, ...]:
    """Return LF614 for each activation that the device reverted by itself after `since` (epoch, by its own clock)."""
    found = []
    for entry in map(mapping_or_empty, sequence_or_empty(hello.get("undone"))[:10]):
        if number_or(entry.get("at"), 0, 1e15, -1.0) > since:
            release, why = str(entry.get("release"))[:12], str(entry.get("why"))[:300]
            found.append(finding("LF614", f"{str(entry.get('model'))[:128]}: {release} was undone: {why}"))
    return tuple(found)
