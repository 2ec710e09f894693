"""Names the archive that the agent runs from: the link `agent/litefleet-agent.pyz` points to it; keeps its bytecode."""

from __future__ import annotations

import marshal
import os
import sys

from .. import ARCHIVE_ROOT
from ..bytecode import START_SUFFIX, BytecodeFinder, digest_of, read_bytecode, running, stamp_of
from ..facts.known import settled
from ..formats.files import sha256_of
from .atomic import write_atomic
from .lease import Clock

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Any, Iterable, Optional, Set, Tuple

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
    finder.forget_compiled()


def loaded_modules() -> Tuple[str, ...]:
    """Return the agent's modules that this process has loaded."""
    return tuple(name for name in sys.modules if name.partition(".")[0] == "litefleet_agent")


def kept_note() -> object:
    """Return the note that an earlier session kept with the code of the first answer, None where there is none."""
    finder = running()
    return finder.note if finder is not None else None


def keep_start(modules: Iterable[str], note: object) -> None:
    """Keep the code of `modules`, which a session's first answer needed, and a note, so that the next session starts with them.

    Does nothing where the file has them already, and where `keep_bytecode` does nothing.
    """
    finder = running()
    if finder is None or sys.dont_write_bytecode:
        return
    note = note or finder.note
    site = finder.site or _site_state(finder)
    if set(modules) <= set(finder.start) and (note, site) == (finder.note, finder.site):
        return
    try:
        _keep_start(finder, set(modules) | set(finder.start), (note, site))
    except OSError:
        pass


def _keep_start(finder: BytecodeFinder, names: Set[str], notes: Tuple[object, object]) -> None:
    boot = Clock().boot_id()
    stamp = stamp_of(finder.source)
    if boot and stamp and sha256_of(finder.source) == finder.sha256 and stamp == stamp_of(finder.source):
        code = {name: finder.code_of(name) for name in sorted(names)}
        content: Any = ((boot, *stamp), code, *notes)
        body = marshal.dumps(content)
        parts = [digest_of("start" + finder.sha256, body), body]
        write_atomic(finder.stem + START_SUFFIX, parts, durable=False)


def _site_state(finder: BytecodeFinder) -> Optional[Tuple[object, ...]]:
    """Return which interpreter has which `sys.path`, and the stamps of what decides that; None where that has just changed."""
    site = sys.modules.get("site")
    if site is None or not sys.flags.no_site:
        return None
    path = [folder for folder in sys.path if folder not in (finder.source, finder.archive)]
    home = os.path.dirname(sys.executable)
    behind = [sys.executable, os.path.join(home, "pyvenv.cfg"), os.path.join(os.path.dirname(home), "pyvenv.cfg")]
    behind += [
        getattr(sys.modules[name], "__file__", None) or ""
        for name in ("sitecustomize", "usercustomize")
        if name in sys.modules
    ]
    for folder in dict.fromkeys(site.getsitepackages() + path):
        behind.append(folder)
        if os.path.isdir(folder):
            behind += [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".pth")]
    files = tuple((name, stamp_of(name)) for name in behind)
    return ((sys.executable, sys.version), (path, sys.prefix, sys.exec_prefix), files) if settled(files) else None


def _keep(finder: BytecodeFinder) -> None:
    kept = read_bytecode(finder.path, finder.sha256)  # another process may have added to it
    new = {name: entry for name, entry in finder.compiled.items() if name not in kept}
    if new and sha256_of(finder.source) == finder.sha256:
        kept.update((name, (package, marshal.dumps(code))) for name, (package, code) in new.items())
        body = marshal.dumps(kept)
        write_atomic(
            finder.path, [digest_of(finder.sha256, body), body], durable=False
        )  # its hash shows one that is cut
