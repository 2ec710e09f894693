"""Reads the inventories of other tools: Ansible, ssh_config, CSV, NetBox.  Each becomes text in litefleet's own form."""

from .read import KINDS, Converted, convert, guess_kind, is_script

__all__ = ["KINDS", "Converted", "convert", "guess_kind", "is_script"]
