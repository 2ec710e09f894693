"""What a limit of the login forbids is told with the limit's name and value."""

import os
import resource
import sys

import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.findings import finding_of_error
from litefleet_agent.releases.store import explain_os_error
from litefleet_agent.verification.child_process import run_child
from litefleet_agent.verification.native.errors import explain_unloadable
from litefleet_agent.verification.verify import paddlelite_finding


def under(limit, value, work):
    """Call `work` in a child process under a limit of its own (RLIMIT_*), and require that it returns True."""
    child = os.fork()
    if child == 0:  # the limit is this process's for good
        code = 1
        try:
            resource.setrlimit(limit, (value, value))
            code = 0 if work() else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_that_may_not_grow_names_the_limit(tmp_path):
    def grows():
        try:
            with open(str(tmp_path / "blob"), "wb", buffering=0) as out:
                out.write(bytes(4096))
                out.write(b"x")
        except OSError as error:
            found = explain_os_error(error, "the blob cannot be stored")
            return found.code == "limit" and "ulimit -f: 4096" in str(found)

    under(resource.RLIMIT_FSIZE, 4096, grows)


def test_a_program_that_cannot_be_started_names_the_limit():
    def starts():
        try:
            run_child([sys.executable, "-c", "pass"], b"", 10)
        except AgentError as error:
            return error.code == "limit" and "Too many open files (ulimit -n: 5)" in str(error)

    under(resource.RLIMIT_NOFILE, 5, starts)


def test_a_library_without_address_space_is_no_folder_without_exec():
    said = "/opt/rt/lite.so: failed to map segment from shared object"
    text = str(explain_unloadable("/opt/rt/lite.so", said))
    assert "noexec" in text
    assert paddlelite_finding("import", text, "importing").code == "LF315"

    def maps():
        text = str(explain_unloadable("/opt/rt/lite.so", said))
        found = paddlelite_finding("import", text, "importing")
        return (found.code, "noexec" in text) == ("LF514", False) and found.observed.endswith("(ulimit -v: 8589934592)")

    under(resource.RLIMIT_AS, 8 << 30, maps)


@pytest.mark.parametrize(("number", "option"), [(24, "-n"), (11, "-u"), (27, "-f")])
def test_other_limits(number, option):
    found = explain_os_error(OSError(number, os.strerror(number)), "the model cannot be run")
    assert found.code == "limit"
    assert f"ulimit {option}" in str(found)
    assert finding_of_error(found.code, str(found)).code == "LF514"


def test_an_error_of_the_disk_is_no_limit():
    assert explain_os_error(OSError(5, "Input/output error"), "x").code == "io-error"
