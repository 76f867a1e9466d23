"""Photometric redshifts against closed forms, quadrature and scipy."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import make_bimodal
from sklearn_san.exceptions import BadRowsWarning, EffectiveSampleSizeWarning, GridWarning
from sklearn_san.metrics import pit_values
from sklearn_san.photoz import (
    DistributionDisplay,
    RedshiftDisplay,
    RedshiftPDF,
    cde_loss,
    classifier_weights,
    effective_rows,
    evaluate,
    grids,
    hierarchical_nz,
    highest_density,
    neighbour_weights,
    odds,
    pit,
    point_estimate,
    point_scores,
    quality_cut,
    risk,
    stacked_nz,
    summarise,
    tomographic_bins,
    uniformity,
)

#: Interpolation between points of these grids, which are 0.05 standard deviations apart or less.
GRID = np.linspace(0.0, 3.0, 1201)
LOC, SCALE = np.array([0.5, 1.0, 1.7]), np.array([0.05, 0.1, 0.2])
CURVED = 3e-4
#: To which the log ratio of two Gaussians is linear.
LINEAR = make_pipeline(PolynomialFeatures(2), LogisticRegression())
#: A single sum over a grid in float64.
EXACT = 1e4 * float(np.finfo(np.float64).eps)


def gaussians(grid=GRID):
    return RedshiftPDF.from_arrays(grid, stats.norm.pdf(grid, LOC[:, None], SCALE[:, None]))


def two_peaks(share=0.6):
    pdf = share * stats.norm.pdf(GRID, 0.5, 0.05) + (1 - share) * stats.norm.pdf(GRID, 2.0, 0.05)
    return RedshiftPDF.from_arrays(GRID, pdf[None])


@pytest.fixture(scope="module")
def photometric(request):
    """A small fit to x of the noisy truth z, and its rows."""
    random = np.random.default_rng(0)
    z = random.gamma(4.0, 0.25, size=1200)
    X = np.stack([z + 0.1 * random.normal(size=1200), random.normal(size=1200)], axis=1)
    est = SANConditionalDensityEstimator(
        K=3, module_shape=(16,), n_members=2, epochs=10, random_state=0
    )
    return est.fit(X[:1000], z[:1000]), X[1000:], z[1000:]


# p(z) on a grid


def test_moments_and_quantiles_of_gaussians():
    pz = gaussians()
    np.testing.assert_allclose(pz.mean(), LOC, atol=CURVED)
    np.testing.assert_allclose(pz.std(), SCALE, rtol=CURVED)
    levels = [0.001, 0.16, 0.5, 0.84, 0.999]
    exact = stats.norm.ppf(levels, LOC[:, None], SCALE[:, None])
    np.testing.assert_allclose(pz.quantile(levels), exact, atol=CURVED)
    np.testing.assert_allclose(pz.integral_of_square(), 0.5 / np.sqrt(np.pi) / SCALE, rtol=CURVED)
    at = LOC + 0.3 * SCALE
    np.testing.assert_allclose(pz.pdf_at(at), stats.norm.pdf(0.3) / SCALE, rtol=2 * CURVED)
    np.testing.assert_allclose(pz.cdf_at(at), stats.norm.cdf(0.3), rtol=CURVED)
    np.testing.assert_allclose(pz.mass, 1.0, atol=CURVED)


def test_sums_are_those_of_the_piecewise_linear_density_by_quadrature():
    random = np.random.default_rng(1)
    grid = np.sort(random.uniform(0.0, 2.0, size=9))
    pz = RedshiftPDF.from_arrays(grid, random.uniform(size=(4, 9)))
    for row in range(4):

        def density(z, row=row):
            return np.interp(z, grid, pz.pdf[row])

        def integral(f):
            return sum(integrate.fixed_quad(f, a, b, n=6)[0] for a, b in pairwise(grid))

        mean = integral(lambda z: z * density(z))
        assert integral(density) == pytest.approx(1.0, abs=EXACT)
        assert pz.mean()[row] == pytest.approx(mean, rel=EXACT)
        variance = integral(lambda z, mean=mean: (z - mean) ** 2 * density(z))
        assert pz.std()[row] ** 2 == pytest.approx(variance, rel=EXACT)
        assert pz.integral_of_square()[row] == pytest.approx(
            integral(lambda z: density(z) ** 2), rel=EXACT
        )
    levels = np.linspace(0.01, 0.99, 17)
    quantiles = pz.quantile(levels)
    np.testing.assert_allclose(pz.cdf_at(quantiles), np.tile(levels, (4, 1)), rtol=EXACT)
    edges = [grid[0], 0.7, 0.71, grid[-1]]
    np.testing.assert_allclose(pz.masses(edges).sum(axis=1), 1.0, rtol=EXACT)
    np.testing.assert_array_equal(pz.pdf_at(np.full(4, 2.5)), 0.0)
    np.testing.assert_array_equal(pz.cdf_at(np.full(4, -1.0)), 0.0)


def test_the_grid_is_that_of_the_density(photometric):
    est, X, z = photometric
    density = est.predict_density(X)
    grid = np.linspace(-0.8, 5.0, 1501)
    pz = RedshiftPDF.from_density(density, grid)
    exact = density.pdf_grid(0, grid)
    np.testing.assert_allclose(pz.pdf, exact / np.trapezoid(exact, grid)[:, None], rtol=EXACT)
    np.testing.assert_array_equal(pz.pdf, RedshiftPDF.from_estimator(est, X, grid).pdf)
    np.testing.assert_allclose(pz.mean(), density.mean(), atol=5e-3)
    np.testing.assert_allclose(pz.quantile([0.1, 0.5]), density.quantile([0.1, 0.5]), atol=5e-3)
    np.testing.assert_allclose(pit(pz, z), pit(density, z), atol=5e-3)
    assert cde_loss(pz, z) == pytest.approx(cde_loss(density, z, grid=grid), rel=5e-3)
    shown = RedshiftPDF.from_density(density)
    assert len(shown.grid) == 301
    assert shown.mass == pytest.approx(1.0, abs=5e-3)


def test_chunks_and_single_precision_change_nothing(photometric, tmp_path, monkeypatch):
    est, X, _ = photometric
    grid = np.linspace(-0.8, 5.0, 301)
    whole = RedshiftPDF.from_estimator(est, X, grid)
    monkeypatch.setattr(grids, "CELLS", 301 * 7)
    file = np.lib.format.open_memmap(
        tmp_path / "pz.npy", mode="w+", dtype=np.float32, shape=(len(X), 301)
    )
    pz = RedshiftPDF.from_density(est.predict_density(X), grid, out=file)
    assert pz.pdf is file
    single = float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(pz.pdf, whole.pdf, rtol=100 * single, atol=1e-12)
    for name, values in summarise(pz).items():
        if name not in ("width", "n_modes"):  # which count cells
            np.testing.assert_allclose(values, summarise(whole)[name], atol=1e-4, err_msg=name)
    assert RedshiftPDF.from_estimator(est, X, grid, dtype="float32").pdf.dtype == np.float32
    assert len(pz[:3]) == 3
    np.testing.assert_array_equal(pz[np.arange(3)].pdf, pz.pdf[:3])


def test_limits_are_the_grid_that_is_not_given():
    X, y, _ = make_bimodal(400, random_state=0)
    est = SANConditionalDensityEstimator(
        K=2, module_shape=(8,), n_members=1, epochs=2, limits=[[-4, 4], [-9, 9]], random_state=0
    ).fit(X, y)
    pz = RedshiftPDF.from_estimator(est, X[:5], output="y1")
    np.testing.assert_array_equal(pz.grid, np.linspace(-9, 9, 301))
    assert repr(pz) == "RedshiftPDF(n_rows=5, 301 points in [-9, 9])"


def test_a_short_or_coarse_grid_is_told(photometric):
    est, X, _ = photometric
    with pytest.warns(GridWarning, match=r"of the rows does not integrate to 1"):
        pz = RedshiftPDF.from_estimator(est, X, np.linspace(0.0, 1.0, 101))
    assert pz.mass.min() < 0.9
    with pytest.warns(GridWarning):
        RedshiftPDF.from_draws([[0.1, 5.0]], [0.0, 1.0])


def test_rows_of_nan_stay_nan():
    pdf = np.vstack([gaussians().pdf, np.zeros(len(GRID))])
    pz = RedshiftPDF.from_arrays(GRID, pdf)
    table = summarise(pz)
    for name, values in table.items():
        assert np.isfinite(values[:3]).all(), name
        assert values[3] == 0 if name == "n_modes" else np.isnan(values[3]), name
    assert quality_cut(table["odds"], keep=1.0).tolist() == [True, True, True, False]
    edges = np.linspace(0.0, 3.0, 7)
    assert stacked_nz(pz, edges, n_bootstrap=2, random_state=0).n_rows.tolist() == [3]


def test_rows_that_cannot_be_used(photometric):
    est, X, z = photometric
    X = X.copy()
    X[3, 0] = np.nan
    with pytest.warns(BadRowsWarning):
        density = est.predict_density(X, on_bad_rows="nan")
    pz = RedshiftPDF.from_density(density, np.linspace(-0.8, 5.0, 301))
    assert np.flatnonzero(np.isnan(point_estimate(pz))).tolist() == [3]
    assert np.flatnonzero(np.isnan(pit(pz, z))).tolist() == [3]
    edges = np.linspace(-0.8, 5.0, 21)
    found = hierarchical_nz(pz, edges, pz, n_bootstrap=2, random_state=0)
    assert found.n_rows.tolist() == [199]


def test_draws_are_counted_in_cells():
    draws = np.array([[0.0, 0.1, 0.3, 1.0], [0.4, 0.5, 0.6, 0.7]])
    pz = RedshiftPDF.from_draws(draws, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(pz.pdf, [[2.0, 0.5, 1.0], [0.0, 2.0, 0.0]])
    many = stats.norm.rvs(1.0, 0.2, size=(1, 200_000), random_state=0)
    pz = RedshiftPDF.from_draws(many, np.linspace(0.0, 2.0, 101))
    np.testing.assert_allclose(pz.mean(), 1.0, atol=5 * 0.2 / np.sqrt(200_000))
    np.testing.assert_allclose(pz.std(), 0.2, rtol=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RedshiftPDF.from_arrays([0.0, 0.0], [[1.0, 1.0]]), "two or more rising"),
        (lambda: RedshiftPDF.from_arrays([0.0], [[1.0]]), "two or more rising"),
        (
            lambda: RedshiftPDF.from_arrays([0.0, 1.0], [[1.0]]),
            r"shape \(n_rows, 2\), got \(1, 1\)",
        ),
        (lambda: RedshiftPDF.from_arrays([0.0, 1.0], [[1.0, -1.0]]), "negative, got -1"),
        (lambda: RedshiftPDF.from_draws([0.0], [0.0, 1.0]), r"\(n_rows, n_draws\), got \(1,\)"),
        (lambda: gaussians().cdf_at([0.1]), r"z must have shape \(3,\).*got \(1,\)"),
        (lambda: cde_loss(np.zeros((2, 5)), [0.0, 0.0]), "grid must hold rising"),
        (lambda: cde_loss(gaussians(), [0.0]), r"shape \(3,\), got \(1,\)"),
        (lambda: odds(gaussians(), LOC, -1.0), "width must be above 0, got -1.0"),
        (lambda: risk(gaussians(), LOC[:2]), r"z_point must have shape \(3,\), got \(2,\)"),
        (lambda: point_estimate(gaussians(np.linspace(-1, 3, 400))), "at -1 .* starts at -1"),
        (lambda: point_estimate(gaussians(), "middle"), "kind .*'middle'"),
        (lambda: quality_cut([0.1]), "either keep or threshold, got None and None"),
        (lambda: quality_cut([0.1], keep=2.0), "keep must lie between 0 and 1, got 2.0"),
        (lambda: quality_cut([[0.1]], keep=0.5), r"\(n_rows,\), got \(1, 1\)"),
        (lambda: uniformity([2.0]), "between 0 and 1"),
        (
            lambda: stacked_nz(gaussians(), [0.0, 3.0], bins=[0, 1]),
            "one whole number for each of 3",
        ),
        (lambda: hierarchical_nz(gaussians(), [0.0, 3.0], [9.0]), "no redshift between 0 and 3"),
        (
            lambda: hierarchical_nz(gaussians(), [0.0, 3.0], [1.0], concentration=0.0),
            "concentration must be above 0 or None, got 0.0",
        ),
        (
            lambda: hierarchical_nz(gaussians(), [0.0, 3.0], [1.0], train_weight=[1.0, 2.0]),
            r"train_weight must have shape \(1,\), got \(2,\)",
        ),
        (lambda: neighbour_weights(np.zeros((9, 2)), np.zeros((9, 1))), r"\(9, 2\) and \(9, 1\)"),
        (lambda: neighbour_weights(np.ones((9, 1)), np.ones((9, 1))), "below the 9 rows.* got 20"),
        (lambda: effective_rows([0.0]), "not all zero"),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Points


def test_points_of_symmetric_densities_agree():
    pz = gaussians()
    for kind in ("mode", "median", "mean"):
        np.testing.assert_allclose(point_estimate(pz, kind), LOC, atol=CURVED, err_msg=kind)


def test_best_point_and_risk_by_quadrature():
    def expected_loss(point, loc, scale):
        def integrand(z):
            squared = ((point - z) / (1 + z) / 0.15) ** 2
            return stats.norm.pdf(z, loc, scale) * (1.0 - 1.0 / (1.0 + squared))

        return integrate.quad(integrand, loc - 9 * scale, loc + 9 * scale, epsabs=1e-12)[0]

    pz = gaussians()
    best = point_estimate(pz)
    exact = [expected_loss(*one) for one in zip(best, LOC, SCALE, strict=True)]
    np.testing.assert_allclose(risk(pz, best), exact, rtol=CURVED)
    for row in range(3):
        around = best[row] + np.array([-0.02, 0.02])
        assert expected_loss(best[row], LOC[row], SCALE[row]) < min(
            expected_loss(point, LOC[row], SCALE[row]) for point in around
        )
    np.testing.assert_allclose(risk(two_peaks(), [0.5]), 0.4, atol=0.05)  # the other peak is lost


def test_odds_are_differences_of_the_cdf():
    pz = gaussians()
    reach = 0.03 * (1 + LOC)
    exact = stats.norm.cdf(reach / SCALE) - stats.norm.cdf(-reach / SCALE)
    np.testing.assert_allclose(odds(pz, LOC), exact, rtol=CURVED)
    np.testing.assert_allclose(odds(pz, LOC, width=9.0), 1.0, rtol=CURVED)


def test_regions_of_highest_density():
    width, n_modes = highest_density(gaussians(), 0.9)
    cell = GRID[1]
    np.testing.assert_allclose(width, 2 * stats.norm.ppf(0.95) * SCALE, atol=2 * cell)
    assert n_modes.tolist() == [1, 1, 1]
    width, n_modes = highest_density(two_peaks(0.5), 0.9)
    np.testing.assert_allclose(width, 4 * stats.norm.ppf(0.95) * 0.05, atol=4 * cell)
    assert n_modes.tolist() == [2]
    assert highest_density(two_peaks(0.95), 0.9)[1].tolist() == [1]  # a share of 5 % is outside


def test_modes_lie_between_points_of_the_grid():
    grid = np.linspace(0.0, 3.0, 61)  # one standard deviation apart, or half of it
    for kind in ("mode", "best"):
        pz = gaussians(grid)
        np.testing.assert_allclose(point_estimate(pz, kind)[1:], LOC[1:], atol=0.02)
    edge = RedshiftPDF.from_arrays([0.0, 1.0, 2.0], [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert point_estimate(edge, "mode").tolist() == [0.0, 2.0]
    assert point_estimate(RedshiftPDF.from_arrays([0.0, 1.0], [[1.0, 2.0]]), "mode") == [1.0]


def test_quality_cuts():
    quality = np.array([0.3, 0.9, np.nan, 0.9, 0.1])
    assert quality_cut(quality, keep=0.4).tolist() == [False, True, False, True, False]
    assert quality_cut(quality, keep=0.2).tolist() == [False, True, False, False, False]
    assert quality_cut(quality, threshold=0.3).tolist() == [True, True, False, True, False]
    low = quality_cut(quality, threshold=0.3, greater_is_better=False)
    assert low.tolist() == [True, False, False, False, True]
    low = quality_cut(quality, keep=0.2, greater_is_better=False)
    assert low.tolist() == [False, False, False, False, True]


# Scores


def test_cde_loss_of_gaussians():
    z = LOC + 0.5 * SCALE
    exact = (0.5 / np.sqrt(np.pi) / SCALE - 2.0 * stats.norm.pdf(0.5) / SCALE).mean()
    assert cde_loss(gaussians(), z) == pytest.approx(exact, rel=CURVED)


def test_the_truth_has_the_least_cde_loss():
    random = np.random.default_rng(3)
    loc = random.uniform(0.5, 2.5, size=2000)
    z = random.normal(loc, 0.1)

    def loss(scale):
        pdf = stats.norm.pdf(GRID, loc[:, None], scale)
        return cde_loss(RedshiftPDF.from_arrays(GRID, pdf), z)

    assert loss(0.1) < min(loss(0.08), loss(0.125))


def test_uniformity_is_that_of_scipy():
    u = np.random.default_rng(4).beta(1.2, 1.0, size=500)
    found = uniformity(u)
    assert found.ks == pytest.approx(stats.kstest(u, "uniform").statistic)
    assert found.cramer_von_mises == pytest.approx(stats.cramervonmises(u, "uniform").statistic)
    # n int (F_n - u)^2 / (u (1 - u)) du, piece by piece
    ordered, n = np.sort(u), len(u)
    ends = np.concatenate([[0.0], ordered, [1.0]])
    pieces = [
        integrate.quad(lambda t, k=k: (k / n - t) ** 2 / (t * (1 - t)), ends[k], ends[k + 1])[0]
        for k in range(n + 1)
    ]
    assert found.anderson_darling == pytest.approx(n * sum(pieces), rel=1e-6)
    u[:5], u[5:8] = 1e-5, 1.0
    assert uniformity(u).outlier_rate == pytest.approx(8 / 500)
    assert np.isfinite(uniformity(u).anderson_darling)


def test_pit_of_every_form_is_uniform_for_the_truth():
    random = np.random.default_rng(5)
    loc = random.uniform(0.5, 2.5, size=500)
    z = random.normal(loc, 0.1)
    pz = RedshiftPDF.from_arrays(GRID, stats.norm.pdf(GRID, loc[:, None], 0.1))
    exact = stats.norm.cdf(z, loc, 0.1)
    np.testing.assert_allclose(pit(pz, z), exact, atol=CURVED)
    draws = random.normal(loc[:, None], 0.1, size=(500, 400))
    ranks = pit(draws, z, random_state=0)
    np.testing.assert_array_equal(ranks, pit_values(z, draws, random_state=0))
    np.testing.assert_allclose(ranks, exact, atol=5 * 0.5 / np.sqrt(400))
    assert uniformity(exact).ks_pvalue > 1e-3  # false alarms: one in a thousand seeds


def test_point_scores_by_hand():
    z = np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    dz = np.array([-0.02, -0.01, 0.0, 0.01, 0.2])
    found = point_scores(z + dz * (1 + z), z)
    per_mad = 1.482602
    assert found.bias == pytest.approx(0.0, abs=EXACT)
    assert found.mean_bias == pytest.approx(0.036)
    assert found.sigma_mad == pytest.approx(per_mad * 0.01, rel=1e-6)
    assert found.sigma_nmad == pytest.approx(per_mad * 0.01, rel=1e-6)
    assert found.sigma_nmad_centred == pytest.approx(per_mad * 0.01, rel=1e-6)
    assert found.sigma_iqr == pytest.approx(0.02 / 1.34898, rel=1e-5)
    assert (found.outliers_015, found.outliers_006, found.outliers_3sigma) == (0.2, 0.2, 0.2)
    shifted = point_scores(z + (dz + 0.1) * (1 + z), z)
    assert shifted.bias == pytest.approx(0.1)
    assert shifted.sigma_mad == pytest.approx(per_mad * 0.01, rel=1e-6)
    assert shifted.sigma_nmad == pytest.approx(per_mad * 0.1, rel=1e-6)
    gaussian = stats.norm.rvs(scale=0.02, size=40_000, random_state=0)
    found = point_scores(1.0 + 2.0 * gaussian, np.ones(40_000))
    for sigma in (found.sigma_mad, found.sigma_nmad, found.sigma_nmad_centred, found.sigma_iqr):
        assert sigma == pytest.approx(0.02, rel=5 * 1.17 / np.sqrt(40_000))


def test_evaluate_prints_all(photometric):
    est, X, z = photometric
    found = evaluate(est.predict_density(X), z)
    text = str(found)
    for name in ("cde_loss", "ks", "anderson_darling", "sigma_mad", "outliers_3sigma"):
        assert f"| {name} " in text
    on_grid = evaluate(RedshiftPDF.from_estimator(est, X), z)
    assert found.points == on_grid.points
    assert found.uniformity.ks == pytest.approx(on_grid.uniformity.ks, abs=0.01)
    draws = est.sample(X, 2000, random_state=0)
    from_draws = evaluate(draws, z, grid=np.linspace(0.0, 4.0, 81), random_state=0)
    assert from_draws.points.sigma_mad == pytest.approx(found.points.sigma_mad, rel=0.2)


# n(z)


def shifted_population(n=4000, seed=0):
    """p(z | x) under a flat prior for a catalogue of another n(z), and the truth."""
    random = np.random.default_rng(seed)
    z = np.where(
        random.uniform(size=n) < 0.7, random.normal(0.8, 0.15, n), random.normal(1.8, 0.3, n)
    )
    z = np.clip(z, 0.05, 2.95)
    x = random.normal(z, 0.1)
    pz = RedshiftPDF.from_arrays(GRID, stats.norm.pdf(x[:, None], GRID, 0.1))
    return pz, z, x


def test_stack_is_the_mean_of_masses():
    pz = gaussians()
    edges = np.linspace(0.0, 3.0, 13)
    found = stacked_nz(pz, edges, n_bootstrap=50, random_state=0)
    np.testing.assert_allclose(found.density[0], pz.masses(edges).mean(axis=0) / 0.25, rtol=EXACT)
    assert found.mean == pytest.approx(LOC.mean(), abs=0.02)
    bins = stacked_nz(pz, edges, bins=[0, 1, -1], n_bootstrap=2, random_state=0)
    np.testing.assert_allclose(bins.density, pz.masses(edges)[:2] / 0.25, rtol=EXACT)
    assert bins.n_rows.tolist() == [1, 1]
    assert bins.std.shape == bins.density.shape


def test_bootstrap_errors_of_the_mean_are_those_of_a_mean():
    pz, _, _ = shifted_population(1000)
    edges = np.linspace(0.0, 3.0, 31)
    found = stacked_nz(pz, edges, n_bootstrap=300, random_state=0)
    expected = pz.mean().std() / np.sqrt(1000)
    assert found.mean_std[0] == pytest.approx(expected, rel=4 / np.sqrt(2 * 300))


@pytest.mark.parametrize("concentration", [None, 1.0])
def test_hierarchical_estimate_finds_what_stacking_smears(concentration):
    pz, z, _ = shifted_population()
    edges = np.linspace(0.0, 3.0, 21)
    truth = np.histogram(z, edges, density=True)[0]
    flat = np.linspace(0.0, 3.0, 3001)
    options = {"n_bootstrap": 20, "random_state": 0}
    stack = stacked_nz(pz, edges, **options)
    found = hierarchical_nz(pz, edges, flat, concentration=concentration, **options)
    np.testing.assert_allclose((found.density * np.diff(edges)).sum(), 1.0, rtol=EXACT)
    error, of_stack = (np.abs(one.density[0] - truth).mean() for one in (found, stack))
    assert error < 0.6 * of_stack
    pulls = (found.density[0] - truth)[truth > 0.1] / found.std[0][truth > 0.1]
    assert np.abs(pulls).mean() < 2.0  # 0.8 for independent Gaussian errors that are right


def test_the_training_prior_is_divided_out():
    """p(z | x) under a steep prior of the training rows gives the n(z) of the catalogue."""
    pz, z, x = shifted_population()
    random = np.random.default_rng(9)
    z_train = np.clip(random.gamma(2.0, 0.4, size=200_000), 0.0, 3.0)
    prior = stats.gamma.pdf(GRID, 2.0, scale=0.4) + 1e-6
    steep = RedshiftPDF.from_arrays(GRID, stats.norm.pdf(x[:, None], GRID, 0.1) * prior)
    edges = np.linspace(0.0, 3.0, 16)
    options = {"n_bootstrap": 2, "random_state": 0}
    found = hierarchical_nz(steep, edges, z_train, **options)
    assert found.mean == pytest.approx(z.mean(), abs=0.02)
    truth = np.histogram(z, edges, density=True)[0]
    error, of_stack = (
        np.abs(one.density[0] - truth).mean()
        for one in (found, stacked_nz(steep, edges, **options))
    )
    assert error < 0.6 * of_stack
    # The prior of the model is the mean of p(z) over rows like those of training
    x_train = random.normal(z_train[:4000], 0.1)
    of_training = RedshiftPDF.from_arrays(GRID, stats.norm.pdf(x_train[:, None], GRID, 0.1) * prior)
    found = hierarchical_nz(steep, edges, of_training, **options)
    assert found.mean == pytest.approx(z.mean(), abs=0.02)
    # Weights of the training rows are part of the prior
    weighted = hierarchical_nz(
        pz, edges, z_train, train_weight=1.0 / (z_train * np.exp(-z_train / 0.4) + 1e-3), **options
    )
    assert weighted.mean == pytest.approx(z.mean(), abs=0.03)


def test_a_catalogue_like_the_training_rows_has_their_distribution():
    """However wrong p(z) is, here by 0.2 of redshift."""
    _, _, x = shifted_population(1000)
    wrong = RedshiftPDF.from_arrays(GRID, stats.norm.pdf(x[:, None] + 0.2, GRID, 0.15))
    edges = np.linspace(0.0, 3.0, 16)
    found = hierarchical_nz(wrong, edges, wrong, n_bootstrap=2, random_state=0)
    np.testing.assert_allclose(
        found.density, stacked_nz(wrong, edges, n_bootstrap=2, random_state=0).density, atol=1e-4
    )


def test_tomographic_bins_of_the_hierarchical_estimate():
    pz, z, _ = shifted_population()
    bins = tomographic_bins(point_estimate(pz, "mode"), [0.0, 1.2, 3.0])
    edges = np.linspace(0.0, 3.0, 21)
    found = hierarchical_nz(
        pz, edges, np.linspace(0.0, 3.0, 3001), bins=bins, n_bootstrap=20, random_state=0
    )
    true_means = [z[bins == k].mean() for k in (0, 1)]
    assert (np.abs(found.mean - true_means) < 4 * found.mean_std + 0.005).all()
    assert found.n_rows.tolist() == np.bincount(bins).tolist()
    again = hierarchical_nz(
        pz, edges, np.linspace(0.0, 3.0, 3001), bins=bins, n_bootstrap=20, random_state=0
    )
    np.testing.assert_array_equal(found.replicates, again.replicates)


def test_shares_climb_and_stop(monkeypatch):
    pz, _, _ = shifted_population(300)
    edges = np.linspace(0.0, 3.0, 31)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stacked_nz(pz, edges, n_bootstrap=2, random_state=0)
    from sklearn_san.photoz import populations

    monkeypatch.setattr(populations, "MAX_STEPS", 3)
    with pytest.warns(ConvergenceWarning, match="after 3 steps"):
        hierarchical_nz(pz, edges, GRID, n_bootstrap=2, random_state=0)


# Weights


def samples(seed=0):
    """Spectroscopic and photometric x of two Gaussians, and the exact ratio."""
    random = np.random.default_rng(seed)
    spec, phot = (
        random.normal(0.0, 1.0, (4000, 2)),
        random.normal([0.5, 0.0], [0.8, 1.0], (6000, 2)),
    )
    ratio = stats.norm.pdf(spec[:, 0], 0.5, 0.8) / stats.norm.pdf(spec[:, 0])
    return spec, phot, ratio / ratio.mean()


@pytest.mark.parametrize(
    "weigh",
    [
        neighbour_weights,
        lambda s, p: classifier_weights(s, p, random_state=0),
        lambda s, p: classifier_weights(s, p, classifier=LINEAR, random_state=0),
    ],
)
def test_weights_turn_one_sample_into_the_other(weigh):
    spec, phot, exact = samples()
    weights = weigh(spec, phot)
    assert weights.mean() == pytest.approx(1.0)
    assert np.corrcoef(weights, exact)[0, 1] > 0.8
    error = np.average(spec, axis=0, weights=weights) - phot.mean(axis=0)
    assert (np.abs(error) < 0.1).all()
    assert 0.3 * effective_rows(exact) < effective_rows(weights) < 1.5 * effective_rows(exact)


def test_neighbour_weights_by_brute_force():
    spec, phot, _ = samples()
    spec, phot = spec[:300], phot[:400]
    unit = phot.std(axis=0)
    among = np.sort(np.linalg.norm((spec[:, None] - spec) / unit, axis=2), axis=1)[:, 5]
    near = np.linalg.norm((spec[:, None] - phot) / unit, axis=2) <= among[:, None]
    counts = near.sum(axis=1)
    found = neighbour_weights(spec, phot, n_neighbours=5)
    np.testing.assert_allclose(found, counts / counts.mean())


def test_samples_that_hardly_meet_are_told():
    random = np.random.default_rng(0)
    spec, phot = random.normal(size=(300, 1)), random.normal(6.0, size=(300, 1))
    with pytest.warns(EffectiveSampleSizeWarning, match="hardly overlap"):
        neighbour_weights(spec, phot, n_neighbours=2)
    assert effective_rows(np.ones(7)) == 7.0


def test_classifier_takes_missing_values():
    spec, phot, _ = samples()
    spec, phot = spec[:400].copy(), phot[:400].copy()
    spec[::3, 1] = phot[::2, 1] = np.nan
    assert np.isfinite(classifier_weights(spec, phot, random_state=0)).all()


# Pictures


def test_pictures_are_drawn(photometric):
    plt = pytest.importorskip("matplotlib.pyplot")
    est, X, z = photometric
    display = RedshiftDisplay.from_estimator(est, X, z)
    assert display.scores_ == point_scores(display.z_point, z)
    assert "beyond 0.15" in display.ax_.get_title()
    many = RedshiftDisplay.from_predictions(np.repeat(z, 9), np.repeat(z, 9), outlier=0.06)
    assert many.artist_.get_cmap().name == "Blues"
    pz = RedshiftPDF.from_estimator(est, X)
    bins = tomographic_bins(pz.mean(), [0.0, 1.0, 9.0])
    found = stacked_nz(pz, np.linspace(0, 4, 21), bins=bins, n_bootstrap=5, random_state=0)
    _, ax = plt.subplots()
    display = DistributionDisplay.from_distribution(
        found, z=z, bins=bins, ax=ax, names=["near", "far"]
    )
    assert display.ax_ is ax
    assert len(display.lines_) == len(display.bands_) == 2
    np.testing.assert_allclose(display.truth.sum(axis=1) * 0.2, 1.0)
    with pytest.raises(ValueError, match="names has 1 entries for 2 bins"):
        display.plot(names=["near"])
    with pytest.raises(ValueError, match="kind must be one of"):
        RedshiftDisplay(z, z).plot(kind="bars")
    plt.close("all")
