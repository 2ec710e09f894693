"""Whether a runtime can load on a device: wheel tags, glibc or musl, ELF headers; and what would fit instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from litefleet_agent.facts import Facts
from litefleet_agent.facts.arch import arch_of
from litefleet_agent.facts.runtime import describe_runtime, exports_cxx
from litefleet_agent.findings import Finding, finding
from litefleet_agent.formats.elf import machine_of
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from ...config.choices import PUBLISHED_PYTHONS, RuntimeChoice
from .library import is_library


@dataclass(frozen=True)
class DeviceKind:
    """The facts that decide which binaries a device can load, e.g. ("aarch64", "cp39", "glibc", "2.31")."""

    arch: str  # canonical, "" for another
    python_tag: str  # "cp310"
    libc_kind: str  # "glibc", "musl" or ""
    libc_version: str  # "2.36"

    @classmethod
    def of(cls, facts: Facts) -> DeviceKind:
        """Return the kind of the device that reported `facts`."""
        return cls(facts.arch, facts.python.tag, facts.libc.kind, facts.libc.version)

    @property
    def libc(self) -> str:
        """The C library for people: "glibc 2.31"."""
        return f"{self.libc_kind} {self.libc_version}".strip()


# The glibc versions for which uv has a --python-platform (`uv pip install --help`).
_UV_GLIBC = ((2, 17), (2, 28), *((2, minor) for minor in range(31, 41)))
# PEP 600: the older tags and the glibc that each one stands for.
_LEGACY_MANYLINUX = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_NEWEST_MINOR = 99  # of a C library whose version a device did not report


def _version(text: str) -> tuple[int, ...]:
    """Return (2, 31) for "2.31" and for "2.31-13+deb11"; () where there is no number."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", text)
    return (int(found[1]), int(found[2])) if found else ()


def _python(tag: str) -> str:
    """Return "3.10" for "cp310"."""
    digits = tag.removeprefix("cp")
    return f"{digits[:1]}.{digits[1:]}" if digits[1:].isdigit() else tag or "unknown"


def platform_of(device: DeviceKind) -> str | None:
    """Return uv's --python-platform for the device, or None where uv has none (32-bit, glibc before 2.17)."""
    if device.arch not in ("x86_64", "aarch64"):
        return None
    if device.libc_kind == "musl":
        return f"{device.arch}-unknown-linux-musl"
    fitting = [level for level in _UV_GLIBC if level <= _version(device.libc_version)]
    if device.libc_kind != "glibc" or not fitting:
        return None
    return f"{device.arch}-manylinux_{fitting[-1][0]}_{fitting[-1][1]}"


def _has(device: DeviceKind) -> str:
    return f"this device has {device.arch} with CPython {_python(device.python_tag)}"


def _not_published(version: str, device: DeviceKind) -> Finding:
    """Return LF302 with the published wheels and what to name instead."""
    if device.arch != "x86_64":
        return finding(
            "LF302",
            f"paddlelite is published for x86_64 only; {_has(device)}: name Paddle-Lite's C++ library with `litefleet "
            f"runtime add FILE`, or a wheel or a folder built for {device.arch} under `runtimes: {{{device.arch}: ...}}`.",
        )
    pythons = PUBLISHED_PYTHONS.get(version)
    if pythons is None:
        known = ", ".join(f"{v} (CPython {' and '.join(p)})" for v, p in PUBLISHED_PYTHONS.items())
        observed = f"paddlelite {version} has no wheel that fits; {_has(device)}: known to exist are {known}."
        return finding("LF302", observed)
    return finding(
        "LF302", f"No wheel of paddlelite {version} for x86_64 was found in the package index; {_has(device)}."
    )


def refusal_of_device(choice: RuntimeChoice, device: DeviceKind) -> Finding | None:
    """Return why no runtime of this choice can load on the device, as far as the device alone decides; None else."""
    if arch_of(device.arch) is None:
        observed = f"This device is {device.arch or 'of an unknown architecture'}; Paddle-Lite runs on x86 and ARM."
        return finding("LF303", observed)
    if is_library(choice):  # any interpreter drives it
        return None
    if not re.fullmatch(r"cp3\d{1,3}", device.python_tag):
        interpreter = device.python_tag or "no CPython"
        return finding(
            "LF302",
            f"Paddle-Lite's binding is for CPython 3; this device's interpreter is {interpreter}: name one with "
            "`python:`.",
        )
    if choice.kind != "wheels":
        return None
    if device.arch != "x86_64":
        return _not_published(choice.paddlelite, device)
    if platform_of(device) is None or device.libc_kind != "glibc":
        return finding(
            "LF309",
            f"The published wheels of paddlelite and numpy need glibc 2.17 or later; this device has {device.libc}: "
            f"name a wheel or a folder built for it under `runtimes: {{{device.arch}: ...}}`.",
        )
    return None


def binding_fits(choice: RuntimeChoice, device: DeviceKind) -> bool:
    """Return whether the device's interpreter can import the chosen wheel, or one of its version; True where that is unknown."""
    if choice.kind == "wheel":
        wheel = wheel_name(choice.path.name)
        return wheel is None or bool(python_fits(wheel.tags, device.python_tag))
    pythons = PUBLISHED_PYTHONS.get(choice.paddlelite) if choice.kind == "wheels" else None
    return pythons is None or _python(device.python_tag) in pythons


def wheels_for(choice: RuntimeChoice, device: DeviceKind) -> DeviceKind:
    """Return the kind of device whose wheels the device gets: its own, or that of the newest interpreter with a wheel.

    Any wheel of a version holds the same C++ library, which the agent drives without the binding and numpy.
    """
    if choice.kind != "wheels" or binding_fits(choice, device):
        return device
    return replace(device, python_tag="cp" + PUBLISHED_PYTHONS[choice.paddlelite][-1].replace(".", ""))


def refusal_of_interpreter(folder: Path, device: DeviceKind, label: str) -> Finding | None:
    """Return LF307 for a binding of another interpreter whose library cannot be driven without it; None else.

    `folder` holds `paddlelite/`; `label` names it in the sentence.
    """
    runtime = describe_runtime(str(folder), [])
    if not runtime.python_tags or device.python_tag in runtime.python_tags or exports_cxx(runtime):
        return None
    return finding(
        "LF307",
        f"{label} is for {_interpreters(runtime.python_tags)}, and its library does not export the C++ functions that litefleet "
        f"would call instead; {_has(device)}: name that Python with `python:` in the inventory, or a wheel for "
        f"{device.python_tag}.",
    )


def sentence_of_resolver(choice: RuntimeChoice, device: DeviceKind, output: str) -> Finding | None:
    """Return the finding behind uv's refusal, or None when uv failed for another reason (network, index)."""
    text = " ".join(output.split())
    if "No solution found" not in text:
        return None
    if "paddlelite" not in text:
        return finding("LF302", f"No wheel of {choice.numpy} fits: {_has(device)}.")
    if re.search(r"not found in the package registry|no version of paddlelite", text):
        known = ", ".join(PUBLISHED_PYTHONS)
        observed = f"There is no paddlelite {choice.paddlelite} on the package index; known to exist are {known}."
        return finding("LF302", observed)
    return _not_published(choice.paddlelite, device)


@dataclass(frozen=True)
class WheelName:
    """The parts of a wheel's file name, such as paddlelite-2.13rc0-cp310-cp310-manylinux1_x86_64.whl."""

    project: str  # "paddlelite"
    version: str  # "2.13rc0"
    tags: frozenset[Tag]

    @property
    def pythons(self) -> tuple[str, ...]:
        """The interpreter tags, sorted: ("cp310",)."""
        return tuple(sorted({tag.interpreter for tag in self.tags}))

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags, sorted: ("manylinux1_x86_64",)."""
        return tuple(sorted({tag.platform for tag in self.tags}))


def wheel_name(name: str) -> WheelName | None:
    """Return the parts of a wheel's file name; None for another name (PEP 427, read by `packaging`)."""
    try:
        project, version, _, tags = parse_wheel_filename(name)
    except (InvalidWheelFilename, ValueError):  # a version that is none is a ValueError in older releases
        return None
    return WheelName(project, str(version), tags)


def _python_pairs(python_tag: str) -> frozenset[tuple[str, str]]:
    """Return the (interpreter, ABI) tags that a CPython ("cp310") can load; none for another interpreter's tag."""
    found = re.fullmatch(r"cp3(\d{1,3})", python_tag)
    if found is None:
        return frozenset()
    version = (3, int(found[1]))
    abis = [python_tag, *([f"{python_tag}m"] if version < (3, 8) else [])]  # 3.7 and older have an "m" ABI too
    tags = chain(
        cpython_tags(version, abis, ["any"]), compatible_tags(version, interpreter=python_tag, platforms=["any"])
    )
    return frozenset((tag.interpreter, tag.abi) for tag in tags)


def python_fits(tags: Iterable[Tag], python_tag: str) -> frozenset[Tag]:
    """Return those of a wheel's tags that the interpreter `python_tag` ("cp310") can load."""
    pairs = _python_pairs(python_tag)
    return frozenset(tag for tag in tags if (tag.interpreter, tag.abi) in pairs)


def platform_arch(platform: str) -> str:
    """Return the canonical architecture of a Linux platform tag, "" for another system's or an unknown one."""
    found = re.fullmatch(r"(?:linux|manylinux(?:\d{1,4}|_\d{1,4}_\d{1,4})|musllinux_\d{1,4}_\d{1,4})_(\w+)", platform)
    arch = arch_of(found[1]) if found else None
    return arch.name if arch else ""


def _loads(platform: str, device: DeviceKind) -> bool:
    """Whether the device's C library is new enough for a platform tag; a bare linux_ tag states none."""
    base = platform.split("_", 1)[0]
    kind = {"manylinux": "glibc", "musllinux": "musl"}.get(base.rstrip("0123456789"))
    if kind is None:
        return True
    found = re.match(r"(?:many|musl)linux_(\d{1,4})_(\d{1,4})_", platform)
    needs = (int(found[1]), int(found[2])) if found else _LEGACY_MANYLINUX.get(base)
    has = _version(device.libc_version)
    if kind == "musl" and not has:
        has = (1, _NEWEST_MINOR)
    return device.libc_kind == kind and needs is not None and needs <= has


def refusal_of_wheel(path: Path, device: DeviceKind) -> Finding | None:
    """Return why the device cannot load a wheel, judged by the file's name (LF302, LF308, LF309); None else."""
    wheel = wheel_name(path.name)
    if wheel is None:
        return finding("LF302", f"{path.name} is not named like a wheel (NAME-VERSION-cp39-cp39-linux_aarch64.whl).")
    if not path.is_file():
        return finding("LF302", f"The wheel {path} is missing.")
    tags = python_fits(wheel.tags, device.python_tag) or wheel.tags  # for another, its C++ library may still be driven
    platforms = sorted({tag.platform for tag in tags})
    for_arch = [p for p in platforms if p == "any" or platform_arch(p) == device.arch]
    if not for_arch:
        observed = f"{path.name} is for {', '.join(platforms)}; {_has(device)}: name a wheel for {device.arch}."
        return finding("LF308", observed)
    if not any(_loads(platform, device) for platform in for_arch):
        return finding(
            "LF309",
            f"{path.name} needs {', '.join(platforms)}; this device has {device.libc}: name a wheel built against it.",
        )
    return None


def _interpreters(pythons: Sequence[str]) -> str:
    return " or ".join(f"CPython {_python(tag)}" if tag.startswith("cp") else tag for tag in pythons)


def refusal_of_elf(folder: Path, device: DeviceKind, label: str) -> Finding | None:
    """Return why the device cannot load the folder's `paddlelite/`, judged by lite.so's header (LF302, LF308); None else.

    `label` names the folder in the sentence.
    """
    package = folder / "paddlelite"
    if not (package / "__init__.py").is_file():
        return finding(
            "LF302", f"{label} holds no paddlelite/__init__.py: give the folder that a built `paddlelite/` lies in."
        )
    library = package / "lite.so"
    if not library.is_file():
        return finding("LF302", f"{label} holds no paddlelite/lite.so: the package was not built, or not for Linux.")
    with library.open("rb") as source:
        machine = machine_of(source.read(20))
    if not machine:
        return finding("LF308", f"{label}: paddlelite/lite.so is not a Linux shared library; {_has(device)}.")
    if machine != device.arch:
        return finding(
            "LF308",
            f"{label}: paddlelite/lite.so is for {machine}; {_has(device)}: name a runtime built for {device.arch}.",
        )
    return None
