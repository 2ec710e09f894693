"""Consistency of a .nb's topology beyond what its description needs: every table is read, numbers and names are checked.

The runtime follows each offset without a check, and aborts at an attribute type that it does not know.  The rules hold in
every file of the converters 2.10, 2.12 and 2.13rc0 that was measured (PP-OCR and 60 other models, 7 targets).
"""

from typing import Dict, List, Set

from .flatbuffer import Buffer, NbError, Table

# Fields of OpDesc.Attr in framework.fbs: attribute type -> the field that holds its list.
_LIST_FIELDS = {3: 5, 4: 6, 5: 7, 7: 9, 10: 12, 11: 13, 12: 15}  # ints, floats, strings, bools, blocks, longs, doubles
_WIDTHS = {5: 4, 6: 4, 7: 4, 9: 1, 12: 4, 13: 8, 15: 8}  # bytes of one entry
_STRING = 2  # attribute type of the field `s`
_LAST_ATTR_TYPE = 15
_LAST_VAR_TYPE = 31
_LOD_TENSOR = 7
_FREE_DIMS = -(1 << 20)  # arithmetic on a free dim (-1) gives small negative numbers
_MAX_DIM = 1 << 31
_MAX_ELEMENTS = 1 << 40  # of one tensor
_MAX_EXTENT = 1 << 16  # of paddings, strides, dilations, kernel sizes, groups

# Operators with a window -> attributes that must be lists, or (`groups`) a number, with their smallest value.
_WINDOW = {"strides": 1, "paddings": 0}
_CONV = {"strides": 1, "paddings": 0, "dilations": 1}
_LISTS: Dict[str, Dict[str, int]] = {
    "conv2d": _CONV,
    "depthwise_conv2d": _CONV,
    "conv2d_transpose": _CONV,
    "conv3d": _CONV,
    "pool2d": _WINDOW,
    "pool3d": _WINDOW,
}


def inconsistency(topology: memoryview) -> str:
    """Return the first inconsistency of a topology's bytes as a clause, "" when there is none."""
    try:
        _Topology(Buffer(topology, "the table of contents (%d bytes)" % len(topology))).check()
    except NbError as error:
        return str(error)
    return ""


class _Topology:
    """One walk over all blocks."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._declared: Set[str] = set()
        self._produced: Set[str] = set()
        self._used: Dict[str, str] = {}  # variable -> an operator that reads it

    def check(self) -> None:
        """Raise NbError for the first inconsistency."""
        blocks = list(self._buffer.root().tables(0))
        for block in blocks:
            for var in block.tables(2):
                self._variable(var)
        for number, block in enumerate(blocks):
            for place, op in enumerate(block.tables(3)):
                self._operator(
                    op, "operator %d" % place if number == 0 else "operator %d of block %d" % (place, number)
                )
        for name, label in self._used.items():
            if name not in self._declared:
                raise NbError("%s uses the variable %.60r, which is not declared" % (label, name))
            if name not in self._produced:
                raise NbError("%s reads the variable %.60r, which no operator writes" % (label, name))

    def _variable(self, var: Table) -> None:
        name = self._name(var.text(0), "a variable")
        self._declared.add(name)
        kind = var.table(1)
        if not 0 <= kind.i32(0) <= _LAST_VAR_TYPE:
            raise NbError("the variable %.60r has the unknown type %d" % (name, kind.i32(0)))
        if var.u8(2) or kind.i32(0) != _LOD_TENSOR:
            self._produced.add(name)  # parameters, and the feed and fetch lists
        if not kind.has(2):
            return
        tensor = kind.table(2).table(0)
        if not 0 <= tensor.i32(0) <= _LAST_VAR_TYPE:
            raise NbError("the variable %.60r has the unknown data type %d" % (name, tensor.i32(0)))
        elements = 1
        for dim in tensor.numbers(1):
            if not _FREE_DIMS <= dim <= _MAX_DIM:
                raise NbError("the variable %.60r has a dimension of %d" % (name, dim))
            elements *= max(dim, 1)
        if elements > _MAX_ELEMENTS:
            raise NbError("the variable %.60r has %d elements" % (name, elements))

    def _operator(self, op: Table, place: str) -> None:
        kind = self._name(op.text(0), place)
        label = "%s (%.40s)" % (place, kind)
        for index in (1, 2):  # inputs, outputs
            for slot in op.tables(index):
                self._name(slot.text(0), label)
                for name in slot.texts(1):
                    if kind != ("feed", "fetch")[index - 1]:  # their own lists have names of the runtime's
                        self._used.setdefault(name, label)
                    if index == 2:
                        self._produced.add(name)
        self._attributes(op, kind, label)

    def _attributes(self, op: Table, kind: str, label: str) -> None:
        wanted = dict(_LISTS.get(kind, {}))
        names: Set[str] = set()
        for attr in op.tables(3):
            name = self._name(attr.text(0), label)
            if name in names:
                raise NbError("%s has the attribute %.40r twice" % (label, name))
            names.add(name)
            self._attribute(attr, "the attribute %.40r of %s" % (name, label))
            if name == "__@kernel_type_attr@__":
                self._kernel(attr.text(4), kind, label)
            elif name in wanted:
                self._extents(attr, name, wanted.pop(name), label)
            elif name == "groups" and kind in _LISTS:
                self._extent(attr.i32(2), 1, "groups", label)
        if 0 < len(wanted) < len(_LISTS.get(kind, {})):  # the converter writes all of them
            raise NbError("%s has no %s" % (label, ", ".join(sorted(wanted))))

    def _attribute(self, attr: Table, label: str) -> None:
        kind = attr.i32(1)
        if not 0 <= kind <= _LAST_ATTR_TYPE:
            raise NbError("%s has the unknown type %d" % (label, kind))
        if kind != _STRING and attr.length(4, 1):
            raise NbError("%s has the type %d and a text" % (label, kind))
        own = _LIST_FIELDS.get(kind, -1)
        for field, width in _WIDTHS.items():
            if attr.length(field, width) and field != own:
                raise NbError("%s has the type %d and a list of another one" % (label, kind))
        if own == 7:
            attr.texts(7)

    def _kernel(self, text: str, kind: str, label: str) -> None:
        parts = text.rsplit("/", 4)
        if parts[0] != kind:
            raise NbError("%s has a kernel of %.40r" % (label, parts[0]))
        if "0" in parts[2:]:
            raise NbError("%s has a kernel without target, precision or layout" % label)

    def _extents(self, attr: Table, name: str, low: int, label: str) -> None:
        values: List[int] = attr.integers(5)
        if not values:
            raise NbError("%s has no %s" % (label, name))
        for value in values:
            self._extent(value, low, name, label)

    def _extent(self, value: int, low: int, name: str, label: str) -> None:
        if not low <= value < _MAX_EXTENT:
            raise NbError("%s has %s of %d" % (label, name, value))

    def _name(self, name: str, label: str) -> str:
        """Return a name.  Raises: NbError for an empty or unprintable one; text that is not UTF-8 holds backslashes."""
        if not name or not name.isprintable() or "\\" in name:
            raise NbError("%s has the name %.60r" % (label, name))
        return name
