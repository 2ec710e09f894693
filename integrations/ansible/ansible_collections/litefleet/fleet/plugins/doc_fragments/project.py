"""The options that the modules of this collection share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that choose the project, its devices and the program."""

    DOCUMENTATION = r"""
options:
  config:
    description: The project's litefleet.yaml, on the host on which the module runs.
    type: path
    default: litefleet.yaml
  chdir:
    description: The folder in which litefleet runs. Paths in the other options are relative to it.
    type: path
  inventory:
    description: Inventory file or folder. The one in litefleet.yaml where it is not given.
    type: path
  limit:
    description: Selects devices by names, globs, ranges, groups, C(tag:NAME), C(!not), as C(litefleet --limit) does.
    type: str
    default: ""
  executable:
    description: The litefleet program. It may be in an environment of its own, such as one of pipx.
    type: str
    default: litefleet
requirements:
  - litefleet >= 0.1, on the host on which the module runs (the control node, with C(delegate_to) or C(connection) local)
author:
  - The litefleet authors (@litefleet)
"""

    MODELS = r"""
options:
  models:
    description: Only these models of litefleet.yaml. All of them where it is empty.
    type: list
    elements: str
    default: []
  accept_new_host_keys:
    description: Pin the host key of each device that has no pinned key yet.
    type: bool
    default: false
"""
