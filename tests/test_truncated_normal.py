"""The truncated normal against mpmath, scipy and its own derivatives."""

import mpmath
import numpy as np
import pytest
import torch
from conftest import SINGLE
from scipy.special import ndtr
from scipy.stats import truncnorm

from sklearn_san.likelihoods import truncated_normal


def exact_log_prob(y, loc, scale, low, high):
    """Reference with 80 digits."""
    with mpmath.workdps(80):
        y, loc, scale, low, high = map(mpmath.mpf, (y, loc, scale, low, high))
        a, b, z = (low - loc) / scale, (high - loc) / scale, (y - loc) / scale
        mass = (mpmath.erfc(a / mpmath.sqrt(2)) - mpmath.erfc(b / mpmath.sqrt(2))) / 2
        if b < 0:
            mass = (mpmath.erfc(-b / mpmath.sqrt(2)) - mpmath.erfc(-a / mpmath.sqrt(2))) / 2
        return float(-(z**2) / 2 - mpmath.log(scale * mpmath.sqrt(2 * mpmath.pi) * mass))


def scenarios(n=300):
    """Components near and far, wide and narrow, for the support [0, 1]."""
    random = np.random.default_rng(0)
    loc = random.choice([-1.0, 1.0], n) * 10 ** random.uniform(-2, 3, n)
    log_scale = np.log(10 ** random.uniform(-3, 3, n))
    near = np.abs(loc) * np.exp(-log_scale) < 3e4
    return random.uniform(size=n)[near], loc[near], log_scale[near]


def tensors(*values, dtype=torch.float64):
    return [torch.as_tensor(np.asarray(v), dtype=dtype) for v in values]


def test_log_prob_agrees_with_mpmath():
    y, loc, log_scale = scenarios()
    ours = truncated_normal.truncated_normal_log_prob(*tensors(y, loc, log_scale, 0.0, 1.0)).numpy()
    scale = torch.from_numpy(log_scale).exp().numpy()
    exact = [exact_log_prob(*row, 0.0, 1.0) for row in zip(y, loc, scale, strict=True)]
    np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-10)


def test_float32_is_close_to_float64():
    y, loc, log_scale = scenarios()
    double = truncated_normal.truncated_normal_log_prob(*tensors(y, loc, log_scale, 0.0, 1.0))
    args = tensors(y, loc, log_scale, 0.0, 1.0, dtype=torch.float32)
    single = truncated_normal.truncated_normal_log_prob(*args)
    # Rounded arguments alone change standardised distances z by `eps` (1 + |log scale|) of them
    np.testing.assert_allclose(single, double, rtol=SINGLE, atol=SINGLE)


@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (0.3, np.inf), (-np.inf, 0.2)])
def test_infinite_bounds_agree_with_scipy(low, high):
    loc, scale = 0.1, 0.7
    frozen = truncnorm((low - loc) / scale, (high - loc) / scale, loc, scale)
    u = np.linspace(0.01, 0.99, 9)
    y = frozen.ppf(u)
    args = tensors(loc, np.log(scale), low, high)
    log_prob = truncated_normal.truncated_normal_log_prob(*tensors(y), *args)
    np.testing.assert_allclose(log_prob, frozen.logpdf(y), rtol=1e-10)
    np.testing.assert_allclose(
        truncated_normal.truncated_normal_cdf(*tensors(y), *args), u, rtol=1e-10
    )
    np.testing.assert_allclose(
        truncated_normal.truncated_normal_icdf(*tensors(u), *args), y, rtol=1e-10
    )
    mean, variance = truncated_normal.truncated_normal_moments(*args)
    np.testing.assert_allclose([mean, variance], frozen.stats("mv"), rtol=1e-9)


def test_gradients_agree_with_finite_differences():
    loc = [0.2, -1.0, 3.0, 0.5, 0.1, 9.0]
    log_scale = [-1.0, -2.0, 0.3, 2.0, -1.0, -1.0]
    args = tensors([0.3] * 6, loc, log_scale, [0.0] * 6, [1.0] * 6)
    args = [arg.requires_grad_(True) for arg in args]
    assert torch.autograd.gradcheck(truncated_normal.truncated_normal_log_prob, args)
    assert torch.autograd.gradcheck(truncated_normal.truncated_normal_cdf, args)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [11.5, 1e2, 1e3, 1e5])  # 11.5: a mass of 1e-30 inside
def test_far_components_have_finite_densities_and_gradients(distance, dtype):
    args = tensors([0.0, 0.5, 1.0], [distance] * 3, [0.0] * 3, dtype=dtype)
    args = [arg.requires_grad_(True) for arg in args]
    log_prob = truncated_normal.truncated_normal_log_prob(*args, *tensors(0.0, 1.0, dtype=dtype))
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    assert all(torch.isfinite(arg.grad).all() for arg in args)


def test_moments_agree_with_mpmath():
    _, loc, log_scale = scenarios(60)
    mean, variance = truncated_normal.truncated_normal_moments(*tensors(loc, log_scale, 0.0, 1.0))
    for m, s, ours_mean, ours_variance in zip(loc, np.exp(log_scale), mean, variance, strict=True):
        peak = min(max(m, 0.0), 1.0)
        with mpmath.workdps(40):

            def density(y, m=m, s=s, peak=peak):
                return mpmath.exp(-((y - m) ** 2 - (peak - m) ** 2) / (2 * s**2))

            width = min(1.0, 8 * s, 80 * s**2 / max(abs(peak - m), s))
            ends = sorted({0.0, max(0.0, peak - width), peak, min(1.0, peak + width), 1.0})
            moments = [mpmath.quad(lambda y, k=k: y**k * density(y), ends) for k in range(3)]
            exact = moments[1] / moments[0]
            exact_variance = moments[2] / moments[0] - exact**2
        assert float(ours_mean) == pytest.approx(float(exact), rel=1e-6, abs=1e-9)
        assert float(ours_variance) == pytest.approx(float(exact_variance), rel=1e-4)


def survival(t):
    """Twice that of a standard normal."""
    return mpmath.erfc(t / mpmath.sqrt(2))


# A probability has `eps` at best, and the density is 0.05 or more where it is not in the tail
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 6e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("distance", [0.0, 0.9, 1.1, 4.0, 30.0, 1e3, 1e6])
@pytest.mark.parametrize("side", [-1, 1])
def test_quantiles_far_from_the_mode_keep_their_digits(distance, side, dtype, tolerance):
    # Distances from the bound in units of the tail's own length, 1 / distance
    low, high = (0.0, 1.0) if side < 0 else (-1.0, 0.0)
    u = np.array([1e-6, 1e-3, 0.3, 0.9])
    u = u if side < 0 else 1.0 - u
    args = tensors(u, side * distance, 0.0, low, high, dtype=dtype)
    y = truncated_normal.truncated_normal_icdf(*args).double().numpy()
    u = args[0].double().numpy()
    exact = []
    for p in u:
        with mpmath.workdps(60):
            d = mpmath.mpf(distance)
            tail = mpmath.mpf(float(p)) if side < 0 else 1 - mpmath.mpf(float(p))
            goal = survival(d) + tail * (survival(d + 1) - survival(d))
            guess = max(1e-9, float(tail)) / max(distance, 1.0)
            root = mpmath.findroot(
                lambda t, d=d, goal=goal: mpmath.log(survival(d + t) / goal), (guess, guess * 1.1)
            )
            exact.append(float(root) if side < 0 else -float(root))
    np.testing.assert_allclose(y, exact, rtol=1e-9, atol=tolerance / max(distance, 1.0))


def test_the_normal_cdf_keeps_its_digits_in_the_lower_tail():
    z = torch.linspace(-35.0, 8.0, 200, dtype=torch.float64)
    own, exact = truncated_normal.normal_cdf(z), ndtr(z.numpy())
    # A rounding error of z alone changes the probability by z^2 times that
    np.testing.assert_allclose(own, exact, rtol=4 * 35.0**2 * np.finfo(float).eps)
