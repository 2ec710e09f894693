"""What `doctor` is given: whatever it is, it costs a sentence, and never a traceback or a wait."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_controller.common.errors import UsageError
from litefleet_controller.devices.progress import Progress
from litefleet_controller.doctor.diagnosis import Diagnosis
from litefleet_controller.doctor.examine import Question, examine_all
from litefleet_controller.doctor.files import expand
from litefleet_controller.project import Options

from tests.conftest import lacking


def doctor(*argv: object, **more: object) -> subprocess.CompletedProcess[str]:
    code = "from litefleet_controller.cli import main; main()"
    command = [sys.executable, "-c", code, "doctor", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)  # type: ignore[call-overload, no-any-return]


def examined(*files: Path, arches: tuple[str, ...] = ()) -> list[Diagnosis]:
    def quiet(total: int) -> Progress:
        raise AssertionError("no device was named")

    return examine_all(Question(Options(Path("none.yaml"), None, "", (), False), files, arches), quiet)


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nb")
    for path in (tmp_path / "pipe.nb", Path("/dev/null"), Path("/dev/zero")):
        done = doctor(path)
        assert (done.returncode, "is not a regular file" in done.stderr) == (2, True), done


def test_what_can_not_be_looked_at_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        expand([tmp_path / "none.nb"])
    with pytest.raises(UsageError, match="File name too long"):
        expand([tmp_path / ("a" * 300)])
    if os.geteuid():
        lacking("only root becomes somebody else")
    (tmp_path / "locked").mkdir(0o700)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "closed").mkdir(0o700)
    (tmp_path / "half" / "a.nb").write_bytes(b"x")
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    # As root too, which imports what the other user may not read.
    assert expand([tmp_path / "half"]) == [tmp_path / "half" / "a.nb"]
    os.seteuid(65534)
    try:
        with pytest.raises(UsageError, match="Permission denied"):
            expand([tmp_path / "locked" / "m.nb"])
        assert expand([tmp_path / "half"]) == [tmp_path / "half" / "a.nb"]
    finally:
        os.seteuid(0)


def test_a_full_disk_and_a_closed_input_are_sentences() -> None:
    with open("/dev/full", "w") as full:
        code = "from litefleet_controller.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "explain", "LF101"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_it_while_it_reads(number: int) -> None:
    code = "from litefleet_controller.cli import main; print('up', flush=True); main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "doctor", "--log", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test's worker may ignore it
    ) as asked:  # fmt: skip
        assert asked.stdin is not None
        assert asked.stdout is not None
        asked.stdout.readline()
        asked.stdin.write("x" * 100_000)  # more than a pipe holds: it reads by now
        asked.stdin.flush()
        time.sleep(0.3)  # and waits for more
        asked.send_signal(number)
        assert asked.wait(20) == 4


def test_architectures_want_files() -> None:
    with pytest.raises(UsageError, match="--for names where files will run"):
        examined(arches=("x86_64",))


def test_files_of_one_name_are_distinguished_and_an_architecture_is_judged_once(
    tmp_path: Path, nb_files: Callable[[str, str], Path]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(nb_files("cls", "x86"), tmp_path / folder / "model.nb")
    found = examined(tmp_path / "a" / "model.nb", tmp_path / "b" / "model.nb", arches=("x86_64", "amd64"))
    subjects = [one.subject for one in found]
    assert len(subjects) == len(set(subjects)) == 4, subjects
    assert all("/a/model.nb" in subject or "/b/model.nb" in subject for subject in subjects)


def test_a_file_for_an_accelerator_is_not_said_to_run(nb_files: Callable[[str, str], Path]) -> None:
    (found,) = examined(nb_files("cls", "opencl,arm"), arches=("aarch64",))
    assert any("need opencl, which this check does not see" in works for works in found.works), found.works
    (found,) = examined(nb_files("cls", "x86"), arches=("x86_64",))
    assert any(works.startswith("All ") for works in found.works)
