"""Layer normalisation and activations compiled; the reference is `_network.LayerNorm` and torch.

What most networks do all the time, layer norm and silu, is written in vectors: `ROWS` rows at once,
so that the sums over one do not wait for those over another, and each number is read and written
once after them.

==========================  ================================================================
`normalise`                 layer norm without gain and shift
`silu_of_centred`           silu of the whole layer norm of rows whose mean is 0
`normalise_silu`            silu of the whole layer norm, with what the gradient needs
`normalise_backward`        from the gradient by the activations to that by the product
`activate`                  any activation
==========================  ================================================================

`activate` has a twin that keeps what the gradient needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
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
    """Code of a function of a matrix, `height` rows at a time; all rows lie behind each other.

    Arguments are addresses, then the width, the first row and the one behind the last.
    """

    def __init__(self, module: Any, name: str, n_addresses: int, height: int):
        kind = ir.FunctionType(ir.VoidType(), [I64] * (n_addresses + 3))
        self.module, self.height = module, height
        self.function = cgutils.get_or_insert_function(module, kind, f"{name}_{height}")
        self.is_there = not self.function.is_declaration
        if self.is_there:
            return
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        *self.addresses, self.width, first, self.stop = self.function.args
        start, self.body = (self.function.append_basic_block() for _ in range(2))
        builder = ir.IRBuilder(start)
        lanes = ir.Constant(I64, LANES)
        whole = builder.mul(builder.sdiv(self.width, lanes), lanes)
        self.whole, rest = builder.mul(whole, self.number(SIZE)), builder.sub(self.width, whole)
        self.is_partial = builder.icmp_signed(">", rest, self.number(0))
        self.last = Last(module, builder, builder.trunc(rest, I32))
        self.step = builder.mul(self.width, self.number(SIZE))
        self.zero = ir.Constant(VECTOR, [0.0] * LANES)
        builder.branch(self.body)
        builder = self.builder = ir.IRBuilder(self.body)
        self.first = builder.phi(I64)
        self.first.add_incoming(first, start)

    @staticmethod
    def number(value: int) -> Any:
        return ir.Constant(I64, value)

    def rows(self, array: Any) -> list[Any]:
        """Addresses of the rows of a block."""
        first = self.builder.add(array, self.builder.mul(self.first, self.step))
        return [
            self.builder.add(first, self.builder.mul(self.step, self.number(i)))
            for i in range(self.height)
        ]

    def load(self, array: Any) -> list[Any]:
        """Numbers of an array, one for each row of a block."""
        return [load_from(self.builder, self._at(array, i)) for i in range(self.height)]

    def store(self, values: list[Any], array: Any) -> None:
        for i, value in enumerate(values):
            store_to(self.builder, value, self._at(array, i))

    def _at(self, array: Any, i: int) -> Any:
        row = self.builder.add(self.first, self.number(i))
        place = self.builder.add(array, self.builder.mul(row, self.number(SIZE)))
        return self.builder.inttoptr(place, FLOAT.as_pointer())

    def end(self) -> Any:
        """Go on with the next block of rows; the function."""
        after = self.builder.add(self.first, self.number(self.height))
        self.first.add_incoming(after, self.builder.block)
        end = self.function.append_basic_block()
        is_more = self.builder.icmp_signed("<", after, self.stop)
        self.builder.cbranch(is_more, self.body, end)
        ir.IRBuilder(end).ret_void()
        return self.function

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

    def spread(self, values: list[Any]) -> list[Any]:
        return [spread(self.builder, value) for value in values]

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


def _odds(builder: Any, us: list[Any]) -> list[Any]:
    """``1 + exp(-u)``, to 5e-7 of itself for u above -10, to 4e-6 above -87.

    Of several vectors, step by step: a CPU sees too few instructions ahead to find another vector
    behind all steps of one.
    """
    most, least = _constant(126.0), _constant(-126.0)
    rounding = _constant(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer
    powers = [builder.fmul(u, _constant(-1.0 / math.log(2.0))) for u in us]
    powers = [builder.select(builder.fcmp_ordered(">", p, least), p, least) for p in powers]
    powers = [builder.select(builder.fcmp_ordered("<", p, most), p, most) for p in powers]
    shifted = [builder.fadd(p, rounding) for p in powers]
    whole = [builder.fsub(s, rounding) for s in shifted]
    fs = [builder.fsub(p, w) for p, w in zip(powers, whole, strict=True)]
    grown = [_constant(_POWER_OF_TWO[-1]) for _ in us]
    for coefficient in _POWER_OF_TWO[-2::-1]:
        c = _constant(coefficient)
        grown = [_fused(builder, g, f, c) for g, f in zip(grown, fs, strict=True)]
    shift = ir.Constant(NUMBERS, [23] * LANES)
    exponents = [builder.shl(builder.bitcast(s, NUMBERS), shift) for s in shifted]
    grown = [
        builder.bitcast(builder.add(builder.bitcast(g, NUMBERS), e), VECTOR)
        for g, e in zip(grown, exponents, strict=True)
    ]
    return [builder.fadd(_constant(1.0), g) for g in grown]


def _spread_function(module: Any, height: int, *, centred: bool) -> Any:
    """LLVM function of the means of rows, and of the inverses of their deviations.

    Of addresses of h, mean and rstd. `centred` if all means are 0.
    """
    code = _Code(module, "san_spread" + "_centred" * centred, 3, height)
    if code.is_there:
        return code.function
    h, mean, rstd = code.addresses
    rows, hs = range(height), code.rows(h)

    def add(builder: Any, place: Any, last: Any, totals: list[Any]) -> list[Any]:
        return [builder.fadd(totals[i], _load(builder, hs[i], place, last)) for i in rows]

    if not centred:
        means = [code.mean(total) for total in code.columns(add, [code.zero] * height)]
        centres = code.spread(means)
        code.store(means, mean)

    def square(builder: Any, place: Any, last: Any, totals: list[Any]) -> list[Any]:
        own = [_load(builder, row, place, last) for row in hs]
        if not centred:
            own = [builder.fsub(own[i], centres[i]) for i in rows]
            if last is not None:
                own = [builder.select(last.mask, distance, code.zero) for distance in own]
        return [_fused(builder, own[i], own[i], totals[i]) for i in rows]

    variances = [code.mean(total) for total in code.columns(square, [code.zero] * height)]
    code.store([code.rstd(variance) for variance in variances], rstd)
    return code.end()


def _silu_function(module: Any, height: int) -> Any:
    """LLVM function of silu of layer norm, of addresses of h, rstd, gain, shift and out."""
    code = _Code(module, "san_silu", 5, height)
    if code.is_there:
        return code.function
    h, rstd, gain, shift, out = code.addresses
    rows = range(height)
    hs, outs, factors = code.rows(h), code.rows(out), code.spread(code.load(rstd))

    def apply(builder: Any, place: Any, last: Any, _: list[Any]) -> list[Any]:
        g, s = (_load(builder, array, place, last) for array in (gain, shift))
        own = [_load(builder, row, place, last) for row in hs]
        values = [builder.fmul(own[i], factors[i]) for i in rows]
        us = [_fused(builder, g, value, s) for value in values]
        odds = _odds(builder, us)
        results = [builder.fdiv(us[i], odds[i]) for i in rows]
        for i in rows:
            _store(builder, results[i], outs[i], place, last)
        return []

    code.columns(apply, [])
    return code.end()


def _forward_function(module: Any, height: int, *, silu: bool) -> Any:
    """LLVM function of normalisation, also with silu.

    Of addresses of h, gain, shift, mean, rstd, normal, out and slope.
    """
    code = _Code(module, "san_normalise" + "_silu" * silu, 8, height)
    if code.is_there:
        return code.function
    h, gain, shift, mean, rstd, normal, out, slope = code.addresses
    rows = range(height)
    hs, normals, outs, slopes = (code.rows(array) for array in (h, normal, out, slope))
    means, factors = (code.spread(code.load(array)) for array in (mean, rstd))

    def apply(builder: Any, place: Any, last: Any, _: list[Any]) -> list[Any]:
        if silu:
            g, s = (_load(builder, array, place, last) for array in (gain, shift))
        own = [_load(builder, row, place, last) for row in hs]
        values = [builder.fsub(own[i], means[i]) for i in rows]
        values = [builder.fmul(values[i], factors[i]) for i in rows]
        for i in rows:
            _store(builder, values[i], normals[i], place, last)
        if not silu:
            return []
        us = [_fused(builder, g, value, s) for value in values]
        one = _constant(1.0)
        shares = [builder.fdiv(one, odds) for odds in _odds(builder, us)]
        results = [builder.fmul(us[i], shares[i]) for i in rows]
        rests = [builder.fsub(one, share) for share in shares]
        for i in rows:
            _store(builder, results[i], outs[i], place, last)
            own_slope = _fused(builder, results[i], rests[i], shares[i])
            _store(builder, own_slope, slopes[i], place, last)
        return []

    code.columns(apply, [])
    return code.end()


def _backward_function(module: Any, height: int) -> Any:
    """LLVM function of the gradient, of addresses as those of `normalise_backward`."""
    code = _Code(module, "san_normalise_backward", 8, height)
    if code.is_there:
        return code.function
    g, slope, normal, rstd, gain, by_gain, by_shift, by_bias = code.addresses
    rows = range(height)
    gs, slopes, normals = (code.rows(array) for array in (g, slope, normal))

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
    means = code.spread([code.mean(total) for total in totals])
    factors = code.spread(code.load(rstd))

    def apply(builder: Any, place: Any, last: Any, _: list[Any]) -> list[Any]:
        own_bias = _load(builder, by_bias, place, last)
        for i in rows:
            value = builder.fsub(_load(builder, gs[i], place, last), means[2 * i])
            own = builder.fmul(_load(builder, normals[i], place, last), means[2 * i + 1],
                               flags=_CONTRACT)  # fmt: skip
            value = builder.fmul(builder.fsub(value, own, flags=_CONTRACT), factors[i])
            _store(builder, value, gs[i], place, last)
            own_bias = builder.fadd(own_bias, value)
        _store(builder, own_bias, by_bias, place, last)
        return []

    code.columns(apply, [])
    return code.end()


def _call(function_of: Callable[[Any, int], Any], builder: Any, args: Any) -> None:
    """Call the function for rows in blocks of `ROWS`, then for those that are left."""
    *others, n_rows = args
    zero, height = ir.Constant(I64, 0), ir.Constant(I64, ROWS)
    whole = builder.mul(builder.sdiv(n_rows, height), height)
    for own, start, stop in ((ROWS, zero, whole), (1, whole, n_rows)):
        with builder.if_then(builder.icmp_signed("<", start, stop)):
            builder.call(function_of(builder.module, own), [*others, start, stop])


def _spread_intrinsic(*, centred: bool) -> Any:
    @intrinsic
    def deviations(typingctx: Any, h: Any, mean: Any, rstd: Any, width: Any, n_rows: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _call(partial(_spread_function, centred=centred), builder, args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), codegen

    return deviations


@intrinsic
def _silu(
    typingctx: Any, h: Any, rstd: Any, gain: Any, shift: Any, out: Any, width: Any, n_rows: Any
) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(_silu_function, builder, args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


def _forward_intrinsic(*, silu: bool) -> Any:
    @intrinsic
    def forward(
        typingctx: Any, h: Any, gain: Any, shift: Any, mean: Any, rstd: Any, normal: Any,
        out: Any, slope: Any, width: Any, n_rows: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _call(partial(_forward_function, silu=silu), builder, args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), codegen

    return forward


_spread, _spread_centred = _spread_intrinsic(centred=False), _spread_intrinsic(centred=True)
_normalise, _normalise_silu = _forward_intrinsic(silu=False), _forward_intrinsic(silu=True)


@intrinsic
def _backward(
    typingctx: Any, g: Any, slope: Any, normal: Any, rstd: Any, gain: Any, by_gain: Any,
    by_shift: Any, by_bias: Any, width: Any, n_rows: Any,
) -> Any:  # fmt: skip
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(_backward_function, builder, args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), codegen


@kernel(borrows=True)
def silu_of_centred(h, gain, shift, rstd, out):
    """Silu of gain * normal + shift, with what `normalise` returns, where rows have mean 0."""
    n_rows, width = h.shape
    _spread_centred(address(h), 0, address(rstd), width, n_rows)
    _silu(
        address(h), address(rstd), address(gain), address(shift), address(out), width, n_rows
    )  # fmt: skip


@kernel(borrows=True)
def normalise(h, mean, normal, rstd):
    """Rows of h with mean 0 and variance 1, their means, and the factors that made it so."""
    n_rows, width = h.shape
    _spread(address(h), address(mean), address(rstd), width, n_rows)
    _normalise(
        address(h), 0, 0, address(mean), address(rstd), address(normal), 0, 0, width, n_rows
    )  # fmt: skip


@kernel(borrows=True)
def normalise_silu(h, gain, shift, mean, normal, rstd, out, slope):
    """Silu of gain * normal + shift, its derivative by that, and what `normalise` returns."""
    n_rows, width = h.shape
    _spread(address(h), address(mean), address(rstd), width, n_rows)
    _normalise_silu(
        address(h), address(gain), address(shift), address(mean), address(rstd), address(normal),
        address(out), address(slope), width, n_rows,
    )  # fmt: skip


@kernel(borrows=True)
def normalise_backward(g, slope, normal, rstd, gain, g_gain, g_shift, g_bias):
    """Gradient `g` by the activations, in place, to that by the layer's product.

    Those by gain, shift and bias are added to what there is.
    """
    n_rows, width = g.shape
    _backward(
        address(g), address(slope), address(normal), address(rstd), address(gain),
        address(g_gain), address(g_shift), address(g_bias), width, n_rows,
    )  # fmt: skip


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


@kernel(borrows=True)
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


@kernel(borrows=True)
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
