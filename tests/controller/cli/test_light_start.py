"""What a command loads decides how fast it starts: `status` of a project whose state is up to date loads what it shows with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from litefleet_controller.cli.main import _with_command, app
from litefleet_controller.state import State

NEEDLESS = (
    "PIL",
    "alembic",
    "asyncssh",
    "cryptography",
    "fabric",
    "jinja2",
    "litefleet_agent.protocol",
    "litefleet_controller.build",
    "litefleet_controller.devices.agent_client",
    "litefleet_controller.devices.deliver",
    "litefleet_controller.devices.delta",
    "litefleet_controller.devices.transport",
    "litefleet_controller.rollout_engine",
    "litefleet_inventory.foreign.ansible",
    "litefleet_inventory.foreign.ssh_config",
    "litefleet_inventory.foreign.tables",
    "numpy",
    "packaging",
    "paramiko",
    "psycopg",
    "sqlalchemy.orm",
    "uv",
)
NOT_TO_READ_A_ROLLOUT = (
    "asyncio",
    "sqlalchemy",
    "litefleet_controller.state.state",
)  # they take a third of the time of `status`
PROGRAM = """
import sys
from litefleet_controller.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["status", "--all"], ["history"], ["audit"]])
def test_a_command_that_reads_the_state_loads_no_more(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "litefleet.yaml").write_text("state: state.db\nmodels: {cls: {source: model}}\n")
    (tmp_path / "fleet.yaml").write_text("devices: {a: {host: h}}\n")
    State.open(tmp_path / "state.db").close()  # the schema is current from here on
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "LITEFLEET_LANG": "en"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 2), done.stderr[-500:]  # 2: there is no rollout
    loaded = set(done.stderr.splitlines()[-1].split())
    if words[0] == "status":
        assert "litefleet_controller.state.reader" in loaded
        assert sorted(loaded & set(NOT_TO_READ_A_ROLLOUT)) == []
    else:
        assert "litefleet_controller.state.state" in loaded
    assert sorted(loaded & set(NEEDLESS)) == []


def test_only_the_command_that_is_named_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.name for one in _with_command(["status", "--all"]).registered_commands] == ["status"]
    assert _with_command(["statu"]) is app
    assert _with_command(["--help"]) is app
    assert _with_command([]) is app
    monkeypatch.setenv("_LITEFLEET_COMPLETE", "complete_bash")
    assert _with_command(["status"]) is app


def test_plugins_for_pydantic_of_other_packages_are_not_looked_for() -> None:
    code = "import litefleet_controller.__main__\nfrom pydantic.plugin._loader import get_plugins\nprint(get_plugins())"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "()"  # where it looked, it returns a view of what it found
