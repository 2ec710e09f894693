"""The arrays of an application, numpy's where it has numpy, as the data of a request, and those of a response.

An input's sequences (LoD) are its `Array.lod`, or lie beside it as in a .npz: NAME@lod0, NAME@lod1 ...
"""

import struct
import sys
from typing import Any, Dict, Mapping, NamedTuple, Tuple, Union

from .npz import DTYPES, MAX_LOD_LEVELS, MAX_LOD_OFFSETS, Array, Lod, NpzError, check_lod

Part = Union[bytes, memoryview]  # of a frame


class Input(NamedTuple):
    """One input as a request's frame holds it."""

    dtype: str
    dims: Tuple[int, ...]
    data: Part
    lod: Lod = ()

    def described(self, name: str) -> Dict[str, object]:
        """Return its description in the header."""
        described: Dict[str, object] = {"name": name, "dtype": self.dtype, "dims": list(self.dims)}
        if self.lod:
            described["lod"] = self.lod
        return described


def numpy_of(inputs: Mapping[str, Any]) -> Any:
    """Return the application's numpy if any input is one of its arrays, else None."""
    numpy = sys.modules.get("numpy")
    return numpy if numpy is not None and any(isinstance(v, numpy.ndarray) for v in inputs.values()) else None


def inputs_of(inputs: Mapping[str, Any]) -> Dict[str, Input]:
    """Return the inputs by name; the arrays NAME@lod0, NAME@lod1 ... become the sequences of NAME.  Raises AgentError."""
    beside = {"%s@lod%d" % (name, level): (name, level) for name in inputs for level in range(MAX_LOD_LEVELS)}
    given = {name: _input(name, value) for name, value in inputs.items() if name not in beside}
    for name in sorted(set(beside) & set(inputs)):
        owner, level = beside[name]
        if owner not in given or len(given[owner].lod) != level:
            raise NpzError("%.80r comes without the level of sequences (LoD) before it" % name)
        given[owner] = given[owner]._replace(lod=(*given[owner].lod, _offsets(name, _input(name, inputs[name]))))
    for name, one in given.items():
        try:
            check_lod(one.lod, one.dims)
        except NpzError as error:
            raise NpzError("input %.80r: %s" % (name, error)) from error
    count = sum(len(level) for one in given.values() for level in one.lod)
    if count > MAX_LOD_OFFSETS:
        text = "the inputs have %d offsets of sequences (LoD), and one request takes %d: send fewer sequences at once"
        raise NpzError(text % (count, MAX_LOD_OFFSETS))
    return given


def _offsets(name: str, value: Input) -> Tuple[int, ...]:
    if value.dtype != "int64" or len(value.dims) != 1:
        raise NpzError("%.80r holds offsets of sequences (LoD): it must be a row of int64" % name)
    return struct.unpack("<%dq" % value.dims[0], bytes(value.data))


def _input(name: str, value: Any) -> Input:
    if isinstance(value, Array):
        return Input(value.dtype, value.shape, value.data, value.lod)
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
        raise NpzError("input %.80r is a %s; give a numpy array or an npz.Array" % (name, type(value).__name__))
    dtype = str(value.dtype.name)
    if dtype not in DTYPES:
        raise NpzError("input %.80r is of type %s; convert it first" % (name, dtype))
    contiguous = numpy.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    # The array's own memory, without a copy: it is sent before the caller can change it.
    return Input(dtype, tuple(value.shape), memoryview(contiguous.reshape(-1).view("u1")))


def to_array(dtype: str, dims: Tuple[int, ...], data: memoryview, lod: Lod, numpy: Any) -> Any:
    """Return a tensor of a response as an array of the module `numpy`, as `Array` for None."""
    if numpy is None:
        return Array(dtype, dims, bytes(data), lod)
    if not data:
        return numpy.empty(dims, dtype)
    return numpy.frombuffer(data, numpy.dtype(dtype).newbyteorder("<")).reshape(dims)
