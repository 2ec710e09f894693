"""Confines a process that runs a model, before its Paddle-Lite is imported, and reports how far this kernel could."""

import glob
import os
from typing import Dict, List, NamedTuple, Sequence, Tuple

from ..formats.checked import flag, mapping, number, text, texts, whole
from ..releases.caches import MOST_CACHED
from ..sandbox import Policy, confine
from .child_process import data_limit

_MOST_PARTS = 20  # guarantees, and reasons
_LONG = 500  # characters of one of them
# Device files of accelerators' drivers.  None of them was tried on hardware.
_DRIVERS = (
    "/dev/mali*", "/dev/kgsl-3d0", "/dev/dri/*", "/dev/dma_heap/*", "/dev/ion", "/dev/galcore", "/dev/rknpu*", "/dev/pvr*",
    "/dev/nvidia*", "/dev/nvhost*", "/dev/nvmap", "/dev/davinci*", "/dev/apusys*", "/dev/cambricon*", "/dev/xpu*",
)  # fmt: skip


class ConfinementReport(NamedTuple):
    """How a model's process is confined, as sandbox.Confinement.to_dict gives it."""

    landlock: int  # the ABI in force; 0 = Landlock is not in force
    seccomp: bool
    guarantees: Dict[str, str]  # what the process can still do: writes, reads, network, programs, signals
    missing: List[str]  # sentences: each part that could not be applied, and why
    ms: float  # that confining took

    @classmethod
    def parse(cls, value: object) -> "ConfinementReport":
        """Read the JSON form; ValueError or KeyError for one that is not well formed."""
        data = mapping(value)
        guarantees = mapping(data["guarantees"])
        if len(guarantees) > _MOST_PARTS:
            raise ValueError("too many guarantees")
        return cls(
            whole(data["landlock"], 0, 1000),
            flag(data["seccomp"]),
            {text(name, _LONG): text(words, _LONG) for name, words in guarantees.items()},
            list(texts(data["missing"], _MOST_PARTS, _LONG)),
            number(data["ms"], 0),
        )

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        return dict(self._asdict())


def confine_model(
    reads: Sequence[str],
    runtime: str,
    memory_limit: int = 0,
    accelerated: bool = False,
    file_bytes: int = 1 << 20,
    cache: str = "",
) -> ConfinementReport:
    """Confine this process, permanently, to reading `reads`, the runtime's folder ("" = the interpreter's) and the system's
    libraries; it can write to what it has open, up to `file_bytes` a file, and to the folder `cache` ("" = to nothing else).

    `memory_limit` is in bytes, 0 = none.  A process of a model with an accelerator's kernels (`accelerated`) may also use the
    drivers' device files and read whatever its user may: its libraries lie in many places.
    """
    devices = tuple(path for pattern in _DRIVERS for path in sorted(glob.glob(pattern))) if accelerated else ()
    policy = Policy(
        work=cache,
        reads=tuple(reads) + _folders(runtime),
        devices=devices,
        read_everything=accelerated,
        data_bytes=data_limit(memory_limit) if memory_limit else 0,
        file_bytes=max(file_bytes, MOST_CACHED) if cache else file_bytes,
    )
    applied = confine(policy)
    missing = [sentence[:_LONG] for sentence in applied.missing]
    ms = round(applied.seconds * 1e3, 3)
    return ConfinementReport(applied.landlock_abi, applied.seccomp, applied.guarantees, missing, ms)


def _folders(runtime: str) -> Tuple[str, ...]:
    """Return a runtime's folder, and the targets of links that lie in it."""
    if not runtime:
        return ()
    try:
        links = [entry.path for entry in os.scandir(runtime) if entry.is_symlink()]
    except OSError:  # Paddle-Lite's import reports it
        links = []
    return (runtime,) + tuple(os.path.realpath(path) for path in links)
