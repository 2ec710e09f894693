"""Notes of goldens that were made from drawn inputs: a run that finds all files of one as they were written draws nothing.

Drawing needs numpy, and importing that takes longer than everything else that is asked of a golden which is there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...common.checked import mapping_or_empty
from ...common.errors import LitefleetError
from ...common.files import sha256_of, write_atomically
from ...config.choices import GoldenSpec
from . import inputs as drawing
from .files import Tensor

_NAME = re.compile(r"[0-9a-f]{32}-[0-9]{1,4}\.npz")
_MOST_BYTES = 1 << 20  # of a note


def note_of(
    store: Path,
    recipe: int,
    sources: Sequence[Path],
    inputs: Sequence[Tensor],
    spec: GoldenSpec,
    version: str,
    vocabularies: Mapping[str, int] | None,
) -> Path | None:
    """Return where the note of such a golden is: its name is a hash over all that decides the files' content.

    None where the inputs are files of the user, or something that the hash needs cannot be read.
    """
    if spec.own:
        return None
    try:
        files = [sha256_of(path) for path in (Path(drawing.__file__), *sources)]
    except OSError:
        return None
    declared = [[one.name, one.dtype, list(one.dims), getattr(one, "lod_level", 0)] for one in inputs]
    stated = [repr(item) for item in sorted(spec.inputs.items())]
    rows = sorted((vocabularies or {}).items())
    facts = [recipe, files, spec.engine, version, declared, stated, spec.seed, spec.cases, rows]
    return store / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.made.json"


def read_note(note: Path, cases: int) -> tuple[Path, ...]:
    """Return the files of a noted golden of `cases` cases, if each of them is as it was noted; else none."""
    try:
        with note.open("rb") as file:
            noted = json.loads(file.read(_MOST_BYTES))
        found = {
            note.parent / name: digest for name, digest in mapping_or_empty(noted).items() if _NAME.fullmatch(name)
        }
        whole = len(found) == cases and all(sha256_of(path) == digest for path, digest in found.items())
        return tuple(found) if whole else ()
    except (OSError, ValueError, RecursionError):
        return ()


def write_note(note: Path, paths: Sequence[Path]) -> None:
    """Note these files, in their order; a note that cannot be written is not needed."""
    try:
        write_atomically(note, json.dumps({path.name: sha256_of(path) for path in paths}).encode())
    except (OSError, LitefleetError):
        return
