"""Reads ELF files within bounds: the machine, libraries and symbol versions that a binary needs.  Never loads it."""

from __future__ import annotations

import os
import struct

from ..errors import AgentError
from .files import open_regular
from .light import NamedTuple

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import BinaryIO, Dict, FrozenSet, List, Optional, Tuple, Union

MACHINES: Dict[int, str] = {
    3: "i686",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29
_DT_VERDEF, _DT_VERDEFNUM, _DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF

# Real binaries stay far below these limits; a hostile one must not cost time or memory with a large number.
_MAX_SEGMENTS = 256
_MAX_DYNAMIC = 4096
_MAX_ENTRIES = 4096
_MAX_STRINGS = 64 << 20
_MAX_NAME = 4096
_MAX_NOTES = 1 << 16

_MACH_O = (b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
_FAT = b"\xca\xfe\xba\xbe"  # several Mach-O files in one; Java's class files begin with the same four bytes
_BIONIC = frozenset(("liblog.so", "libandroid.so", "libm.so", "libdl.so"))  # musl has libc.so, but none of these


class ElfError(AgentError):
    """The bytes are not an ELF file, or one that contradicts itself."""

    code = "bad-elf"


class ForeignBinaryError(ElfError):
    """The bytes are another operating system's binary; `system` is "windows" or "macos"."""

    def __init__(self, text: str, system: str) -> None:
        super().__init__(text)
        self.system = system


class Elf(NamedTuple):
    """What the loader requires of a machine before it runs this file."""

    machine: str  # canonical: "x86_64", "i686", "aarch64", "armv7l", ...; "unknown-N" for other e_machine numbers
    bits: int  # 32 or 64
    needed: Tuple[str, ...]  # DT_NEEDED, in the file's order
    versions: FrozenSet[str]  # needed symbol versions: "GLIBC_2.27", "GLIBCXX_3.4.22"
    provides: FrozenSet[str]  # symbol versions that the file itself defines (libstdc++.so.6: "GLIBCXX_3.4.30")
    runpath: str  # DT_RUNPATH, or DT_RPATH where only that exists
    interpreter: str  # "/lib64/ld-linux-x86-64.so.2"; "" for a library or a static program
    soname: str = ""  # DT_SONAME
    page_align: int = 0  # the smallest alignment of its segments in memory, in bytes; 0: none is required
    page_fit: int = 0  # the largest page, in bytes, in which every segment lies in the file as in memory; 0: in any
    system: str = ""  # "linux" or "android", by the libc that it was linked with; "" when that is unknown


class _Source:
    """Bounds-checked random access to bytes or to an open file."""

    def __init__(self, data: Optional[bytes] = None, stream: Optional[BinaryIO] = None, size: int = 0) -> None:
        self._data = data
        self._stream = stream
        self.size = len(data) if data is not None else size

    def read(self, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes from `offset`.  Raises ElfError where the file does not hold them."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise ElfError(
                "The ELF file ends too early: it names %d bytes at offset %d of %d; it is truncated or damaged."
                % (count, offset, self.size)
            )
        if self._data is not None:
            return self._data[offset : offset + count]
        stream = self._stream
        assert stream is not None
        stream.seek(offset)
        chunk = stream.read(count)
        if len(chunk) != count:  # it was truncated while it was read
            raise ElfError("The ELF file became shorter while it was read; copy it again.")
        return chunk


class _Layout:
    """The word size and byte order of one file."""

    def __init__(self, ident: bytes) -> None:
        if ident[:4] != b"\x7fELF":
            _refuse_foreign(ident)
            raise ElfError("This is not an ELF file: it begins with %r." % ident[:4])
        if ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise ElfError("The ELF header has class %d and byte order %d, which do not exist." % (ident[4], ident[5]))
        self.bits = 64 if ident[4] == 2 else 32
        self.order = "<" if ident[5] == 1 else ">"

    def unpack(self, form: str, chunk: bytes) -> Tuple[int, ...]:
        """Read integers of this byte order; `W` stands for a machine word."""
        return struct.unpack(self.order + form.replace("W", "Q" if self.bits == 64 else "I"), chunk)

    def size(self, form: str) -> int:
        """Return how many bytes `form` takes."""
        return struct.calcsize(self.order + form.replace("W", "Q" if self.bits == 64 else "I"))


def _refuse_foreign(head: bytes) -> None:
    """Raise ForeignBinaryError for the first bytes of a Windows or macOS binary."""
    if head[:2] == b"MZ":
        raise ForeignBinaryError("This is a Windows library (PE), not a Linux one.", "windows")
    if head[:4] in _MACH_O or (head[:4] == _FAT and 0 < struct.unpack(">I", head[4:8])[0] < 20):
        raise ForeignBinaryError("This is a macOS library (Mach-O), not a Linux one.", "macos")


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int  # in the file
    align: int

    @property
    def apart(self) -> int:
        """Distance of its address from its offset in the file."""
        return abs(self.address - self.offset)


class _Strings:
    """The dynamic string table."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def at(self, index: int) -> str:
        """Return the text at `index`.  Raises ElfError outside the table or for one without an end."""
        if not 0 <= index < len(self._data):
            raise ElfError(
                "The ELF file names text at %d of a table of %d bytes; it is damaged." % (index, len(self._data))
            )
        end = self._data.find(b"\0", index, index + _MAX_NAME)
        if end < 0:
            raise ElfError("A name in the ELF file has no end; it is damaged.")
        return self._data[index:end].decode("utf-8", "replace")


def read_elf(source: Union[bytes, str, "os.PathLike[str]"]) -> Elf:
    """Describe an ELF file given as bytes or as a path.

    Raises:
        ElfError: It cannot be read, is no ELF file, or points outside of itself.
    """
    if isinstance(source, bytes):
        return _read(_Source(data=source))
    try:
        with open_regular(source) as stream:
            return _read(_Source(stream=stream, size=os.fstat(stream.fileno()).st_size))
    except (OSError, ValueError) as error:
        raise ElfError(
            "%s cannot be read: %s." % (os.fspath(source), getattr(error, "strerror", None) or error)
        ) from error


def machine_of(header: bytes) -> str:
    """Return the machine that the first 20 bytes of an ELF file name, as `Elf.machine`; "" when they are not of one."""
    if len(header) < 20 or header[:4] != b"\x7fELF" or header[5] not in (1, 2):
        return ""
    number = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return MACHINES.get(number, "unknown-%d" % number)


def _read(source: _Source) -> Elf:
    layout = _Layout(source.read(0, 16))
    machine = layout.unpack("H", source.read(18, 2))[0]
    segments = _segments(source, layout)
    _check_whole(source, segments)
    dynamic = _dynamic(source, layout, segments)
    strings = _strings(source, segments, dynamic)
    runpath = dynamic.get(_DT_RUNPATH) or dynamic.get(_DT_RPATH) or []
    needed = tuple(strings.at(index) for index in dynamic.get(_DT_NEEDED, []))
    versions = _versions_needed(source, layout, segments, dynamic, strings)
    interpreter = _interpreter(source, segments)
    return Elf(
        machine=MACHINES.get(machine, "unknown-%d" % machine),
        bits=layout.bits,
        needed=needed,
        versions=versions,
        provides=_versions_defined(source, layout, segments, dynamic, strings),
        runpath=strings.at(runpath[0]) if runpath else "",
        interpreter=interpreter,
        soname="".join(strings.at(index) for index in dynamic.get(_DT_SONAME, [])[:1]),
        page_align=min((s.align for s in segments if s.kind == _PT_LOAD and s.align > 1), default=0),
        page_fit=min((s.apart & -s.apart for s in segments if s.kind == _PT_LOAD and s.apart), default=0),
        system="android" if _has_android_note(source, layout, segments) else _system(needed, versions, interpreter),
    )


def _segments(source: _Source, layout: _Layout) -> List[_Segment]:
    header = "HHIWWWIHHH"
    fields = layout.unpack(header, source.read(16, layout.size(header)))
    start, entry_size, count = fields[4], fields[8], fields[9]
    form = "IIQQQQQQ" if layout.bits == 64 else "IIIIIIII"
    if count > _MAX_SEGMENTS or (count and entry_size != layout.size(form)):
        raise ElfError("The ELF file claims %d program headers of %d bytes; it is damaged." % (count, entry_size))
    found = []
    for number in range(count):
        values = layout.unpack(form, source.read(start + number * entry_size, entry_size))
        if layout.bits == 64:
            found.append(_Segment(values[0], values[2], values[3], values[5], values[7]))
        else:
            found.append(_Segment(values[0], values[1], values[2], values[4], values[7]))
    return found


def _check_whole(source: _Source, segments: List[_Segment]) -> None:
    """Raise ElfError where the file lacks a part of a segment; the loader does not check this and dies of SIGBUS."""
    end = max((s.offset + s.size for s in segments if s.kind == _PT_LOAD), default=0)
    if end > source.size:
        raise ElfError("The ELF file ends too early: it has %d of %d bytes; copy it again." % (source.size, end))


def _dynamic(source: _Source, layout: _Layout, segments: List[_Segment]) -> Dict[int, List[int]]:
    """Return the dynamic section's values by tag; empty for a static program."""
    values: Dict[int, List[int]] = {}
    step = layout.size("WW")
    for segment in segments:
        if segment.kind != _PT_DYNAMIC:
            continue
        count = min(segment.size // step, _MAX_DYNAMIC)
        table = source.read(segment.offset, count * step)
        for number in range(count):
            tag, value = layout.unpack("WW", table[number * step : (number + 1) * step])
            if tag == 0:
                break
            values.setdefault(tag, []).append(value)
        break
    return values


def _file_offset(segments: List[_Segment], address: int) -> int:
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
            return segment.offset + (address - segment.address)
    raise ElfError("The ELF file points at address %#x, which none of its segments holds; it is damaged." % address)


def _strings(source: _Source, segments: List[_Segment], dynamic: Dict[int, List[int]]) -> _Strings:
    if _DT_STRTAB not in dynamic:
        return _Strings(b"")
    size = dynamic.get(_DT_STRSZ, [0])[0]
    if size > _MAX_STRINGS:
        raise ElfError("The ELF file claims %d bytes of names; it is damaged." % size)
    return _Strings(source.read(_file_offset(segments, dynamic[_DT_STRTAB][0]), size))


def _versions_needed(
    source: _Source, layout: _Layout, segments: List[_Segment], dynamic: Dict[int, List[int]], strings: _Strings
) -> FrozenSet[str]:
    """Walk DT_VERNEED: one record a library, each with a chain of versions."""
    if _DT_VERNEED not in dynamic:
        return frozenset()
    names = set()
    offset = _file_offset(segments, dynamic[_DT_VERNEED][0])
    budget = _MAX_ENTRIES
    for _ in range(min(dynamic.get(_DT_VERNEEDNUM, [0])[0], _MAX_ENTRIES)):
        _, count, _, first, following = layout.unpack("HHIII", source.read(offset, 16))
        entry = offset + first
        for _ in range(count):
            budget -= 1
            if budget < 0:
                raise ElfError("The ELF file's list of symbol versions has no end; it is damaged.")
            _, _, _, name, next_entry = layout.unpack("IHHII", source.read(entry, 16))
            names.add(strings.at(name))
            if not next_entry:
                break
            entry += next_entry
        if not following:
            break
        offset += following
    return frozenset(names)


def _versions_defined(
    source: _Source, layout: _Layout, segments: List[_Segment], dynamic: Dict[int, List[int]], strings: _Strings
) -> FrozenSet[str]:
    """Walk DT_VERDEF: a record's first name is the version it defines, the others are its parents."""
    if _DT_VERDEF not in dynamic:
        return frozenset()
    names = set()
    offset = _file_offset(segments, dynamic[_DT_VERDEF][0])
    for _ in range(min(dynamic.get(_DT_VERDEFNUM, [0])[0], _MAX_ENTRIES)):
        _, flags, _, count, _, first, following = layout.unpack("HHHHIII", source.read(offset, 20))
        if count and not flags & 1:  # flag 1 marks the record that names the file itself
            names.add(strings.at(layout.unpack("I", source.read(offset + first, 4))[0]))
        if not following:
            break
        offset += following
    return frozenset(names)


def _interpreter(source: _Source, segments: List[_Segment]) -> str:
    for segment in segments:
        if segment.kind == _PT_INTERP:
            if segment.size > _MAX_NAME:
                raise ElfError("The ELF file's interpreter has a name of %d bytes; it is damaged." % segment.size)
            return source.read(segment.offset, segment.size).split(b"\0", 1)[0].decode("utf-8", "replace")
    return ""


def _has_android_note(source: _Source, layout: _Layout, segments: List[_Segment]) -> bool:
    """Whether the file has the note with the owner "Android" that the NDK's start files add."""
    for segment in segments:
        if segment.kind != _PT_NOTE or segment.size > _MAX_NOTES:
            continue
        notes = source.read(segment.offset, segment.size)
        offset = 0
        while offset + 12 <= len(notes):
            name, data, _ = layout.unpack("III", notes[offset : offset + 12])
            if notes[offset + 12 : offset + 12 + name] == b"Android\0":
                return True
            offset += 12 + (name + 3) // 4 * 4 + (data + 3) // 4 * 4
    return False


def _system(needed: Tuple[str, ...], versions: FrozenSet[str], interpreter: str) -> str:
    """Return the system by the libc that the file needs; "" when it needs none."""
    names = (interpreter.rpartition("/")[2],) + needed
    if any(name.startswith(("libc.so.6", "ld-linux", "ld-musl", "libc.musl")) for name in names):
        return "linux"
    if any(version.startswith("GLIBC_") for version in versions):
        return "linux"
    if "LIBC" in versions or ("libc.so" in needed and _BIONIC & frozenset(needed)):
        return "android"
    return ""
