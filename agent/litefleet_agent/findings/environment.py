"""Checks a model, a device and a runtime against each other before anything is loaded.  Pure."""

import re
from typing import List, Optional, Tuple

from ..facts import Facts
from ..facts.arch import ARCHES
from ..facts.runtime import RuntimeFacts, describe_runtime, exports_cxx, with_flavour
from ..formats.engine_settings import NOTHING_ASKED, EngineSettings
from ..formats.nb import NbError, NbModel
from . import Certainty, Finding, finding
from .model_file import accelerators, altered, check_file, read_nb_file
from .runtime import BINDING_ONLY, check_cpu, check_runtime

__all__ = [
    "RuntimeFacts",
    "check_build",
    "check_environment",
    "describe_runtime",
    "grade_versions",
    "parse_version",
    "static_findings",
]


_VERSION = re.compile(r"^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:[-_.]?(rc|beta|alpha|b|a)[-_.]?(\d{0,4}))?$", re.I)
_STAGES = {"a": "alpha", "b": "beta"}


def check_environment(
    model: NbModel,
    facts: Facts,
    runtime: Optional[RuntimeFacts] = None,
    need_disk: int = 0,
    by_binding: bool = True,
    engine: EngineSettings = NOTHING_ASKED,
) -> List[Finding]:
    """Return the findings against running `model` on the device of `facts` with `runtime`, the most important first.

    `runtime` None means that none is chosen yet: only model and device are checked.  `need_disk` is in bytes.  `by_binding`
    False: the runtime's C++ library is driven without the binding, as the agent does where the binding does not fit.
    `engine` is what the release asks of it.
    Facts that a device does not report decide nothing.  `model_file.check_file` checks the kernels' targets.
    """
    arch = ARCHES.get(facts.arch)
    if arch is None:
        return [
            finding("LF303", "This device is %s with a %d-bit userland." % (facts.machine or "unknown", facts.bits))
        ]
    found: List[Finding] = []
    if runtime is not None and not runtime.path:
        found.append(finding("LF302", _no_runtime(facts, runtime)))
        runtime = None  # the findings about the device are reported too
    if runtime is not None:
        found += check_runtime(facts, runtime, by_binding)
    found += check_cpu(facts, arch.isa, runtime)
    accelerated = _accelerators(model, facts, runtime, engine)
    found += accelerated + _asked_in_vain(model, facts, runtime, engine)
    found += _threads(model, facts) if accelerated else _untried(model, engine) + _threads(model, facts)
    found += _check_space(model, facts, need_disk)
    if runtime is not None:
        found += check_build(model, runtime)
        found += grade_versions(model.opt_version, runtime.paddlelite_version)
    return found


def check_build(model: NbModel, runtime: RuntimeFacts) -> List[Finding]:
    """Return findings for what the model needs and this build of Paddle-Lite lacks: operators, fp16 kernels.

    Only a runtime with a flavour (`with_flavour`) is checked, and only for what its bytes show.
    """
    found = []
    missing = sorted(set(model.ops) - runtime.flavour.ops) if runtime.flavour.ops else []
    if missing:
        words = "an operator" if len(missing) == 1 else "%d operators" % len(missing)
        more = ", ..." if len(missing) > 12 else ""
        observed = "The file uses %s that this build of Paddle-Lite does not have: %s%s."
        found.append(finding("LF113", observed % (words, ", ".join(missing[:12]), more)))
    half = sum(1 for k in model.kernels if k.target == "arm" and k.precision == "fp16")
    if half and runtime.flavour.fp16 is False:
        observed = "%d of %d kernels are for fp16; this Paddle-Lite was built without it."
        found.append(finding("LF104", observed % (half, len(model.kernels))))
    return found


def _threads(model: NbModel, facts: Facts) -> List[Finding]:
    small = sum(1 for k in model.kernels if k.target == "arm" and k.precision == "int8")
    if not small or facts.arch != "armv7l":
        return []
    return [finding("LF114", "%d of %d kernels are int8; this device is armv7l." % (small, len(model.kernels)))]


def _no_runtime(facts: Facts, runtime: RuntimeFacts) -> str:
    if runtime.kind == "system":
        return "No paddlelite package is installed for %s." % (facts.python.executable or "this Python")
    return "The runtime's folder holds no paddlelite package."


def _accelerators(
    model: NbModel, facts: Facts, runtime: Optional[RuntimeFacts], engine: EngineSettings
) -> List[Finding]:
    found = []
    counts = model.kernels_by_target()
    for name in sorted(accelerators(model)):
        if name == "nnadapter" and engine.nnadapter.devices:
            continue  # the operator names the device, which nothing here can detect: the proof decides
        missing = _missing_support(name, facts, runtime)
        if missing:
            observed = "%d of %d kernels are for %s; %s." % (counts.get(name, 0), len(model.kernels), name, missing)
            found.append(finding("LF103", observed))
        elif name == "opencl":
            found += _denied(facts)
    return found


def _asked_in_vain(
    model: NbModel, facts: Facts, runtime: Optional[RuntimeFacts], engine: EngineSettings
) -> List[Finding]:
    """Return LF103 for OpenCL settings where there is no OpenCL, and LF433 for settings of kernels that the file lacks."""
    found, has, defaults = [], accelerators(model), NOTHING_ASKED
    if engine.opencl != defaults.opencl and "opencl" not in has:
        missing = _missing_support("opencl", facts, runtime)
        if missing:
            found.append(finding("LF103", _NO_OPENCL % (missing, facts.arch)))
        else:
            found.append(finding("LF433", _NO_KERNELS % ("OpenCL", "opencl", facts.arch, "opencl,%s" % _isa(facts))))
    if engine.nnadapter != defaults.nnadapter and "nnadapter" not in has:
        device = (engine.nnadapter.devices or ("rockchip_npu",))[0]
        found.append(
            finding("LF433", _NO_KERNELS % ("NNAdapter", "nnadapter", facts.arch, "%s,%s" % (device, _isa(facts))))
        )
    return found


_NO_OPENCL = (
    "The release has settings for OpenCL (`engine: {opencl: ...}`), and %s: "
    "`engine: {%s: {opencl: null}}` removes them here."
)
_NO_KERNELS = (
    "The file has no kernels for %s, so that the settings in `engine: {%s: ...}` change nothing: convert with "
    "`targets: {%s: '%s'}`, or remove them."
)


def _isa(facts: Facts) -> str:
    arch = ARCHES.get(facts.arch)
    return arch.isa if arch else "arm"


def _untried(model: NbModel, engine: EngineSettings) -> List[Finding]:
    """Return LF434 for a release that uses an accelerator: litefleet's authors ran none."""
    names = {"opencl": "OpenCL", "nnadapter": "NNAdapter"}
    used = [names.get(name, name) for name in sorted(accelerators(model))]
    if not used:
        return []
    asked = " (asked for: %s)" % engine.words if engine.accelerated else ""
    return [finding("LF434", "The file has kernels for %s%s." % (" and ".join(used), asked))]


def _denied(facts: Facts) -> List[Finding]:
    """Return LF321 when this user may open none of the GPU's device nodes, so that the driver is unusable."""
    if not facts.opencl_denied or len(facts.opencl_denied) < len(facts.opencl_devices):
        return []
    # A CPU's OpenCL works without the nodes of the display's GPU.
    sure = Certainty.LIKELY if any("/dri/" not in name for name in facts.opencl_denied) else Certainty.POSSIBLE
    observed = "%s exists, but this user may not open %s." % (facts.opencl, ", ".join(facts.opencl_denied[:4]))
    return [finding("LF321", observed, sure)]


def _missing_support(name: str, facts: Facts, runtime: Optional[RuntimeFacts]) -> str:
    if name != "opencl":
        return "litefleet detects only OpenCL and cannot detect whether this device has it"
    if not facts.opencl:
        return "this device has no OpenCL library"
    if runtime is not None and not runtime.opencl:
        return "its Paddle-Lite runtime was built without OpenCL"
    return ""


def _check_space(model: NbModel, facts: Facts, need_disk: int) -> List[Finding]:
    found = []
    need = model.estimated_memory_bytes
    if facts.memory.total and facts.memory.available < need:
        observed = "The model needs about %s of memory; %s of %s are free."
        values = (_size(need), _size(facts.memory.available), _size(facts.memory.total))
        found.append(finding("LF311", observed % values))
    if need_disk and facts.disk.total and facts.disk.free < need_disk:
        observed = "%s are to be stored; %s are free under the agent's root."
        found.append(finding("LF312", observed % (_size(need_disk), _size(facts.disk.free))))
    return found


def _size(count: int) -> str:
    return "%.1f MB" % (count / 1e6)


def parse_version(text: str) -> Optional[Tuple[int, int, int, str, int]]:
    """Return a Paddle-Lite version as (major, minor, patch, stage, number); None for a hash, a blank, "" and the like.

    The file's "v2.13-rc" and the wheel's "2.13rc0" are the same version.
    """
    found = _VERSION.match(text.strip())
    if not found:
        return None
    major, minor, patch, stage, number = found.groups()
    stage = (stage or "").lower()
    return int(major), int(minor), int(patch or 0), _STAGES.get(stage, stage), int(number or 0)


def grade_versions(file_version: str, runtime_version: str) -> List[Finding]:
    """Compare the version that wrote a .nb with the one that would run it; return nothing, LF108 or LF109."""
    wrote, runs = parse_version(file_version), parse_version(runtime_version)
    names = (file_version or "an unnamed version", runtime_version or "no version")
    if wrote is None or runs is None:
        return [finding("LF109", "The file was written by %s, the runtime reports %s." % names)]
    if wrote != runs:
        return [finding("LF108", "The file was written by Paddle-Lite %s; the runtime is %s." % names)]
    return []


def static_findings(
    nb: str, facts: Facts, runtime: str, sha256: str = "", engine: EngineSettings = NOTHING_ASKED
) -> List[Finding]:
    """Return the findings of all static checks of the file at the path `nb` on this device.

    `runtime` is a folder, "" = what the interpreter has; `sha256` is the expected hash of the file, "" = unknown; `engine` is
    what the release asks of it.
    """
    arch = ARCHES.get(facts.arch)
    if arch is None:
        return [finding("LF303", "This device is %s." % facts.machine)]
    try:
        model = read_nb_file(nb)
    except NbError as error:
        return [finding(error.finding_code, str(error))]
    except OSError as error:
        return [finding("LF602", "The model's file cannot be read: %s." % (error.strerror or error))]
    found = altered(model, sha256) + check_file(model, arch, frozenset(facts.cpu.features) or None)
    return found + judge_runtime(model, facts, with_flavour(describe_runtime(runtime or None)), engine)


def judge_runtime(
    model: NbModel, facts: Facts, runtime: RuntimeFacts, engine: EngineSettings = NOTHING_ASKED
) -> List[Finding]:
    """Return `check_environment`'s findings for the engine that the agent would choose.

    What concerns the binding alone does not count where the C++ library can be driven without it.
    """
    found = check_environment(model, facts, runtime, engine=engine)
    if any(f.code in BINDING_ONLY for f in found) and exports_cxx(runtime):
        return check_environment(model, facts, runtime, by_binding=False, engine=engine)
    return found
