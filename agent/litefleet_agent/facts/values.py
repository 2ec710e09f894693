"""The facts of one machine as values, and their JSON form.  Pure."""

from __future__ import annotations

from ..bytecode import sha256
from ..errors import AgentError
from ..formats.light import NamedTuple, dumps
from .arch import ARCHES

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

# A device describes itself in a few kilobytes; larger facts are a mistake or hostile.
MAX_TEXT = 4096  # the longest path
MAX_ITEMS = 512
MAX_NUMBER = 1 << 62


class FactsError(AgentError):
    """JSON that does not have the form of a device's facts."""

    code = "bad-facts"


class OsRelease(NamedTuple):
    """Three fields of /etc/os-release."""

    id: str = ""  # "debian"
    version: str = ""  # "12"
    pretty: str = ""  # "Debian GNU/Linux 12 (bookworm)"


class Cpu(NamedTuple):
    """The processor as the kernel describes it."""

    cores: int = 0  # that this process may use
    parts: Tuple[str, ...] = ()  # "Cortex-A72", "0x41:0xd99" where the name is unknown, or x86's model name
    features: Tuple[str, ...] = ()  # sorted; empty when the kernel does not report them
    cpuinfo_count: int = 0  # processors in /proc/cpuinfo (on ARM: lines "CPU part", which Paddle-Lite counts)
    sys_count: int = 0  # folders cpuN in /sys/devices/system/cpu


class Libc(NamedTuple):
    """The C library that the interpreter runs on."""

    kind: str = "unknown"  # "glibc", "musl" or "unknown"
    version: str = ""  # "2.36"


class PythonFacts(NamedTuple):
    """The interpreter that runs the agent."""

    executable: str = ""
    version: str = ""  # "3.10.13"
    implementation: str = ""  # "cpython"
    tag: str = ""  # "cp310", as in a wheel's name
    bits: int = 0


class Memory(NamedTuple):
    """Main memory in bytes, within a cgroup's limit; 0 = unknown."""

    total: int = 0
    available: int = 0


class Disk(NamedTuple):
    """The file system under the agent's root, in bytes; `total` 0 = unknown."""

    total: int = 0
    free: int = 0


class Package(NamedTuple):
    """A Python package that the interpreter would import; both empty when there is none."""

    version: str = ""  # "" with a path: present, of unknown version
    path: str = ""


class Brought(NamedTuple):
    """The Python that was brought, and the device's own C library; both empty for an interpreter of the device."""

    key: str = ""  # the first 32 digits of the archive's SHA-256
    own_libc: str = ""  # "glibc", "musl" or "none"; "" where the brought Python runs on it

    @property
    def brings_libc(self) -> bool:
        """Whether programs of that Python run on a C library that was brought with it."""
        return bool(self.own_libc)


class Facts(NamedTuple):
    """Everything that the checks use of a device."""

    machine: str = ""  # `uname -m`
    arch: str = ""  # the userland's canonical architecture; "" where Paddle-Lite has no CPU backend for it
    bits: int = 0  # of the userland
    kernel: str = ""
    hostname: str = ""
    os_release: OsRelease = OsRelease()
    cpu: Cpu = Cpu()
    libc: Libc = Libc()
    libstdcxx: str = ""  # the newest GLIBCXX version that libstdc++.so.6 defines: "3.4.30"
    libraries: Tuple[str, ...] = ()  # those of facts.libraries.WATCHED that exist here; empty = unknown
    python: PythonFacts = PythonFacts()
    other_pythons: Tuple[str, ...] = ()
    memory: Memory = Memory()
    disk: Disk = Disk()
    writable: bool = False  # whether the agent's root can be written or created
    noexec: bool = False  # whether the agent's root is on a file system that is mounted noexec
    opencl: str = ""  # path of the OpenCL library
    opencl_devices: Tuple[str, ...] = ()  # the GPU's device nodes: "/dev/mali0", "/dev/dri/renderD128"
    opencl_denied: Tuple[str, ...] = ()  # those of them that this user may not open
    page_size: int = 0  # of the kernel, in bytes; 0 = unknown
    paddlelite: Package = Package()
    numpy: Package = Package()
    uid: int = -1
    container: str = ""  # "docker", "podman", "lxc", ... ; "" = no sign of one
    model: str = ""  # the board or product: "Raspberry Pi 4 Model B Rev 1.4"
    brought: Brought = Brought()  # the Python that a controller brought, where that runs

    @property
    def libc_words(self) -> str:
        """The C library for people: "glibc 2.36", "glibc 2.36 (brought; the system has musl)"."""
        text = ("%s %s" % (self.libc.kind, self.libc.version)).strip()
        return "%s (brought; the system has %s)" % (text, self.brought.own_libc) if self.brought.own_libc else text

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        form: Dict[str, object] = json_form(self)
        return form

    @classmethod
    def from_dict(cls, data: object) -> "Facts":
        """Read the JSON form back; missing keys keep their empty values, unknown keys (a newer agent's) are ignored.

        An architecture without a Paddle-Lite backend is "", whatever the device calls it: `machine` keeps its name.
        Raises FactsError, whose text names the value, for one of a wrong type or size.
        """
        facts: Facts = _read(cls, data, "facts")
        return facts if facts.arch in ARCHES else facts._replace(arch="")


def fingerprint(facts: Facts) -> str:
    """Return the SHA-256 (hexadecimal) of the facts that decide whether an earlier verification still counts.

    Memory, disk, host name and the like may change without a new verification.
    """
    deciding = {
        "machine": facts.machine,
        "arch": facts.arch,
        "parts": sorted(facts.cpu.parts),
        "features": facts.cpu.features,
        "libc": [facts.libc.kind, facts.libc.version],
        "libstdcxx": facts.libstdcxx,
        "python": [facts.python.executable, facts.python.version, facts.python.implementation, facts.python.bits],
        "paddlelite": [facts.paddlelite.version, facts.paddlelite.path],
        "numpy": [facts.numpy.version, facts.numpy.path],
    }
    return sha256(dumps(deciding, ", ", ": ").encode("utf-8")).hexdigest()


def json_form(value: Any) -> Any:
    """Return the JSON form of facts, or of one of their values."""
    if hasattr(value, "_asdict"):
        return {name: json_form(item) for name, item in value._asdict().items()}
    return list(value) if isinstance(value, tuple) else value


def _read(cls: Any, data: object, where: str) -> Any:
    if not isinstance(data, dict):
        raise FactsError("%s: expected an object, got %s." % (where, _kind(data)))
    values: Dict[str, Any] = {}
    empty = cls()
    for name in cls._fields:
        if name in data:
            values[name] = _value(getattr(empty, name), data[name], where + "." + name)
    return cls(**values)


def _value(empty: object, value: object, where: str) -> object:
    """Return `value` if it has the type of the field's empty value, within bounds."""
    if hasattr(empty, "_fields"):
        return _read(type(empty), value, where)
    if isinstance(empty, tuple):
        if not isinstance(value, (list, tuple)) or len(value) > MAX_ITEMS:
            raise FactsError("%s: expected a list of at most %d texts, got %s." % (where, MAX_ITEMS, _kind(value)))
        return tuple(_value("", item, "%s[%d]" % (where, number)) for number, item in enumerate(value))
    if type(value) is not type(empty):  # exactly: True is not a number here
        raise FactsError("%s: expected %s, got %s." % (where, _kind(empty), _kind(value)))
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise FactsError("%s: a text of %d characters; at most %d are taken." % (where, len(value), MAX_TEXT))
    if type(value) is int and not -1 <= value <= MAX_NUMBER:
        raise FactsError("%s: the number is out of range." % where)
    return value


def _kind(value: object) -> str:
    names = {str: "a text", bool: "true or false", int: "a whole number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
