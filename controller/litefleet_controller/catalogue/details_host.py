"""Details: the operator's machine."""

from __future__ import annotations

from collections.abc import Mapping

from litefleet_agent.findings import Certainty

from .entry import Details, Where

_HERE = (Where.HOST,)

HOST: Mapping[str, Details] = {
    "LF701": Details(
        "litefleet reads the system's name and architecture; the published wheels of the converter and of PaddlePaddle are for x86_64 Linux.",
        _HERE,
        "This machine is Darwin on arm64; the converter's wheels are for Linux on x86_64.",
        (
            "Run litefleet on an x86_64 Linux machine, in a virtual machine, or in CI.",
            "Or use files that were made elsewhere: `models.NAME.nb: {aarch64: FILE}` and `models.NAME.golden: {files: [a.npz, b.npz]}`.",
        ),
        ("ERROR: No matching distribution found for paddlelite",),
        ("PaddlePaddle/Paddle-Lite#5611: no wheel for this system and Python",),
    ),
    "LF702": Details(
        "For each configured version, litefleet searches for a CPython that fits its wheel, then for uv; it builds nothing for this check.",
        _HERE,
        "Paddle-Lite 2.13rc0 is not made yet, and the uv program that would make it is missing.",
        (
            "Install uv's own CPython: `uv python install 3.10`.",
            "Behind a proxy, name the package index: `export UV_INDEX_URL=https://...`.",
            "Check again: `litefleet doctor`.",
        ),
        ("ERROR: Could not find a version that satisfies the requirement paddlelite",),
        ("PaddlePaddle/Paddle-Lite#10458: which version is published for which Python",),
    ),
    "LF703": Details(
        "The converter's environment does not exist in the cache folder yet.",
        _HERE,
        "Paddle-Lite 2.13rc0 is not made yet; /usr/bin/python3.10 can make it.",
        ("Nothing to do: `litefleet convert` makes it.",),
    ),
    "LF704": Details(
        "litefleet checks the permissions and free space of the cache and store folders; it writes nothing.",
        _HERE,
        "The cache folder /home/me/.cache/litefleet has 90 MB free; about 760 MB are needed (LITEFLEET_CACHE).",
        (
            "Check: `df -h ~/.cache/litefleet; ls -ld ~/.cache/litefleet`.",
            "Use another folder: `export LITEFLEET_CACHE=/data/litefleet`.",
            "You can delete old environments: litefleet makes them again when it needs them.",
        ),
        ("No space left on device", "Permission denied"),
    ),
    "LF705": Details(
        "litefleet opens each key file that the inventory names: the file must exist, be readable, be private to you, and need no passphrase prompt.",
        _HERE,
        "The key keys/fleet (for cam-01 and 11 more) is protected by a passphrase. The SSH agent holds it: leave `key:` out.",
        (
            "Make the key private: `chmod 600 keys/fleet`.",
            "With a passphrase: run `ssh-add keys/fleet` before litefleet, and remove `key:` from the inventory.",
            "Check again: `litefleet doctor`.",
        ),
        (
            "WARNING: UNPROTECTED PRIVATE KEY FILE!",
            "Load key: incorrect passphrase supplied to decrypt private key",
            "Permission denied (publickey).",
        ),
        sure=(Certainty.CERTAIN, Certainty.POSSIBLE),
    ),
    "LF706": Details(
        "The inventory names no key, ~/.ssh holds none of the usual names, and no SSH agent answers at SSH_AUTH_SOCK.",
        _HERE,
        "/home/me/.ssh holds no default key, and no SSH agent answers (SSH_AUTH_SOCK is not set).",
        (
            "Make a key: `ssh-keygen -t ed25519`.",
            "Copy it to a device: `ssh-copy-id USER@HOST`.",
            "Or name a key in the inventory: `key: keys/fleet`.",
        ),
        ("Permission denied (publickey).", "Could not open a connection to your authentication agent."),
    ),
    "LF707": Details(
        "litefleet reads the known-hosts file line by line, as OpenSSH does.",
        _HERE,
        "~/.ssh/known_hosts, line 12 is no host key.",
        (
            "Show the line: `sed -n 12p ~/.ssh/known_hosts`; remove it: `ssh-keygen -R HOST`.",
            "Pin new devices after comparing fingerprints: `litefleet probe --accept-new-host-keys`.",
        ),
        ("Host key verification failed.", "known_hosts:12: parse error"),
    ),
    "LF708": Details(
        "litefleet reads litefleet.yaml and the inventory as every command does, and reports each mistake with its line.",
        _HERE,
        "litefleet.yaml:5: unknown key 'modles'; did you mean 'models'?",
        ("Correct the reported line.", "Check again: `litefleet doctor`."),
        sure=(Certainty.CERTAIN, Certainty.POSSIBLE),
    ),
    "LF709": Details(
        "litefleet searches PATH for the programs that it calls, and checks their versions.",
        _HERE,
        "litefleet.yaml has `signing:`, and there is no ssh-keygen on PATH: install OpenSSH's client, 8.2 or later.",
        (
            "Install it: `sudo apt-get install openssh-client` for ssh-keygen.",
            "Or remove the setting that needs it: without `signing:`, litefleet makes no signatures.",
        ),
        ("ssh-keygen: command not found",),
    ),
    "LF710": Details(
        "litefleet compares the versions of the installed packages with the versions that it requires.",
        _HERE,
        "The Python package pydantic is 2.5.3; litefleet needs 2.7 or later.",
        (
            "Install litefleet into a separate environment: `python3 -m venv .venv && .venv/bin/pip install .`",
            "Check again: `litefleet doctor`.",
        ),
        ("ModuleNotFoundError", "ImportError: cannot import name"),
    ),
}
