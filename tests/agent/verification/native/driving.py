"""What the tests of the native engine share: interpreters, the stand-in library, and runs of driver.py."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from litefleet_agent.formats.nb import Tensor
from litefleet_agent.formats.npz import Array, npz_bytes

from tests.conftest import CACHE, environment, find_python, lacking

HERE = Path(__file__).parent
AGENT = HERE.parents[3] / "agent"
DRIVER = HERE / "driver.py"
STANDIN = HERE / "standin"
SOURCES = (STANDIN / "lite.cc",)


@dataclass(frozen=True)
class Driven:
    """How a run of driver.py ended: its exit code, what it wrote, and what it report (empty when it died)."""

    code: int
    stdout: str
    stderr: str
    report: dict = field(default_factory=dict)

    @property
    def error(self) -> tuple[str, str]:
        """The engine's error, its kind and its text; ("", "") without one."""
        kind, text = self.report.get("error", ("", ""))
        return kind, text

    def outputs(self, case: int = 0) -> list[Array]:
        """Return the outputs of a case."""
        return [
            Array(dtype, tuple(shape), base64.b64decode(data)) for dtype, shape, data in self.report["outputs"][case]
        ]


def drive(
    python: Sequence[object],
    runtime: object,
    nb: Path,
    cases: Sequence[Path],
    names: tuple,
    env: dict[str, str] | None = None,
    **job: object,
) -> Driven:
    """Run driver.py with an interpreter (its argv); `names` are the inputs' and the outputs'."""
    inputs, outputs = names
    job = {"inputs": inputs, "outputs": outputs, "cases": [str(c) for c in cases], **job}
    job.update(runtime=str(runtime), nb=str(nb))
    argv = [str(part) for part in python] + [str(DRIVER), str(AGENT)]
    # What Paddle-Lite says need not be UTF-8.
    done = subprocess.run(argv, input=json.dumps(job).encode(), capture_output=True, timeout=170, check=False, env=env)
    stdout, stderr = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    lines = [line for line in stdout.splitlines() if line.startswith("result: ")]
    return Driven(done.returncode, stdout, stderr, json.loads(lines[-1][8:]) if lines else {})


def interpreter(version: str, numpy: str = "") -> Path:
    """Return a CPython `version` with that numpy ("1", "2"), or with none."""
    if numpy:
        needed = {"1": "numpy<2", "2": "numpy>=2"}[numpy]
        return environment(f"python-{version}-numpy{numpy}", version, needed)
    found = Path(find_python(version))
    if not found.is_absolute():  # no such interpreter here but uv's own: an environment with something harmless
        found = environment(f"python-{version}-bare", version, "pip")
    return found


def compile_standin(to: Path, *flags: str, compiler: str = "g++") -> Path:
    """Compile the stand-in library, once per source, compiler and flags; skip the test where there is no such compiler."""
    always = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"]
    argv = [compiler, *always, *flags]
    program = shutil.which(compiler)
    if program is None:
        lacking(f"{compiler} is missing (Debian: apt-get install g++ g++-aarch64-linux-gnu g++-arm-linux-gnueabihf)")
    state = os.stat(program)  # another compiler under the same name has another size or time
    key = hashlib.sha256(repr((argv, state.st_size, state.st_mtime)).encode())
    for source in sorted(STANDIN.iterdir()):
        key.update(source.read_bytes())
    made = CACHE / "standin" / f"{key.hexdigest()[:24]}.so"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        new = made.with_suffix(f".{os.getpid()}")
        try:
            subprocess.run([*argv, *map(str, SOURCES), "-o", str(new)], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise AssertionError(error.stderr) from error
        new.replace(made)
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, to)
    return to


@dataclass(frozen=True)
class Toy:
    """A model of the stand-in: its text, and one case with an array for each input."""

    path: Path
    case: Path
    inputs: dict
    outputs: list

    @property
    def names(self) -> tuple:
        return list(self.inputs), list(self.outputs)

    @property
    def declared(self) -> list[Tensor]:
        return [Tensor(name, value.dtype, (-1, *value.shape[1:])) for name, value in self.inputs.items()]


def toy(folder: Path, inputs: dict, outputs: dict, *more: str, version: str = "v2.13") -> Toy:
    """Write a model for the stand-in; `outputs` maps names to what they are ("copy 0"), `more` are further lines."""
    lines = [f"version {version}".rstrip(), *(f"input {name}" for name in inputs)]
    lines += [f"output {name} {what}" for name, what in outputs.items()]
    path, case = folder / "toy.txt", folder / "toy.npz"
    path.write_text("\n".join([*lines, *more]) + "\n")
    case.write_bytes(npz_bytes(inputs))
    return Toy(path, case, inputs, list(outputs))
