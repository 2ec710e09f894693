"""Names the archive that the agent runs from: the link `agent/litefleet-agent.pyz` points to it; keeps its bytecode."""

import marshal
import os
import sys

from .. import ARCHIVE_ROOT
from ..bytecode import BytecodeFinder, digest_of, read_bytecode, running
from ..formats.files import sha256_of
from .atomic import write_atomic

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


def keep_bytecode() -> None:
    """Keep what this process has compiled, so that the next start of this agent by this interpreter need not compile it.

    Does nothing where nothing was compiled, where the archive is not named by its SHA-256 or was changed, and where the folder
    cannot be written: the agent then compiles at each start.
    """
    finder = running()
    if finder is None or not finder.compiled or sys.dont_write_bytecode:
        return
    try:
        _keep(finder)
    except OSError:
        pass
    finder.compiled.clear()


def _keep(finder: BytecodeFinder) -> None:
    kept = read_bytecode(finder.path, finder.sha256)  # another process may have added to it
    new = {name: entry for name, entry in finder.compiled.items() if name not in kept}
    if new and sha256_of(finder.source) == finder.sha256:
        kept.update((name, (package, marshal.dumps(code))) for name, (package, code) in new.items())
        body = marshal.dumps(kept)
        write_atomic(
            finder.path, [digest_of(finder.sha256, body), body], durable=False
        )  # its hash shows one that is cut
