"""Reads the device's temperatures, clock rates, memory and CPU time.  What cannot be read is left out; nothing raises."""

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..formats.files import Tree
from .present import memory

_MOST = 64  # zones and CPUs
_ZONES = "/sys/class/thermal"
_CPUS = "/sys/devices/system/cpu"
_CPU_ZONE = re.compile("cpu|soc|pkg|core|big|little", re.IGNORECASE)  # names of a CPU's thermal zone
_CELSIUS = (-60.0, 200.0)  # range of a working sensor


class _Zone(NamedTuple):
    zone: str  # number
    type: str
    celsius: float


def sensors(tree: Tree) -> Dict[str, object]:
    """Return {temperatures: [{zone, type, celsius}], cpu_hz: {cpu: Hz}, memory_available_bytes, memory_total_bytes, load1}."""
    zones: List[Dict[str, object]] = [dict(zone._asdict()) for zone in _temperatures(tree)]
    readings: Dict[str, object] = {"temperatures": zones, "cpu_hz": _rates(tree)}
    meminfo = tree.text("/proc/meminfo", 8192)
    for name, key in (("MemAvailable", "memory_available_bytes"), ("MemTotal", "memory_total_bytes")):
        found = _kilobytes(meminfo, name)
        if found is not None:
            readings[key] = found
    load = re.match(r"\d{1,9}\.\d{1,9}", tree.text("/proc/loadavg", 200))
    if load:
        readings["load1"] = float(load.group())
    return readings


def cpu_celsius(tree: Tree) -> Optional[float]:
    """Return the highest temperature of the CPU's zones, of all where none is named so; None without any."""
    low, high = _CELSIUS
    zones = [zone for zone in _temperatures(tree) if low < zone.celsius < high]
    named = [zone for zone in zones if _CPU_ZONE.search(zone.type)]
    return max((zone.celsius for zone in named or zones), default=None)


def cpu_mhz(tree: Tree) -> Optional[float]:
    """Return the clock rate of the CPU that runs fastest now, which is the one that works; None without cpufreq."""
    return max((hertz / 1e6 for hertz in _rates(tree).values()), default=None)


def available_bytes(tree: Tree) -> Optional[int]:
    """Return the memory that programs can still get, within a cgroup's limit; None where the kernel does not report it."""
    found = memory(tree)
    return found.available if found.total else None


def cpu_ticks(tree: Tree) -> Optional[Tuple[int, int]]:
    """Return the busy ticks and all ticks of all CPUs since the start; stolen time counts as busy."""
    found = re.match(r"cpu +([\d ]{7,200})", tree.text("/proc/stat", 4096))
    ticks = [int(word) for word in found.group(1).split()[:8]] if found else []
    if len(ticks) < 5:
        return None
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def ticks_of(tree: Tree, pid: int) -> int:
    """Return the CPU ticks of a process since it began; 0 when it has ended."""
    rest = tree.text("/proc/%d/stat" % pid, 4096).rpartition(")")[2].split()
    try:
        return int(rest[11]) + int(rest[12])
    except (IndexError, ValueError):
        return 0


def memory_of(tree: Tree, pid: int) -> Dict[str, int]:
    """Return {rss, peak, threads} of a process, and {pss} where the kernel reports its share of common pages; in bytes."""
    status = tree.text("/proc/%d/status" % pid, 8192)
    memory_kinds = {"rss": _kilobytes(status, "VmRSS"), "peak": _kilobytes(status, "VmHWM")}
    memory_kinds["pss"] = _kilobytes(tree.text("/proc/%d/smaps_rollup" % pid, 4096), "Pss")
    threads = re.search(r"^Threads:\s+(\d{1,6})", status, re.MULTILINE)
    memory_kinds["threads"] = int(threads.group(1)) if threads else None
    return {name: value for name, value in memory_kinds.items() if value is not None}


def _kilobytes(text: str, name: str) -> Optional[int]:
    found = re.search(r"^%s:\s+(\d{1,15}) kB" % name, text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _temperatures(tree: Tree) -> List[_Zone]:
    found = []
    for zone in [n for n in tree.names(_ZONES) if re.match(r"thermal_zone\d{1,4}\Z", n)][:_MOST]:
        value = _number(tree.text("%s/%s/temp" % (_ZONES, zone), 64))
        if value is not None:
            kind = tree.text("%s/%s/type" % (_ZONES, zone), 64)
            found.append(_Zone(zone[len("thermal_zone") :], kind, value / 1000))
    return found


def _rates(tree: Tree) -> Dict[str, int]:
    found = {}
    for cpu in [n for n in tree.names(_CPUS) if re.match(r"cpu\d{1,4}\Z", n)][:_MOST]:
        value = _number(tree.text("%s/%s/cpufreq/scaling_cur_freq" % (_CPUS, cpu), 64))
        if value is not None and value > 0:
            found[cpu[len("cpu") :]] = value * 1000
    return found


def _number(text: str) -> Optional[int]:
    return int(text) if re.match(r"-?\d{1,12}\Z", text) else None
