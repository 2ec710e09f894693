"""Paddle-Lite's converter without its Python binding: the published wheel's library, called from any CPython on x86_64 Linux.

A wheel's binding loads in the one CPython that it was built for, but the converter in it, the C++ class OptBase, needs none.
This script takes the arguments of the wheel's own `paddle_lite_opt` that litefleet uses, and is copied into an environment in
that script's place where no such CPython is at hand.  It uses the standard library only.

OptBase's methods are exported.  Its constructor is inline: the one copy is in the function that the binding registers as
`Opt.__init__`, which the wheels (2.10, 2.12, 2.13rc0; their SHA-256 sums are pinned) name in their symbol table.
"""

import argparse
import ctypes
import os
import struct
import sys
from typing import Any

# binding's `Opt.__init__`: pybind11::cpp_function::initialize<...constructor<>...OptBase...>::{lambda(function_call&)}::_FUN
_INIT = (
    b"_ZZN8pybind1112cpp_function10initialize",
    b"initimpl11constructor",
    b"class_IN6paddle8lite_api7OptBaseE",
    b"4_FUNE",
)
_OPT = "_ZN6paddle8lite_api7OptBase"
_TEXT = "ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"  # (const std::string&)
_ANCHOR = _OPT + "3RunEv"  # exported, so that the loader gives its address
_SYMTAB = 2  # a section's type
_SYMBOL = struct.Struct("<IBBHQQ")  # name, info, other, section, value, size


def symbols(path: str) -> "dict[bytes, int]":
    """Return name -> value of the symbol table in a 64-bit little-endian ELF file; {} where it was stripped."""
    with open(path, "rb") as stream:  # noqa: PTH123
        data = stream.read()
    at, size, count = (struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HH", data, 58))
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, at + size * i) for i in range(count)]
    for _, kind, _, _, offset, length, link, _, _, _ in sections:
        if kind == _SYMTAB:
            begin, room = sections[link][4:6]
            names = data[begin : begin + room]
            found = _SYMBOL.iter_unpack(data[offset : offset + length // _SYMBOL.size * _SYMBOL.size])
            return {names[entry[0] : names.index(b"\0", entry[0])]: entry[4] for entry in found if entry[4]}
    return {}


def load(path: str) -> ctypes.CDLL:
    """Load a library lazily: the binding's functions of another CPython are missing, and never called."""
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    handle = dlopen(os.fsencode(path), os.RTLD_LAZY)
    return ctypes.CDLL(path, handle=handle) if handle else ctypes.CDLL(path)  # the latter raises with the reason


class Text:
    """A constant std::string of libstdc++: pointer, length, capacity."""

    def __init__(self, text: str) -> None:
        raw = os.fsencode(text)
        self._raw = ctypes.create_string_buffer(raw)
        self._object = (ctypes.c_size_t * 4)(ctypes.addressof(self._raw), len(raw), len(raw), 0)
        self._as_parameter_ = ctypes.byref(self._object)


class Opt:
    """An OptBase of the library at `path`; `set` and `run` call its methods."""

    def __init__(self, path: str) -> None:
        self._library = load(path)
        known = symbols(path)
        inits = {value for name, value in known.items() if all(part in name for part in _INIT)}
        if len(inits) != 1:
            raise SystemExit("[F] this library does not name the constructor of its converter; use a published wheel")
        anchor: Any = getattr(self._library, _ANCHOR)
        base = (ctypes.cast(anchor, ctypes.c_void_p).value or 0) - known[_ANCHOR.encode()]
        # function_call: the record, then the vector of arguments; the first is a value_and_holder, whose fourth word points to
        # where the new object's address goes.
        made = ctypes.c_void_p()
        holder = (ctypes.c_void_p * 4)(None, None, None, ctypes.addressof(made))
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(holder))
        end = ctypes.addressof(arguments) + ctypes.sizeof(arguments)
        call = (ctypes.c_void_p * 16)(None, ctypes.addressof(arguments), end, end)
        init = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(base + inits.pop())
        init(ctypes.addressof(call))
        if not made.value:
            raise SystemExit("[F] this library's converter could not be made")
        self._this = made

    def set(self, method: str, *values: object) -> None:
        """Call a method by its mangled name after the class, with what it takes."""
        function = getattr(self._library, _OPT + method)
        function.restype = None
        function(self._this, *values)


def main() -> int:
    """Convert as the wheel's own script does, and return its exit code."""
    parser = argparse.ArgumentParser()
    for name, default in (("model_file", ""), ("param_file", ""), ("optimize_out", ""), ("valid_targets", "arm")):
        parser.add_argument("--" + name, default=default)
    parser.add_argument("--optimize_out_type", choices=["naive_buffer"], default="naive_buffer")
    parser.add_argument("--quant_type", default="QUANT_INT16")
    for name in ("quant_model", "enable_fp16", "print_supported_ops"):
        parser.add_argument("--" + name, default="false")
    args = parser.parse_args()
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    opt = Opt(os.path.join(package, "lib", version, "site-packages", "paddlelite", "lite.so"))  # noqa: PTH118
    opt.set("12SetModelFile" + _TEXT, Text(args.model_file))
    opt.set("12SetParamFile" + _TEXT, Text(args.param_file))
    opt.set("14SetOptimizeOut" + _TEXT, Text(args.optimize_out))
    if args.enable_fp16 == "true":
        opt.set("13EnableFloat16Ev")
    opt.set("14SetValidPlaces" + _TEXT, Text(args.valid_targets))
    if args.quant_model == "true":
        opt.set("13SetQuantModelEb", ctypes.c_bool(True))
        opt.set("12SetQuantType" + _TEXT, Text(args.quant_type))
    if args.print_supported_ops == "true":
        opt.set("17PrintSupportedOpsEv")
    elif args.model_file and args.param_file and args.optimize_out:
        opt.set("3RunEv")
    else:
        parser.print_usage()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
