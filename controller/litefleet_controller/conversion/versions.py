"""Conversion with several Paddle-Lite versions: the next one is asked where one can't; nothing of what they said is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from litefleet_agent.findings import Finding, finding

from ..artifacts import ArtifactStore
from ..errors import FindingError, LitefleetError
from .convert import Artifact, Converters, convert
from .preflight import Source
from .static import check_source_for
from .variant import Variant

__all__ = ["convert_with_any"]

_CANNOT = frozenset({"LF205", "LF206"})  # what another version may do better
_MOST_SAID = 300


async def convert_with_any(
    source: Source,
    variant: Variant,
    also: Sequence[str],
    converters: Converters,
    store: ArtifactStore,
    *,
    time_limit_s: float = 300.0,
    say: Callable[[Variant], None] = lambda variant: None,
) -> Artifact:
    """Convert with the variant's own version, then with those in `also`, in order, until a file passes the gate.

    A file of another version than the first carries LF211, which says what the ones before it said.  `say` hears of each
    conversion that is about to be made.

    Raises: FindingError with what every version said, and what is known of the model's operators with the first;
    LitefleetError as `convert` does for the first version.
    """
    failed: dict[str, tuple[Finding, ...]] = {}
    for version in dict.fromkeys([variant.opt_version, *also]):
        candidate = replace(variant, opt_version=version)
        if store.lookup(candidate.key) is None:
            say(candidate)
        try:
            made = await convert(source, candidate, converters, store, time_limit_s=time_limit_s)
        except FindingError as error:
            failed[version] = error.findings
            if not any(found.code in _CANNOT for found in error.findings):
                break  # not the version's fault
        except LitefleetError as error:
            if not failed:
                raise
            failed[version] = (finding("LF205", f"Paddle-Lite {version}'s converter can't be had: {error}"),)
        else:
            return replace(made, findings=(*made.findings, _told(version, failed))) if failed else made
    known = check_source_for(source.facts, variant.target, variant.opt_version, variant.fp16)
    said = [found for findings in failed.values() for found in findings]
    raise FindingError([*said, *(found for found in known if found.code not in {f.code for f in said})])


def _told(version: str, failed: dict[str, tuple[Finding, ...]]) -> Finding:
    said = "; ".join(
        f"{name} said {found.code}: {found.seen[:_MOST_SAID].rstrip('.')}"
        for name, findings in failed.items()
        for found in findings
    )
    return finding("LF211", f"Paddle-Lite {version} made this file, as others could not: {said}.")
