"""Vectors of float32 in LLVM's terms, for loops of which compilers make too little.

===========================  ===============================================================
`LANES`, `VECTOR`            numbers in a vector, and its type
`spread`                     a vector of one number
`vector_at`                  pointer to a vector; read by `load_from`, written by `store_to`
`Last`                       the last vector of a row, of which only some lanes are there
`address`                    where an array begins
===========================  ===============================================================
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import cpu

I64, I32, BIT, FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(1), ir.FloatType()
SIZE = 4  # bytes of a float32


def _lanes() -> int:
    """Float32 numbers in a vector register of the CPU that numba compiles for."""
    name, features = cpu()
    if "+avx512f" in features:
        return 16
    is_old = name.lower() == "generic" or "-avx," in f"{features},"
    return 8 if platform.machine().lower() in ("x86_64", "amd64") and not is_old else 4


LANES = _lanes()
VECTOR, NUMBERS = ir.VectorType(FLOAT, LANES), ir.VectorType(I32, LANES)
QUAD = ir.VectorType(FLOAT, 4)


def spread(builder: Any, value: Any, kind: Any = VECTOR) -> Any:
    """Vector of which every lane is `value`."""
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(NUMBERS, [0] * LANES))


def vector_at(builder: Any, place: Any, kind: Any, n: int = 0) -> Any:
    """Pointer to the vector that is `n` vectors behind an address."""
    offset = ir.Constant(I64, SIZE * kind.count * n)
    return builder.inttoptr(builder.add(place, offset), kind.as_pointer())


def load_from(builder: Any, pointer: Any) -> Any:
    """What is at a pointer, wherever that lies."""
    value = builder.load(pointer)
    value.align = SIZE
    return value


def store_to(builder: Any, value: Any, pointer: Any) -> None:
    """The counterpart of `load_from`."""
    builder.store(value, pointer).align = SIZE


class Last:
    """Reads and writes the last vector of a row, of which only some lanes are there."""

    def __init__(self, module: Any, builder: Any, n_lanes: Any):
        order = ir.Constant(NUMBERS, list(range(LANES)))
        self.mask = builder.icmp_signed("<", order, spread(builder, n_lanes, NUMBERS))
        pointer, kind = VECTOR.as_pointer(), self.mask.type
        reading = ir.FunctionType(VECTOR, [pointer, I32, kind, VECTOR])
        writing = ir.FunctionType(ir.VoidType(), [VECTOR, pointer, I32, kind])
        name = f"llvm.masked.{{}}.v{LANES}f32.p0"
        self.reading = cgutils.get_or_insert_function(module, reading, name.format("load"))
        self.writing = cgutils.get_or_insert_function(module, writing, name.format("store"))
        self.align = ir.Constant(I32, SIZE)

    def load(self, builder: Any, pointer: Any) -> Any:
        nothing = ir.Constant(VECTOR, [0.0] * LANES)
        return builder.call(self.reading, [pointer, self.align, self.mask, nothing])

    def store(self, builder: Any, value: Any, pointer: Any) -> None:
        builder.call(self.writing, [value, pointer, self.align, self.mask])


@intrinsic
def address(typingctx: Any, array: Any) -> Any:
    """Address of the first number of an array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        own = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(own.data, I64)

    return types.int64(array), codegen
