"""The compiled kernels against torch in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.special import erfcx, ndtri

from sklearn_san import _fused
from sklearn_san._normal import truncated_normal_icdf
from sklearn_san.likelihoods import (
    MixtureOfGaussians,
    Support,
    TruncatedMixtureOfGaussians,
)

BOUNDS = {
    "none": None,
    "both": (-1.0, 1.0),
    "low": (-1.0, math.inf),
    "high": (-math.inf, 1.0),
    "infinite": (-math.inf, math.inf),
    "close": (-1e-4, 1e-4),
    "far": (-3e4, 5e4),
}


def problem(bounds, n, *, spread=3.0, K=5):
    generator = torch.Generator().manual_seed(0)
    raw = spread * torch.randn((n, 3 * K), generator=generator)
    y = torch.randn(n, generator=generator)
    support = None
    if bounds is not None:
        support = Support(*(torch.tensor(b) for b in bounds))
        low, high = (max(min(b, 3.0), -3.0) for b in bounds)
        y = low + (high - low) * torch.rand(n, generator=generator)
        y[0], y[1] = low, high
    family = (MixtureOfGaussians if support is None else TruncatedMixtureOfGaussians)(
        K=K, min_scale=1e-4
    )
    return family, raw, y, support


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
@pytest.mark.parametrize(("n", "spread"), [(5, 1.0), (1000, 3.0), (1000, 30.0)])
def test_values_and_gradients_equal_those_of_torch_in_float64(bounds, n, spread):
    family, raw, y, support = problem(bounds, n, spread=spread)
    raw32, y32 = raw.clone().requires_grad_(), y.clone().requires_grad_()
    raw64, y64 = raw.double().requires_grad_(), y.double().requires_grad_()
    support64 = None if support is None else Support(*(b.double() for b in support))
    fused = family.log_prob(raw32, y32, support)
    assert fused.grad_fn.name() == "_MixtureLogProbBackward"
    exact = family.log_prob(raw64, y64, support64)
    torch.testing.assert_close(fused.double(), exact, rtol=1e-5, atol=1e-5)
    weight = torch.linspace(0.5, 2.0, n)
    fused.backward(weight)
    exact.backward(weight.double())
    for one, other in ((raw32, raw64), (y32, y64)):
        size = other.grad.abs().clamp_min(1.0)
        assert ((one.grad.double() - other.grad).abs() / size).max() < 1e-4


def test_leading_axes_broadcast():
    family, raw, y, _ = problem((-1.0, 1.0), 12)
    low = torch.linspace(-3.0, -2.5, 12)
    high = torch.tensor(1.5)
    shaped = family.log_prob(
        raw.view(3, 1, 4, -1), y.view(3, 4)[:, None], Support(low.view(3, 1, 4), high)
    )
    flat = family.log_prob(raw, y, Support(low, high))
    torch.testing.assert_close(shaped.view(-1), flat)


def test_bounds_that_need_a_gradient_are_left_to_torch():
    family, raw, y, _ = problem((-1.0, 1.0), 12)
    low = torch.tensor(-1.0, requires_grad=True)
    family.log_prob(raw, y, Support(low, torch.tensor(1.0))).sum().backward()
    assert low.grad.abs() > 0


def test_elementary_functions():
    x = np.linspace(-650.0, 650.0, 2001)
    np.testing.assert_allclose([_fused._exp(v) for v in x], np.exp(x), rtol=1e-12)
    x = np.geomspace(1e-300, 1e300, 2001)
    np.testing.assert_allclose([_fused._log(v) for v in x], np.log(x), rtol=1e-12, atol=1e-12)
    p = np.concatenate([np.geomspace(1e-290, 0.5, 2001), 1.0 - np.geomspace(1e-14, 0.5, 2001)])
    np.testing.assert_allclose([_fused._ndtri(v) for v in p], ndtri(p), rtol=3e-8, atol=1e-9)
    x = np.concatenate([[0.0], np.geomspace(1e-8, 1e12, 2001)])
    np.testing.assert_allclose([_fused._erfcx(v) for v in x], erfcx(x), rtol=1e-10)


@pytest.mark.parametrize("loc", [-1e6, -40.0, -3.0, 0.1, 2.0, 60.0, 1e6])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-1.0, math.inf), (-math.inf, 0.3)])
def test_truncated_quantiles(loc, low, high):
    u = np.array([1e-7, 1e-3, 0.2, 0.5, 0.9, 1.0 - 1e-6])
    for scale in (1e-3, 1.0, 50.0):
        own = [_fused._truncated_quantile(v, loc, scale, low, high) for v in u]
        exact = truncated_normal_icdf(
            *(torch.tensor(v, dtype=torch.float64) for v in (u, loc, math.log(scale), low, high))
        )
        unit = min(scale, high - low)
        np.testing.assert_allclose(own, exact, rtol=1e-6, atol=1e-6 * unit)
