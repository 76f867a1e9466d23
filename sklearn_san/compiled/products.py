"""Products of the small matrices of a network, near the peak of one core of any CPU.

BLAS is made for large matrices: on tiles of 64 rows it reaches half of the peak where there is no
AVX-512, copies what is transposed, and wakes threads. Here blocks of a few rows and two vectors of
columns are summed in registers, by vector instructions that are written down as such, since
compilers do not find them by themselves. Nothing is copied: the second factor is read row by row,
and only the first one may be transposed; `transpose` serves where the second one is.

==============  ============================================================================
`multiply`      ``out = a @ b``
`add_product`   ``out += a @ b``
`affine`        ``out = a @ b + bias``
`transpose`     ``out = a.T``
==============  ============================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import kernel
from .vectors import (
    BIT,
    FLOAT,
    I32,
    I64,
    LANES,
    QUAD,
    SIZE,
    VECTOR,
    Last,
    address,
    load_from,
    spread,
    store_to,
    vector_at,
)

#: Vectors of columns in a block.
_VECTORS = 2
#: Rows of a block, so that its sums fill the registers; then what the last rows are made of.
HEIGHTS = (8, 4, 2, 1) if LANES == 16 else (6, 4, 2, 1)
_TALLEST = HEIGHTS[0]
#: So many last rows are two blocks of four: six and two would leave most of the registers idle.
_FOUR_AND_FOUR = 8 if _TALLEST == 6 else 0


def _block_function(module: Any, height: int, n_vectors: int, *, is_partial: bool) -> Any:
    """LLVM function of one block, added to the module if it is not there.

    Arguments are addresses of a, b, c and what the sums begin with, each with their steps in
    numbers, the depth of the sum, the lanes of the last vector, and whether sums begin with that
    or with 0.
    """
    name = f"san_block_{height}_{n_vectors}" + "_partial" * is_partial
    kind = ir.FunctionType(ir.VoidType(), [I64] * 10 + [I32, BIT])
    function = cgutils.get_or_insert_function(module, kind, name)
    if not function.is_declaration:
        return function
    function.linkage = "internal"
    function.attributes.add("noinline")
    a, a_row, a_column, b, b_row, c, c_row, begin, begin_row, depth, n_last, begins = function.args
    start, reading, loop, end = (function.append_basic_block() for _ in range(4))
    vectors, contract = range(n_vectors), ("contract",)

    builder = ir.IRBuilder(start)
    one, size = ir.Constant(I64, 1), ir.Constant(I64, SIZE)
    a_row, a_column, b_row, c_row, begin_row = (
        builder.mul(step, size) for step in (a_row, a_column, b_row, c_row, begin_row)
    )
    steps = [builder.mul(a_row, ir.Constant(I64, i)) for i in range(height)]
    rows = [builder.add(c, builder.mul(c_row, ir.Constant(I64, i))) for i in range(height)]
    begins_at = [
        builder.add(begin, builder.mul(begin_row, ir.Constant(I64, i))) for i in range(height)
    ]
    last = Last(module, builder, n_last) if is_partial else None
    builder.cbranch(begins, reading, loop)

    def load(builder: Any, place: Any, v: int) -> Any:
        pointer = vector_at(builder, place, VECTOR, v)
        if last is not None and v == n_vectors - 1:
            return last.load(builder, pointer)
        return load_from(builder, pointer)

    builder = ir.IRBuilder(reading)
    before = [[load(builder, row, v) for v in vectors] for row in begins_at]
    builder.branch(loop)

    builder = ir.IRBuilder(loop)
    k, at_a, at_b = (builder.phi(I64) for _ in range(3))
    sums = [[builder.phi(VECTOR) for _ in vectors] for _ in rows]
    factors = [load(builder, at_b, v) for v in vectors]
    after = []
    for step, own in zip(steps, sums, strict=True):
        place = builder.inttoptr(builder.add(at_a, step), FLOAT.as_pointer())
        factor = spread(builder, load_from(builder, place), VECTOR)
        products = [builder.fmul(factor, factors[v], flags=contract) for v in vectors]
        after.append([builder.fadd(products[v], own[v], flags=contract) for v in vectors])
    following = builder.add(k, one), builder.add(at_a, a_column), builder.add(at_b, b_row)
    builder.cbranch(builder.icmp_signed("<", following[0], depth), loop, end)
    for variable, first, then in zip(
        (k, at_a, at_b), (ir.Constant(I64, 0), a, b), following, strict=True
    ):
        for block, value in ((start, first), (reading, first), (loop, then)):
            variable.add_incoming(value, block)
    zero = ir.Constant(VECTOR, [0.0] * LANES)
    for i in range(height):
        for v in vectors:
            for block, value in ((start, zero), (reading, before[i][v]), (loop, after[i][v])):
                sums[i][v].add_incoming(value, block)

    builder = ir.IRBuilder(end)
    for i in range(height):
        for v in vectors:
            pointer = vector_at(builder, rows[i], VECTOR, v)
            if last is not None and v == n_vectors - 1:
                last.store(builder, after[i][v], pointer)
            else:
                store_to(builder, after[i][v], pointer)
    builder.ret_void()
    return function


@intrinsic
def _block(
    typingctx: Any, height: Any, a: Any, a_row: Any, a_column: Any, b: Any, b_row: Any, c: Any,
    c_row: Any, begin: Any, begin_row: Any, depth: Any, width: Any, begins: Any,
) -> Any:  # fmt: skip
    """A block of `height` rows and `width` columns, 1 to ``_VECTORS * LANES``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        height, *common, width, begins = args
        lanes, one = ir.Constant(I64, LANES), ir.Constant(I64, 1)
        before = builder.sdiv(builder.sub(width, one), lanes)  # vectors before the last one
        n_last = builder.sub(width, builder.mul(before, lanes))
        is_partial = builder.icmp_signed("<", n_last, lanes)
        common += [builder.trunc(n_last, I32), cgutils.as_bool_bit(builder, begins)]
        # height, vectors and whether the last one is whole as one number
        kind = builder.mul(builder.add(builder.mul(height, ir.Constant(I64, _VECTORS)), before),
                           ir.Constant(I64, 2))  # fmt: skip
        kind = builder.add(kind, builder.zext(is_partial, I64))
        end = builder.append_basic_block()
        cases = builder.switch(kind, end)
        for h in HEIGHTS:
            for n_before in range(_VECTORS):
                for partial in (False, True):
                    block = builder.append_basic_block()
                    cases.add_case(ir.Constant(I64, (h * _VECTORS + n_before) * 2 + partial), block)
                    with builder.goto_block(block):
                        function = _block_function(
                            builder.module, h, n_before + 1, is_partial=partial
                        )
                        builder.call(function, common)
                        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 12, types.boolean), codegen


@kernel(borrows=True)
def _multiply(
    a, a_row, a_column, b, b_row, c, c_row, begin, begin_row, n_rows, depth, n_columns, begins
):  # fmt: skip
    column = 0
    while column < n_columns:
        width = min(n_columns - column, _VECTORS * LANES)
        row = 0
        while row < n_rows:
            left = n_rows - row
            is_tall = left >= _TALLEST and left != _FOUR_AND_FOUR
            height = _TALLEST if is_tall else 4 if left >= 4 else 2 if left >= 2 else 1
            _block(
                height, a + SIZE * row * a_row, a_row, a_column, b + SIZE * column, b_row,
                c + SIZE * (row * c_row + column), c_row,
                begin + SIZE * (row * begin_row + column), begin_row, depth, width, begins,
            )  # fmt: skip
            row += height
        column += width


@kernel(borrows=True)
def _product(a, b, out, begin, begin_row, begins):
    _multiply(
        address(a), a.strides[0] // SIZE, a.strides[1] // SIZE, address(b),
        b.strides[0] // SIZE, address(out), out.strides[0] // SIZE, begin, begin_row, a.shape[0],
        a.shape[1], b.shape[1], begins,
    )  # fmt: skip


@kernel(borrows=True)
def multiply(a, b, out):
    """``out = a @ b``, float32; the rows of b and out are contiguous."""
    if a.shape[1] == 0:
        out[:] = np.float32(0.0)
        return
    begins = a.shape[1] < 0  # False; a literal would have `_multiply` compiled twice
    _product(a, b, out, 0, 0, begins)


@kernel(borrows=True)
def add_product(a, b, out):
    """``out += a @ b``, as `multiply`."""
    begins = a.shape[1] > 0
    if begins:
        _product(a, b, out, address(out), out.strides[0] // SIZE, begins)


@kernel(borrows=True)
def affine(a, b, bias, out):
    """``out = a @ b + bias``, as `multiply`; bias is a contiguous vector."""
    begins = a.shape[1] > 0
    if begins:
        _product(a, b, out, address(bias), 0, begins)
        return
    for i in range(len(out)):
        for j in range(len(bias)):
            out[i, j] = bias[j]


@intrinsic
def _transpose_square(typingctx: Any, a: Any, a_row: Any, out: Any, out_row: Any) -> Any:
    """Transpose four rows and columns, given addresses and steps in bytes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, a_row, out, out_row = args

        def row_of(place: Any, step: Any, i: int) -> Any:
            row = builder.add(place, builder.mul(step, ir.Constant(I64, i)))
            return vector_at(builder, row, QUAD)

        def shuffle(first: Any, second: Any, lanes: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(I32, 4), lanes)
            return builder.shuffle_vector(first, second, mask)

        rows = [load_from(builder, row_of(a, a_row, i)) for i in range(4)]
        pairs = [
            shuffle(rows[i], rows[i + 1], lanes)
            for i in (0, 2)
            for lanes in ([0, 4, 1, 5], [2, 6, 3, 7])
        ]  # of rows 0 and 1 the first and the last two columns, then of rows 2 and 3
        for i in range(4):
            lanes = [0, 1, 4, 5] if i % 2 == 0 else [2, 3, 6, 7]
            column = shuffle(pairs[i // 2], pairs[i // 2 + 2], lanes)
            store_to(builder, column, row_of(out, out_row, i))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@kernel(borrows=True)
def transpose(a, out):
    """``out = a.T``, float32; the rows of both are contiguous."""
    n, m = a.shape
    whole_n, whole_m = n - n % 4, m - m % 4
    from_a, from_out, a_row, out_row = address(a), address(out), a.strides[0], out.strides[0]
    for j in range(0, whole_m, 4):
        for i in range(0, whole_n, 4):
            _transpose_square(
                from_a + i * a_row + SIZE * j, a_row, from_out + j * out_row + SIZE * i, out_row
            )
    for i in range(n):
        for j in range(whole_m if i < whole_n else 0, m):
            out[j, i] = a[i, j]
