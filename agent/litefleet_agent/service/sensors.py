"""How the device itself is: temperatures, clock rates, memory.  What can't be read is left out; nothing here raises."""

import re
from typing import Any, Dict, List, Optional

from ..facts.tree import Tree

__all__ = ["sensors"]

_MOST = 64  # zones and CPUs
_ZONES = "/sys/class/thermal"
_CPUS = "/sys/devices/system/cpu"


def sensors(tree: Tree) -> Dict[str, Any]:
    """Return {temperatures: [{zone, type, celsius}], cpu_hz: {cpu: Hz}, memory_available_bytes, memory_total_bytes, load1}."""
    told: Dict[str, Any] = {"temperatures": _temperatures(tree), "cpu_hz": _rates(tree)}
    memory = tree.text("/proc/meminfo", 8192)
    for name, key in (("MemAvailable", "memory_available_bytes"), ("MemTotal", "memory_total_bytes")):
        found = re.search(r"^%s:\s+(\d{1,15}) kB" % name, memory, re.MULTILINE)
        if found:
            told[key] = int(found.group(1)) * 1024
    load = re.match(r"\d{1,9}\.\d{1,9}", tree.text("/proc/loadavg", 200))
    if load:
        told["load1"] = float(load.group())
    return told


def _temperatures(tree: Tree) -> List[Dict[str, Any]]:
    found = []
    for zone in [n for n in tree.names(_ZONES) if re.match(r"thermal_zone\d{1,4}\Z", n)][:_MOST]:
        value = _number(tree.text("%s/%s/temp" % (_ZONES, zone), 64))
        if value is not None:
            kind = tree.text("%s/%s/type" % (_ZONES, zone), 64)
            found.append({"zone": zone[len("thermal_zone") :], "type": kind, "celsius": value / 1000})
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
