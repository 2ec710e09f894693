#!/usr/bin/python
"""Ansible module: what a rollout would do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: litefleet_plan
short_description: Show what a litefleet rollout would do
description:
  - Probes the devices and returns the plan of a rollout. Nothing on a device changes.
  - Runs once for the whole fleet; use it on the control node.
options:
  offline:
    description: Plan by what the devices reported last, and contact none of them.
    type: bool
    default: false
extends_documentation_fragment:
  - litefleet.fleet.project
  - litefleet.fleet.project.models
attributes:
  check_mode:
    support: full
    description: It changes nothing.
seealso:
  - module: litefleet.fleet.litefleet_rollout
"""

EXAMPLES = r"""
- name: Look at the next rollout
  hosts: localhost
  tasks:
    - litefleet.fleet.litefleet_plan:
        chdir: /srv/fleet
      register: planned

    - ansible.builtin.debug:
        msg: "{{ planned.plan.counts }}"
"""

RETURN = r"""
plan:
  description: The JSON document of C(litefleet plan --json).
  returned: success
  type: dict
  sample: {"counts": {"changes": 2}, "waves": [], "devices": []}
would_change:
  description: Whether a rollout would change a device that answers.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.litefleet.fleet.plugins.module_utils.litefleet import MODELS, OPTIONS, changes, run


def main():
    """Run the module."""
    own = {"offline": {"type": "bool", "default": False}}
    module = AnsibleModule(argument_spec={**OPTIONS, **MODELS, **own}, supports_check_mode=True)
    _code, plan = run(module, "plan", *(["--offline"] if module.params["offline"] else []))
    before, after = changes(plan)
    would_change = bool(plan["counts"].get("changes"))
    module.exit_json(changed=False, plan=plan, would_change=would_change, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
