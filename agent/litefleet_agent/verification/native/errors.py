"""The native engine's error, and the sentences that explain why a library cannot be driven."""

import re
from typing import Callable, Sequence, Tuple

from ...facts.cxx_library import OTHER_BUILDS
from ...formats.files import address_space_limit
from ..engine import PaddleLiteError

_SHOWN = 3  # missing symbols that a sentence names

# What the loader says -> what helps, added to its own words.
_LOADER_HINTS: Tuple[Tuple[str, str], ...] = (
    (
        r"cannot allocate memory in static TLS block",
        "the library must be loaded earlier: name it in LD_PRELOAD where the agent is started",
    ),
    (
        r"undefined symbol: (_?Py)",
        "the wheel's library needs a Python that exports its C functions, and this one does not",
    ),
    (
        r"failed to map segment from shared object|cannot enable executable stack",
        "the file system may be mounted noexec",
    ),
)


class NativeError(PaddleLiteError):
    """A step of the native engine that failed without killing the process.

    `kind` is "import" (the loader refuses the library), "native" (the library cannot be driven: a missing function, an
    unknown layout, a check of itself that failed), "inputs" (the caller's tensors do not fit), "round-trip" (an input read
    back differs), "no-data" (no kernel wrote an output) or "outputs" (an output has a type or shape that cannot be read).
    """


def explain_missing(path: str, missing: Sequence[str], exports: Callable[[str], bool]) -> NativeError:
    """Return the error for a library that lacks some of the functions; `exports` asks whether it has a symbol."""
    for build in OTHER_BUILDS:
        if exports(build.symbol):
            return NativeError("native", "%s cannot be used natively: %s." % (path, build.remedy))
    if not exports("_ZN6paddle8lite_api6TensorC1EPv") and len(missing) > _SHOWN:
        text = "%s exports none of Paddle-Lite's C++ functions: it is another library, or one that was stripped of them"
        return NativeError("native", (text + ". Take libpaddle_light_api_shared.so (cxx/lib in the archive).") % path)
    more = " and %d more" % (len(missing) - _SHOWN) if len(missing) > _SHOWN else ""
    names = ", ".join(missing[:_SHOWN]) + more
    text = "%s lacks functions of Paddle-Lite's C++ interface: %s. Its build removed them, or it is older than 2.7"
    return NativeError("native", (text + "; take a release archive of 2.7 to 2.13.") % (path, names))


def explain_unloadable(path: str, said: str) -> NativeError:
    """Return the error for a library that the loader refuses; `said` is what dlerror gave."""
    said = " ".join(said.split())[:1000] or "the loader gave no reason"
    hint = next((hint for pattern, hint in _LOADER_HINTS if re.search(pattern, said)), "")
    if "noexec" in hint and address_space_limit():
        hint = ""  # another cause, which the finding names
    return NativeError("import", said + (" (%s)" % hint if hint else "") + ("" if path in said else " [%s]" % path))


def unknown_layout(seen: str, version: str = "") -> NativeError:
    """Return the error for a library whose objects are laid out otherwise than in every version that is known."""
    which = " and this library calls itself %s" % version if version else ""
    text = "the C++ library is laid out in a way that is unknown here: %s. The layouts of 2.7 to 2.13 are known%s. "
    return NativeError(
        "native", (text + "Use a release archive of one of these, or a wheel with its own binding.") % (seen, which)
    )
