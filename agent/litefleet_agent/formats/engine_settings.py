"""What a release asks of Paddle-Lite: threads, power mode, OpenCL and NNAdapter; and what came of each.

The names are Paddle-Lite's own, as lite/api/paddle_place.h (2.13) has them.  OpenCL and NNAdapter settings were never run on
such hardware by litefleet's authors: what is known of them was read in Paddle-Lite's source, or tried on builds without them.
"""

import re
from typing import Dict, List, NamedTuple, Tuple

from .checked import flag, items, mapping, matching, shown, text, texts, whole

POWER_MODES = ("HIGH", "LOW", "FULL", "NO_BIND", "RAND_HIGH", "RAND_LOW")  # numbered from 0, each after LITE_POWER_
TUNE_MODES = ("NONE", "RAPID", "NORMAL", "EXHAUSTIVE")  # likewise, each after CL_TUNE_
PRECISIONS = ("AUTO", "FP32", "FP16")  # likewise, each after CL_PRECISION_
MOST_THREADS = 256
MOST_DEVICES = 8
MOST_PROPERTIES = 2000  # characters
DEVICE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")  # of NNAdapter: rockchip_npu
PROPERTIES = re.compile(r"[\x20-\x7e]{0,%d}\Z" % MOST_PROPERTIES)
_MOST_REPORTED = 16

TAKEN = "taken"  # the library gave the value back, or said that it uses it
PASSED = "passed"  # the library was given it, and has no function that says what it made of it
NOT_TAKEN = "not-taken"
_STATES = (TAKEN, PASSED, NOT_TAKEN)


class OpenCLSettings(NamedTuple):
    """Settings of the OpenCL backend; "" and False leave them to Paddle-Lite."""

    tune: str = ""  # CL_TUNE_NORMAL
    precision: str = ""  # CL_PRECISION_FP16
    cache: bool = False  # compiled kernels and tuning results stay on the device


class NNAdapterSettings(NamedTuple):
    """Settings of NNAdapter, through which Paddle-Lite uses NPUs; () , "" and False leave them to it."""

    devices: Tuple[str, ...] = ()
    context_properties: str = ""  # "KEY=VALUE;KEY=VALUE;"
    cache: bool = False  # compiled models stay on the device


class EngineSettings(NamedTuple):
    """What a release asks of the engine.  `threads` 0 and `power_mode` "" leave it to Paddle-Lite."""

    threads: int = 0
    power_mode: str = ""  # LITE_POWER_HIGH
    opencl: OpenCLSettings = OpenCLSettings()
    nnadapter: NNAdapterSettings = NNAdapterSettings()

    @property
    def accelerated(self) -> bool:
        """Whether anything of an accelerator is asked for."""
        return self.opencl != OpenCLSettings() or self.nnadapter != NNAdapterSettings()

    @property
    def cached(self) -> bool:
        """Whether something is to stay on the device between two processes."""
        return self.opencl.cache or self.nnadapter.cache

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form, in which everything that is left to Paddle-Lite is missing; {} for all of it."""
        given = dict(self._asdict(), opencl=_given(self.opencl._asdict()), nnadapter=_given(self.nnadapter._asdict()))
        return _given(given)

    @classmethod
    def parse(cls, value: object) -> "EngineSettings":
        """Read the JSON form, None as {}.  Raises ValueError, which names the field."""
        given = _known({} if value is None else value, cls._fields, "engine")
        opencl = _known(given.get("opencl", {}), OpenCLSettings._fields, "engine.opencl")
        nnadapter = _known(given.get("nnadapter", {}), NNAdapterSettings._fields, "engine.nnadapter")
        devices = texts(nnadapter.get("devices", ()), MOST_DEVICES, 64, "engine.nnadapter.devices")
        properties = nnadapter.get("context_properties", "")
        return cls(
            whole(given.get("threads", 0), 0, MOST_THREADS, "engine.threads"),
            _one_of("LITE_POWER_", POWER_MODES, given.get("power_mode", ""), "engine.power_mode"),
            OpenCLSettings(
                _one_of("CL_TUNE_", TUNE_MODES, opencl.get("tune", ""), "engine.opencl.tune"),
                _one_of("CL_PRECISION_", PRECISIONS, opencl.get("precision", ""), "engine.opencl.precision"),
                flag(opencl.get("cache", False), "engine.opencl.cache"),
            ),
            NNAdapterSettings(
                tuple(matching(DEVICE_NAME.match, name, "engine.nnadapter.devices") for name in devices),
                matching(PROPERTIES.match, properties, "engine.nnadapter.context_properties"),
                flag(nnadapter.get("cache", False), "engine.nnadapter.cache"),
            ),
        )

    @property
    def words(self) -> str:
        """Everything that is asked for, as "threads 2, power mode LITE_POWER_HIGH"; "" for nothing."""
        return ", ".join("%s %s" % (name, asked) for name, asked in self.asked())

    def asked(self) -> List[Tuple[str, str]]:
        """Return (name, value) of each setting that is asked for, for people."""
        pairs = [
            ("threads", str(self.threads or "")),
            ("power mode", self.power_mode),
            ("OpenCL tuning", self.opencl.tune),
            ("OpenCL precision", self.opencl.precision),
            ("OpenCL cache", "on" if self.opencl.cache else ""),
            ("NNAdapter devices", ", ".join(self.nnadapter.devices)),
            ("NNAdapter properties", self.nnadapter.context_properties),
            ("NNAdapter cache", "on" if self.nnadapter.cache else ""),
        ]
        return [(name, asked) for name, asked in pairs if asked]


NOTHING_ASKED = EngineSettings()


class SettingReport(NamedTuple):
    """What came of one setting.  `state` is TAKEN, PASSED or NOT_TAKEN; `taken` is the value in force, "" where unknown."""

    name: str
    asked: str
    state: str
    taken: str = ""
    why: str = ""  # a sentence without its full stop; "" where there is nothing to add

    @property
    def words(self) -> str:
        """One sentence for people, without its full stop."""
        outcome = {TAKEN: "taken", PASSED: "passed to Paddle-Lite", NOT_TAKEN: "not taken"}[self.state]
        value = ", it is %s" % self.taken if self.taken not in ("", self.asked) else ""
        return "%s %s: %s%s%s" % (self.name, self.asked, outcome, value, " (%s)" % self.why if self.why else "")

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        return dict(self._asdict())


def parse_reports(value: object) -> Tuple[SettingReport, ...]:
    """Read the JSON form of reports, None as none; ValueError for one that is not well formed: the process is not trusted."""
    reports = []
    for item in items(value or [], _MOST_REPORTED, "settings"):
        entry = mapping(item)
        state = text(entry.get("state"), 20)
        if state not in _STATES:
            raise ValueError("%s is no state of a setting" % shown(state))
        name, asked, taken, why = (
            text(entry.get(key), most)
            for key, most in (("name", 40), ("asked", MOST_PROPERTIES), ("taken", MOST_PROPERTIES), ("why", 500))
        )
        reports.append(SettingReport(name, asked, state, taken, why))
    return tuple(reports)


def _given(values: Dict[str, object]) -> Dict[str, object]:
    """Return the entries that are not "", 0, False or empty."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value}


def _known(value: object, names: Tuple[str, ...], path: str) -> Dict[str, object]:
    given = mapping(value, path)
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError("%s has no field %s" % (path, ", ".join(unknown)[:200]))
    return given


def _one_of(prefix: str, words: Tuple[str, ...], value: object, name: str) -> str:
    """Return one of Paddle-Lite's names, or "".  Raises ValueError."""
    if value != "" and value not in [prefix + word for word in words]:
        raise ValueError("%s must be %s and one of %s, not %s" % (name, prefix, ", ".join(words), shown(value)))
    return str(value)
