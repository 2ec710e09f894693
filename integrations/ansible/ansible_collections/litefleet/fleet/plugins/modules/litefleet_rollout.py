#!/usr/bin/python
"""Ansible module: roll models out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: litefleet_rollout
short_description: Roll Paddle-Lite models out to a fleet
description:
  - Delivers each device's file wave by wave, verifies it on the device, activates it under a lease, and confirms it.
  - A second run changes nothing, where every device runs its release.
  - In check mode it plans, and changes nothing.
  - Runs once for the whole fleet; use it on the control node.
  - Waves and gates are those of litefleet.yaml, not Ansible's C(serial).
options:
  supersede:
    description: Replace a rollout that is still open and differs.
    type: bool
    default: false
  wait_for_offline:
    description: Return only once every offline device has been reached, which may take days.
    type: bool
    default: false
extends_documentation_fragment:
  - litefleet.fleet.project
  - litefleet.fleet.project.models
attributes:
  check_mode:
    support: full
    description: It returns the plan.
  diff_mode:
    support: full
    description: Each device's release before and after.
seealso:
  - module: litefleet.fleet.litefleet_plan
"""

EXAMPLES = r"""
- name: Roll out from the control node
  hosts: localhost
  tasks:
    - litefleet.fleet.litefleet_rollout:
        chdir: /srv/fleet
        limit: tag:hall
      register: rolled_out

    - ansible.builtin.debug:
        msg: "{{ rolled_out.report.counts }}"
"""

RETURN = r"""
report:
  description: The JSON document of C(litefleet rollout --json).
  returned: when it is not check mode
  type: dict
  sample: {"counts": {"verified": 2}, "exit_code": 0, "devices": []}
plan:
  description: The JSON document of C(litefleet plan --json).
  returned: in check mode
  type: dict
waiting:
  description: Whether the rollout waits for a person's approval; C(litefleet approve) continues it.
  returned: when it is not check mode
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.litefleet.fleet.plugins.module_utils.litefleet import MODELS, OPTIONS, changes, release, run


def main():
    """Run the module."""
    own = {
        "supersede": {"type": "bool", "default": False},
        "wait_for_offline": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec={**OPTIONS, **MODELS, **own}, supports_check_mode=True)
    if module.check_mode:
        _code, plan = run(module, "plan")
        before, after = changes(plan)
        diff = {"before": before, "after": after}
        module.exit_json(changed=bool(plan["counts"].get("changes")), plan=plan, diff=diff)
    more = [
        word for name, word in (("supersede", "--supersede"), ("wait_for_offline", "--watch")) if module.params[name]
    ]
    code, report = run(module, "rollout", *more)
    rollout = report.get("rollout", {})
    new = [device for device in report["devices"] if device["activated"] and not device["unchanged"]]
    result = {
        "changed": bool(new),
        "report": report,
        "waiting": rollout.get("state") == "waiting",
        "diff": {
            "before": "",
            "after": "".join(
                "{0} {1}: {2}\n".format(d["device"], d["model"], release(d["release"], d["version"])) for d in new
            ),
        },
    }
    if code and not result["waiting"]:
        module.fail_json(msg=why(report), rc=code, **result)
    module.exit_json(**result)


def why(report):
    """Return why a rollout did not succeed: its own reason, and the first devices with theirs."""
    failed = [device for device in report["devices"] if device["verdict"] != "verified"]
    lines = ["{device} {model}: {verdict}: {sentence}".format(**device) for device in failed[:10]]
    if len(failed) > 10:
        lines.append("and {0} more".format(len(failed) - 10))
    return "\n".join([line for line in [report.get("rollout", {}).get("reason", "")] if line] + lines)


if __name__ == "__main__":
    main()
