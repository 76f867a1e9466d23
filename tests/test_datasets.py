"""The simulator: units, physics that can be checked, degeneracy; closed-form problems."""

import numpy as np
import pytest
from scipy.integrate import dblquad, quad

from sklearn_san.datasets import (
    GALAXY_BANDS,
    GALAXY_LIMITS,
    GALAXY_PARAMETERS,
    _gaussian_moments,
    galaxies,
    make_bimodal,
    make_galaxies,
    make_heteroscedastic_gaussian,
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
@pytest.mark.parametrize("make", [make_galaxies, make_bimodal, make_heteroscedastic_gaussian])
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
