"""Lists the operators that each real converter supports, and writes controller/litefleet_controller/build/conversion/opsets.json.

The converter first rejects a model whose source program names an operator without a kernel for the targets, for the host,
or without a target.  A program that names every operator, given to each version for each target, makes the converter print
its whole table.

    .venv/bin/python tools/make_opsets.py            # all versions; makes their environments where they are missing
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import tempfile
from pathlib import Path

from litefleet_controller.build.conversion.opsets import OPSETS
from litefleet_controller.build.toolchain import Toolchain, Toolchains
from litefleet_controller.config.choices import PUBLISHED_PYTHONS, TARGETS

LACKING = re.compile(r"ops are not supported on '[^']*'\. These unsupported ops are: '([^']*)'")
UNKNOWN = "litefleet_no_such_op"  # ensures that there is a refusal to read


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def program_of(ops: list[str]) -> bytes:
    """Return a serialised program that names these operators and nothing else."""
    return _field(1, b"\x08\x00\x10\x00" + b"".join(_field(4, _field(3, op.encode())) for op in ops))


def _opt(toolchain: Toolchain, *flags: str) -> str:
    argv = [str(part) for part in (toolchain.python, "-I", toolchain.opt, *flags)]
    end = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    return end.stdout + end.stderr


def names_of(toolchain: Toolchain) -> set[str]:
    """Return every operator that one converter knows."""
    lines = (_opt(toolchain, "--print_all_ops=true")).splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == ["OP_name"])
    return {line.split()[0] for line in lines[start + 1 :] if line.split()}


def lacking_of(toolchain: Toolchain, target: str, ops: list[str]) -> list[str] | None:
    """Return which of `ops` one converter refuses for a target; None when it does not know the target."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "all.pdmodel").write_bytes(program_of([*ops, UNKNOWN]))
        (folder / "all.pdiparams").write_bytes(bytes(16))
        files = (f"--model_file={folder / 'all.pdmodel'}", f"--param_file={folder / 'all.pdiparams'}")
        refusal = LACKING.search(
            _opt(toolchain, *files, f"--valid_targets={target}", f"--optimize_out={folder / 'out'}")
        )
    return sorted(set(refusal.group(1).split(", ")) - {UNKNOWN}) if refusal else None


async def main() -> None:
    """Write the table."""
    toolchains = [await Toolchains().lite(version) for version in PUBLISHED_PYTHONS]
    known = {t.version: names_of(t) for t in toolchains}
    ops = sorted(set().union(*known.values()))
    lacks = {}
    for toolchain in toolchains:
        answers = {target: lacking_of(toolchain, target, ops) for target in TARGETS}
        lacks[toolchain.version] = {target: found for target, found in answers.items() if found is not None}
        print(toolchain.version, {target: len(ops) - len(found) for target, found in lacks[toolchain.version].items()})
    text = json.dumps({"ops": ops, "lacks": lacks}, separators=(",", ":"))
    OPSETS.write_text(text.replace('"],"', '"],\n"').replace("},", "},\n") + "\n", encoding="utf-8")
    print(OPSETS, OPSETS.stat().st_size, "bytes")


if __name__ == "__main__":
    asyncio.run(main())
