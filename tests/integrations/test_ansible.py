"""The Ansible collection under the real ansible-core: its modules, its inventory plugin and their documentation, on a fleet."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project, _shared_cache, fleet, project
from tests.e2e.rollout_helpers import current, environment

__all__ = ["_shared_cache", "fleet", "project"]  # fixtures

COLLECTIONS = Path(__file__).parents[2] / "integrations" / "ansible"
BIN = Path(sys.executable).parent
PLAYBOOK = """\
- hosts: localhost
  gather_facts: false
  module_defaults: {group/litefleet.fleet.litefleet: {chdir: FOLDER}}
  tasks:
    - litefleet.fleet.litefleet_plan:
      register: planned
    - litefleet.fleet.litefleet_rollout:
      check_mode: true
      register: checked
    - litefleet.fleet.litefleet_rollout:
      register: first
    - litefleet.fleet.litefleet_rollout: {limit: a}
      register: again
    - litefleet.fleet.litefleet_devices_info:
      register: fleet
    - ansible.builtin.copy:
        dest: FOLDER/result.json
        content: "{{ {'planned': planned, 'checked': checked, 'first': first, 'again': again, 'fleet': fleet} | to_json }}"
"""


def ansible(folder: Path, program: str, *words: str, code: int = 0) -> str:
    own = {
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(folder / "ansible"),
    }
    env = {
        **environment(),
        **own,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    env["ANSIBLE_LOCALHOST_WARNING"] = env["ANSIBLE_INVENTORY_UNPARSED_WARNING"] = "false"
    argv = [str(BIN / program), *words]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + (done.stderr if code else "")


def play(folder: Path, code: int = 0) -> str:
    (folder / "play.yml").write_text(PLAYBOOK.replace("FOLDER", str(folder)))
    return ansible(folder, "ansible-playbook", "play.yml", "--diff", code=code)


@pytest.mark.timeout(600)
async def test_check_roll_out_and_list(fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        entries = {name: dict(device.inventory_entry()) for name, device in devices.devices.items()}
        entries["a"]["tags"] = ["bench-1"]
        job.inventory(yaml.safe_dump({"devices": entries, "groups": {"hall": {"devices": ["a", "b"]}}}))

        said = await asyncio.to_thread(play, job.folder)
        assert "+a cls: " in said  # --diff
        result = json.loads((job.folder / "result.json").read_text())
        assert (result["planned"]["would_change"], result["planned"]["changed"]) == (True, False)
        assert (result["checked"]["changed"], result["checked"]["plan"]["counts"]) == (True, {"changes": 2})
        assert result["checked"]["diff"]["before"] == "a cls: nothing\nb cls: nothing\n"
        # It was all left to the run after the check.
        assert (result["first"]["changed"], result["first"]["report"]["counts"]) == (True, {"verified": 2})
        assert not any(device["unchanged"] for device in result["first"]["report"]["devices"])
        assert "" not in current(devices).values()
        assert not result["again"]["changed"]
        listed = [(d["device"], d["verdict"]) for d in result["fleet"]["devices"]]
        assert listed == [("a", "verified"), ("b", "verified")]

        (job.folder / "fleet.litefleet.yml").write_text(
            "plugin: litefleet.fleet.litefleet\nkeyed_groups: [{key: 'litefleet[0].state', prefix: state}]\n"
        )
        listed = await asyncio.to_thread(
            ansible, job.folder, "ansible-inventory", "-i", "fleet.litefleet.yml", "--list"
        )
        found = json.loads(listed)
        hosts = {name: group["hosts"] for name, group in found.items() if "hosts" in group}
        arch = f"arch_{os.uname().machine}"
        assert hosts.items() >= {"tag_bench_1": ["a"], "hall": ["a", "b"], arch: ["a", "b"]}.items()
        assert hosts["verdict_verified"] == hosts["state_confirmed"] == ["a", "b"]
        variables = found["_meta"]["hostvars"]["a"]
        assert variables["ansible_port"] == devices.devices["a"].port
        assert current(devices)["a"] in str(variables["litefleet"][0]["release"])  # some versions mark it as unsafe

        over_ssh = ("-m", "ansible.builtin.raw", "-a", "echo here", "--ssh-common-args=-o StrictHostKeyChecking=no")
        said = await asyncio.to_thread(
            ansible, job.folder, "ansible", "tag_bench_1", "-i", "fleet.litefleet.yml", *over_ssh
        )
        assert said.count("here") == 1


def test_a_mistake_is_one_sentence(tmp_path: Path) -> None:
    said = play(tmp_path, code=2)
    assert "litefleet.yaml" in said
    assert "Traceback" not in said
    (tmp_path / "x.litefleet.yml").write_text("plugin: litefleet.fleet.litefleet\nexecutable: /none\n")
    argv = ("-i", "x.litefleet.yml", "--list")
    env_said = ansible_fails(tmp_path, *argv)
    assert "Install litefleet, or name the program with `executable:`" in env_said


def ansible_fails(folder: Path, *words: str) -> str:
    os.environ["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "true"
    try:
        return ansible(folder, "ansible-inventory", *words, code=1)
    finally:
        del os.environ["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"]


@pytest.mark.parametrize("kind", ["module", "inventory"])
def test_what_ansible_doc_shows(kind: str, tmp_path: Path) -> None:
    names = ["rollout", "plan", "devices_info"] if kind == "module" else [""]
    full = [f"litefleet.fleet.litefleet_{name}" if name else "litefleet.fleet.litefleet" for name in names]
    shown = json.loads(ansible(tmp_path, "ansible-doc", "-t", kind, "--json", *full))
    assert sorted(shown) == sorted(full)
    for page in shown.values():
        assert {"config", "limit", "executable"} <= set(page["doc"]["options"])
        assert page["examples"].strip()


def test_the_collection_builds_and_installs(tmp_path: Path) -> None:
    source = COLLECTIONS / "ansible_collections" / "litefleet" / "fleet"
    ansible(tmp_path, "ansible-galaxy", "collection", "build", str(source), "--output-path", str(tmp_path))
    built = tmp_path / "litefleet-fleet-0.1.0.tar.gz"
    ansible(tmp_path, "ansible-galaxy", "collection", "install", "--force", str(built), "-p", str(tmp_path / "there"))
    module = "plugins/modules/litefleet_rollout.py"
    installed = tmp_path / "there" / "ansible_collections" / "litefleet" / "fleet"
    assert (installed / module).read_bytes() == (source / module).read_bytes()
