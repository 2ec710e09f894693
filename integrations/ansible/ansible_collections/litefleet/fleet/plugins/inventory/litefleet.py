"""Ansible inventory plugin: the devices of a litefleet project, grouped by what litefleet knows of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: litefleet
short_description: The devices of a litefleet project
description:
  - Reads a project's inventory and records with C(litefleet devices --json). No device is contacted.
  - Groups are the inventory's own, C(tag_NAME), C(arch_NAME), C(verdict_NAME), C(model_NAME) and C(drifted).
  - "C(verdict_NAME) holds devices with this verdict of at least one model: C(verified), C(failed), C(wrong) and others."
  - Each host has the variable C(litefleet), a list with one record for each model.
options:
  plugin:
    description: The name of this plugin.
    required: true
    choices: [litefleet.fleet.litefleet]
  config:
    description: The project's litefleet.yaml, relative to the inventory file's folder.
    type: path
    default: litefleet.yaml
  limit:
    description: Selects devices, as C(litefleet --limit) does.
    type: str
    default: ""
  executable:
    description: The litefleet program.
    type: str
    default: litefleet
extends_documentation_fragment:
  - constructed
author:
  - The litefleet authors (@litefleet)
"""

EXAMPLES = r"""
# fleet.litefleet.yml, beside litefleet.yaml
plugin: litefleet.fleet.litefleet
# more groups, by what litefleet knows: here by the CPU part
keyed_groups:
  - key: litefleet[0].part
    prefix: part
"""

import shlex
import subprocess
from pathlib import Path

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible_collections.litefleet.fleet.plugins.module_utils.litefleet import LitefleetFailed, read, words

_ENDINGS = ("litefleet.yml", "litefleet.ansible.yml", "litefleet.ansible.yaml")
_LONGEST_S = 120.0


class InventoryModule(BaseInventoryPlugin, Constructable):
    """The plugin; see DOCUMENTATION."""

    NAME = "litefleet.fleet.litefleet"

    def verify_file(self, path):
        """Return whether a file is this plugin's: its name ends in litefleet.yml, which the project's own file does not."""
        return super().verify_file(path) and path.endswith(_ENDINGS)

    def parse(self, inventory, loader, path, cache=True):
        """Read the records and fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        records = {}
        for record in self._devices(Path(path).resolve().parent):
            records.setdefault(record["device"], []).append(record)
        for name, found in records.items():
            self._add(name, found)

    def _devices(self, folder):
        options = {name: self.get_option(name) for name in ("config", "limit")}
        argv = [self.get_option("executable"), "devices", *words(options), "--json", "--login"]
        try:
            done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=_LONGEST_S)
            return read(done.returncode, done.stdout, done.stderr)["devices"]
        except OSError as error:
            raise AnsibleParserError(
                "{0} cannot be run: {1}. Install litefleet, or name the program with `executable:`.".format(
                    argv[0], error.strerror
                )
            ) from error
        except (LitefleetFailed, subprocess.TimeoutExpired) as error:
            raise AnsibleParserError(str(error)) from error

    def _add(self, name, records):
        first, login = records[0], records[0]["login"]
        self.inventory.add_host(name)
        values = {
            "ansible_host": first["host"],
            "ansible_port": login["port"],
            "ansible_user": login["user"],
            "ansible_ssh_private_key_file": login["key"],
            "ansible_python_interpreter": login["python"],
            "ansible_ssh_common_args": "-o " + shlex.quote("ProxyJump=" + login["jump"]) if login["jump"] else "",
        }
        for key, value in values.items():
            if value:
                self.inventory.set_variable(name, key, value)
        self.inventory.set_variable(name, "litefleet", [{k: v for k, v in r.items() if k != "login"} for r in records])
        groups = [*first["groups"], *("tag_" + tag for tag in first["tags"])]
        for record in records:
            groups += [kind + "_" + record[kind] for kind in ("arch", "verdict", "model") if record[kind]]
        if any(record["drift"] for record in records):
            groups.append("drifted")
        for group in dict.fromkeys(groups):
            self.inventory.add_child(self.inventory.add_group(self._sanitize_group_name(group)), name)
        self._constructed(name)

    def _constructed(self, name):
        variables, strict = self.inventory.get_host(name).get_vars(), self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)
