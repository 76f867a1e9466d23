"""Regions of highest density and modes of one output, against scipy on known mixtures."""

import numpy as np
import pytest
from conftest import small
from scipy.optimize import brentq
from scipy.stats import expon, norm

from sklearn_san._densest import count_modes, densest_region, highest_points

WEIGHTS, MEANS, SCALES = np.array([0.5, 0.3, 0.2]), np.array([-3.0, 0.0, 4.0]), [0.3, 0.5, 1.0]


def mixture(values):
    return (WEIGHTS * norm.pdf(np.asarray(values)[..., None], MEANS, SCALES)).sum(-1)


def mixture_cdf(values):
    return (WEIGHTS * norm.cdf(np.asarray(values)[..., None], MEANS, SCALES)).sum(-1)


def exact_region(level):
    """Ends where the density crosses the height whose region holds the mass."""
    fine = np.linspace(-8, 10, 20_001)

    def ends(height):
        signs = np.sign(mixture(fine) - height)
        cross = np.flatnonzero(np.diff(signs))
        found = [brentq(lambda v: mixture(v) - height, *fine[[i, i + 1]]) for i in cross]
        return np.reshape(found, (-1, 2))

    def excess(height):
        return np.diff(mixture_cdf(ends(height)), axis=1).sum() - level

    return ends(brentq(excess, 1e-5, 0.6))


@pytest.mark.parametrize(("level", "n_pieces"), [(0.3, 1), (0.7, 2), (0.95, 3)])
def test_the_region_of_a_mixture(level, n_pieces):
    grid = np.linspace(-8, 10, 4001)
    pieces = densest_region(grid, mixture(grid), level)
    assert pieces.shape == (n_pieces, 2)
    np.testing.assert_allclose(pieces, exact_region(level), atol=1e-3)


def test_a_region_ends_at_a_limit():
    grid = np.linspace(0, 20, 4001)
    np.testing.assert_allclose(
        densest_region(grid, expon.pdf(grid), 0.9), [[0.0, expon.ppf(0.9)]], atol=1e-3
    )


def test_modes_are_counted_with_depth_height_and_limits():
    grid = np.linspace(-8, 10, 1001)
    rows = np.stack(
        [
            mixture(grid),
            norm.pdf(grid),
            1.0 + 0.04 * np.sin(20 * grid),  # ripples
            norm.pdf(grid) + 0.004 * norm.pdf(grid, 6.0),
            np.exp(-grid) + np.exp(grid),  # at both limits
        ]
    )
    assert count_modes(rows, 0.1, 0.01).tolist() == [3, 1, 1, 1, 2]
    assert count_modes(rows, 0.1, 0.001)[3] == 2
    assert count_modes(rows, 0.05, 0.01)[2] > 10


def test_the_highest_point_lies_between_points():
    grid = np.sort(np.random.default_rng(0).uniform(-3, 3, (5, 200)), axis=1)
    modes = np.linspace(-1, 1, 5)
    found = highest_points(grid, norm.pdf(grid - modes[:, None]))
    np.testing.assert_allclose(found, modes, atol=1e-3)
    falling = highest_points(grid, expon.pdf(grid + 3))
    np.testing.assert_array_equal(falling, grid[:, 0])


def test_members_of_a_density_are_those_of_its_mixture(bimodal):
    X, y, _ = bimodal
    est = small(dtype="float64", epochs=15).fit(X, y)
    density = est.predict_density(X[:3])
    parts = density.components()
    for j in (0, 1):
        regions = density.highest_density_interval(j, 0.8)
        edges = np.nan_to_num(regions.reshape(3, -1), nan=1e3)
        held = np.diff(density.marginal_cdf(j, edges).reshape(3, -1, 2), axis=2).sum(axis=(1, 2))
        np.testing.assert_allclose(held, 0.8, atol=0.01)
    for row in range(3):
        weight, loc, scale = parts.weight[row], parts.loc[row], parts.scale[row]
        grid = np.linspace(loc.min() - 5 * scale.max(), loc.max() + 5 * scale.max(), 20_001)
        exact = (weight * norm.pdf(grid[:, None], loc, scale)).sum(axis=1)
        mode = grid[exact.argmax()]
        near = (weight * np.diff(norm.cdf([[mode - 0.3], [mode + 0.3]], loc, scale), axis=0)).sum()
        assert density.mass_near_mode(0, 0.3)[row] == pytest.approx(near, abs=1e-3)
        assert density.n_modes(0)[row] == count_modes(exact[None], 0.1, 0.01)[0]
        own = density.highest_density_interval("y0", 0.8)[row]
        own = own[np.isfinite(own[:, 0])]
        expected = densest_region(grid, exact, 0.8)
        np.testing.assert_allclose(own, expected, atol=0.02 * np.ptp(expected))


def test_what_the_members_refuse(fitted, bimodal, monkeypatch):
    density = fitted.predict_density(bimodal[0][:2])
    with pytest.raises(ValueError, match="level must be a number above 0 and below 1, got 90"):
        density.highest_density_interval(0, 90)
    with pytest.raises(ValueError, match="width must be a number above 0, got 0"):
        density.mass_near_mode(0, 0)
    with pytest.raises(ValueError, match="depth must be a number above 0 and below 1, got 1"):
        density.n_modes(0, depth=1)
    monkeypatch.setattr(type(density), "is_continuous", property(lambda self: False))
    with pytest.raises(NotImplementedError, match="n_modes: some outputs may have probabilities"):
        density.n_modes(1)
