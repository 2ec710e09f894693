"""What the agent loads when it starts: on a small device, compiling it was most of a no-op job's cost."""

import os
import subprocess
import sys

import litefleet_agent


def loaded_by(module: str, code: str = "") -> set:
    """Return the names of all modules that a fresh interpreter has loaded after it imported `module` and ran `code`."""
    env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(litefleet_agent.__file__)))
    show = f"import sys, {module}\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-S", "-c", show], env=env, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_a_session_starts_without_what_only_a_proof_needs() -> None:
    loaded = loaded_by("litefleet_agent.session")
    assert {"litefleet_agent.releases.store", "litefleet_agent.facts"} <= loaded
    assert not loaded & {
        "argparse",
        "ctypes",
        "dataclasses",
        "inspect",
        "lzma",
        "platform",
        "shutil",
        "litefleet_agent.sandbox",
        "litefleet_agent.cli",
        "litefleet_agent.verification.release",
        "litefleet_agent.verification.verify",
        "litefleet_agent.formats.nb",
        "litefleet_agent.findings.model_file",
    }


def test_a_proof_that_ends_well_compiles_no_patterns_of_crash_logs() -> None:
    loaded = loaded_by("litefleet_agent.verification.release", "import litefleet_agent.verification.runner")
    assert "litefleet_agent.verification.child_process" in loaded
    assert not [name for name in loaded if name.startswith("litefleet_agent.findings.crashlog")]


def test_the_command_line_loads_a_commands_part_only_when_it_runs(tmp_path) -> None:
    ours = {name for name in loaded_by("litefleet_agent.cli") if name.startswith("litefleet_agent")}
    assert ours == {"litefleet_agent", "litefleet_agent.bytecode", "litefleet_agent.cli", "litefleet_agent.errors"}
    loaded = loaded_by("litefleet_agent.cli", f"litefleet_agent.cli.main(['recover', '--root', {str(tmp_path)!r}])")
    assert "litefleet_agent.releases.activation" in loaded
    assert not [name for name in loaded if name.startswith(("litefleet_agent.service", "litefleet_agent.verification"))]
