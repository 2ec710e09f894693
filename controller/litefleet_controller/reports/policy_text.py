"""A rollout's policy in plain sentences: what limits it, and what stops it.  Pure."""

from __future__ import annotations

from ..rollout.policy import GateLimit, Policy, Regression, Share
from .page import plural
from .times import human_span

__all__ = ["gate_lines", "limit_lines", "percent"]


def percent(share: Share) -> str:
    """Return 0.1 as "10%"."""
    return f"{share * 100:g}%"


def limit_lines(policy: Policy) -> list[tuple[str, str]]:
    """Return (name, sentence) for each limit of speed and time that holds."""
    lines = [
        ("speed", _speed(policy)),
        ("lease", f"{human_span(policy.lease)}; without a confirmation a device goes back"),
    ]
    if policy.soak:
        lines.append(("soak", f"{human_span(policy.soak)} after each wave, then its devices are looked at again"))
    if policy.approve:
        lines.append(("approval", _approval(policy)))
    if policy.windows:
        lines.append(("windows", f"devices are begun {'; '.join(policy.windows)} ({policy.timezone})"))
    retry = policy.retry
    tries = f"after {human_span(retry.first)}, then ever later, up to {human_span(retry.longest)}"
    lines.append(("offline", f"tried again {tries}; given up after {human_span(retry.give_up_after)}"))
    return [*lines, ("kept", _kept(policy))]


def gate_lines(policy: Policy) -> list[tuple[str, str]]:
    """Return (name, sentence) for each gate; an open one says so."""
    gates = policy.gates
    return [
        ("first wave", _gate(gates.canary, "failed in the first wave", "of the first wave failed")),
        ("each wave", _gate(gates.wave, "failed in one wave", "of a wave failed")),
        ("all", _gate(gates.total, "failed in all", "of all devices failed")),
        ("one cause", _gate(gates.cluster, "of one CPU part failed alike", "of one CPU part's devices failed alike")),
        ("regression", _regression(gates.regression)),
    ]


def _speed(policy: Policy) -> str:
    at_once = (
        f"{plural(policy.parallel, 'device')} at once"
        if policy.parallel
        else "as many devices at once as ssh.concurrency says"
    )
    minute = f", {policy.per_minute} begun in a minute" if policy.per_minute else ""
    return f"{at_once}, {policy.per_jump_host} behind one jump host{minute}"


def _approval(policy: Policy) -> str:
    if isinstance(policy.approve, bool):
        return "a person approves after every wave"
    waves = ", ".join(str(wave) for wave in policy.approve)
    return f"a person approves after wave{'' if len(policy.approve) == 1 else 's'} {waves}"


def _kept(policy: Policy) -> str:
    keep = policy.keep
    quota = f", at most {keep.quota_mb:g} MiB in all" if keep.quota_mb else ""
    pinned = f" and {plural(len(keep.pinned), 'pinned release')}" if keep.pinned else ""
    return f"what runs, what ran before, {plural(keep.releases, 'further release')} of each model{pinned}{quota}"


def _gate(gate: GateLimit, counted: str, shared: str) -> str:
    limits = [f"{plural(gate.count, 'device')} {counted}"] if gate.count else []
    limits += [f"more than {percent(gate.share)} {shared}"] if gate.share else []
    return f"{gate.then} when {' or '.join(limits)}" if limits else "open: nothing stops the rollout here"


def _regression(gate: Regression) -> str:
    grown = [f"fastest run +{percent(gate.latency)}"] if gate.latency else []
    grown += [f"peak memory +{percent(gate.memory)}"] if gate.memory else []
    if not grown:
        return "not compared with the release before"
    stop = f"; {gate.then} at {plural(gate.count, 'such device')}" if gate.count else ""
    return f"over {' or '.join(grown)} a device is not switched on{stop}"
