"""Runs the `litefleet` command for the modules and the inventory plugin of this collection, and reads its JSON."""

from __future__ import annotations

import json

OPTIONS = {
    "config": {"type": "path", "default": "litefleet.yaml"},
    "chdir": {"type": "path"},
    "inventory": {"type": "path"},
    "limit": {"type": "str", "default": ""},
    "executable": {"type": "str", "default": "litefleet"},
}
MODELS = {
    "models": {"type": "list", "elements": "str", "default": []},
    "accept_new_host_keys": {"type": "bool", "default": False},
}


class LitefleetFailed(Exception):
    """The command ended without a JSON document; the text is what it said."""


def words(options):
    """Return the options that every command has, as words of a command line."""
    found = ["-c", options["config"]]
    if options.get("inventory"):
        found += ["-i", options["inventory"]]
    if options.get("limit"):
        found += ["--limit", options["limit"]]
    for model in options.get("models") or []:
        found += ["-m", model]
    if options.get("accept_new_host_keys"):
        found.append("--accept-new-host-keys")
    return found


def read(code, out, err):
    """Return the JSON document that a command wrote; LitefleetFailed where it wrote none."""
    try:
        document = json.loads(out)
    except ValueError:
        raise LitefleetFailed(err.strip() or "litefleet ended with code {0} and wrote nothing".format(code)) from None
    if not isinstance(document, dict) or "error" in document:
        said = document.get("error") if isinstance(document, dict) else document
        raise LitefleetFailed(err.strip() or str(said))
    return document


def run(module, command, *more):
    """Run a command of litefleet with --json for a module; return (exit code, document).  Ends the module on failure."""
    argv = [module.params["executable"], command, *words(module.params), "--json", *more]
    code, out, err = module.run_command(argv, cwd=module.params["chdir"])
    try:
        return code, read(code, out, err)
    except LitefleetFailed as failed:
        module.fail_json(msg=str(failed), rc=code, cmd=argv)
        raise


def changes(plan):
    """Return (before, after) texts of a plan for Ansible's --diff: a line for each model on each device that would change."""
    before, after = [], []
    for device in plan["devices"]:
        if device["what"] == "changes":
            name = "{device} {model}: ".format(**device)
            before.append(name + release(device["runs"], device["runs_version"]))
            after.append(name + release(device["release"], device["version"]))
    return "\n".join([*before, ""]), "\n".join([*after, ""])


def release(name, version):
    """Return a release for people: its version and the first digits of its ID."""
    digits = name[:12]
    return "{0} ({1})".format(version, digits) if version else digits or "nothing"
