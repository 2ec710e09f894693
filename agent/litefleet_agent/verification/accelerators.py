"""Passes OpenCL and NNAdapter settings to a loaded Paddle-Lite, and says what came of each.

Never run on such hardware by litefleet's authors: builds without OpenCL and NNAdapter take the calls and ignore them, which is
all that could be tried.  Nothing that is said here stands for more than the library's own answers.
"""

import os
import sys
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from ..formats.engine_settings import NOT_TAKEN, PASSED, PRECISIONS, TAKEN, TUNE_MODES, EngineSettings, SettingReport

if TYPE_CHECKING or sys.version_info >= (3, 8):
    from typing import Protocol
else:
    Protocol = object

_KERNELS, _TUNED = "opencl_kernels.bin", "opencl_tuned.bin"  # files in the cache folder
_REPEATS = 4  # of each candidate when OpenCL tunes itself: Paddle-Lite's default
_UNTRIED = "never run on such hardware by litefleet's authors"
_NO_FOLDER = "the folder for it could not be made under the agent's root"


class Setters(Protocol):
    """The functions of one loaded Paddle-Lite, by the names that its C++ interface and its binding share."""

    def call(self, function: str, *arguments: object) -> str:
        """Call a function of the configuration, and return "", or why that cannot be done.

        Arguments are texts, whole numbers (the value of an enumeration, a count) and tuples of texts.
        """

    def opencl_valid(self) -> Optional[bool]:
        """Return whether the library says that OpenCL works here; None where it has no function that says so."""

    def has_device(self, name: str) -> Optional[bool]:
        """Return whether the library says that it has this NNAdapter device; None likewise."""

    def value_of(self, getter: str) -> object:
        """Return what a function of the configuration gives back; None where the library has no such function."""


def apply_accelerators(setters: Setters, settings: EngineSettings, cache: str) -> List[SettingReport]:
    """Pass what is asked for to the library, before it loads the model; `cache` is a folder, "" = there is none."""
    asked = dict(settings.asked())
    found: List[SettingReport] = []
    if settings.opencl.tune or settings.opencl.precision or settings.opencl.cache:
        found += _opencl(setters, settings, cache, asked)
    if settings.nnadapter.devices or settings.nnadapter.context_properties or settings.nnadapter.cache:
        found += _nnadapter(setters, settings, cache, asked)
    return found


def _opencl(setters: Setters, settings: EngineSettings, cache: str, asked: Dict[str, str]) -> List[SettingReport]:
    wanted, found = settings.opencl, []
    valid = setters.opencl_valid()
    if wanted.cache:  # first: kernels are compiled from here on
        why = setters.call("set_opencl_binary_path_name", cache, _KERNELS) if cache else _NO_FOLDER
        found.append(_of_opencl("OpenCL cache", asked, why, valid))
    if wanted.tune:
        place = (cache, _TUNED) if wanted.cache and cache else ("", "")
        mode = ["CL_TUNE_" + word for word in TUNE_MODES].index(wanted.tune)
        found.append(_of_opencl("OpenCL tuning", asked, setters.call("set_opencl_tune", mode, *place, _REPEATS), valid))
    if wanted.precision:
        precision = ["CL_PRECISION_" + word for word in PRECISIONS].index(wanted.precision)
        found.append(_of_opencl("OpenCL precision", asked, setters.call("set_opencl_precision", precision), valid))
    return found


def _of_opencl(name: str, asked: Dict[str, str], why: str, valid: Optional[bool]) -> SettingReport:
    if why:
        return SettingReport(name, asked[name], NOT_TAKEN, "", why)
    if valid is None:
        return SettingReport(name, asked[name], PASSED, "", "it does not say whether OpenCL works here; " + _UNTRIED)
    if not valid:
        return SettingReport(name, asked[name], NOT_TAKEN, "", "Paddle-Lite says that OpenCL does not work here")
    return SettingReport(
        name, asked[name], PASSED, "", "it says that OpenCL works here, and not what it uses; " + _UNTRIED
    )


def _nnadapter(setters: Setters, settings: EngineSettings, cache: str, asked: Dict[str, str]) -> List[SettingReport]:
    wanted, found = settings.nnadapter, []
    absent = [name for name in wanted.devices if setters.has_device(name) is False]
    lacks = "Paddle-Lite says that it has no device %s here" % ", ".join(absent) if absent else ""
    if wanted.devices:
        why = setters.call("set_nnadapter_device_names", wanted.devices) or lacks
        name, value = "NNAdapter devices", setters.value_of("nnadapter_device_names")
        found.append(_read_back(name, asked[name], why, None if value is None else ", ".join(_texts(value))))
    if wanted.context_properties:
        why = setters.call("set_nnadapter_context_properties", wanted.context_properties) or lacks
        name, value = "NNAdapter properties", setters.value_of("nnadapter_context_properties")
        found.append(_read_back(name, asked[name], why, value))
    if wanted.cache:
        why = setters.call("set_nnadapter_model_cache_dir", cache) if cache else _NO_FOLDER
        name, value = "NNAdapter cache", setters.value_of("nnadapter_model_cache_dir")
        held = None if value is None else "on" if os.path.abspath(str(value)) == os.path.abspath(cache) else str(value)
        found.append(_read_back(name, asked[name], why or lacks, held))
    return found


def _read_back(name: str, asked: str, why: str, value: object) -> SettingReport:
    if why:
        return SettingReport(name, asked, NOT_TAKEN, "", why)
    if value is None:
        return SettingReport(name, asked, PASSED, "", "it does not say what it uses; " + _UNTRIED)
    if value != asked:
        return SettingReport(name, asked, NOT_TAKEN, str(value)[:500], "Paddle-Lite gives another value back")
    return SettingReport(name, asked, TAKEN, asked, _UNTRIED)


def _texts(value: object) -> Tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else ()
