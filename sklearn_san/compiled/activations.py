"""Layer normalisation and activations compiled; the reference is `_network.LayerNorm` and torch.

What most networks do all the time, layer norm and silu, is written in vectors: `ROWS` rows at once,
so that the sums over one do not wait for those over another, and each number is read and written
once after them.

==========================  ================================================================
`normalise`                 layer norm without gain and shift
`normalise_silu`            silu of the whole layer norm
`normalise_backward`        from the gradient by the activations to that by the product
`activate`                  any activation
==========================  ================================================================

The first two and `activate` have twins that keep what the gradient needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._constants import LAYER_NORM_EPSILON
from .jit import kernel, piece
from .special import SQRT_HALF, sigmoid
from .vectors import (
    FLOAT,
    I32,
    I64,
    LANES,
    NUMBERS,
    SIZE,
    VECTOR,
    Last,
    address,
    load_from,
    spread,
    store_to,
    vector_at,
)  # fmt: skip

#: Activations that the kernels know; a plan has the place of one in this list.
ACTIVATIONS = ("silu", "relu", "elu", "tanh", "gelu")
SILU, _RELU, _ELU, _TANH, _GELU = range(len(ACTIVATIONS))
#: Rows that are summed side by side.
ROWS = 4

_F32 = np.float32
_ZERO, _ONE, _TWO, _HALF = _F32(0.0), _F32(1.0), _F32(2.0), _F32(0.5)
_INVERSE_SQRT_2PI = _F32(1.0 / math.sqrt(2.0 * math.pi))


def _power_of_two(degree: int = 5) -> list[float]:
    """Coefficients of 2^f for f between -1/2 and 1/2, to 1e-7 of itself."""
    f = 0.5 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    return np.polynomial.polynomial.polyfit(f, 2.0**f, degree, w=2.0**-f).tolist()


_POWER_OF_TWO = _power_of_two()
_CONTRACT, _REORDER = ("contract",), ("contract", "reassoc", "nsz")
#: Body of a loop over columns: of the place of a column in bytes, access and values to new values.
_Body = Callable[[Any, Any, Any, list[Any]], list[Any]]


class _Code:
    """Code of a function of rows (height, width), which lie behind each other.

    All arguments but the width are addresses.
    """

    def __init__(self, module: Any, name: str, n_arguments: int):
        kind = ir.FunctionType(ir.VoidType(), [I64] * (n_arguments + 1))
        self.module = module
        self.function = cgutils.get_or_insert_function(module, kind, name)
        self.is_there = not self.function.is_declaration
        if self.is_there:
            return
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.width = self.function.args[-1]
        builder = self.builder = ir.IRBuilder(self.function.append_basic_block())
        lanes = ir.Constant(I64, LANES)
        whole = builder.mul(builder.sdiv(self.width, lanes), lanes)
        self.whole, rest = builder.mul(whole, self.number(SIZE)), builder.sub(self.width, whole)
        self.is_partial = builder.icmp_signed(">", rest, self.number(0))
        self.last = Last(module, builder, builder.trunc(rest, I32))
        self.zero = ir.Constant(VECTOR, [0.0] * LANES)

    @staticmethod
    def number(value: int) -> Any:
        return ir.Constant(I64, value)

    def row(self, array: Any, i: int) -> Any:
        """Address of row i."""
        step = self.builder.mul(self.width, self.number(SIZE * i))
        return self.builder.add(array, step)

    def columns(self, body: _Body, values: list[Any]) -> list[Any]:
        """Loop over columns, vector by vector, that carries values."""
        before = self.builder.block
        loop, middle, partial, end = (self.function.append_basic_block() for _ in range(4))
        is_any = self.builder.icmp_signed(">", self.whole, self.number(0))
        self.builder.cbranch(is_any, loop, middle)
        builder = self.builder = ir.IRBuilder(loop)
        place, own = builder.phi(I64), [builder.phi(value.type) for value in values]
        after = body(builder, place, None, own)
        following = builder.add(place, self.number(SIZE * LANES))
        builder.cbranch(builder.icmp_signed("<", following, self.whole), loop, middle)
        for variable, first, then in zip(
            [place, *own], [self.number(0), *values], [following, *after], strict=True
        ):
            variable.add_incoming(first, before)
            variable.add_incoming(then, loop)
        builder = self.builder = ir.IRBuilder(middle)
        values = self._meet([(before, values), (loop, after)])
        builder.cbranch(self.is_partial, partial, end)
        builder = self.builder = ir.IRBuilder(partial)
        after = body(builder, self.whole, self.last, values)
        builder.branch(end)
        self.builder = ir.IRBuilder(end)
        return self._meet([(middle, values), (partial, after)])

    def _meet(self, ways: list[tuple[Any, list[Any]]]) -> list[Any]:
        met = []
        for i, value in enumerate(ways[0][1]):
            variable = self.builder.phi(value.type)
            for block, values in ways:
                variable.add_incoming(values[i], block)
            met.append(variable)
        return met

    def mean(self, vector: Any) -> Any:
        """Sum over the lanes, divided by the width, as a float."""
        kind = ir.FunctionType(FLOAT, [FLOAT, VECTOR])
        name = f"llvm.vector.reduce.fadd.v{LANES}f32"
        reduce = cgutils.get_or_insert_function(self.module, kind, name)
        total = self.builder.call(reduce, [ir.Constant(FLOAT, -0.0), vector], fastmath=("reassoc",))
        return self.builder.fdiv(total, self.builder.sitofp(self.width, FLOAT))

    def rstd(self, variance: Any) -> Any:
        kind = ir.FunctionType(FLOAT, [FLOAT])
        root = cgutils.get_or_insert_function(self.module, kind, "llvm.sqrt.f32")
        wide = self.builder.fadd(variance, ir.Constant(FLOAT, float(_F32(LAYER_NORM_EPSILON))))
        return self.builder.fdiv(ir.Constant(FLOAT, 1.0), self.builder.call(root, [wide]))


def _load(builder: Any, array: Any, place: Any, last: Any) -> Any:
    pointer = vector_at(builder, builder.add(array, place), VECTOR)
    return load_from(builder, pointer) if last is None else last.load(builder, pointer)


def _store(builder: Any, value: Any, array: Any, place: Any, last: Any) -> None:
    pointer = vector_at(builder, builder.add(array, place), VECTOR)
    if last is None:
        store_to(builder, value, pointer)
    else:
        last.store(builder, value, pointer)


def _constant(value: float) -> Any:
    return ir.Constant(VECTOR, [float(_F32(value))] * LANES)


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``."""
    return builder.fadd(builder.fmul(a, b, flags=_CONTRACT), c, flags=_CONTRACT)


def _sigmoid(builder: Any, u: Any) -> Any:
    """Logistic function, to 5e-7 of itself for u above -10, to 4e-6 above -87."""
    most, least = _constant(126.0), _constant(-126.0)
    power = builder.fmul(u, _constant(-1.0 / math.log(2.0)))
    power = builder.select(builder.fcmp_ordered(">", power, least), power, least)
    power = builder.select(builder.fcmp_ordered("<", power, most), power, most)
    rounding = _constant(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer
    shifted = builder.fadd(power, rounding)
    f = builder.fsub(power, builder.fsub(shifted, rounding))
    p = _constant(_POWER_OF_TWO[-1])
    for coefficient in _POWER_OF_TWO[-2::-1]:
        p = _fused(builder, p, f, _constant(coefficient))
    exponent = builder.shl(builder.bitcast(shifted, NUMBERS), ir.Constant(NUMBERS, [23] * LANES))
    grown = builder.bitcast(builder.add(builder.bitcast(p, NUMBERS), exponent), VECTOR)
    one = _constant(1.0)
    return builder.fdiv(one, builder.fadd(one, grown))


def _forward_function(module: Any, height: int, *, silu: bool, keep: bool) -> Any:
    """LLVM function of normalisation, also with silu, which keeps what the gradient needs or not.

    Of addresses of h, bias, gain, shift, normal, rstd, out and slope.
    """
    code = _Code(module, f"san_normalise_{height}" + "_silu" * silu + "_keep" * keep, 8)
    if code.is_there:
        return code.function
    h, bias, gain, shift, normal, rstd, out, slope = code.function.args[:-1]
    rows = range(height)
    hs, normals, outs, slopes = (
        [code.row(array, i) for i in rows] for array in (h, normal, out, slope)
    )

    def add(builder: Any, place: Any, last: Any, totals: list[Any]) -> list[Any]:
        b = _load(builder, bias, place, last)
        sums = [builder.fadd(_load(builder, hs[i], place, last), b) for i in rows]
        return [builder.fadd(totals[i], sums[i]) for i in rows]

    totals = code.columns(add, [code.zero] * height)
    means = [spread(code.builder, code.mean(total)) for total in totals]

    def centred(builder: Any, place: Any, last: Any) -> list[Any]:
        b = _load(builder, bias, place, last)
        sums = [builder.fadd(_load(builder, hs[i], place, last), b) for i in rows]
        return [builder.fsub(sums[i], means[i]) for i in rows]

    def square(builder: Any, place: Any, last: Any, totals: list[Any]) -> list[Any]:
        after = []
        for distance, total in zip(centred(builder, place, last), totals, strict=True):
            own = distance if last is None else builder.select(last.mask, distance, code.zero)
            after.append(_fused(builder, own, own, total))
        return after

    totals = code.columns(square, [code.zero] * height)
    scales = [code.rstd(code.mean(total)) for total in totals]
    if keep or not silu:
        for i in rows:
            place = code.builder.add(rstd, code.number(SIZE * i))
            store_to(code.builder, scales[i], code.builder.inttoptr(place, FLOAT.as_pointer()))
    factors = [spread(code.builder, scale) for scale in scales]

    def apply(builder: Any, place: Any, last: Any, _: list[Any]) -> list[Any]:
        if silu:
            g, s = (_load(builder, array, place, last) for array in (gain, shift))
        for i, distance in enumerate(centred(builder, place, last)):
            value = builder.fmul(distance, factors[i])
            if keep or not silu:
                _store(builder, value, normals[i], place, last)
            if not silu:
                continue
            u = _fused(builder, g, value, s)
            share = _sigmoid(builder, u)
            result = builder.fmul(u, share)
            _store(builder, result, outs[i], place, last)
            if keep:
                rest = builder.fsub(_constant(1.0), share)
                _store(builder, _fused(builder, result, rest, share), slopes[i], place, last)
        return []

    code.columns(apply, [])
    code.builder.ret_void()
    return code.function


def _backward_function(module: Any, height: int) -> Any:
    """LLVM function of the gradient, of addresses as those of `normalise_backward`."""
    code = _Code(module, f"san_normalise_backward_{height}", 7)
    if code.is_there:
        return code.function
    g, slope, normal, rstd, gain, by_gain, by_shift = code.function.args[:-1]
    rows = range(height)
    gs, slopes, normals = ([code.row(array, i) for i in rows] for array in (g, slope, normal))

    def add(builder: Any, place: Any, last: Any, totals: list[Any]) -> list[Any]:
        factor = _load(builder, gain, place, last)
        own_gain, own_shift = (_load(builder, array, place, last) for array in (by_gain, by_shift))
        after = []
        for i in rows:
            value = _load(builder, normals[i], place, last)
            by_u = builder.fmul(
                _load(builder, gs[i], place, last), _load(builder, slopes[i], place, last)
            )
            own_shift = builder.fadd(own_shift, by_u)
            own_gain = _fused(builder, by_u, value, own_gain)
            by_normal = builder.fmul(by_u, factor)
            _store(builder, by_normal, gs[i], place, last)
            after.append(builder.fadd(totals[2 * i], by_normal))
            after.append(_fused(builder, by_normal, value, totals[2 * i + 1]))
        _store(builder, own_gain, by_gain, place, last)
        _store(builder, own_shift, by_shift, place, last)
        return after

    totals = code.columns(add, [code.zero] * (2 * height))
    means = [spread(code.builder, code.mean(total)) for total in totals]
    factors = []
    for i in rows:
        place = code.builder.add(rstd, code.number(SIZE * i))
        pointer = code.builder.inttoptr(place, FLOAT.as_pointer())
        factors.append(spread(code.builder, load_from(code.builder, pointer)))

    def apply(builder: Any, place: Any, last: Any, _: list[Any]) -> list[Any]:
        for i in rows:
            value = builder.fsub(_load(builder, gs[i], place, last), means[2 * i])
            own = builder.fmul(_load(builder, normals[i], place, last), means[2 * i + 1],
                               flags=_CONTRACT)  # fmt: skip
            value = builder.fsub(value, own, flags=_CONTRACT)
            _store(builder, builder.fmul(value, factors[i]), gs[i], place, last)
        return []

    code.columns(apply, [])
    code.builder.ret_void()
    return code.function


def _call(function_of: Callable[[Any, int], Any], context: Any, builder: Any, args: Any) -> Any:
    """Call of the function for `ROWS` rows or, if the first argument is false, for one."""
    is_tall, *others = args
    with builder.if_else(cgutils.as_bool_bit(builder, is_tall)) as (tall, single):
        for branch, height in ((tall, ROWS), (single, 1)):
            with branch:
                builder.call(function_of(builder.module, height), others)
    return context.get_dummy_value()


def _forward_intrinsic(*, silu: bool, keep: bool) -> Any:
    @intrinsic
    def forward(
        typingctx: Any, is_tall: Any, h: Any, bias: Any, gain: Any, shift: Any, normal: Any,
        rstd: Any, out: Any, slope: Any, width: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def function_of(module: Any, height: int) -> Any:
                return _forward_function(module, height, silu=silu, keep=keep)

            return _call(function_of, context, builder, args)

        return types.void(types.boolean, *[types.int64] * 9), codegen

    return forward


_normalise = _forward_intrinsic(silu=False, keep=True)
_normalise_silu = _forward_intrinsic(silu=True, keep=False)
_normalise_silu_keep = _forward_intrinsic(silu=True, keep=True)


@intrinsic
def _backward(
    typingctx: Any, is_tall: Any, g: Any, slope: Any, normal: Any, rstd: Any, gain: Any,
    by_gain: Any, by_shift: Any, width: Any,
) -> Any:  # fmt: skip
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(_backward_function, context, builder, args)

    return types.void(types.boolean, *[types.int64] * 8), codegen


@kernel
def normalise(h, bias, normal, rstd):
    """Rows of h + bias with mean 0 and variance 1, and the factors that made it so."""
    n_rows, width = h.shape
    i, step = 0, SIZE * width
    while i < n_rows:
        is_tall = n_rows - i >= ROWS
        _normalise(
            is_tall, address(h) + i * step, address(bias), 0, 0, address(normal) + i * step,
            address(rstd) + i * SIZE, 0, 0, width,
        )  # fmt: skip
        i += ROWS if is_tall else 1


@kernel
def normalise_silu(h, bias, gain, shift, out):
    """Silu of gain * normal + shift, with `normal` as in `normalise`."""
    n_rows, width = h.shape
    i, step = 0, SIZE * width
    while i < n_rows:
        is_tall = n_rows - i >= ROWS
        _normalise_silu(
            is_tall, address(h) + i * step, address(bias), address(gain), address(shift), 0, 0,
            address(out) + i * step, 0, width,
        )  # fmt: skip
        i += ROWS if is_tall else 1


@kernel
def normalise_silu_with_slope(h, bias, gain, shift, normal, rstd, out, slope):
    """The same, with what `normalise` returns and the derivative by gain * normal + shift."""
    n_rows, width = h.shape
    i, step = 0, SIZE * width
    while i < n_rows:
        is_tall = n_rows - i >= ROWS
        _normalise_silu_keep(
            is_tall, address(h) + i * step, address(bias), address(gain), address(shift),
            address(normal) + i * step, address(rstd) + i * SIZE, address(out) + i * step,
            address(slope) + i * step, width,
        )  # fmt: skip
        i += ROWS if is_tall else 1


@kernel
def normalise_backward(g, slope, normal, rstd, gain, g_gain, g_shift):
    """Gradient `g` by the activations, in place, to that by the layer's product."""
    n_rows, width = g.shape
    i, step = 0, SIZE * width
    while i < n_rows:
        is_tall = n_rows - i >= ROWS
        _backward(
            is_tall, address(g) + i * step, address(slope) + i * step, address(normal) + i * step,
            address(rstd) + i * SIZE, address(gain), address(g_gain), address(g_shift), width,
        )  # fmt: skip
        i += ROWS if is_tall else 1


@piece
def _other(kind, u):
    """Value and slope at u of what is not the default activation."""
    if kind == _RELU:
        value, slope = max(u, _ZERO), _ONE if u > _ZERO else _ZERO
    elif kind == _ELU:
        grown = _F32(math.exp(min(u, _ZERO)))
        value, slope = (u, _ONE) if u > _ZERO else (_F32(math.expm1(min(u, _ZERO))), grown)
    elif kind == _TANH:
        value = _F32(math.tanh(u))
        slope = _ONE - value * value
    else:
        below = _HALF * (_ONE + _F32(math.erf(u * _F32(SQRT_HALF))))
        value = u * below
        slope = below + u * _INVERSE_SQRT_2PI * _F32(math.exp(-_HALF * u * u))
    return value, slope


@kernel
def activate(kind, normal, gain, shift, out):
    """Activation of gain * normal + shift."""
    n_rows, width = normal.shape
    if kind == SILU:
        for i in range(n_rows):
            for j in range(width):
                u = gain[j] * normal[i, j] + shift[j]
                out[i, j] = u * sigmoid(u)
    else:
        for i in range(n_rows):
            for j in range(width):
                out[i, j] = _other(kind, gain[j] * normal[i, j] + shift[j])[0]


@kernel
def activate_with_slope(kind, normal, gain, shift, out, slope):
    """The same, with the derivative by u."""
    n_rows, width = normal.shape
    if kind == SILU:
        for i in range(n_rows):
            for j in range(width):
                u = gain[j] * normal[i, j] + shift[j]
                s = sigmoid(u)
                out[i, j] = u * s
                slope[i, j] = s + u * s * (_ONE - s)
    else:
        for i in range(n_rows):
            for j in range(width):
                u = gain[j] * normal[i, j] + shift[j]
                out[i, j], slope[i, j] = _other(kind, u)
