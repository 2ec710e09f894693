"""Names the archive that the agent runs from: the link `agent/litefleet-agent.pyz` points to it."""

import os

from .. import ARCHIVE_ROOT

__all__ = ["NAME", "name_archive", "version"]

NAME = "litefleet-agent.pyz"


def name_archive(root: str, archive: str = ARCHIVE_ROOT) -> None:
    """Make `agent/litefleet-agent.pyz` a link to `archive`, if that is a .pyz in the root's folder `agent`.

    When the link cannot be written, it stays as it is: a session works without it.
    """
    folder, name = os.path.split(os.path.abspath(archive))
    if not name.endswith(".pyz") or os.path.realpath(folder) != os.path.realpath(os.path.join(root, "agent")):
        return
    link = os.path.join(folder, NAME)
    temp = os.path.join(folder, ".tmp-%s-%d" % (NAME, os.getpid()))
    try:
        if name == NAME or (os.path.islink(link) and os.readlink(link) == name):
            return
        os.symlink(name, temp)
        os.replace(temp, link)
    except OSError:
        if os.path.lexists(temp):
            os.unlink(temp)


def version(archive: str = ARCHIVE_ROOT) -> str:
    """Return the SHA-256 that names the running archive; "" when the agent runs from a folder or under another name."""
    name = os.path.basename(os.path.realpath(archive))
    return name[: -len(".pyz")] if name.endswith(".pyz") and len(name) == 64 + len(".pyz") else ""
