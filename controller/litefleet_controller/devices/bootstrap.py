"""How a bare device becomes an agent, within one exec channel.

The exec command is a short POSIX sh script: it finds a Python >= 3.7, which reads a loader from stdin.  The loader looks for
the agent's .pyz by hash, takes it from stdin where it is missing, and becomes the agent.  To a device without Python,
devices/bring.py brings one.  On stdin, in this order:

    lead | values, a line | loader | opening (the first frames, sent without waiting) | further frames

After the answer "need", the keeper and the .pyz come before the further frames: a device that has the agent gets neither.
After the answer "code", which may follow, comes the pack of bytecode that the keeper has offered (devices/code_packs.py).

On stdout, before any frame, two lines: `LFBOOT <nonce> sh` once sh runs, then `LFBOOT <nonce> have|need PYTHON MAGIC|
nopython ...|nomodule ...|fail ...`; what a login script prints before them is passed over.  The nonce keeps such output from
being mistaken for the lines.

The login shell only has to start `sh` with quoted words: csh and fish can, and a restricted shell may.
"""

from __future__ import annotations

import shlex
import zlib
from dataclasses import dataclass
from enum import StrEnum

from .python_bundle import MINE, SHARED

LINE_LIMIT = 64 * 1024  # bytes of login chatter that are passed over before the answer
STARTED_BY_SHELL = 97  # exit code of a shell that reads litefleet's input: see `lead`
# The device's own interpreters, in the order in which they are tried.
OWN_PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(13, 6, -1)), "python")

# Python 2 gets as far as the version check (exit code 78: try the next name; 126 and 127: it could not even be started, as
# with a version manager's shim).  One without ctypes, json or zlib, as small systems package it, cannot run the agent's checks;
# it is the last that is tried.  json is looked for and not loaded, which would take 7 ms.  Nothing behind the loader is
# swallowed: the lead is read byte by byte, up to the line with the nonce, then as many bytes as the loader has.
# No $, `, " or \\ in here: it stands in double quotes in a sh script.
_STAGE1 = """import sys;sys.version_info<(3,7) and sys.exit(78)
try:
 import zlib,_ctypes,_frozen_importlib as m
 if not m._find_spec('json',None): raise ImportError
except ImportError:
 sys.argv[1:] or sys.exit(78)
 try: import zlib
 except ImportError as e:
  sys.stdout.write(' '.join(['LFBOOT {nonce} nomodule zlib',sys.executable or '-',str(e),chr(10)]));sys.exit()
import os,io;sys.path[:]=[p for p in sys.path if p];f=io.FileIO(0,closefd=False);any(b'{nonce}' in l for l in f)
d=bytes()
while len(d)<{size}: p=f.read({size}-len(d));p or sys.exit(1);d+=p
v,z=d.split(bytes([10]),1);exec(v);exec(zlib.decompress(z))"""

# An interpreter that the inventory names is the only one that is tried.
_SCRIPT = (
    MINE
    + """echo "LFBOOT $4 sh"
r=127
run() {
"$@"
r=$?; case $r in 78|126|127) ;; *) exit $r;; esac
}
s="{stage1}"
own() {
a=$2
if [ -n "$1" ]; then set -- "$1"
else set -- {own}; fi
for p; do
command -v "$p" >/dev/null 2>&1 || continue
run "$p" -ESs -c "$s" $a
done
}
brought() {
case $1 in
'') set -- /var/lib/litefleet "${HOME:-}/.local/share/litefleet";;
'~/'*) set -- "${HOME:-}/${1#'~/'}";;
esac
for d in "${1:+$1/python}" "${2:+$2/python}" {shared}; do
k=; [ -r "$d/current" ] && read -r k <"$d/current"
case $k in ''|*[!0-9a-f]*) continue;; esac
[ -x "$d/$k/bin/python3" ] && mine "$d/$k/bin" && run "$d/$k/bin/python3" -ESs -c "$s"
done
}
[ "$2" = bring ] || own "$1"
[ -n "$1" ] || brought "$3"
[ "$2" != own ] || own "$1" any
l=unknown; for f in /lib/ld-musl-* ; do [ -e "$f" ] && l=musl; done
for f in /lib/ld-linux* /lib64/ld-linux* /lib/*/ld-linux*; do [ -e "$f" ] && l=glibc; done
o=; [ -r /etc/os-release ] && while IFS== read -r k v; do [ "$k" = ID ] && o=$v; done </etc/os-release
t=; for c in tar dd gzip xz sha256sum; do command -v $c >/dev/null 2>&1 && t=$t,$c; done
b=$(getconf LONG_BIT 2>/dev/null)
g=; [ -r /proc/self/smaps ] && while read -r k v u; do [ "$k" = KernelPageSize: ] && g=$v && break; done </proc/self/smaps
echo "LFBOOT $4 nopython machine=$(uname -m) bits=$b libc=$l os=$o kernel=$(uname -r) tools=${t#,} page=$g why=$r"
"""
)

# The line before the loader.  KEEPER (with its offer) and SIZE are the bytes of what comes after "need", OPENING those of the
# first frames.
_VALUES = "NONCE, SHA, KEEPER, SIZE, OPENING, ROOT, KEEP, GONE = "

# What each session compiles: it is short.  The code of the first answer, kept by an earlier session, is trusted as far as
# litefleet_agent/bytecode.py trusts bytecode, and the agent as far as the file system shows that nothing wrote to it since that
# session checked its hash; after a restart of the device the hash is checked again.
_LOADER = """
import gc, os, stat, sys
gc.disable()  # until the agent is loaded: what an import makes stays
def take(n):
    parts = []
    while n:
        part = os.read(0, min(n, 262144))
        if not part:
            sys.exit(1)
        parts.append(part)
        n -= len(part)
    return b"".join(parts)
def say(text):
    os.write(1, ("LFBOOT %s %s\\n" % (NONCE, text)).encode("ascii", "replace"))
def default_root():
    system = "/var/lib/litefleet"
    if os.access(system if os.path.isdir(system) else os.path.dirname(system), os.W_OK):
        return system
    return os.path.join(os.path.expanduser("~"), ".local", "share", "litefleet")
def digest(data):
    # hashlib loads OpenSSL, which takes longer than this hash does
    try:
        if sys.version_info < (3, 12):
            from _sha256 import sha256
        else:
            from _sha2 import sha256
    except ImportError:
        from hashlib import sha256
    return sha256(data)
def opened(path):
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
def foreign(path):
    # Whoever can write above the agent could exchange it between its check and its start, and the store with it.
    while True:
        try:
            found = os.stat(path)
        except OSError:
            found = None
        # 65534 owns what a container cannot name; a group is trusted when it is this user's own; 512 is a sticky folder's.
        if found and found.st_uid not in (0, os.geteuid(), 65534):
            return "%s belongs to the user number %d" % (path, found.st_uid)
        write = found.st_mode & (2 if found.st_gid in (0, os.getegid()) else 18) if found else 0
        if write and not found.st_mode & 512:
            return "%s can be changed by others (mode %o)" % (path, found.st_mode & 4095)
        if path == os.path.dirname(path):
            return ""
        path = os.path.dirname(path)
def ours(found):
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & 18
def kept(path):
    # Returns a descriptor of the agent and the code of its first answer, or None.
    name = "%s.%s.start.bytecode" % (path[:-4], sys.implementation.cache_tag)
    start, fd, boot = opened(name), opened(path), opened("/proc/sys/kernel/random/boot_id")
    try:
        found, now, data = os.fstat(start), os.fstat(fd), b""
        if stat.S_ISREG(found.st_mode) and ours(found) and ours(os.stat(os.path.dirname(path))) and found.st_size < 1 << 24:
            data = os.read(start, found.st_size)
        magic = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
        if stat.S_ISREG(now.st_mode) and digest(b"start" + SHA.encode() + magic + data[32:]).digest() == data[:32]:
            import marshal
            stamp, code, note, site = marshal.loads(data[32:])
            boot_id = os.read(boot, 64).decode("ascii", "replace").strip()
            if stamp == (boot_id, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino):
                return os.dup(fd), code, note, site
    except OSError:
        pass
    finally:
        for one in (start, fd, boot):
            if one >= 0:
                os.close(one)
def resume(root, path, opening, fd, code, note, site):
    global LITEFLEET_ARCHIVE
    LITEFLEET_ARCHIVE = path
    bytecode = sys.modules["litefleet_agent.bytecode"] = type(sys)("litefleet_agent.bytecode")
    exec(code["litefleet_agent.bytecode"][1], bytecode.__dict__)
    bytecode.use_start(path, "/proc/self/fd/%d" % fd, code, note, site)
    from litefleet_agent.session import serve
    gc.enable()
    say("have")
    done = serve(root, SHA, opening)
    if "atexit" in sys.modules or "threading" in sys.modules:
        sys.exit(done)
    # Nothing is to be done at the exit, and taking the interpreter down would cost a millisecond.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(done)
def start():
    os.umask(63)
    sys.dont_write_bytecode = not KEEP
    # Resolved once: the owner of a link on the way could point it elsewhere after the check.
    root = os.path.realpath(os.path.expanduser(ROOT) if ROOT else default_root())
    path = os.path.join(root, "agent", SHA + ".pyz")
    opening = take(OPENING)
    other = foreign(path)
    if other:
        return say("fail %s: others could exchange the agent; log in as its owner, or name another root: for it" % other)
    found = None if GONE else kept(path)
    if found:
        return resume(root, path, opening, *found)
    gc.enable()
    if sys.flags.no_site:  # a script in the interpreter's place may leave out the option
        from site import main
        main()
    exec(REST, globals())
    enter(root, path, opening)
"""

# What a session compiles where no code was kept.
_REST = """
import time
def is_whole(data):
    return digest(data).hexdigest() == SHA
def checked(path):
    # Returns a descriptor of the whole agent, or -1: from here on its name may lead to another file.
    fd = opened(path)
    if fd >= 0:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            with os.fdopen(fd, "rb", closefd=False) as f:
                if is_whole(f.read()):
                    return fd
        os.close(fd)
    return -1
def complete():
    # Modules that a rollout imports later, here or below what it imports: what lacks is told before anything is sent.
    for name in "dataclasses fcntl json mmap pathlib runpy selectors socket subprocess tempfile urllib zipfile zlib".split():
        finders = [f.find_spec for f in sys.meta_path if hasattr(f, "find_spec")]
        # A folder that was left behind without files is found too: it has no origin.
        if name not in sys.modules and not any(getattr(find(name, None), "origin", None) for find in finders):
            raise ImportError("No module named %r" % name, name=name)
def run(path, fd, root, opening, word):
    global LITEFLEET_ARCHIVE
    LITEFLEET_ARCHIVE = path
    opened = "/proc/self/fd/%d" % fd
    sys.path.insert(0, opened if os.path.isfile(opened) else path)
    import litefleet_agent
    if getattr(litefleet_agent, "ARCHIVE_ROOT", "") != path:  # an earlier agent, which starts its processes from __file__
        sys.path[0] = path
        del sys.modules["litefleet_agent"]
    from litefleet_agent.session import serve
    say(word)
    sys.exit(serve(root, SHA, opening))
def enter(root, path, opening):
    if GONE:
        import atexit, shutil
        atexit.register(shutil.rmtree, GONE, True)
    fd = checked(path)
    word = "have"
    if fd < 0:
        complete()
        tag, magic = sys.implementation.cache_tag or "-", sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
        say("need %s %s" % (tag, magic.hex()))
        began, keeper = time.monotonic(), take(KEEPER)
        exec(zlib.decompress(keeper[16:]), globals())
        path, fd = receive(root, path, int(keeper[:8]), began + int(keeper[8:16]) / 1e3, tag)
        word = "ready"
    if fd >= 0:
        run(path, fd, root, opening, word)
"""

_BEGIN = """
try:
    start()
except ImportError as error:  # small systems split the standard library into packages
    say("nomodule %s %s %s" % (error.name or "-", sys.executable or "-", error))
"""

# A pack has 0.6 to 1.1 times the bytes of the agent (CPython 3.10, 3.11).  Where the agent came within this time, in seconds and
# the round trip included, the pack comes within the same.  Most devices with Paddle-Lite are boards, whose Arm core compiles for
# more than that; a PC compiles for a quarter of it, and loses the rest once at most, behind a line of less than 15 Mbit/s.
FAST_S = 1.0

# Runs among the loader's names, on a device that lacks the agent.
_KEEPER = """
import errno
def keep(path, data, durable=True):
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o700, exist_ok=True)
    temp = os.path.join(folder, ".tmp-%s-%d" % (SHA, os.getpid()))
    try:
        with open(temp, "wb") as f:
            f.write(data)
            f.flush()
            if durable:
                os.fsync(f.fileno())
        os.replace(temp, path)
    except OSError:
        if os.path.exists(temp):
            os.unlink(temp)
        raise
def because(error):
    # A limit of the login is named; its own errors come from nothing else here.
    limits = {errno.EFBIG: ("RLIMIT_FSIZE", "-f"), errno.EMFILE: ("RLIMIT_NOFILE", "-n")}
    if error.errno not in limits:
        return "fail %s"
    import resource
    name, option = limits[error.errno]
    return "limit %%s (ulimit %s: %d)" % (option, resource.getrlimit(getattr(resource, name))[0])
def keep_code(path, pack):
    # It has a hash of its own, which the agent checks each time it reads the file; without one that fits, the agent compiles.
    try:
        keep(path, zlib.decompressobj().decompress(pack, 1 << 24), False)
    except (OSError, zlib.error):
        pass
def receive(root, path, offered, before, tag):
    # Returns where the agent lies from now on, and a descriptor of it; -1 after it was said why there is none.
    data = take(SIZE)
    if not is_whole(data):
        say("fail the agent arrived damaged")
        return "", -1
    # What is not to stay, as with a probe, is not worth its bytes.
    if not KEEP or time.monotonic() > before:
        offered = 0
    if offered:
        say("code")  # it is on its way while the agent is being stored
    try:
        if not KEEP:
            raise OSError(0, "nothing on this device is to change")
        keep(path, data)
    except OSError as error:
        # A full or read-only root, or a probe that changes nothing: the agent runs from a folder that goes with it.
        try:
            import atexit, shutil, tempfile
            folder = tempfile.mkdtemp(prefix="litefleet-")
            atexit.register(shutil.rmtree, folder, True)
            path = os.path.join(folder, SHA + ".pyz")
            keep(path, data)
        except OSError as last:
            error = error if error.errno else last
            text = "the agent could not be stored under %s: %s" % (root, error.strerror)
            take(offered)  # all that is on its way: the controller reads an answer when it has sent it
            say(because(error) % text)
            return "", -1
    fd, pack = checked(path), take(offered)
    if fd < 0:
        say("fail the agent was changed while it was being stored: %s" % path)
    elif pack:
        keep_code("%s.%s.bytecode" % (path[:-4], tag), pack)
    return path, fd
"""


def _bare(code: str) -> str:
    """Return code without its comments."""
    return "".join(line for line in code.splitlines(keepends=True) if not line.lstrip().startswith("#"))


def _packed(code: str) -> bytes:
    """Return what the device's zlib makes this code of, without its comments."""
    return zlib.compress(_bare(code).encode("utf-8"), 9)


LOADER = _packed(f"{_LOADER}REST = {_bare(_REST)!r}{_BEGIN}")
_KEEPER_CODE = _packed(_KEEPER)


def keeper(pack: int = 0, fast_s: float = FAST_S) -> bytes:
    """Return what a device that answers "need" gets ahead of the .pyz.

    It offers a pack of so many bytes, 0 for none, to a device that has the .pyz within `fast_s`.
    """
    return b"%08d%08d" % (pack, fast_s * 1e3) + _KEEPER_CODE


KEEPER = keeper()


@dataclass(frozen=True)
class Answer:
    """The bootstrap's line: `state` is sh, have, need, code, ready, nopython, nomodule, limit or fail; `text` what follows it."""

    state: str
    text: str

    @property
    def facts(self) -> dict[str, str]:
        """What sh reports of a device without Python: machine, bits, libc, os, kernel, tools, page (kB)."""
        pairs = (word.partition("=") for word in self.text.split())
        return {key: value[:80].strip("\"'") for key, equals, value in pairs if equals}


_ESCAPED = {ord(c): f"\\0{ord(c):03o}" for c in "\n!'\\"}


def in_any_shell(script: str, *words: str) -> str:
    """Return the exec command that runs a sh script with `words` as its arguments, whatever the login shell is.

    csh knows no line break and no exclamation mark in quotes, fish reads backslashes there, a restricted shell starts nothing
    by its path and knows no `exec`: these characters travel as printf's escapes, and sh is looked up.
    """
    return _run_coded(script.translate(_ESCAPED), *words)


def _run_coded(script: str, *words: str) -> str:
    """Do as `in_any_shell` with a script whose characters are escaped already."""
    run = 's=$1; shift; eval "$(printf %b "$s")"'
    return f"sh -c {' '.join(map(shlex.quote, (run, 'litefleet', script, *words)))}"


def lead(nonce: str) -> bytes:
    """Return what is sent ahead of the loader, and passed over up to its last line.

    A start-up file that reads a line or two takes these instead of the loader's; a shell that a start-up file has become
    (`exec zsh`) executes the first one and ends with STARTED_BY_SHELL.
    """
    return f"exit {STARTED_BY_SHELL}\n:\n:\n:\n: {nonce}\n".encode()


def loader(
    nonce: str, sha256: str, size: int, opening: int, root: str, keep: bool = True, temporary: str = ""
) -> bytes:
    """Return the lead, the values and the loader; `size` and `opening` are the bytes of the .pyz and of the frames sent ahead.

    Without `keep`, the agent is gone from the device when the session ends; so is the folder `temporary`.
    """
    values = (nonce, sha256, len(KEEPER), size, opening, root, keep, temporary)
    return lead(nonce) + f"{_VALUES}{', '.join(map(repr, values))}\n".encode() + LOADER


class Choice(StrEnum):
    """Which Pythons are tried, where the inventory names no path."""

    AUTO = "auto"  # the device's own with ctypes, then one that was brought
    BRING = "bring"  # one that was brought
    OWN = "own"  # as AUTO, and then one of the device's own that lacks ctypes


# The same for all sessions but for these two values, neither of which has a character to escape.
_CODED_SCRIPT = (
    _SCRIPT.replace("{stage1}", _STAGE1)
    .replace("{shared}", SHARED)
    .replace("{own}", " ".join(OWN_PYTHONS))
    .translate(_ESCAPED)
)


def command(nonce: str, loader_size: int, python: str = "", choice: Choice = Choice.OWN, root: str = "") -> str:
    """Return the exec command; `loader_size` is what `loader` returned, in bytes.

    `python` is the device's interpreter and `root` the agent's root as the inventory names them.
    """
    script = _CODED_SCRIPT.replace("{size}", str(loader_size - len(lead(nonce)))).replace("{nonce}", nonce)
    return _run_coded(script, python, choice.value, root, nonce)


def parse_answer(line: bytes, nonce: str) -> Answer | None:
    """Return the bootstrap's answer in a line of output, or None when the line is something else."""
    words = line.decode("utf-8", "replace").strip().split(" ", 3)
    if len(words) < 3 or words[0] != "LFBOOT" or words[1] != nonce:
        return None
    return Answer(words[2], words[3] if len(words) > 3 else "")
