"""Writes small ELF files for tests: one PT_LOAD over the whole file, PT_INTERP and PT_NOTE where asked for, PT_DYNAMIC."""

import struct


def build_elf(
    machine=62,
    bits=64,
    needed=(),
    versions=None,
    provides=(),
    runpath="",
    interpreter="",
    order="<",
    vernum=None,
    align=1,
    soname="",
    note=b"",
):
    """Return ELF bytes; `versions` maps a library to the symbol versions needed from it."""
    word = "Q" if bits == 64 else "I"
    head, entry = (64, 56) if bits == 64 else (52, 32)
    kinds = [1] + ([3] if interpreter else []) + ([4] if note else []) + [2]
    strings = bytearray(b"\0")

    def text(value):
        strings.extend(value.encode() + b"\0")
        return len(strings) - len(value.encode()) - 1

    tags = [(1, text(name)) for name in needed] + ([(29, text(runpath))] if runpath else [])
    tags += [(14, text(soname))] if soname else []
    need = b""
    libraries = list((versions or {}).items())
    for number, (library, names) in enumerate(libraries):
        chain = b"".join(
            struct.pack(order + "IHHII", 0, 0, 2, text(name), 16 if index + 1 < len(names) else 0)
            for index, name in enumerate(names)
        )
        following = 16 + len(chain) if number + 1 < len(libraries) else 0
        need += struct.pack(order + "HHIII", 1, len(names), text(library), 16, following) + chain
    define = b""
    for index, name in enumerate(provides):
        following = 28 if index + 1 < len(provides) else 0
        define += struct.pack(order + "HHHHIII", 1, 0, index + 2, 1, 0, 20, following)
        define += struct.pack(order + "II", text(name), 0)
    start = head + entry * len(kinds)
    blob, places = b"", {}
    for key, part in (
        ("interp", interpreter.encode() + b"\0"),
        ("str", bytes(strings)),
        ("need", need),
        ("def", define),
        ("note", note),
    ):
        places[key] = start + len(blob)
        blob += part
    tags += [(5, places["str"]), (10, len(strings))]
    tags += [(0x6FFFFFFE, places["need"]), (0x6FFFFFFF, len(libraries) if vernum is None else vernum)] if need else []
    tags += [(0x6FFFFFFC, places["def"]), (0x6FFFFFFD, len(provides))] if define else []
    dynamic = b"".join(struct.pack(order + word * 2, tag, value) for tag, value in [*tags, (0, 0)])
    total = start + len(blob) + len(dynamic)
    spans = {
        1: (0, total),
        3: (places["interp"], len(interpreter) + 1),
        2: (start + len(blob), len(dynamic)),
        4: (places["note"], len(note)),
    }
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    out = ident + struct.pack(
        order + "HHI" + word * 3 + "IHHHHHH", 3, machine, 1, 0, head, 0, 0, head, entry, len(kinds), 0, 0, 0
    )
    for kind in kinds:
        offset, size = spans[kind]
        if bits == 64:
            out += struct.pack(order + "IIQQQQQQ", kind, 4, offset, offset, offset, size, size, align)
        else:
            out += struct.pack(order + "IIIIIIII", kind, offset, offset, offset, size, size, 4, align)
    return out + blob + dynamic
