"""The bootstrap's script, really run by each shell a device may have, on whatever Pythons are on PATH."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import struct
import subprocess
import termios
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.protocol import PREFIX_SIZE, decode_header, decode_prefix, encode
from litefleet_controller.devices import bootstrap
from litefleet_controller.devices.agent_archive import agent_archive

from tests.conftest import find_python, lacking

HELLO = encode({"id": 1, "op": "hello"})
TOOLS = ("uname", "getconf")
NEED = b"LFBOOT n0nce need cpython-37 420d0d0a\n"  # of Python 3.7


class Machine:
    """A device's PATH and home folder."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.home = folder / "bin", folder / "home"
        self.root = self.home / "root"
        self.bin.mkdir(parents=True)
        self.home.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def python(self, name: str, version: str) -> None:
        found = find_python(version)
        if found == version:
            lacking(f"no Python {version} in pyenv's folder")
        self.program(name, f'#!/bin/sh\nexec {found} "$@"\n')

    def run(
        self,
        shell: list[str],
        after: bytes = b"",
        python: str = "",
        root: str = "~/root",
        before: str = "",
        keep: bool = True,
    ):
        archive = agent_archive()
        loader = bootstrap.loader("n0nce", archive.sha256, len(archive.data), len(HELLO), root, keep)
        argv = self.command(shell, bootstrap.command("n0nce", len(loader), python), before)
        sent = loader + HELLO + (bootstrap.KEEPER + after if after else b"")
        done = subprocess.run(argv, input=sent, capture_output=True, env=self.environment, timeout=30, check=False)
        lines = done.stdout.split(b"LFBOOT n0nce sh\n", 1)
        assert len(lines) == 2, done
        done.stdout = b"".join(lines)  # what is said before sh runs, and after it
        return done

    @staticmethod
    def command(shell: list[str], command: str, before: str = "") -> list[str]:
        script = shlex.split(command)
        assert script[:2] == ["sh", "-c"]
        return [*shell, "-c", before + script[2], *script[3:]]

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.bin), "HOME": str(self.home)}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def hello(data: bytes) -> dict:
    size, _ = decode_prefix(data[:PREFIX_SIZE])
    return decode_header(data[PREFIX_SIZE : PREFIX_SIZE + size])["result"]


def test_need_then_have_then_a_damaged_one_is_replaced(shell: list[str], machine: Machine) -> None:
    machine.python("python3", "3.7")
    archive = agent_archive()
    kept = machine.root / "agent" / f"{archive.sha256}.pyz"
    for state in ("need", "have", "damaged"):
        if state == "damaged":
            kept.write_bytes(b"damaged")
        done = machine.run(shell, b"" if state == "have" else archive.data)
        output = b"LFBOOT n0nce have\n" if state == "have" else NEED + b"LFBOOT n0nce ready\n"
        assert done.stdout.startswith(output), done.stderr
        answer = hello(done.stdout[len(output) :])
        assert (answer["agent"], answer["root"]) == (archive.sha256, str(machine.root))
        assert (done.returncode, kept.read_bytes()) == (0, archive.data)
        code = [f"{archive.sha256}.cpython-37{suffix}" for suffix in (".bytecode", ".start.bytecode")]
        assert sorted(os.listdir(kept.parent)) == [*code, kept.name, "litefleet-agent.pyz"]


def test_a_session_that_is_to_change_nothing_keeps_no_bytecode(shell: list[str], machine: Machine) -> None:
    machine.python("python3", "3.7")
    archive = agent_archive()
    assert machine.run(shell, archive.data).returncode == 0
    for bytecode in (machine.root / "agent").glob("*.bytecode"):
        bytecode.unlink()
    before = sorted(machine.root.rglob("*"))
    done = machine.run(shell, keep=False)
    assert done.stdout.startswith(b"LFBOOT n0nce have\n"), done.stderr
    assert hello(done.stdout[len(b"LFBOOT n0nce have\n") :])["agent"] == archive.sha256
    assert sorted(machine.root.rglob("*")) == before


def test_no_python_is_reported_with_what_sh_knows(shell: list[str], machine: Machine) -> None:
    done = machine.run(shell)
    answer = bootstrap.parse_answer(done.stdout, "n0nce")
    assert answer is not None
    assert (answer.state, answer.facts["machine"], answer.facts["libc"]) == ("nopython", os.uname().machine, "glibc")
    assert answer.facts["page"] == str(os.sysconf("SC_PAGESIZE") // 1024)
    assert done.stderr == b""


@pytest.mark.parametrize("first", ["2.7", "3.6"])
def test_an_old_python_first_on_path_is_passed_over(first: str, shell: list[str], machine: Machine) -> None:
    machine.python("python3", first)
    assert machine.run(shell).stdout.startswith(b"LFBOOT n0nce nopython ")
    machine.python("python3.7", "3.7")
    assert machine.run(shell, agent_archive().data).stdout.startswith(NEED)


def test_pythons_that_cannot_start_are_passed_over(shell: list[str], machine: Machine) -> None:
    machine.program("python3", "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n")
    machine.program("python3.13", "#!/nonexistent/loader\n")
    machine.python("python3.9", "3.7")
    assert machine.run(shell, agent_archive().data).stdout.startswith(NEED)


@pytest.mark.parametrize(
    ("named", "why"), [("/opt/none/python3", "127"), ("/", "127|126"), ("none", "127"), ("python2", "78")]
)
def test_a_named_python_is_the_only_one(named: str, why: str, shell: list[str], machine: Machine) -> None:
    machine.python("python3", "3.7")
    machine.python("python2", "2.7")
    answer = bootstrap.parse_answer(machine.run(shell, python=named).stdout, "n0nce")
    assert answer is not None
    assert answer.state == "nopython"
    assert answer.facts["why"] in why.split("|")


def test_a_library_that_is_not_whole_is_said_before_the_agent_is_due(shell: list[str], machine: Machine) -> None:
    without = "import sys; sys.modules['struct'] = None"
    machine.program(
        "python3",
        f"""#!/bin/sh
shift; shift
exec {find_python("3.9")} -Es -c "{without};$1" "$2"
""",
    )
    answers = machine.run(shell, agent_archive().data).stdout.split(b"\n")
    assert answers[0].startswith(b"LFBOOT n0nce need cpython-39 ")
    answer = bootstrap.parse_answer(answers[1], "n0nce")
    assert answer is not None
    assert (answer.state, answer.text.split(" ")[0]) == ("nomodule", "struct")


@pytest.mark.parametrize("package", ["urllib", "zipfile"])
def test_a_module_that_only_a_rollout_needs_is_missed_before_anything_is_sent(
    package: str, shell: list[str], machine: Machine
) -> None:
    """As a small system leaves it out; an empty folder of that name may stay behind."""
    found = find_python("3.9")
    library = Path(subprocess.check_output([found, "-c", "import os; print(os.__file__)"], text=True).strip()).parent
    own = machine.home / "library"
    own.mkdir()
    for entry in library.iterdir():
        if entry.name.removesuffix(".py") != package:
            (own / entry.name).symlink_to(entry)
    (own / package).mkdir()
    path = f"sys.path[:]=['{own}','{library}/lib-dynload']"
    machine.program("python3", f"""#!/bin/sh\nshift; shift\nexec {found} -Es -c "import sys;{path};$1" "$2"\n""")
    answers = machine.run(shell, agent_archive().data).stdout.split(b"\n")
    answer = bootstrap.parse_answer(answers[0], "n0nce")
    assert answer is not None
    assert (answer.state, answer.text.split(" ")[0]) == ("nomodule", package)


def test_a_python_without_zlib_is_passed_over(shell: list[str], machine: Machine) -> None:
    machine.program(
        "python3",
        f"""#!/bin/sh
shift; shift
exec {find_python("3.9")} -Es -c "import sys; sys.modules['zlib'] = None;$1" ${{2:+"$2"}}
""",
    )
    done = machine.run(shell, agent_archive().data)
    assert done.stdout.startswith(b"LFBOOT n0nce nomodule zlib /"), done
    machine.python("python3.7", "3.7")
    assert machine.run(shell, agent_archive().data).stdout.startswith(NEED)


@pytest.mark.parametrize("reads", ["read x", "read x; read y; read z"])
def test_a_start_up_file_that_reads_a_line_takes_none_of_the_loader(
    reads: str, shell: list[str], machine: Machine
) -> None:
    machine.python("python3", "3.7")
    done = machine.run(shell, agent_archive().data, before=f"{reads}\n")
    assert done.stdout.startswith(NEED), done


def test_a_shell_that_reads_the_input_ends_at_once(machine: Machine) -> None:
    loader = bootstrap.loader("n0nce", "0" * 64, 1, 1, "")
    done = subprocess.run(["sh"], input=loader, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (bootstrap.STARTED_BY_SHELL, b"", b"")


@pytest.mark.parametrize("login", ["tcsh", "fish", "mksh", "bash", "dash"])
def test_every_login_shell_can_start_sh(login: str, machine: Machine) -> None:
    """The whole command goes through `SHELL -c`, as sshd has it."""
    found = shutil.which(login)
    if found is None:
        lacking(f"no {login} on this machine")
    machine.python("python3", "3.7")
    (machine.bin / "sh").symlink_to(str(shutil.which("sh")))
    archive = agent_archive()
    loader = bootstrap.loader("n0nce", archive.sha256, len(archive.data), len(HELLO), "~/root")
    command = bootstrap.command("n0nce", len(loader), "")
    assert not set("\n!") & set(command)
    env = {"PATH": str(machine.bin), "HOME": str(machine.home)}
    done = subprocess.run(
        [found, "-c", command],
        input=loader + HELLO + bootstrap.KEEPER + archive.data,
        capture_output=True,
        env=env,
        timeout=30,
        check=False,
    )
    expected = b"LFBOOT n0nce sh\n" + NEED + b"LFBOOT n0nce ready\n"
    assert done.stdout.startswith(expected), done
    assert hello(done.stdout[len(expected) :])["agent"] == archive.sha256


def test_chatter_before_the_answer_is_not_the_answer(shell: list[str], machine: Machine) -> None:
    machine.python("python3", "3.7")
    done = machine.run(shell, agent_archive().data, before="echo Welcome; echo LFBOOT other have\n")
    lines = done.stdout.split(b"\n", 3)
    answers = [bootstrap.parse_answer(line, "n0nce") for line in lines[:3]]
    assert answers[:2] == [None, None]
    assert answers[2] == bootstrap.Answer("need", "cpython-37 420d0d0a")


@pytest.mark.parametrize("sent", [0, 1000])
def test_a_controller_that_leaves_early_leaves_nothing(sent: int, shell: list[str], machine: Machine) -> None:
    machine.python("python3", "3.7")
    done = machine.run(shell, agent_archive().data[:sent])
    assert (done.returncode, done.stdout, done.stderr) == (1, NEED, b"")
    assert not machine.root.exists()


def test_an_agent_that_arrives_damaged_is_not_kept(shell: list[str], machine: Machine) -> None:
    machine.python("python3", "3.7")
    done = machine.run(shell, bytes(len(agent_archive().data)))
    assert done.stdout == NEED + b"LFBOOT n0nce fail the agent arrived damaged\n"
    assert not machine.root.exists()


def test_a_root_that_cannot_be_written_runs_from_elsewhere_and_says_so(shell: list[str], machine: Machine) -> None:
    machine.python("python3", "3.7")
    put = encode({"id": 2, "op": "put", "sha256": "a" * 64}, 1) + b"x"
    done = machine.run(shell, agent_archive().data + put, root="/proc/litefleet")
    assert done.stdout.startswith(NEED + b"LFBOOT n0nce ready\n"), done.stderr
    assert b"/proc/litefleet cannot be written" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize(("owner", "mode", "word"), [(20001, 0o755, "number 20001"), (0, 0o777, "mode 777")])
def test_a_root_that_others_could_exchange_is_refused(machine: Machine, owner: int, mode: int, word: str) -> None:
    """Whoever can rename a folder above the agent could exchange it between its check and its start."""
    machine.python("python3", "3.7")
    theirs = machine.home / "theirs"
    theirs.mkdir()
    theirs.chmod(mode)
    os.chown(theirs, owner, owner)
    for archive in (b"", agent_archive().data):  # whether the agent is there or not
        done = machine.run(["/bin/sh"], archive, root="~/theirs/root")
        answer = bootstrap.parse_answer(done.stdout, "n0nce")
        assert answer is not None
        assert (answer.state, word in answer.text, str(theirs) in answer.text) == ("fail", True, True), done.stdout
    assert not (theirs / "root").exists()
    theirs.chmod(0o1777)  # sticky, as /tmp: what lies in it is its owner's alone
    os.chown(theirs, 0, 0)
    assert machine.run(["/bin/sh"], agent_archive().data, root="~/theirs/root").stdout.startswith(NEED)


def _waits_for_its_output(process: subprocess.Popen) -> bool:
    """Return whether a process has read everything that was sent to it, and sleeps."""
    assert process.stdin is not None
    unread = struct.unpack("i", fcntl.ioctl(process.stdin, termios.FIONREAD, b"\0\0\0\0"))[0]
    return unread == 0 and Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _await(process: subprocess.Popen) -> None:
    seen = 0
    for _ in range(400):
        seen = seen + 1 if _waits_for_its_output(process) else 0
        if seen == 10:
            return
        time.sleep(0.03)
    raise AssertionError("the loader has not got to its answer")


@pytest.mark.parametrize("version", ["3.7", "3.13"])
@pytest.mark.parametrize("bytecode", [True, False])
def test_what_was_checked_is_what_runs(machine: Machine, version: str, bytecode: bool) -> None:
    """The agent is exchanged between its check and its start: the loader is made to write there, and waits for its reader."""
    machine.python("python3", version)
    archive = agent_archive()
    assert machine.run(["/bin/sh"], archive.data).returncode == 0
    kept = machine.root / "agent" / f"{archive.sha256}.pyz"
    if not bytecode:
        for file in kept.parent.glob("*.bytecode"):
            file.unlink()
    marker = machine.home / "somebody else's code ran"
    other = machine.home / "other.pyz"
    with zipfile.ZipFile(other, "w") as out:
        out.writestr("litefleet_agent/__init__.py", f"open({str(marker)!r}, 'w')\n")
        out.writestr("litefleet_agent/session/__init__.py", f"open({str(marker)!r}, 'w')\n")
    answer = _started_while(machine, "~/root", lambda: other.replace(kept))
    assert (answer["agent"], marker.exists()) == (archive.sha256, False)


def test_a_link_that_is_pointed_elsewhere_after_the_check_is_not_followed(machine: Machine) -> None:
    machine.python("python3", "3.7")
    assert machine.run(["/bin/sh"], agent_archive().data).returncode == 0
    link, other = machine.home / "link", machine.home / "other"
    link.symlink_to(machine.root)

    def point_elsewhere() -> None:
        link.unlink()
        link.symlink_to(other)

    assert _started_while(machine, "~/link", point_elsewhere)["root"] == str(machine.root)
    assert not other.exists()


def _started_while(machine: Machine, root: str, act: Callable[[], object]) -> dict:
    """Start an agent that is there, `act` between its check and its start, and return its answer."""
    archive = agent_archive()
    loader = bootstrap.loader("n0nce", archive.sha256, len(archive.data), len(HELLO), root)
    code = zlib.decompress(bootstrap.LOADER)
    code = code.replace(
        b"    run(path", rb"""    say("checked")\n        run(path"""
    )  # in a text that the loader holds
    code = code.replace(b"    return resume(", b"    say('checked')\n        return resume(")
    loader = loader.replace(bootstrap.LOADER, zlib.compress(code))
    argv = machine.command(["/bin/sh"], bootstrap.command("n0nce", len(loader)))
    argv[4] = argv[4].replace('echo "LFBOOT $4 sh"', "")
    read_fd, write_fd = os.pipe()
    full = bytes(fcntl.fcntl(write_fd, fcntl.F_GETPIPE_SZ))
    os.write(write_fd, full)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=write_fd, env=machine.environment) as process:
        os.close(write_fd)
        assert process.stdin is not None
        process.stdin.write(loader + HELLO)
        process.stdin.flush()
        _await(process)
        act()
        with os.fdopen(read_fd, "rb") as stream:
            assert stream.read(len(full)) == full
            process.stdin.close()
            output = stream.read()
    answered = b"LFBOOT n0nce checked\nLFBOOT n0nce have\n"
    assert output.startswith(answered)
    assert process.returncode == 0
    return hello(output[len(answered) :])
