#!/usr/bin/python
"""Ansible module: what litefleet knows of the devices."""

from __future__ import annotations

DOCUMENTATION = r"""
module: litefleet_devices_info
short_description: Return what runs on each device of a litefleet fleet
description:
  - Returns each device's release, verdict, drift and last contact from litefleet's records. No device is contacted.
extends_documentation_fragment:
  - litefleet.fleet.project
attributes:
  check_mode:
    support: full
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: Name the devices that failed
  hosts: localhost
  tasks:
    - litefleet.fleet.litefleet_devices_info:
        chdir: /srv/fleet
      register: fleet

    - ansible.builtin.debug:
        msg: "{{ fleet.devices | rejectattr('verdict', 'in', ['verified', '']) | map(attribute='device') | unique }}"
"""

RETURN = r"""
devices:
  description: One entry for each model on each device, as C(litefleet devices --json) has them.
  returned: success
  type: list
  elements: dict
  sample: [{"device": "cam-01", "model": "cls", "version": "1.4", "verdict": "verified"}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.litefleet.fleet.plugins.module_utils.litefleet import OPTIONS, run


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    _code, document = run(module, "devices")
    module.exit_json(changed=False, devices=document["devices"])


if __name__ == "__main__":
    main()
