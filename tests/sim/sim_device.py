"""A device in memory: what it keeps, and how it answers the agent's requests.

Time passes for it even when nobody looks: leases run out and the power fails by the shared clock.  `current` and
`versions()` settle what has come due first; so does whoever calls `settle()`.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from litefleet_agent.bench.statistics import compare_pairs
from litefleet_agent.errors import AgentError
from litefleet_agent.findings import Finding, Severity, Verdict, decide
from litefleet_agent.releases.store import release_id

from tests.sim.sim_profile import Outage, Profile
from tests.sim.sim_switch import Switch
from tests.sim.sim_wire import Request
from tests.sim.virtual_loop import VirtualClock

__all__ = ["SimDevice"]

Answer = dict[str, Any]


@dataclass
class SimDevice:
    """One device; `session` arguments are who asks: only one session may change anything at a time."""

    name: str
    clock: VirtualClock
    profile: Profile = field(default_factory=Profile)
    agents: set[str] = field(default_factory=set)  # SHA-256 of the archives that it holds
    blobs: dict[str, int] = field(default_factory=dict)
    runtimes: set[str] = field(default_factory=set)
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    verified: dict[str, dict[str, Any]] = field(default_factory=dict)
    accepted: dict[str, Any] = field(default_factory=dict)  # as trust/accepted.json
    told: dict[str, Any] = field(default_factory=dict)  # whose state asked for the last switch
    signers: str = ""
    reports: list[dict[str, Any]] = field(default_factory=list)
    drift: dict[str, list[Finding]] = field(default_factory=dict)  # model -> what `check` finds
    switch: Switch = field(default_factory=Switch)
    contacts: int = 0
    served: list[str] = field(default_factory=list)  # the requests that were carried out, in order
    history: list[tuple[str, str]] = field(default_factory=list)  # (model, release that ran from then on), in order
    _holder: object = None  # the session that holds the lock
    _locked_until: float = 0.0
    _past: int = 0  # outages that have had their effect
    _last: dict[str, str] = field(default_factory=dict)  # what ran when `history` was last written

    # --- time

    def outage(self, now: float) -> Outage | None:
        """Return the outage that is on."""
        index = bisect.bisect_right(self.profile.outages, now, key=lambda o: o.start) - 1
        found = self.profile.outages[index] if index >= 0 else None
        return found if found is not None and now < found.end else None

    def next_outage(self, now: float) -> Outage | None:
        """Return the first outage that begins after `now`."""
        index = bisect.bisect_right(self.profile.outages, now, key=lambda o: o.start)
        return self.profile.outages[index] if index < len(self.profile.outages) else None

    def settle(self, contact: bool = False) -> None:
        """Let everything happen that has come due: leases that ran out, restarts."""
        now, outages = self.clock.elapsed, self.profile.outages
        while self._past < len(outages) and outages[self._past].start <= now:
            outage = outages[self._past]
            self._past += 1
            if outage.reboot:
                self._expire(outage.start, contact=False)
                self.switch.restart(outage.start)
                self._holder = None
        self._expire(now, contact)
        self._remember()

    def _expire(self, now: float, contact: bool) -> None:
        if self.profile.keeper or contact:
            self.switch.settle(now)

    def _remember(self) -> None:
        for model, slot in self.switch.slots.items():
            if self._last.get(model, "") != slot.current:
                self.history.append((model, slot.current))
                self._last[model] = slot.current

    @property
    def current(self) -> dict[str, str]:
        """What runs now: model -> release."""
        self.settle()
        return {model: slot.current for model, slot in self.switch.slots.items() if slot.current}

    def versions(self) -> dict[str, str]:
        """Return what runs now by the version that its manifest names: model -> version."""
        return {m: str(self.releases[r]["model"].get("version", "")) for m, r in self.current.items()}

    # --- sessions

    def lock(self, session: object) -> None:
        """Become the session that may change the store; AgentError "busy" while another is."""
        if self._holder not in (None, session) and self.clock.elapsed < self._locked_until:
            raise AgentError("another controller is at work on this device: a session that is not over", "busy")
        self._holder, self._locked_until = session, float("inf")

    def leave(self, session: object, broken: bool) -> None:
        """End a session; a broken one holds the lock until the device notices."""
        if self._holder is session:
            self._locked_until = self.clock.elapsed + (self.profile.linger_s if broken else 0.0)
            self._holder = session if broken else None

    def cost(self, request: Request) -> float:
        """Return the seconds that a request takes."""
        return self.profile.verify_s if request.header.get("op") == "verify" else 0.001

    def answer(self, request: Request, session: object, version: str) -> Answer:
        """Carry out a request and return the answer's header, but for `re`."""
        op = str(request.header.get("op"))
        operation = _OPERATIONS.get(op)
        self.settle()
        try:
            if operation is None:
                raise AgentError(f"unknown request {op[:40]!r}", "bad-request")
            if op != "hello" and op != "check":
                self.lock(session)
            result = operation(self, request)
        except AgentError as error:
            return {"error": {"code": error.code, "message": str(error)}}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            return {"error": {"code": "bad-request", "message": f"the request does not fit: {error!r}"}}
        self.served.append(op)
        self._remember()
        return {"result": {"agent": version, **result} if op == "hello" else result}

    # --- requests

    def _hello(self, request: Request) -> Answer:
        self.settle(contact=True)
        now, slots = self.clock.elapsed, self.switch.slots
        return {
            "root": "/var/lib/litefleet",
            "facts": {**self.profile.kind.told, "hostname": self.name},
            "fingerprint": self.profile.kind.fingerprint,
            "blobs": self.blobs,
            **({"engine_settings": True} if self.profile.engine_settings else {}),
            "runtimes": sorted(self.runtimes),
            "current": {m: s.current for m, s in slots.items() if s.current},
            "previous": {m: s.previous for m, s in slots.items() if s.previous},
            "verified": {s.current: self.verified[s.current] for s in slots.values() if s.current in self.verified},
            "leases": {
                m: {"release": s.lease.release, "before": s.lease.before, "remaining_s": s.lease.deadline - now}
                for m, s in slots.items()
                if s.lease is not None
            },
            "undone": [{**entry, "at": int(entry["at"] + self.clock.epoch)} for entry in self.switch.undone],
            "kept": self._kept(),
            "told": dict(self.told),
            "reports": self.reports[:20],
            "trust": {
                "signers": hashlib.sha256(self.signers.encode()).hexdigest() if self.signers else "",
                "fleet": self.accepted.get("fleet", ""),
                "latest": 0,
                "numbers": {m: entry["number"] for m, entry in self.accepted.get("models", {}).items()},
            },
        }

    def _kept(self) -> dict[str, list[str]]:
        kept: dict[str, list[str]] = {}
        for release in self.verified:
            if release in self.releases:
                kept.setdefault(self.model_of(release), []).insert(0, release)  # the latest proof first
        return kept

    def model_of(self, release: str) -> str:
        """Return the model of a release; AgentError "missing" when it is not here."""
        if release not in self.releases:
            raise AgentError(f"the release {release[:12]} is not on this device", "missing")
        return str(self.releases[release]["model"]["name"])

    def _put(self, request: Request) -> Answer:
        sha = hashlib.sha256(request.body).hexdigest()
        if sha != request.header["sha256"]:
            raise AgentError(f"expected the bytes of {request.header['sha256'][:12]}, got {sha[:12]}", "hash-mismatch")
        self.blobs[sha] = len(request.body)
        return {"stored": len(request.body)}

    def _runtime(self, request: Request) -> Answer:
        key, sha = request.header["key"], request.header["sha256"]
        if key not in self.runtimes:
            if sha not in self.blobs:
                raise AgentError(f"the runtime bundle {sha[:12]} is not on this device", "missing")
            del self.blobs[sha]
            self.runtimes.add(key)
        return {}

    def _release(self, request: Request) -> Answer:
        manifest = request.header["manifest"]
        for sha in _blobs(manifest) - self.blobs.keys():
            raise AgentError(f"the blob {sha[:12]} is not on this device", "missing")
        if manifest["runtime"] not in {"system", *self.runtimes}:
            raise AgentError(f"the runtime {manifest['runtime'][:12]} is not on this device", "missing")
        release = release_id(manifest)
        self._accept(manifest["model"]["name"], release, request.header.get("sealed"))
        self.releases[release] = manifest
        return {"release": release, "findings": []}

    def _accept(self, model: str, release: str, sealed: Any) -> None:
        """Hold a seal against what was accepted before: fleet, number, expiry.  Signatures are not simulated."""
        if not isinstance(sealed, dict):
            if self.signers:
                raise AgentError(f"this device trusts certain signers; the release of {model} has no seal", "unsigned")
            return
        seal, models = sealed["seal"], self.accepted.setdefault("models", {})
        last = models.get(model, {"number": -1, "release": ""})
        if self.accepted.get("fleet", seal["fleet"]) != seal["fleet"]:
            raise AgentError(f"the release is sealed for the fleet {seal['fleet']}", "foreign")
        if (seal["release"], seal["model"]) != (release, model):
            raise AgentError("the seal is for another release", "foreign")
        if seal["number"] < last["number"] or (seal["number"] == last["number"] and release != last["release"]):
            raise AgentError(f"number {seal['number']}: {last['number']} was accepted already", "too-old")
        if self.clock.now() > seal["expires"]:
            raise AgentError(f"the seal of {model} has expired", "expired")
        self.accepted["fleet"] = seal["fleet"]
        models[model] = {"number": seal["number"], "release": release, "expires": seal["expires"]}

    def _verify(self, request: Request) -> Answer:
        release = request.header["release"]
        self.model_of(release)
        found = list(self.profile.cause(release, self))
        verdict = decide(found)
        ran = not any(f.entry.verdict in (Verdict.REFUSED, Verdict.CRASHED, Verdict.UNSUPPORTED) for f in found)
        measured = self._measured(release) if ran else {}
        if verdict is Verdict.VERIFIED:
            self.verified.pop(release, None)  # the newest proof stands last
            self.verified[release] = {
                "fingerprint": self.profile.kind.fingerprint,
                "at": int(self.clock.now()),
                "measurements": measured,
            }
        else:
            self.verified.pop(release, None)
        return {
            "verdict": verdict.value,
            "verified": verdict is Verdict.VERIFIED,
            "findings": [f.to_dict() for f in found],
            "measurements": measured,
            "detail": "simulated" if any(f.severity is Severity.ERROR for f in found) else "",
        }

    def _measured(self, release: str) -> Answer:
        p50 = self._run_ms(release)
        return {
            "load_ms": 5 * p50,
            "latency_ms": {"min": 0.9 * p50, "p50": p50, "p90": 1.1 * p50, "p99": 1.3 * p50},
            "peak_rss_bytes": int(self.profile.rss_bytes * self.profile.growth(release, self)),
            "outputs": [],
            "runtime_version": "2.13-rc",
            "numpy_version": "1.26.4",
            "threads": 1,
            "threads_set_by": "simulation",
        }

    def _run_ms(self, release: str) -> float:
        return self.profile.latency_ms * self.profile.pace(release, self)

    def _bench(self, request: Request) -> Answer:
        """Measure two releases in turn, as the real bench does; `pace` is asked for every run."""
        both = (request.header["release"], request.header["against"])
        pairs = [(self._run_ms(both[0]), self._run_ms(both[1])) for _ in range(30)]
        compared = compare_pairs(pairs)
        peaks = [int(self.profile.rss_bytes * self.profile.growth(release, self)) for release in both]
        return {
            "model": self.model_of(both[0]),
            "findings": [],
            "releases": [{"release": r, "memory": {"peak": peak}} for r, peak in zip(both, peaks, strict=True)],
            "comparison": compared._asdict() if compared is not None else {},
        }

    def _activate(self, request: Request) -> Answer:
        release, lease_s = request.header["release"], float(request.header.get("lease_s") or 0)
        model = self.model_of(release)
        if release not in self.verified:
            raise AgentError(f"the release {release[:12]} was not proven on this device", "not-verified")
        told = self._ordered(request)
        changed, remaining = self.switch.activate(model, release, lease_s, self.clock.elapsed)
        self.told = told if changed else self.told
        keeper = self.profile.keeper and remaining is not None
        return {"changed": changed, "keeper": keeper, "lease_remaining_s": remaining}

    def _ordered(self, request: Request) -> dict[str, Any]:
        """Return what the device is told with a request; AgentError "another-state" where somebody else led meanwhile."""
        told, seen, now = (request.header.get("told"), request.header.get("seen"), self.told)
        if told is None:
            return now
        ours = now and now["state"] == told["state"] and now["number"] <= told["number"]
        if now and now != seen and not ours:
            raise AgentError(f"the state {now['state'][:12]} has switched releases here meanwhile", "another-state")
        return dict(told)

    def _follow(self, request: Request) -> Answer:
        self.told = self._ordered(request)
        return {"recorded": True}

    def _confirm(self, request: Request) -> Answer:
        release = request.header["release"]
        self.switch.confirm(self.model_of(release), release, self.clock.elapsed)
        return {}

    def _rollback(self, request: Request) -> Answer:
        model, now = request.header["model"], self.clock.elapsed
        target = self.switch.target(model, request.header["to"], now)
        if target and not self._runs_at_once(model, target):
            raise AgentError(f"can't go back to the release {target[:12]} of {model}: it is not kept here", "not-kept")
        told = self._ordered(request)
        before = self.switch.roll_back(model, target, now)
        self.told = told if target != before else self.told
        return {"changed": target != before, "current": target, "before": before}

    def _runs_at_once(self, model: str, release: str) -> bool:
        manifest = self.releases.get(release)
        if manifest is None or manifest["model"]["name"] != model or release not in self.verified:
            return False
        return self.blobs.keys() >= _blobs(manifest) and manifest["runtime"] in {"system", *self.runtimes}

    def _room(self, request: Request) -> Answer:
        """Drop releases beyond what is to be kept of each model, the oldest proofs first, and blobs nobody names."""
        header = request.header
        dropped = self._beyond(header["keep"], self.switch.protected() | {*header["pinned"], *header["wanted"]})
        for release in dropped:
            del self.releases[release]
            self.verified.pop(release, None)
        used = set(header["wanted"]).union(*map(_blobs, self.releases.values()))
        freed = sum(size for sha, size in self.blobs.items() if sha not in used)
        self.blobs = {sha: size for sha, size in self.blobs.items() if sha in used}
        self.runtimes &= {m["runtime"] for m in self.releases.values()} | {header["runtime"]}
        stored = sum(self.blobs.values())
        self._need(header["bytes"], header["quota"] or 0, stored)
        return {"freed": freed, "free": self._disk() - stored, "dropped": dropped}

    def _beyond(self, keep: int, fixed: set[str]) -> list[str]:
        """Return the releases beyond the newest `keep` of their model, besides those that must stay."""
        by_model: dict[str, list[str]] = {}
        newest_last = [r for r in self.releases if r not in self.verified] + list(self.verified)
        for release in newest_last:
            if release in self.releases and release not in fixed:
                by_model.setdefault(self.model_of(release), []).append(release)
        return [r for releases in by_model.values() for r in releases[: max(0, len(releases) - keep)]]

    def _disk(self) -> int:
        return self.profile.kind.facts.disk.free

    def _need(self, need: int, quota: int, stored: int) -> None:
        if quota and stored + need > quota:
            raise AgentError(f"{need} bytes are to be stored, {stored} of the quota of {quota} are used", "over-quota")
        if need > self._disk() - stored:
            raise AgentError(f"{need} bytes are to be stored, where {self._disk() - stored} are free", "disk-full")

    def _check(self, request: Request) -> Answer:
        found = {m: {"release": r, "findings": self.drift.get(m, [])} for m, r in self.current.items()}
        return {"models": json.loads(json.dumps(found, default=Finding.to_dict))}

    def _trust(self, request: Request) -> Answer:
        text = request.header["allowed_signers"]
        if self.signers and text != self.signers and not request.header["signature"]:
            raise AgentError("another list of signers needs the signature of one that is trusted", "bad-signature")
        changed, self.signers = text != self.signers, text
        return {"changed": changed}

    def _collected(self, request: Request) -> Answer:
        count = len(self.reports)
        self.reports = [r for r in self.reports if r["id"] not in request.header["ids"]]
        return {"removed": count - len(self.reports)}


def _blobs(manifest: Mapping[str, Any]) -> set[str]:
    return {manifest["model"]["nb"], *manifest["golden"]}


_OPERATIONS: Mapping[str, Callable[[SimDevice, Request], Answer]] = {
    "hello": SimDevice._hello,
    "put": SimDevice._put,
    "runtime": SimDevice._runtime,
    "release": SimDevice._release,
    "verify": SimDevice._verify,
    "activate": SimDevice._activate,
    "bench": SimDevice._bench,
    "confirm": SimDevice._confirm,
    "rollback": SimDevice._rollback,
    "room": SimDevice._room,
    "check": SimDevice._check,
    "trust": SimDevice._trust,
    "collected": SimDevice._collected,
    "follow": SimDevice._follow,
}
