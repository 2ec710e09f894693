"""Reads the topology: a FlatBuffers ProgramDesc with blocks, operators, their kernels, and variables."""

from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Tuple

from .flatbuffer import Buffer, Table

# What Paddle-Lite's numbers mean: kernel places and tensor types.
TARGETS: Tuple[str, ...] = (
    "unknown", "host", "x86", "cuda", "arm", "opencl", "any", "fpga", "npu", "xpu", "bm", "mlu", "rknpu", "apu",
    "ascend", "imagination", "intel_fpga", "metal", "nnadapter",
)  # fmt: skip
PRECISIONS: Tuple[str, ...] = (
    "unknown", "fp32", "int8", "int32", "any", "fp16", "bool", "int64", "int16", "uint8", "fp64",
)  # fmt: skip
LAYOUTS: Tuple[str, ...] = (
    "unknown", "nchw", "any", "nhwc", "image_default", "image_folder", "image_nw",
    "metal_texture2d_array", "metal_texture2d",
)  # fmt: skip

# Tensors are typed by another enumeration than kernels: number -> (name as numpy has it, bytes of one element).
DTYPES: Dict[int, Tuple[str, int]] = {
    0: ("bool", 1),
    1: ("int16", 2),
    2: ("int32", 4),
    3: ("int64", 8),
    4: ("float16", 2),
    5: ("float32", 4),
    6: ("float64", 8),
    20: ("uint8", 1),
    21: ("int8", 1),
}

KERNEL_ATTR = "__@kernel_type_attr@__"
CASTS = ("target_trans", "precision_trans", "layout_trans")
LOD_TENSOR = 7  # VarType.type of an ordinary tensor


def named(names: Tuple[str, ...], number: int) -> str:
    """Return the name behind a number; one that a newer Paddle-Lite added is shown as its number."""
    return names[number] if 0 <= number < len(names) else "number-%d" % number


class Kernel(NamedTuple):
    """The kernel that opt picked for one operator."""

    op: str  # "conv2d"
    alias: str  # "def"
    target: str  # "x86", "arm", "host", "opencl", ...
    precision: str  # "fp32", ...
    layout: str  # "nchw", ...


class Tensor(NamedTuple):
    """An input or output of the model."""

    name: str
    dtype: str  # as numpy names it: "float32"; "unknown" when the file does not say
    dims: Tuple[int, ...]  # -1 is free


@dataclass(frozen=True)
class Program:
    """Contents of the topology."""

    version: int  # of the PaddlePaddle that saved it: 2003002 is 2.3.2; 0 when unknown
    kernels: Tuple[Kernel, ...]
    ops: Dict[str, int]
    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]
    persistables: Tuple[str, ...]  # names of the parameters that it needs
    activations: Tuple[Tensor, ...]  # intermediate results


def read_program(view: memoryview) -> Program:
    """Read the topology's bytes.  Raises NbError when they are damaged."""
    buffer = Buffer(view, "the table of contents (%d bytes)" % len(view))
    root = buffer.root()
    walk = _Walk()
    for block in root.tables(0):
        for var in block.tables(2):
            walk.var(var)
        for op in block.tables(3):
            walk.op(op, buffer)
    if not walk.ops:
        raise buffer.bad("it has no operators")
    return walk.program(root.table(1).i64(0) if root.has(1) else 0)


class _Walk:
    """Collects the program's parts while the blocks are read."""

    def __init__(self) -> None:
        self.kernels: List[Kernel] = []
        self.known: Dict[str, Kernel] = {}
        self.ops: Dict[str, int] = {}
        self.vars: Dict[str, Tensor] = {}
        self.persistables: Dict[str, None] = {}
        self.feeds: List[Tuple[int, str]] = []
        self.fetches: List[Tuple[int, str]] = []

    def var(self, table: Table) -> None:
        name = table.text(0)
        kind = table.table(1)
        if kind.i32(0) != LOD_TENSOR:
            return
        dtype = "unknown"
        dims: Tuple[int, ...] = ()
        if kind.has(2):
            tensor = kind.table(2).table(0)
            dtype, dims = DTYPES.get(tensor.i32(0), ("unknown", 0))[0], tensor.numbers(1)
        if table.u8(2):
            self.persistables[name] = None
        else:
            self.vars.setdefault(name, Tensor(name, dtype, dims))

    def op(self, table: Table, buffer: Buffer) -> None:
        kind = table.text(0)
        self.ops[kind] = self.ops.get(kind, 0) + 1
        if kind in ("feed", "fetch"):
            ends = self.feeds if kind == "feed" else self.fetches
            names = [n for var in table.tables(2 if kind == "feed" else 1) for n in var.texts(1)]
            ends.extend((_column(table), name) for name in names)
        for attr in table.tables(3):
            if attr.text_if_length(0, len(KERNEL_ATTR)) == KERNEL_ATTR:
                self.kernels.append(self.kernel(attr.text(4), buffer))
                break

    def kernel(self, text: str, buffer: Buffer) -> Kernel:
        """Parse `op/alias/target/precision/layout`; operators share few kernels, so each text is parsed once."""
        found = self.known.get(text)
        if found is None:
            parts = text.rsplit("/", 4)
            if len(parts) != 5 or not all(p.isdecimal() and len(p) < 6 for p in parts[2:]):
                raise buffer.bad("a kernel has the name %.80r" % text)
            target, precision, layout = (int(p) for p in parts[2:])
            found = self.known[text] = Kernel(
                parts[0],
                parts[1],
                named(TARGETS, target),
                named(PRECISIONS, precision),
                named(LAYOUTS, layout),
            )
        return found

    def tensor(self, name: str) -> Tensor:
        """Return a variable; one that opt made for a cast has no dims of its own and gets those of its source."""
        found = self.vars.get(name, Tensor(name, "unknown", ()))
        base, _, cast = name.rpartition("/")
        if not found.dims and cast in CASTS and base in self.vars:
            return found._replace(dims=self.vars[base].dims)
        return found

    def program(self, version: int) -> Program:
        """Return the program that was collected."""

        def tensors(ends: List[Tuple[int, str]]) -> Tuple[Tensor, ...]:
            return tuple(self.tensor(name) for _, name in sorted(ends))

        return Program(
            version,
            tuple(self.kernels),
            self.ops,
            tensors(self.feeds),
            tensors(self.fetches),
            tuple(self.persistables),
            tuple(self.vars.values()),
        )


def _column(op: Table) -> int:
    """Return the position of a feed or fetch among the inputs or outputs."""
    for attr in op.tables(3):
        if attr.text_if_length(0, 3) == "col":
            return attr.i32(2)
    return 0
