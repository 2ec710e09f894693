"""What the agent loads when it starts: on a small device, compiling it is most of a no-op job's cost."""

import os
import subprocess
import sys

import litefleet_agent

_SHOW = "import sys, litefleet_agent.session; print(*(m for m in sys.modules if m.startswith('litefleet_agent')))"


def test_a_session_starts_without_what_only_a_proof_needs() -> None:
    env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(litefleet_agent.__file__)))
    loaded = set(
        subprocess.run([sys.executable, "-c", _SHOW], env=env, stdout=subprocess.PIPE, check=True).stdout.split()
    )
    assert {b"litefleet_agent.releases.store", b"litefleet_agent.facts"} <= loaded
    assert not loaded & {
        b"litefleet_agent.verification.release",
        b"litefleet_agent.verification.verify",
        b"litefleet_agent.formats.nb",
        b"litefleet_agent.findings.model_file",
    }
