"""What runtime fits which device: wheel tags, glibc, ELF headers, and the sentence that says what would."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.facts.arch import arch_of
from litefleet_agent.findings import Finding, finding

from ...config.choices import RuntimeChoice


@dataclass(frozen=True)
class DeviceKind:
    """What decides which binaries a device can load, e.g. ("aarch64", "cp39", "glibc", "2.31")."""

    arch: str
    python_tag: str
    libc_kind: str
    libc_version: str


__all__ = [
    "PUBLISHED",
    "platform_arch",
    "platform_of",
    "python_fits",
    "refusal_of_device",
    "refusal_of_elf",
    "refusal_of_wheel",
    "sentence_of_resolver",
]

# What the package index holds for x86_64 Linux, for the sentence only: the resolver decides.
PUBLISHED = {"2.13rc0": ("3.8", "3.10"), "2.12": ("3.7",), "2.10": ("3.9",)}

_E_MACHINE = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64", 8: "mips", 21: "ppc64"}
# The glibc levels that uv knows a platform for.
_LEVELS = ((2, 17), (2, 28), *((2, minor) for minor in range(31, 41)))


def _version(text: str) -> tuple[int, ...]:
    """Return (2, 31) for '2.31' and for '2.31-13+deb11'."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else ()


def _python(tag: str) -> str:
    """Return '3.10' for 'cp310'."""
    digits = tag.removeprefix("cp")
    return f"{digits[:1]}.{digits[1:]}" if digits[1:].isdigit() else tag or "unknown"


def platform_of(device: DeviceKind) -> str | None:
    """Return uv's --python-platform for the device, or None where uv has none (32-bit, glibc before 2.17)."""
    if device.arch not in ("x86_64", "aarch64"):
        return None
    if device.libc_kind == "musl":
        return f"{device.arch}-unknown-linux-musl"
    fitting = [level for level in _LEVELS if level <= _version(device.libc_version)]
    if device.libc_kind != "glibc" or not fitting:
        return None
    return f"{device.arch}-manylinux_{fitting[-1][0]}_{fitting[-1][1]}"


def _has(device: DeviceKind) -> str:
    return f"this device has {device.arch} with CPython {_python(device.python_tag)}"


def _published(version: str, device: DeviceKind, code: str = "LF302") -> Finding:
    """Return the finding that says which published wheels there are and what to name instead."""
    pythons = PUBLISHED.get(version)
    instead = f"or a wheel or folder built for this device under `runtimes: {{{device.arch}: ...}}`"
    if device.arch != "x86_64":
        others = "paddlelite is published for x86_64 only"
        here = f"under `runtimes: {{{device.arch}: ...}}` in litefleet.yaml"
        return finding(code, f"{others}; {_has(device)}: name a wheel or a folder built for {device.arch} {here}.")
    if pythons is None:
        known = ", ".join(f"{v} (CPython {' and '.join(p)})" for v, p in PUBLISHED.items())
        return finding(
            code, f"paddlelite {version} has no wheel that fits; {_has(device)}: known to exist are {known}."
        )
    pair = " or ".join(pythons)
    return finding(
        code,
        f"paddlelite {version} has wheels for x86_64 with CPython {' and '.join(pythons)}; {_has(device)}: "
        f"name a Python {pair} with `python:` in the inventory, {instead}.",
    )


def refusal_of_device(choice: RuntimeChoice, device: DeviceKind) -> Finding | None:
    """Return why nothing of this kind can fit the device, known without asking anybody, or None."""
    if arch_of(device.arch) is None:
        return finding(
            "LF303", f"This device is {device.arch or 'of an unknown architecture'}; Paddle-Lite runs on x86 and ARM."
        )
    if not re.fullmatch(r"cp3\d+", device.python_tag):
        words = device.python_tag or "no CPython"
        return finding(
            "LF302",
            f"Paddle-Lite's binding is for CPython 3; this device's interpreter is {words}: name one with `python:`.",
        )
    if choice.kind != "wheels":
        return None
    if device.arch != "x86_64":
        return _published(choice.paddlelite, device)
    if platform_of(device) is None or device.libc_kind != "glibc":
        has = f"{device.libc_kind} {device.libc_version}".strip()
        return finding(
            "LF309",
            f"The published wheels of paddlelite and numpy need glibc 2.17 or later; this device has {has}: "
            f"name a wheel or a folder built for it under `runtimes: {{{device.arch}: ...}}`.",
        )
    return None


def sentence_of_resolver(choice: RuntimeChoice, device: DeviceKind, output: str) -> Finding | None:
    """Return the finding behind uv's refusal, or None when it failed for another reason (network, index)."""
    text = " ".join(output.split())
    if "No solution found" not in text or "paddlelite" not in text:
        return (
            finding("LF302", f"No wheel of {choice.numpy} fits: {_has(device)}.")
            if "No solution found" in text
            else None
        )
    if re.search(r"not found in the package registry|no version of paddlelite", text):
        known = ", ".join(PUBLISHED)
        return finding(
            "LF302", f"There is no paddlelite {choice.paddlelite} on the package index; known to exist are {known}."
        )
    return _published(choice.paddlelite, device)


def refusal_of_wheel(path: Path, device: DeviceKind) -> Finding | None:
    """Return why the wheel's own name rules it out for the device, or None."""
    parts = path.name.removesuffix(".whl").split("-")
    if not path.name.endswith(".whl") or len(parts) < 5:
        return finding("LF302", f"{path.name} is not named like a wheel (NAME-VERSION-cp39-cp39-linux_aarch64.whl).")
    if not path.is_file():
        return finding("LF302", f"The wheel {path} is not there.")
    pythons, abi, platforms = parts[-3].split("."), parts[-2], parts[-1].split(".")
    if not python_fits(pythons, abi, device.python_tag):
        return finding(
            "LF307",
            f"{path.name} is for {_tags(pythons)}; {_has(device)}: name that Python with `python:` in the inventory, "
            f"or a wheel for {device.python_tag}.",
        )
    if not any(p == "any" or platform_arch(p) == device.arch for p in platforms):
        return finding(
            "LF308", f"{path.name} is for {', '.join(platforms)}; {_has(device)}: name a wheel for {device.arch}."
        )
    if not any(_libc_fits(p, device) for p in platforms):
        has = f"{device.libc_kind} {device.libc_version}".strip()
        return finding(
            "LF309", f"{path.name} needs {', '.join(platforms)}; this device has {has}: name a wheel built against it."
        )
    return None


def _tags(pythons: list[str]) -> str:
    return " or ".join(f"CPython {_python(p)}" if p.startswith("cp") else p for p in pythons)


def python_fits(pythons: list[str], abi: str, tag: str) -> bool:
    """Whether a wheel's python and abi tags take the interpreter `tag` ("cp310")."""
    if tag in pythons or "py3" in pythons:
        return True
    oldest = [int(p[3:]) for p in pythons if re.fullmatch(r"cp3\d+", p)]
    return "abi3" in abi.split(".") and any(minor <= int(tag[3:]) for minor in oldest)


def platform_arch(platform: str) -> str:
    """Return the canonical architecture at a platform tag's end, "" for another system's."""
    found = re.fullmatch(r"(?:linux|manylinux(?:1|2010|2014|_\d+_\d+)|musllinux_\d+_\d+)_(\w+)", platform)
    arch = arch_of(found[1]) if found else None
    return arch.name if arch else ""


def _libc_fits(platform: str, device: DeviceKind) -> bool:
    """Whether a platform tag's libc is at most the device's; a bare linux_ tag says nothing, so it passes."""
    if platform.startswith("musllinux"):
        return device.libc_kind == "musl"
    if not platform.startswith("manylinux"):
        return True
    old = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
    found = re.match(r"manylinux_(\d+)_(\d+)", platform)
    needs = (int(found[1]), int(found[2])) if found else old[platform.split("_")[0]]
    return device.libc_kind == "glibc" and needs <= _version(device.libc_version)


def refusal_of_elf(folder: Path, device: DeviceKind, label: str) -> Finding | None:
    """Return why the folder's paddlelite/ package cannot run on the device, by its lite.so's header, or None."""
    package = folder / "paddlelite"
    if not (package / "__init__.py").is_file():
        return finding(
            "LF302", f"{label} holds no paddlelite/__init__.py: give the folder that a built `paddlelite/` lies in."
        )
    library = package / "lite.so"
    if not library.is_file():
        return finding("LF302", f"{label} holds no paddlelite/lite.so: the package was not built, or not for Linux.")
    with library.open("rb") as source:
        header = source.read(20)
    machine = _elf_machine(header)
    if machine is None:
        return finding("LF308", f"{label}: paddlelite/lite.so is not a Linux shared library; {_has(device)}.")
    if machine != device.arch:
        return finding(
            "LF308",
            f"{label}: paddlelite/lite.so is for {machine}; {_has(device)}: name a runtime built for {device.arch}.",
        )
    return None


def _elf_machine(header: bytes) -> str | None:
    """Return the architecture in the first 20 bytes of an ELF file, None when they are not one."""
    if len(header) < 20 or header[:4] != b"\x7fELF" or header[5] not in (1, 2):
        return None
    number = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return _E_MACHINE.get(number, f"ELF machine {number}")
