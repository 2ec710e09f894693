"""What a limit of the login forbids is told with the limit's name and value."""

import os
import resource

import pytest
from litefleet_agent.findings import finding_of_error
from litefleet_agent.releases.store import explain_os_error


def test_a_file_that_may_not_grow_names_the_limit(tmp_path):
    child = os.fork()
    if child == 0:  # the limit is this process's for good
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            try:
                with open(str(tmp_path / "blob"), "wb", buffering=0) as out:
                    out.write(bytes(4096))
                    out.write(b"x")
            except OSError as error:
                found = explain_os_error(error, "the blob cannot be stored")
                code = 0 if (found.code, "ulimit -f: 4096" in str(found)) == ("limit", True) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(("number", "option"), [(24, "-n"), (11, "-u"), (27, "-f")])
def test_other_limits(number, option):
    found = explain_os_error(OSError(number, os.strerror(number)), "the model cannot be run")
    assert found.code == "limit"
    assert f"ulimit {option}" in str(found)
    assert finding_of_error(found.code, str(found)).code == "LF514"


def test_an_error_of_the_disk_is_no_limit():
    assert explain_os_error(OSError(5, "Input/output error"), "x").code == "io-error"
