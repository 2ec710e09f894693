"""Paddle-Lite's C++ library on disk: where a runtime holds it, and whether it can be driven without a Python binding.

Reads names and bytes only; verification.native loads it.
"""

import os
from typing import Iterator, NamedTuple, Tuple

from ..formats.files import mapped

NAMES = ("libpaddle_light_api_shared.so", "libpaddle_full_api_shared.so")  # the smaller one first
_PLACES = ("", "lib", "cxx/lib")  # of a release archive: its cxx/lib, its cxx, its top

# Both functions of the C++ interface that a model needs first: a library that exports them can be driven without its binding.
NATIVE_MARKS = (
    b"_ZN6paddle8lite_api21CreatePaddlePredictorINS0_12MobileConfigE",
    b"_ZN6paddle8lite_api12MobileConfig19set_model_from_fileERKNSt7__cxx11",
)
# Names that GCC's link-time optimisation leaves in a library which was not stripped.
_LTO_MARKS = (b".lto_priv.", b"-flto")


class OtherBuild(NamedTuple):
    """A build of Paddle-Lite whose C++ functions have other names than those that are called."""

    symbol: str  # a mangled name that shows it
    word: str  # "old-strings", ...
    remedy: str  # what it is, and what to take instead


_SET_FILE = "_ZN6paddle8lite_api12MobileConfig19set_model_from_fileERK"
OTHER_BUILDS: Tuple[OtherBuild, ...] = (
    OtherBuild(
        _SET_FILE + "Ss",
        "old-strings",
        "it was built with the old string ABI (_GLIBCXX_USE_CXX11_ABI=0). Take the archive of a newer toolchain (`.gcc`), "
        "or build it with -D_GLIBCXX_USE_CXX11_ABI=1",
    ),
    OtherBuild(
        _SET_FILE + "NSt6__ndk112basic_stringIcNS2_11char_traitsIcEENS2_9allocatorIcEEEE",
        "android",
        "it was built for Android (libc++). Take the archive for armlinux",
    ),
    OtherBuild(
        _SET_FILE + "NSt3__112basic_stringIcNS2_11char_traitsIcEENS2_9allocatorIcEEEE",
        "libc++",
        "it was built with libc++ instead of libstdc++. Take a build made with gcc",
    ),
    OtherBuild(
        "Java_com_baidu_paddle_lite_PaddlePredictor_run",
        "java",
        "it is Paddle-Lite's library for Java, which exports no C++ functions. Take libpaddle_light_api_shared.so of the "
        "same build (cxx/lib in the archive)",
    ),
)
REMEDY_OF = {build.word: build.remedy for build in OTHER_BUILDS}
REMEDY_OF["none"] = (
    "it exports none of Paddle-Lite's C++ functions: it was stripped of them, or is older than 2.7. "
    "Take libpaddle_light_api_shared.so (cxx/lib) of a release archive of 2.7 to 2.13"
)


def library_in(folder: str) -> str:
    """Return the path of the C++ library in a folder: an unpacked release archive's top, `cxx` or `cxx/lib`; "" for none."""
    return next((path for path in _candidates(folder) if os.path.isfile(path)), "")


def _candidates(folder: str) -> Iterator[str]:
    try:
        tops = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if "inference_lite_lib" in name]
    except OSError:
        return
    for top in [folder] + tops:
        for place in _PLACES:
            for name in NAMES:
                yield os.path.join(top, place, name)


def interface_of(path: str) -> str:
    """Return what the library at `path` exports: "c++" (it can be driven), the word of an OtherBuild, or "none".

    Its bytes are searched: 15 ms of CPU for the published wheel's.  "" where it cannot be read.
    """
    try:
        with mapped(path) as data:
            if all(data.find(name) >= 0 for name in NATIVE_MARKS):
                return "c++"
            shown = (build.word for build in OTHER_BUILDS if data.find(build.symbol.encode("ascii") + b"\0") >= 0)
            return next(shown, "none")
    except (OSError, ValueError):  # ValueError: an empty file
        return ""


def shows_lto(path: str) -> bool:
    """Return whether link-time optimisation left its marks; False proves nothing: stripped libraries have none."""
    try:
        with mapped(path) as data:
            return any(data.find(mark) >= 0 for mark in _LTO_MARKS)
    except (OSError, ValueError):
        return False
