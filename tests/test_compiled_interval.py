"""The compiled histogram against torch in float64, function by function."""

import numpy as np
import pytest
import torch

from sklearn_san.compiled import interval
from sklearn_san.likelihoods import Softmax, Support

EPS = float(np.finfo(np.float32).eps)
BOUNDS = {"unit": (0.0, 1.0), "close": (-1e-4, 1e-4), "far": (-3e4, 5e4)}


def problem(atoms, interpolate, bounds, spread, n=400):
    generator = torch.Generator().manual_seed(0)
    family = Softmax(atoms=atoms, interpolate=interpolate)
    raw = spread * torch.randn((n, family.n_params), generator=generator)
    low, high = (torch.full((n,), b) for b in bounds)
    u = torch.rand(n, generator=generator)
    u[:2] = torch.tensor([0.0, 1.0])
    y = torch.minimum(low + u * (high - low), high)
    return family, raw, y, Support(low, high)


@pytest.fixture(params=BOUNDS.values(), ids=BOUNDS.keys())
def bounds(request):
    return request.param


@pytest.mark.parametrize("spread", [1.0, 3.0, 30.0])
@pytest.mark.parametrize("interpolate", [False, True])
@pytest.mark.parametrize("atoms", [1, 2, 7, 50])
class TestAgainstTorch:
    def test_values_and_gradients(self, atoms, interpolate, bounds, spread):
        family, raw, y, support = problem(atoms, interpolate, bounds, spread)
        own, gradient = np.empty(len(y), dtype=np.float32), np.empty(raw.shape, dtype=np.float32)
        arguments = (raw.numpy(), y.numpy(), support.low.numpy(), support.high.numpy(), interpolate)
        by_y = np.zeros_like(own)
        interval.log_prob(*arguments, own, gradient, by_y, True)
        raw64, y64 = raw.double().requires_grad_(), y.double().requires_grad_()
        exact = family.log_prob(raw64, y64, Support(*(b.double() for b in support)))
        by_raw, exact_by_y = torch.autograd.grad(
            exact.sum(), (raw64, y64), allow_unused=True, materialize_grads=True
        )
        np.testing.assert_allclose(own, exact.detach(), rtol=4 * EPS, atol=4 * EPS)
        np.testing.assert_allclose(gradient, by_raw, rtol=4 * EPS, atol=4 * EPS)
        # On a limit, where the reference clips, either side will do
        inside = ((y > support.low) & (y < support.high)).numpy()
        by_y, exact_by_y = by_y[inside], exact_by_y.numpy()[inside]
        assert (np.abs(by_y - exact_by_y) <= 1e3 * EPS * np.abs(exact_by_y).max()).all()
        alone = np.empty_like(own)
        interval.log_prob(*arguments, alone, gradient, by_y, False)
        np.testing.assert_array_equal(alone, own)

    def test_draws(self, atoms, interpolate, bounds, spread):
        family, raw, y, support = problem(atoms, interpolate, bounds, spread)
        n, support64 = len(y), Support(*(b.double() for b in support))
        noise = np.random.default_rng(0).uniform(size=n)
        noise[: n // 4] = np.geomspace(1e-12, 1e-2, n // 4)
        noise[n // 4 : n // 2] = 1.0 - noise[: n // 4]
        own = np.empty(n)
        low, high = (b.numpy() for b in support64)
        interval.draw(raw.numpy(), noise, interpolate, low, high, own)
        assert ((own >= low) & (own <= high)).all()
        # By probability, in units of the least that heights and sums of them can tell apart; where
        # bins are all but empty, places are not defined any better
        cdf = family.cdf(raw.double(), torch.from_numpy(own), support64).numpy()
        np.testing.assert_allclose(cdf, noise, rtol=1e-9, atol=1e-11)
        exact = family.sample(raw.double(), torch.from_numpy(noise[:, None]), support64).numpy()
        assert np.mean(np.abs(own - exact) > 1e-6 * (high - low)) <= (0.01 if spread < 30 else 0.1)

    def test_moments(self, atoms, interpolate, bounds, spread):
        family, raw, y, support = problem(atoms, interpolate, bounds, spread)
        support64 = Support(*(b.double() for b in support))
        mean, variance = np.empty(len(y)), np.empty(len(y))
        low, high = (b.numpy() for b in support64)
        interval.moments(raw.numpy(), interpolate, low, high, mean, variance)
        exact_mean, exact_variance = (
            f(raw.double(), support64).numpy() for f in (family.mean, family.variance)
        )
        np.testing.assert_allclose(mean, exact_mean, rtol=0.0, atol=1e-9 * (high - low)[0])
        np.testing.assert_allclose(variance, exact_variance, rtol=1e-8)
