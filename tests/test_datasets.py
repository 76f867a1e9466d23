"""The simulator: units, physics that can be checked, degeneracy; closed-form problems."""

import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.stats import invgamma, kstest, norm

from sklearn_san.datasets import (
    GALAXY_BANDS,
    GALAXY_LIMITS,
    GALAXY_PARAMETERS,
    GALAXY_WAVELENGTHS,
    _gaussian_moments,
    galaxies,
    make_bimodal,
    make_galaxies,
    make_galaxy_spectra,
    make_heteroscedastic_gaussian,
    make_line_spectra,
    make_normal_sets,
    make_source_images,
)

TYPICAL = dict(
    zip(GALAXY_PARAMETERS, [0.5, 10.5, 0.3, 5.0, 0.3, -3.0, 0.0, -3.0, 0.0], strict=True)
)


def flux_of(**changes):
    return galaxies.fluxes(np.array([list((TYPICAL | changes).values())]))[0]


def test_shapes_names_and_limits():
    X, y, X_err = make_galaxies(500, return_errors=True, random_state=0)
    assert X.shape == X_err.shape == (500, len(GALAXY_BANDS))
    assert y.shape == (500, len(GALAXY_PARAMETERS))
    assert np.isfinite(X).all()
    assert (X_err > 0.02).all()
    assert ((y >= GALAXY_LIMITS[:, 0]) & (y <= GALAXY_LIMITS[:, 1])).all()
    assert len(make_galaxies(5)) == 2
    again = make_galaxies(500, return_errors=True, random_state=0)
    np.testing.assert_array_equal(X, again[0])


def test_errors_are_the_scatter_of_the_noise():
    clean, _ = make_galaxies(4000, noise=False, random_state=0)
    noisy, _, X_err = make_galaxies(4000, return_errors=True, random_state=0)
    pull = (noisy - clean) / X_err
    # 32,000 values; the errors are those of the noisy flux, which widens the pull slightly
    assert pull.std() == pytest.approx(1.0, abs=0.1)
    assert abs(np.median(pull)) < 0.03


def test_galaxies_are_no_older_than_the_universe():
    _, y = make_galaxies(5000, random_state=0)
    assert (y[:, 3] <= galaxies.universe_age(y[:, 0]) + 1e-9).all()
    assert galaxies.universe_age(np.array([0.0]))[0] == pytest.approx(13.47, abs=0.02)
    assert galaxies.universe_age(np.array([1.0]))[0] == pytest.approx(5.75, abs=0.02)


def test_distances_agree_with_quadrature():
    z, distance = galaxies._distance_table()
    hubble = lambda t: np.sqrt(0.3 * (1 + t) ** 3 + 0.7)  # noqa: E731
    exact = 2.0 * 299792.458 / 70.0 * quad(lambda t: 1 / hubble(t), 0, 1)[0]
    assert np.interp(1.0, z, distance) == pytest.approx(exact, rel=1e-6)


def test_black_body_has_unit_luminosity_and_wiens_peak():
    grid = np.geomspace(100.0, 1e8, 20_000)
    density = galaxies._planck(grid, 5772.0)
    assert np.trapezoid(density, grid) == pytest.approx(1.0, rel=1e-4)
    assert grid[density.argmax()] == pytest.approx(2.898e7 / 5772.0, rel=1e-3)


def test_age_weights_sum_to_one_and_follow_the_history():
    age, tau = np.array([1.0, 5.0, 13.0]), np.array([0.1, 1.0, 20.0])
    weights = galaxies._age_weights(age, tau)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    edges = galaxies._AGE_EDGES
    assert (weights[:2, edges[:-1] > 5.0] == 0).all()
    mean_age = (weights * 0.5 * (edges[1:] + edges[:-1])).sum(1)
    # Mean age of stars formed as exp(-t / tau) during `age`
    exact = age - tau + age / np.expm1(age / tau)
    np.testing.assert_allclose(mean_age, exact, rtol=0.05)


def test_calzetti_curve():
    # Total-to-selective ratio and the far-ultraviolet value of Calzetti et al. (2000)
    values = galaxies._calzetti(np.array([1500.0, 4400.0, 5500.0, 22000.0])) * 4.05
    np.testing.assert_allclose(values, [10.33, 5.0, 4.05, 0.4], atol=0.15)


def test_fluxes_move_as_physics_says():
    typical = flux_of()
    np.testing.assert_allclose(flux_of(log_mass=11.5) / typical, 10.0, rtol=0.01)
    assert (flux_of(redshift=1.5) < typical).all()
    dusty = flux_of(dust2=1.5) / typical
    assert (np.diff(dusty) > 0).all()  # reddens
    old, young = flux_of(tage=8.0, log_tau=-1.0), flux_of(tage=0.1)
    assert old[0] / old[4] < young[0] / young[4]
    active = flux_of(log_agn_mass=2.0)
    assert (active > typical).all()
    assert (flux_of(log_agn_mass=2.0, inclination=85.0) < active).all()
    reddened = flux_of(log_agn_mass=2.0, agn_eb_v=1.0) / active
    assert reddened[0] < reddened[7]
    hot = flux_of(log_agn_torus_mass=2.0) / typical
    assert hot[7] > 3.0
    assert hot[7] > hot[0]


def test_lyman_break_moves_through_the_bands():
    star_forming = {"tage": 0.5, "log_tau": 1.3, "dust2": 0.0}
    near, far = flux_of(redshift=2.0, **star_forming), flux_of(redshift=3.9, **star_forming)
    assert far[0] / far[3] < 0.05 * near[0] / near[3]  # u has dropped out
    depth = galaxies._intergalactic_depth(np.array([5000.0]), np.array([[3.5]]))
    assert np.exp(-depth)[0, 0] == pytest.approx(0.5, abs=0.15)  # Madau (1995), figure 3


def test_asinh_magnitudes_are_ab_magnitudes_where_bright():
    np.testing.assert_allclose(galaxies.asinh_magnitudes(np.full((1, 8), 1e-6)), 15.0, atol=1e-3)
    assert np.isfinite(galaxies.asinh_magnitudes(np.full((1, 8), -1e-9))).all()


@pytest.mark.parametrize(
    ("n_samples", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)]
)
@pytest.mark.parametrize("make", [
    make_galaxies, make_bimodal, make_heteroscedastic_gaussian, make_galaxy_spectra,
    make_line_spectra, make_source_images, make_normal_sets,
])  # fmt: skip
def test_bad_sizes(make, n_samples, error):
    with pytest.raises(error, match=f"n_samples must be .* got {n_samples}"):
        make(n_samples)


def test_bimodal_density_integrates_to_one_and_fits_the_draws():
    X, y, log_density = make_bimodal(50_000, random_state=0)
    x = np.array([[0.3]])
    mass = dblquad(
        lambda b, a: np.exp(log_density(x, np.array([[a, b]]))[0]), -4, 4, -4, 4, epsabs=1e-6
    )[0]
    assert mass == pytest.approx(1.0, abs=1e-5)
    assert (y[:, 0] > 0).mean() == pytest.approx((1 / (1 + np.exp(-2 * X))).mean(), abs=0.012)


def test_gaussian_density_has_the_stated_moments():
    X, y, log_density = make_heteroscedastic_gaussian(50_000, random_state=0)
    mean, factor = _gaussian_moments(X)
    white = np.linalg.solve(factor, (y - mean)[..., None])[..., 0]
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=0.03)
    entropy = 1.5 * np.log(2 * np.pi * np.e) + np.log(np.einsum("nii->ni", factor)).sum(1).mean()
    assert -log_density(X, y).mean() == pytest.approx(entropy, abs=0.03)


def test_spectra_of_galaxies_agree_with_their_photometry():
    X, y = make_galaxy_spectra(300, noise=False, random_state=0)
    assert X["spectrum"].shape == (300, len(GALAXY_WAVELENGTHS))
    spectra, fluxes = galaxies.spectra(y), galaxies.fluxes(y)
    bright = fluxes[:, 2] > 5 * galaxies.SKY_NOISE[2]
    inside = (GALAXY_WAVELENGTHS > 5520.0) & (GALAXY_WAVELENGTHS < 6900.0)
    in_band = spectra[:, inside].mean(1)
    # Both are means of a few points
    np.testing.assert_allclose(in_band[bright], fluxes[bright, 2], rtol=0.15)
    assert np.median(in_band[bright] / fluxes[bright, 2]) == pytest.approx(1.0, abs=0.02)
    noisy, same = make_galaxy_spectra(300, random_state=0)
    np.testing.assert_array_equal(y, same)
    difference = (noisy["spectrum"] - X["spectrum"])[bright]
    assert 0.0 < np.abs(difference).mean() < 0.5
    assert galaxies.spectra(y[:0]).shape == (0, len(GALAXY_WAVELENGTHS))


def test_lines_have_the_stated_posterior():
    X, y, log_density = make_line_spectra(300, bad_share=0.1, random_state=0)
    assert np.isnan(X).mean() == pytest.approx(0.1, abs=0.02)
    grid = np.linspace(0.0, 63.0, 4001)

    def likelihood(position, x):
        """Against no line; of one position or of several."""
        pixels = np.arange(64) - np.asarray(position)[..., None]
        line = 3.0 * np.exp(-0.5 * (pixels / 2.0) ** 2)
        return np.exp(-0.5 * np.nansum((x - line) ** 2 - x**2, axis=-1))

    density = np.exp(log_density(X, y))
    for x, position, own in zip(X[:3], y[:3], density[:3], strict=True):
        mode = grid[likelihood(grid, x).argmax()]
        near = [max(mode - 3.0, 0.0), mode, min(mode + 3.0, 63.0)]
        evidence = quad(likelihood, 0.0, 63.0, (x,), points=near, limit=500, epsrel=1e-8)[0]
        assert own == pytest.approx(likelihood(position, x) / evidence, rel=1e-4)
    assert log_density(X[:1], np.array([63.5]))[0] == -np.inf
    # The share of the posterior below the truth is uniform: a false alarm in 1,000 seeds
    below = []
    for x, position, own in zip(X, y, density, strict=True):
        curve = own * likelihood(grid, x) / likelihood(position, x)
        assert np.trapezoid(curve, grid) == pytest.approx(1.0, abs=1e-3)
        below.append(np.trapezoid(np.where(grid < position, curve, 0.0), grid))
    assert kstest(below, "uniform").pvalue > 1e-3


def test_sources_have_the_stated_posterior():
    X, y, log_density = make_source_images(4, bad_share=0.1, random_state=1)
    points, weights = np.polynomial.legendre.leggauss(150)
    limits = np.array([[2.0, 13.0], [2.0, 13.0], [20.0, 60.0]])
    half = 0.5 * np.diff(limits)[:, 0]
    grids = limits.mean(1)[:, None] + half[:, None] * points

    def blur(centre):
        offset = np.arange(16) - np.atleast_1d(centre)[:, None]
        return np.exp(-0.5 * (offset / 1.5) ** 2) / (1.5 * np.sqrt(2 * np.pi))

    # And what the prior does not allow: far too bright, and darker than nothing
    X[2], y[2] = 150.0 * np.outer(blur(7.0), blur(7.0)), [7.0, 7.0, 59.0]
    X[3] = -5.0
    rows, columns, fluxes = blur(grids[0]), blur(grids[1]), grids[2]
    volume = (half[0] * weights)[:, None, None] * (half[1] * weights)[:, None]
    volume = volume * (half[2] * weights)
    for x, truth in zip(X, y, strict=True):
        good = ~np.isnan(x)
        # -chi^2 / 2 against no source, for all centres and fluxes
        linear = rows @ np.nan_to_num(x) @ columns.T
        square = rows**2 @ good @ (columns**2).T
        log_likelihood = fluxes * linear[..., None] - 0.5 * fluxes**2 * square[..., None]
        top = log_likelihood.max()
        log_evidence = top + np.log((np.exp(log_likelihood - top) * volume).sum())
        image = truth[2] * np.outer(blur(truth[0]), blur(truth[1]))
        here = -0.5 * np.nansum((x - image) ** 2 - x**2)
        assert log_density(x[None], truth[None])[0] == pytest.approx(here - log_evidence, abs=1e-3)
    assert log_density(X[:1], np.array([[5.0, 5.0, 61.0]]))[0] == -np.inf


def test_normal_sets_have_the_stated_posterior():
    X, y, log_density = make_normal_sets(2000, random_state=0)
    size = (~np.isnan(X)).sum((1, 2))
    assert (size.min(), size.max()) == (0, 30)
    variance = np.exp(2.0 * y[:, 1])
    assert kstest(variance, invgamma(3.0, scale=2.0).cdf).pvalue > 1e-3
    assert kstest(y[:, 0] / (2.0 * np.sqrt(variance)), norm.cdf).pvalue > 1e-3

    def log_joint(x, mean, log_scale):
        scale = np.exp(log_scale)
        prior = invgamma.logpdf(scale**2, 3.0, scale=2.0) + np.log(2.0) + 2.0 * log_scale
        prior += norm.logpdf(mean, 0.0, 2.0 * scale)
        return prior + norm.logpdf(x[~np.isnan(x)], mean, scale).sum()

    log_scales, shifts = np.linspace(-3.0, 4.0, 150), np.linspace(-14.0, 14.0, 400)
    for size_wanted in (0, 1, 20):
        x = X[np.flatnonzero(size == size_wanted)[0]]
        evidence = [log_joint(x, *theta) - log_density(x[None], theta[None])[0] for theta in y[:20]]
        np.testing.assert_allclose(evidence, evidence[0], atol=1e-8)
        # In units of the scale, in which the mean is sought
        scale, shift = (array.ravel() for array in np.meshgrid(log_scales, shifts))
        theta = np.column_stack([np.exp(scale) * shift, scale])
        theta[:, 0] += np.nanmean(x) if size_wanted else 0.0
        log_mass = log_density(np.tile(x, (len(theta), 1, 1)), theta) + scale
        mass = np.exp(log_mass).sum() * np.ptp(log_scales[:2]) * np.ptp(shifts[:2])
        assert mass == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("make", [make_line_spectra, make_source_images])
def test_bad_shares_of_bad_pixels(make):
    with pytest.raises(ValueError, match=r"bad_share must be .* got 1.0"):
        make(3, bad_share=1.0)
    with pytest.raises(TypeError, match="bad_share must be a number, got 'all'"):
        make(3, bad_share="all")
