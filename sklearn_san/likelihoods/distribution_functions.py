"""Distribution functions that torch lacks, from scipy, with gradients.

Values are computed in float64 on the CPU. The gradient with respect to the argument is the
density; with respect to shape parameters it is a central difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_STEP = 1e-5
#: Log of a probability below which tails are computed in log space; there scipy's inverse fails,
#: or the probability itself loses digits.
_FAR = -20.0


def _evaluate(function: Callable[..., np.ndarray], *arguments: Tensor) -> Tensor:
    """`function` of tensors, through numpy in float64; in the first argument's dtype."""
    arrays = [argument.detach().double().cpu().numpy() for argument in arguments]
    result = torch.as_tensor(np.asarray(function(*arrays)))
    return result.to(arguments[0].dtype).to(arguments[0].device)


class _Cdf(Function):
    """``cdf(x, *shape)`` whose derivative with respect to x is ``pdf(x, *shape)``."""

    @staticmethod
    def forward(ctx: Any, cdf: Callable, pdf: Callable, x: Tensor, *shape: Tensor) -> Tensor:
        ctx.cdf, ctx.pdf = cdf, pdf
        ctx.save_for_backward(x, *shape)
        return _evaluate(cdf, x, *shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, *shape = ctx.saved_tensors
        gradients: list[Tensor | None] = [None, None, None]
        if ctx.needs_input_grad[2]:
            gradients[2] = (grad * _evaluate(ctx.pdf, x, *shape)).sum_to_size(x.shape)
        for i, value in enumerate(shape):
            if not ctx.needs_input_grad[3 + i]:
                gradients.append(None)
                continue

            def slope(x: np.ndarray, *s: np.ndarray, i: int = i) -> np.ndarray:
                step = _STEP * s[i]
                up, down = ([*s[:i], s[i] + h, *s[i + 1 :]] for h in (step, -step))
                return (ctx.cdf(x, *up) - ctx.cdf(x, *down)) / (2 * step)

            gradients.append((grad * _evaluate(slope, x, *shape)).sum_to_size(value.shape))
        return tuple(gradients)


def _student_t_cdf(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        square = t**2
    near = square < df  # where the argument of the other form is too near 1 to keep digits
    half = special.betainc(0.5, 0.5 * df, np.where(near, square, 0.0) / (df + square))
    tail = 0.5 * special.betainc(0.5 * df, 0.5, df / (df + square))
    tail = np.where(near, 0.5 - 0.5 * half, tail)
    return np.where(t < 0, tail, 1.0 - tail)


def _student_t_pdf(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    log_norm = special.gammaln(0.5 * (df + 1.0)) - special.gammaln(0.5 * df)
    with np.errstate(over="ignore"):
        log_kernel = -0.5 * (df + 1.0) * np.log1p(t**2 / df)
    return np.exp(log_norm - 0.5 * np.log(np.pi * df) + log_kernel)


def student_t_cdf(t: Tensor, df: Tensor) -> Tensor:
    """Cumulative distribution of Student's t with `df` degrees of freedom."""
    return _Cdf.apply(_student_t_cdf, _student_t_pdf, t, df)


def _student_t_icdf(u: np.ndarray, df: np.ndarray) -> np.ndarray:
    tail = np.minimum(u, 1.0 - u)
    x = special.betaincinv(0.5 * df, 0.5, 2.0 * tail)  # df / (df + t^2)
    rest = special.betaincinv(0.5, 0.5 * df, 1.0 - 2.0 * tail)  # 1 - x, where that is small
    with np.errstate(divide="ignore"):
        t = np.asarray(
            np.sqrt(df * np.where(x < 0.5, 1.0 - x, rest) / np.where(x < 0.5, x, 1.0 - rest))
        )
        log_tail = np.log(tail)
    far = (log_tail < _FAR) & (tail > 0.0)
    t[far] = -_far_icdf(log_tail[far], df[far])
    return np.where(u < 0.5, -t, t)


def _far_icdf(log_p: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Quantile of Student's t in the lower tail, from the log of the probability (n,)."""
    log_x = log_p / (0.5 * df)  # below the solution, where the tail is concave in it
    for _ in range(20):
        value, slope = _log_tail(log_x, df)
        log_x = np.minimum(log_x + (log_p - value) / slope, -1e-3)
    with np.errstate(over="ignore"):
        return -np.sqrt(df * np.expm1(-log_x))


def student_t_icdf(u: Tensor, df: Tensor) -> Tensor:
    """Quantile of Student's t; accurate in both tails. No gradient."""
    return _evaluate(_student_t_icdf, u, df)


def student_t_log_cdf(t: Tensor, df: Tensor) -> Tensor:
    """Log of the cumulative distribution of Student's t, finite for any finite t. No gradient."""

    def log_cdf(t: np.ndarray, df: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", over="ignore"):
            log_p = np.asarray(np.log(_student_t_cdf(t, df)))
        tail = (t < 0) & np.isfinite(t) & (log_p < _FAR)
        log_p[tail] = _log_tail(-np.log1p(t[tail] ** 2 / df[tail]), df[tail])[0]
        return log_p

    return _evaluate(log_cdf, t, df)


def student_t_log_icdf(log_p: Tensor, df: Tensor) -> Tensor:
    """Inverse of `student_t_log_cdf`. No gradient."""

    def log_icdf(log_p: np.ndarray, df: np.ndarray) -> np.ndarray:
        tail = (log_p < _FAR) & np.isfinite(log_p)
        t = np.asarray(_student_t_icdf(np.where(tail, 0.5, np.exp(log_p)), df))
        t[tail] = _far_icdf(log_p[tail], df[tail])
        return t

    return _evaluate(log_icdf, log_p, df)


def _log_tail(log_x: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of the lower tail of Student's t in terms of ``x = df / (df + t^2)``, and its slope.

    Half the regularised incomplete beta function, by its hypergeometric series [1]_.

    References
    ----------
    .. [1] NIST Digital Library of Mathematical Functions, equation 8.17.8.
    """
    a, x = 0.5 * df, np.exp(log_x)
    series = special.hyp2f1(a + 0.5, 1.0, a + 1.0, x)
    log_front = a * log_x + 0.5 * np.log1p(-x) - np.log(a) - special.betaln(a, 0.5)
    return math.log(0.5) + log_front + np.log(series), a / ((1.0 - x) * series)


def _beta_pdf(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    log_kernel = special.xlogy(a - 1.0, x) + special.xlog1py(b - 1.0, -x)
    return np.exp(log_kernel - special.betaln(a, b))


def _beta_cdf(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return special.betainc(a, b, x)


def beta_cdf(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Cumulative distribution of a beta distribution, the regularised incomplete beta."""
    return _Cdf.apply(_beta_cdf, _beta_pdf, x, a, b)


def beta_icdf(u: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Quantile of a beta distribution. No gradient."""
    return _evaluate(lambda u, a, b: special.betaincinv(a, b, u), u, a, b)
