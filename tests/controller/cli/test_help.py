"""`litefleet --help`: every command in a section, each with its whole sentence, and nothing slow is loaded for it."""

import os
import subprocess
import sys

import pytest
from litefleet_controller.cli.common import app
from litefleet_controller.cli.help import OTHER, SECTIONS
from typer.testing import CliRunner


def test_every_command_stands_in_one_section():
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert OTHER not in shown, shown
    names = [name for section in SECTIONS.values() for name in section]
    assert len(names) == len(set(names))
    for command in app.registered_commands:
        assert command.callback.__name__.replace("_", "-") in names or command.name in names


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_sentence_is_cut(columns):
    shown = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, ["--help"], terminal_width=columns).stdout
    words = "".join(shown.split())
    for command in app.registered_commands:
        sentence = "".join(command.callback.__doc__.split("\n\n")[0].split())
        assert sentence in words


def test_help_loads_no_library_that_only_commands_need():
    code = (
        "import sys; from litefleet_controller.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncio', 'asyncssh', 'pydantic', 'rich.markdown', 'sqlalchemy', 'numpy', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
