"""Pictures: the numbers in them, their manners towards matplotlib, and bad input."""

import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import small
from scipy.special import ndtr
from scipy.stats import beta, binom, chi2, expon, multivariate_normal, norm, rankdata
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_san.calibration.bands import uniform_band
from sklearn_san.datasets import GALAXY_LIMITS, GALAXY_PARAMETERS, make_galaxies
from sklearn_san.plotting import (
    ChainDisplay,
    CornerDisplay,
    CoverageDisplay,
    MarginalDisplay,
    PITDisplay,
    RankDisplay,
    RecoveryDisplay,
    TrainingDisplay,
    drawing,
    smooth_densities,
)
from sklearn_san.plotting.levels import hpd_levels, ranks_of

matplotlib = pytest.importorskip("matplotlib")
plt = pytest.importorskip("matplotlib.pyplot")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 2))
Y = X + RANDOM.normal(size=X.shape)
DRAWS = X[:, None] + RANDOM.normal(size=(400, 99, 2))


class GaussianDensity:
    """Exact density: independent outputs, y_j ~ N(x_j, 1)."""

    def __init__(self, mean, one_dimensional=False):
        self.center, self.one_dimensional = np.asarray(mean, dtype=float), one_dimensional
        self.n_outputs = self.center.shape[1]
        self.output_names = [f"out{j}" for j in range(self.n_outputs)]
        self.limits = np.tile([-np.inf, np.inf], (self.n_outputs, 1))

    def __len__(self):
        return len(self.center)

    def _present(self, values):
        return values[..., 0] if self.one_dimensional else values

    def sample(self, n_draws=1, *, random_state=None):
        random = np.random.default_rng(None if random_state is None else 1)
        noise = random.normal(size=(len(self), n_draws, self.n_outputs))
        return self._present(self.center[:, None] + noise)

    def log_prob(self, y):
        y = np.asarray(y)[..., None] if self.one_dimensional else np.asarray(y)
        center = self.center if y.ndim == 2 else self.center[:, None]
        return norm.logpdf(y - center).sum(-1)

    def cdf(self, y, *, random_state=None):
        return self._present(ndtr(np.reshape(y, self.center.shape) - self.center))

    def marginal(self, outputs):
        grid = np.linspace(self.center.min() - 5, self.center.max() + 5, 400)
        return SimpleNamespace(grid=grid, density=norm.pdf(grid - self.center[:, [outputs]]))


class GaussianEstimator:
    """Fitted estimator whose density is `GaussianDensity` around X."""

    def __init__(self, one_dimensional=False):
        self.one_dimensional = one_dimensional

    def fit(self, X, y=None):
        return self

    def predict_density(self, X):
        return GaussianDensity(X, self.one_dimensional)

    def __sklearn_is_fitted__(self):
        return True


@pytest.fixture(autouse=True)
def agg():
    """Draw without windows, change no setting, leave no figure open."""
    plt.switch_backend("agg")
    settings = {key: value for key, value in matplotlib.rcParams.items() if key != "backend"}
    yield
    plt.close("all")
    assert settings == {key: matplotlib.rcParams[key] for key in settings}


def overlapping(boxes):
    """Pairs of boxes that overlap."""
    pairs = ((a, b) for k, a in enumerate(boxes) for b in boxes[:k])
    return [(a, b) for a, b in pairs if a.overlaps(b)]


def texts_of(figure):
    """All texts that are drawn; labels of ticks outside the view are not."""
    figure.canvas.draw()
    texts = [t for t in figure.findobj(matplotlib.text.Text) if t.get_visible() and t.get_text()]
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False)
            hidden |= {label for where, label in ticks if not low <= where <= high}
    return [text for text in texts if text not in hidden]


# Import of matplotlib


def test_matplotlib_is_imported_when_something_is_drawn():
    code = "import sys, sklearn_san.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-san\[plot\]"'):
        PITDisplay.from_predictions(np.array([0.1, 0.5]))


# Smoothing


@pytest.mark.parametrize(
    "density",
    [norm(0, 1), norm(0, 1e-3), norm(5000, 0.1)],
    ids=["unit", "narrow", "far"],
)
def test_density_of_draws_follows_a_gaussian(density):
    draws = density.rvs(size=5000, random_state=0)
    low, high = smooth_densities.view_range([draws], np.empty(0), np.array([-np.inf, np.inf]))
    grid, estimate = smooth_densities.density_of_draws(draws, low, high)
    assert np.trapezoid(estimate, grid) == pytest.approx(1.0, abs=5e-3)
    assert np.abs(estimate - density.pdf(grid)).max() < 0.08 * density.pdf(density.mean())


def test_density_of_draws_keeps_separate_modes_and_hard_limits():
    random = np.random.default_rng(0)
    draws = np.concatenate([random.normal(1.0, 0.05, 5000), 4.0 - random.exponential(0.3, 5000)])
    draws = draws[draws > 0]
    grid, estimate = smooth_densities.density_of_draws(draws, 0.0, 4.0)
    at = np.interp([1.0, 1.5, 4.0], grid, estimate)
    assert at[0] == pytest.approx(0.5 / 0.05 * norm.pdf(0), rel=0.1)
    assert at[1] < 1e-3
    # A kernel without reflection would show half of this
    assert at[2] == pytest.approx(0.5 / 0.3, rel=0.12)
    assert grid[[0, -1]].tolist() == [0.0, 4.0]


def test_pair_density_follows_a_narrow_gaussian():
    covariance = np.array([[1.0, 0.98], [0.98, 1.0]])
    truth = multivariate_normal(cov=covariance)
    x, y = truth.rvs(size=20_000, random_state=0).T
    ends = np.array([-4.5, 4.5])
    pair = smooth_densities.PairDensity.of_draws(x, y, ends, ends)
    grid = np.stack(np.meshgrid(pair.x, pair.y, indexing="ij"), axis=-1)
    assert np.abs(pair.density - truth.pdf(grid)).max() < 0.2 * truth.pdf([0, 0])
    total = np.trapezoid(np.trapezoid(pair.density, pair.y), pair.x)
    assert total == pytest.approx(1.0, abs=5e-3)
    # Highest-density regions of a Gaussian are ellipses of squared radius chi2 with two degrees
    radius = np.sum(np.linalg.solve(np.linalg.cholesky(covariance), [x, y]) ** 2, axis=0)
    for mass, threshold in zip([0.95, 0.68], pair.thresholds([0.68, 0.95]), strict=True):
        inside = pair.at_draws >= threshold
        assert inside.mean() == pytest.approx(mass, abs=1e-3)
        assert (inside == (radius < chi2.ppf(mass, 2))).mean() > 0.96


def test_noise_of_flat_densities_makes_no_islands():
    random = np.random.default_rng(0)
    draws = np.stack([random.uniform(size=20_000), random.beta(2, 2, size=20_000)], axis=1)
    ends = np.array([0.0, 1.0])
    grid = np.linspace(0.0, 1.0, 201)
    curves = ((grid, np.ones(201)), (grid, beta.pdf(grid, 2, 2)))
    pair = smooth_densities.PairDensity.of_draws(*draws.T, ends, ends, *curves)
    exact = beta.pdf(pair.y, 2, 2)
    # A histogram of 128 x 128 cells has errors of 90 %
    assert np.abs(pair.density[1:-1, 1:-1] - exact[1:-1]).max() < 0.01 * exact.max()


def test_structure_that_copulas_would_blur_stays_sharp():
    random = np.random.default_rng(0)
    first = random.normal([0.0, 0.0], 0.1, size=(4000, 2))
    second = random.normal([3.0, 3.0], 0.2, size=(6000, 2))
    ends = np.array([-1.0, 4.0])
    x, y = np.concatenate([first, second]).T
    pair = smooth_densities.PairDensity.of_draws(x, y, ends, ends)
    near = [np.abs(pair.x - value).argmin() for value in (0.2, 2.6)]
    assert pair.density[near[0], near[1]] < 1e-3 * pair.density.max()


def test_densest_pieces_of_two_modes_and_equal_tails_of_one():
    grid = np.linspace(-6.0, 16.0, 2001)
    two = 0.5 * norm.pdf(grid) + 0.5 * norm.pdf(grid, 10.0)
    half = norm.ppf(0.9)  # 80 % of each mode
    pieces = smooth_densities.densest_pieces(grid, two, 0.8)
    np.testing.assert_allclose(pieces, [[-half, half], [10 - half, 10 + half]], atol=2e-3)
    skewed = expon.pdf(grid)
    found = smooth_densities.densest_pieces(grid, skewed, 0.8)
    np.testing.assert_allclose(found, [expon.ppf([0.1, 0.9])], atol=2e-2)
    ripples = np.where(np.abs(grid) < 3, 1.0 + 0.3 * np.cos(10 * grid), 0.0)
    assert len(smooth_densities.densest_pieces(grid, ripples, 0.5)) == 1


def test_thresholds_rise_even_where_the_density_is_flat():
    flat = smooth_densities.PairDensity(np.arange(3.0), np.arange(3.0), np.ones((3, 3)), np.ones(9))
    assert (np.diff([0.0, *flat.thresholds([0.5, 0.9, 0.99]), 1.0]) > 0).all()


def test_discrete_draws_fill_bars():
    random = np.random.default_rng(0)
    draws = np.stack([random.poisson(2, 5000), random.poisson(2, 5000)], axis=1).astype(float)
    spread = smooth_densities.spread_ties(draws, np.random.default_rng(1))
    np.testing.assert_array_equal(np.round(spread), draws)
    one = spread[(draws == 1).all(axis=1)] - 1  # fills the unit square without a pattern
    assert np.abs(one).max() == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(one.T)[0, 1]) < 4 / np.sqrt(len(one))
    continuous = random.normal(size=(500, 1))
    np.testing.assert_array_equal(smooth_densities.spread_ties(continuous, random), continuous)


def test_view_range_ends_at_limits_and_shows_the_truth():
    draws = np.random.default_rng(0).uniform(0, 1, 1000)
    limits = np.array([0.0, 10.0])
    low, high = smooth_densities.view_range([draws], np.array([3.0]), limits)
    assert -0.15 < low < 0
    assert 3.0 < high < 4.0
    low, high = smooth_densities.view_range([draws], np.empty(0), limits, zoom=False)
    assert (low, high) == (-0.3, 10.3)
    low, high = smooth_densities.view_range(
        [np.full(5, 2.0)], np.empty(0), np.array([-np.inf, np.inf])
    )
    assert low < 2.0 < high


# Ranks and levels


def test_ranks_count_draws_below_and_break_ties_evenly():
    y = np.random.default_rng(0).normal(size=(50, 3))
    draws = np.random.default_rng(1).normal(size=(50, 20, 3))
    ranks = ranks_of(draws, y, 0)
    together = rankdata(np.concatenate([y[:, None], draws], axis=1), axis=1)[:, 0] - 1
    np.testing.assert_array_equal(ranks, together)
    ties = ranks_of(np.zeros((6000, 2)), np.zeros(6000), 0)
    counts = np.bincount(ties)  # three ranks; fails by chance once in 10,000 times
    assert len(counts) == 3
    assert np.abs(counts - 2000).max() < 4.2 * np.sqrt(6000 * 2 / 9)


def test_hpd_levels_are_those_of_a_gaussian():
    levels = hpd_levels(GaussianDensity(X), Y, 2000, 0)
    exact = chi2.cdf(((Y - X) ** 2).sum(axis=1), 2)
    assert np.abs(levels - exact).max() < 5 * 0.5 / np.sqrt(2000)


# Corner plots


def test_corner_contours_enclose_their_masses():
    draws = np.random.default_rng(0).multivariate_normal([1, 2], [[1, 0.8], [0.8, 1]], 5000)
    display = CornerDisplay.from_predictions(draws, levels=(0.5, 0.9))
    outer, inner = display.contours_[0, 1, 0].get_paths()
    assert outer.contains_points(draws).mean() == pytest.approx(0.9, abs=0.01)
    assert inner.contains_points(draws).mean() == pytest.approx(0.5, abs=0.01)


def test_corner_of_nine_outputs_is_readable():
    _, y = make_galaxies(1500, random_state=0)
    units = {"tage": "Gyr", "inclination": "deg"}
    display = CornerDisplay.from_predictions(
        [y[:750], y[750:]],
        y=y[:2],
        limits=GALAXY_LIMITS,
        output_names=GALAXY_PARAMETERS,
        units=units,
        row_names=["one", "two"],
    )
    assert display.axes_.shape == (9, 9)
    assert (display.axes_ != None).sum() == 45  # noqa: E711
    assert len(display.contours_) == 2 * 36
    assert len(display.curves_) == 2 * 9
    assert display.axes_[8, 3].get_xlabel() == "tage [Gyr]"
    shown = ["one", "two", "true value", "beyond limits"]
    assert [t.get_text() for t in display.legend_.get_texts()] == shown
    texts = texts_of(display.figure_)
    boxes = [text.get_window_extent() for text in texts]
    assert not overlapping(boxes)
    page = display.figure_.bbox
    assert all(page.contains(b.x0, b.y0) and page.contains(b.x1, b.y1) for b in boxes)


def test_corner_panels_end_at_the_limits():
    draws = np.random.default_rng(0).uniform(size=(2000, 2))
    display = CornerDisplay.from_predictions(draws, limits=[[0, 1], [-np.inf, 1]])
    low, high = display.axes_[1, 0].get_xlim()
    assert -0.05 < low < 0
    assert 1 < high < 1.05
    corners = np.concatenate([path.vertices for path in display.contours_[0, 1, 0].get_paths()])
    assert corners[:, 0].min() >= 0
    assert corners.max() <= 1
    curve = display.curves_[0, 0].get_xdata()
    assert curve[[0, -1]].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "draws",
    [
        np.random.default_rng(0).poisson(3, size=(500, 3)),
        np.ones((50, 2)),
        np.random.default_rng(0).normal(size=(1, 2)),
        np.random.default_rng(0).normal(size=(3, 2)),
        1e-9 * np.random.default_rng(0).normal(size=(300, 2)),
        1e9 + np.random.default_rng(0).standard_cauchy(size=(300, 2)),
        np.random.default_rng(0).normal(size=(300, 1)),
    ],
    ids=["discrete", "constant", "one draw", "few", "tiny", "heavy", "one output"],
)
@pytest.mark.parametrize("diagonal", ["density", "histogram"])
def test_corner_of_awkward_draws(draws, diagonal):
    display = CornerDisplay.from_predictions(draws, y=draws[0], diagonal=diagonal, zoom=False)
    display.figure_.canvas.draw()
    assert len(display.legend_.get_texts()) == 2


def test_the_diagonal_of_an_estimator_is_its_own_marginal(fitted, bimodal):
    X, y, _ = bimodal
    display = CornerDisplay.from_estimator(fitted, X[:1], y[:1], n_draws=200, random_state=0)
    density = fitted.predict_density(X[:1])
    for j in range(2):
        grid, shown = display.curves_[0, j].get_data()
        np.testing.assert_allclose(shown, density.pdf_grid(j, grid, n_draws=8192)[0])
        assert np.trapezoid(shown, grid) == pytest.approx(1.0, abs=0.01)


def test_two_peaks_have_two_intervals_in_the_title():
    random = np.random.default_rng(0)
    peaks = np.concatenate([random.normal(0, 0.1, 4000), random.normal(5, 0.1, 4000)])
    display = CornerDisplay.from_predictions(np.stack([peaks, random.normal(size=8000)], axis=1))
    titles = [text.get_text() for text in display.axes_[0, 0].texts]
    assert any(re.fullmatch(r"-0\.\d+ to 0\.\d+ or 4\.\d+ to 5\.\d+", title) for title in titles)
    assert display.axes_[1, 1].texts[0].get_text().startswith("$")


def test_corner_shows_limits_and_truths_on_them():
    draws = np.random.default_rng(0).uniform(size=(2000, 5))
    display = CornerDisplay.from_predictions(draws, y=np.zeros(5), limits=[[0, 1]] * 5)
    markers = [line for line in display.axes_[3, 1].lines if line.get_marker() == "s"]
    assert not markers[0].get_clip_on()
    cells = display.table_.get_celld()
    assert [cells[0, k].get_text().get_text() for k in (1, 2, 3)] == ["95 %", "true", "limits"]
    assert cells[5, 3].get_text().get_text() == "0 to 1"
    with plt.style.context("dark_background"):
        dark = CornerDisplay.from_predictions(draws[:, :2], y=np.zeros(2), limits=[[0, 1]] * 2)
    assert {text.get_color() for text in dark.axes_[0, 0].texts} == {"white"}


def test_lines_of_many_marginals_hold_interval_and_truth():
    centers = np.array([[0.0], [4.0], [8.0]])
    display = MarginalDisplay.from_estimator(GaussianEstimator(), centers, centers)
    bars = [line.get_xdata() for line in display.axes_[0].lines if line.get_lw() == 3.0][:3]
    np.testing.assert_allclose(bars, centers + norm.ppf([0.16, 0.84]), atol=0.02)
    diamonds = [line for line in display.axes_[0].lines if line.get_marker() == "D"][:3]
    assert [float(line.get_xdata()[0]) for line in diamonds] == [0.0, 4.0, 8.0]


def test_pit_explains_its_band():
    pit = np.random.default_rng(0).uniform(size=(500, 2))
    legend = PITDisplay.from_predictions(pit, level=0.9).legend_
    assert [text.get_text() for text in legend.get_texts()] == [
        "observed", "holds 90 % of calibrated bars", "outside (10 % by chance)",
    ]  # fmt: skip
    curve = PITDisplay.from_predictions(pit, kind="ecdf").legend_
    assert curve.get_texts()[1].get_text() == "holds a calibrated curve in 99 %"


def test_corner_leaves_powers_of_ten_to_the_label():
    draws = 3e7 * np.random.default_rng(0).normal(size=(300, 2))
    display = CornerDisplay.from_predictions(draws, units={"y0": "s"})
    assert display.axes_[1, 0].get_xlabel() == "y0 [$10^{8}$ s]"
    labels = [label.get_text() for label in display.axes_[1, 0].get_xticklabels()]
    assert all(len(label) <= 4 for label in labels)
    assert len(labels) >= 2


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((1.2345, 1.1, 1.5), "$1.23^{+0.27}_{-0.13}$"),
        ((42.0, 30.0, 60.0), "$42^{+18}_{-12}$"),
        ((0.0, -1.0, 1.0), "$0.0^{+1.0}_{-1.0}$"),
        ((2.0, 2.0, 2.0), "$2.000^{+0.000}_{-0.000}$"),
        ((3e7, 2e7, 5e7), r"$(3.0^{+2.0}_{-1.0})\times10^{7}$"),
        ((-2e-6, -3e-6, 4e-6), r"$(-2.0^{+6.0}_{-1.0})\times10^{-6}$"),
    ],
    ids=str,
)
def test_interval_text(numbers, text):
    assert drawing.interval_text(*numbers) == text


# Calibration


def test_pit_bars_and_band():
    pit = np.random.default_rng(0).uniform(size=(500, 3))
    pit[:, 2] = pit[:, 2] ** 3
    display = PITDisplay.from_predictions(pit, n_bins=10, output_names=["a", "b", "c"])
    heights = display.lines_[0].get_data().values
    np.testing.assert_allclose(heights, np.histogram(pit[:, 0], 10, (0, 1))[0] / 50)
    band = display.bands_[0].get_data()
    np.testing.assert_allclose(band.values, binom.ppf(0.995, 500, 0.1) / 50)
    assert [axis.get_title() for axis in display.axes_] == ["a", "b", "c"]
    orange = [
        patch.get_data().values.max()
        for patch in display.axes_[2].patches
        if patch.get_facecolor()[:3] == matplotlib.colors.to_rgb(drawing.TRUTH)
    ]
    assert orange == [display.lines_[2].get_data().values.max()]


def test_pit_curve_is_the_difference_of_distribution_functions():
    pit = np.random.default_rng(0).uniform(size=300) ** 1.5
    display = PITDisplay.from_predictions(pit, kind="ecdf")
    x, difference = display.lines_[0].get_data()
    expected = (pit[:, None] <= x).mean(axis=0) - x
    np.testing.assert_allclose(difference, expected, atol=1e-12)


def test_rank_bars_of_uneven_bins_keep_their_expectation():
    ranks = np.repeat(np.arange(8), 100)[:, None]  # exactly uniform
    display = RankDisplay(ranks, n_draws=7).plot(n_bins=3)
    bars = display.lines_[0].get_data()
    np.testing.assert_allclose(bars.values, 1.0)
    np.testing.assert_allclose(bars.edges, [0, 3 / 8, 5 / 8, 1])


def test_coverage_curves():
    levels = np.random.default_rng(0).uniform(size=(400, 2)) ** 0.5
    display = CoverageDisplay.from_predictions({"a": levels[:, 0], "joint": levels[:, 1]})
    nominal, coverage = display.lines_["a"].get_data()
    np.testing.assert_allclose(coverage, (levels[:, [0]] <= nominal).mean(axis=0), atol=1e-12)
    assert display.lines_["joint"].get_color() == "black"
    difference = CoverageDisplay(display.levels).plot(kind="difference").lines_["a"].get_ydata()
    np.testing.assert_allclose(difference, coverage - nominal, atol=1e-12)


# Single outputs


def test_recovery_numbers():
    display = RecoveryDisplay.from_predictions(Y, DRAWS, kind="points")
    low, median, high = np.quantile(DRAWS, [0.16, 0.5, 0.84], axis=1)
    np.testing.assert_allclose(display.r2_, r2_score(Y, median, multioutput="raw_values"))
    np.testing.assert_allclose(display.rmse_, np.sqrt(((Y - median) ** 2).mean(axis=0)))
    np.testing.assert_allclose(display.coverage_, ((low <= Y) & (high >= Y)).mean(axis=0))
    one_row = RecoveryDisplay.from_predictions(Y[:1], DRAWS[:1])
    assert np.isnan(one_row.r2_).all()


def test_columns_of_recovery_are_posteriors_whatever_the_number_of_rows():
    random = np.random.default_rng(0)
    y = random.exponential(size=(2000, 1))  # few rows on the right
    display = RecoveryDisplay.from_predictions(y, y[:, None] + random.normal(size=(2000, 100, 1)))
    heights = display.artists_[0].get_array()
    np.testing.assert_array_equal(heights.max(axis=0), 1.0)
    corners = display.artists_[0].get_coordinates()
    edges, cells = corners[0, :, 0], corners[:, 0, 1]
    assert edges[[0, -1]].tolist() == [y.min(), y.max()]
    assert np.histogram(y, edges)[0].min() >= 40
    centres = 0.5 * (cells[1:] + cells[:-1])
    means = (heights * centres[:, None]).sum(axis=0) / heights.sum(axis=0)
    assert np.all(np.diff(means) > 0)
    middle = 0.5 * (edges[1:] + edges[:-1])[:-1]
    # The error of a column of 40 rows is 0.1 or less: fails by chance once in 10,000 times
    assert np.abs(means[:-1] - middle).max() < 0.4
    assert display.colorbar_.ax.get_ylabel() == "density / highest in column"
    assert RecoveryDisplay.from_predictions(y[:9], y[:9, None] + [[[0.0]]]).colorbar_ is None


def test_marginals_of_an_estimator_are_exact():
    display = MarginalDisplay.from_estimator(GaussianEstimator(), X[:2], Y[:2], outputs="out1")
    grid, density = display.curves_[1, 0].get_data()
    np.testing.assert_allclose(density, norm.pdf(grid - X[1, 1]))
    assert display.axes_[0].get_xlabel() == "out1"


def test_marginals_of_discrete_outputs_are_bars():
    grid, density = np.arange(4.0), np.array([[0.1, 0.2, 0.3, 0.4]])
    display = MarginalDisplay([grid], [density], limits=[[0, 3]], output_names=["n"]).plot()
    np.testing.assert_allclose([bar.get_height() for bar in display.curves_[0, 0]], density[0])
    assert display.axes_[0].get_ylabel() == "probability"
    low, high = display.axes_[0].get_xlim()
    assert low < -0.5
    assert high > 3.5


def test_the_chain_shows_the_conditionals_that_are_drawn_from(bimodal):
    X, y, _ = bimodal
    est = small(epochs=3, order=[1, 0]).fit(X, y)
    display = ChainDisplay.from_estimator(est, X[:1], y[:1], random_state=4)
    density = est.predict_density(X[:1])
    np.testing.assert_array_equal(display.draw, density.sample(1, random_state=4)[0, 0, ::-1])
    assert [axis.get_title() for axis in display.axes_] == ["p(y1 | x)", "p(y0 | y1, x)"]
    # p(y1 | x) p(y0 | y1, x) at the draw is the joint density
    heights = [np.interp(v, *line.get_data()) for v, line in
               zip(display.draw, display.lines_, strict=True)]  # fmt: skip
    joint = density.log_prob(display.draw[None, ::-1])
    assert np.log(heights).sum() == pytest.approx(joint[0], abs=1e-4)
    for line in display.lines_:
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1.0, abs=0.01)
    pipeline = make_pipeline(StandardScaler(), est).fit(X, y)
    again = ChainDisplay.from_estimator(pipeline, X[:1], random_state=4)
    assert again.axes_[0].get_title() == "p(y1 | x)"
    with pytest.raises(ValueError, match="There are 2 rows, but a chain shows one"):
        ChainDisplay.from_estimator(est, X[:2])


def test_units_of_marginals():
    draws = 1e-6 * np.random.default_rng(0).normal(size=(300, 1))
    display = MarginalDisplay.from_predictions(draws, units={"y0": "m"})
    assert display.axes_[0].get_xlabel() == "y0 [$10^{-6}$ m]"
    assert display.axes_[0].get_ylabel() == "density [$10^{5}$ / m]"


def test_training_curves(fitted):
    display = TrainingDisplay.from_estimator(fitted)
    training, validation = display.lines_
    np.testing.assert_array_equal(training.get_ydata(), fitted.loss_curve_)
    np.testing.assert_array_equal(validation.get_ydata(), fitted.validation_curve_)
    assert training.get_xdata()[0] == 1
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels[2].startswith(f"kept: epoch {fitted.best_epoch_},")
    assert len(TrainingDisplay([2.0, 1.0]).plot().lines_) == 1


def test_displays_of_a_search_over_pipelines(bimodal):
    X, y, _ = bimodal
    chain = make_pipeline(StandardScaler(), small(epochs=2))
    with pytest.raises(NotFittedError):
        TrainingDisplay.from_estimator(chain)
    search = GridSearchCV(chain, {"sanconditionaldensityestimator__K": [2]}, cv=2).fit(X, y)
    display = TrainingDisplay.from_estimator(search)
    best = search.best_estimator_[-1]
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), best.loss_curve_)
    again = TrainingDisplay.from_estimator(search.best_estimator_)
    np.testing.assert_array_equal(again.lines_[0].get_ydata(), best.loss_curve_)
    for made in (MarginalDisplay, CornerDisplay, ChainDisplay):
        made.from_estimator(search, X[:1])
    for made in (PITDisplay, RankDisplay, RecoveryDisplay, CoverageDisplay):
        made.from_estimator(search, X[:40], y[:40])


# Every display


FROM_ESTIMATOR = [
    (CornerDisplay, 2, {"n_draws": 500}),
    (MarginalDisplay, 2, {}),
    (PITDisplay, 400, {}),
    (RankDisplay, 400, {}),
    (CoverageDisplay, 400, {"n_draws": 50}),
    (RecoveryDisplay, 400, {"n_draws": 50}),
    (RecoveryDisplay, 20, {"n_draws": 50}),
]


@pytest.mark.parametrize(("display", "n_rows", "options"), FROM_ESTIMATOR)
def test_from_estimator(display, n_rows, options, fitted, bimodal):
    X, y, _ = bimodal
    shown = display.from_estimator(fitted, X[:n_rows], y[:n_rows], **options)
    assert isinstance(shown, display)
    texts = texts_of(shown.figure_)
    page = shown.figure_.bbox
    for box in (text.get_window_extent() for text in texts):
        assert page.contains(box.x0, box.y0)
        assert page.contains(box.x1, box.y1)
    names = " ".join(text.get_text() for text in texts)
    assert all(name in names for name in fitted.output_names_)


@pytest.mark.parametrize(("display", "n_rows", "options"), FROM_ESTIMATOR)
def test_one_dimensional_y(display, n_rows, options):
    estimator = GaussianEstimator(one_dimensional=True)
    shown = display.from_estimator(estimator, X[:n_rows, :1], Y[:n_rows, 0], **options)
    axes = np.ravel(shown.ax_ if display is CoverageDisplay else shown.axes_)
    assert len(axes) == 1


@pytest.mark.parametrize(("display", "n_rows", "options"), FROM_ESTIMATOR)
def test_a_pipeline_and_chosen_outputs(display, n_rows, options):
    pipeline = make_pipeline(StandardScaler(), GaussianEstimator()).fit(X, Y)
    shown = display.from_estimator(
        pipeline, X[:n_rows], Y[:n_rows], outputs=["out1"], output_names=["renamed"], **options
    )
    assert "renamed" in " ".join(text.get_text() for text in texts_of(shown.figure_))


def test_the_pipeline_transforms_before_the_density_is_asked():
    pipeline = make_pipeline(StandardScaler(), GaussianEstimator()).fit(X, Y)
    display = PITDisplay.from_estimator(pipeline, X, Y)
    np.testing.assert_allclose(display.pit, ndtr(Y - StandardScaler().fit_transform(X)))


def test_the_same_seed_gives_the_same_picture():
    one, two = (
        RankDisplay.from_estimator(GaussianEstimator(), X, Y, random_state=3) for _ in range(2)
    )
    np.testing.assert_array_equal(one.ranks, two.ranks)


def test_a_calibrated_estimator_stays_inside_the_bands():
    # Each of the two curves leaves its band by chance once in 100 times
    pit = PITDisplay.from_estimator(GaussianEstimator(), X, Y, kind="ecdf")
    coverage = CoverageDisplay.from_estimator(GaussianEstimator(), X, Y, random_state=0)
    low, high = uniform_band(400, tuple(np.linspace(0, 1, 101).tolist()), 0.99)
    curves = [pit.lines_[0].get_ydata()]
    curves += [coverage.lines_["joint"].get_ydata() - np.linspace(0, 1, 101)]
    for curve in curves:
        assert ((curve >= low - 1e-12) & (curve <= high + 1e-12)).all()


def test_pictures_fit_into_given_axes():
    figure, axes = plt.subplots(2, 2, layout="constrained", figsize=(12, 12))
    corner = CornerDisplay.from_predictions(DRAWS[0], y=Y[0], ax=axes[0, 0])
    recovery = RecoveryDisplay.from_predictions(Y, DRAWS, ax=axes[0, 1])
    pit = PITDisplay.from_predictions(np.full((50, 2), 0.5), ax=axes[1])
    assert corner.figure_ is recovery.figure_ is pit.figure_ is figure
    assert list(pit.axes_) == list(axes[1])
    assert not axes[0, 0].axison
    assert not axes[0, 1].axison
    coverage = CoverageDisplay.from_predictions(np.linspace(0, 1, 50), ax=plt.figure().gca())
    assert coverage.ax_ is coverage.figure_.axes[0]
    figure.canvas.draw()
    marginal = MarginalDisplay.from_predictions(DRAWS[:2], ax=plt.subplots(1, 2)[1])
    assert marginal.axes_[0].get_legend() is not None


def test_figures_can_be_saved_as_vectors(tmp_path):
    display = CornerDisplay.from_predictions(DRAWS[0], y=Y[0])
    display.figure_.savefig(tmp_path / "corner.pdf")
    assert (tmp_path / "corner.pdf").stat().st_size < 100_000


BAD_CALLS = [
    (lambda: CornerDisplay.from_predictions(DRAWS), ValueError, "There are 400 rows, .* 1 to 7"),
    (
        lambda: CornerDisplay.from_estimator(GaussianEstimator(), X),
        ValueError,
        "There are 400 rows, but this picture shows 1 to 7; choose some",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[0], y=Y[:3]),
        ValueError,
        r"y must have shape \(1, 2\) to fit the draws, got \(3, 2\)",
    ),
    (
        lambda: CornerDisplay.from_predictions([DRAWS[0], DRAWS[0, :, :1]]),
        ValueError,
        r"different numbers of outputs: \[1, 2\]",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[0], limits=[[0, 1], [-9, 9]]),
        ValueError,
        r"draws has \d+ values outside limits for output 0 \(y0\), which allow \[0, 1\]",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[0], limits=[[-9, 9]]),
        ValueError,
        r"limits must have shape \(2, 2\).* got \(1, 2\)",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[0], diagonal="kde"),
        ValueError,
        "diagonal must be one of 'density', 'histogram'; got 'kde'",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[0], levels=(68, 95)),
        ValueError,
        "levels must lie strictly between 0 and 1, got 68",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[:2], row_names=["a"]),
        ValueError,
        "row_names has 1 entries for 2 rows",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[:2], colors="red"),
        ValueError,
        "colors has 1 entries, but 2 are needed",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[0], output_names=["a"]),
        ValueError,
        "output_names has 1 entries for 2 outputs",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[0], units={"z": "m"}),
        ValueError,
        "units names 'z', which is not an output shown; they are y0, y1",
    ),
    (
        lambda: CornerDisplay.from_predictions(DRAWS[0], units=["m", "s"]),
        TypeError,
        r"units must be a dict .* got \['m', 's'\]",
    ),
    (
        lambda: CornerDisplay.from_predictions([["a", "b"]]),
        TypeError,
        "draws of row 0 must be a regular array of numbers; leave outputs of labels out",
    ),
    (
        lambda: PITDisplay.from_predictions([0.2, 1.5]),
        ValueError,
        "pit must lie between 0 and 1, got 1.5",
    ),
    (
        lambda: PITDisplay.from_predictions([0.2, np.nan]),
        ValueError,
        "pit has 1 values that are not finite",
    ),
    (lambda: PITDisplay.from_predictions([]), ValueError, r"pit is empty, with shape \(0, 1\)"),
    (
        lambda: PITDisplay.from_predictions([0.2], n_bins=1),
        ValueError,
        "n_bins must be an integer of at least 2, got 1",
    ),
    (
        lambda: PITDisplay.from_predictions([0.2], kind="bars"),
        ValueError,
        "kind must be one of 'histogram', 'ecdf'; got 'bars'",
    ),
    (
        lambda: PITDisplay.from_predictions([0.2], level=99),
        ValueError,
        "level must lie strictly between 0 and 1, got 99",
    ),
    (
        lambda: PITDisplay.from_predictions(np.full((9, 3), 0.5), ax=plt.subplots(1, 2)[1]),
        ValueError,
        "ax holds 2 axes, but the picture has 3 panels",
    ),
    (
        lambda: RankDisplay.from_predictions(DRAWS, Y),
        ValueError,
        r"y must have shape \(n_rows, n_outputs\) and draws .* got \(400, 99, 2\) and \(400, 2\)",
    ),
    (
        lambda: RankDisplay(np.array([[12]]), n_draws=9).plot(),
        ValueError,
        "ranks must lie between 0 and n_draws=9; they reach from 12 to 12",
    ),
    (
        lambda: CoverageDisplay.from_predictions({"a": [0.1], "b": [0.1, 0.2]}),
        ValueError,
        "same number of rows; got {'a': 1, 'b': 2}",
    ),
    (
        lambda: CoverageDisplay.from_predictions({}),
        ValueError,
        "one or more curves with the same number of rows; got {}",
    ),
    (
        lambda: CoverageDisplay.from_predictions(np.full((5, 2), 0.5)),
        ValueError,
        r"levels of 'coverage' must have 1 dimensions, got shape \(5, 2\)",
    ),
    (
        lambda: MarginalDisplay.from_estimator(GaussianEstimator(), X[:2], Y[:3]),
        ValueError,
        r"y must have shape \(2, 2\) to fit X and the estimator, got \(3, 2\)",
    ),
    (
        lambda: MarginalDisplay.from_estimator(GaussianEstimator(), X[:2], outputs=["out7"]),
        ValueError,
        "outputs names 'out7', but the outputs are out0, out1",
    ),
    (
        lambda: MarginalDisplay.from_estimator(GaussianEstimator(), X[:2], outputs=2),
        ValueError,
        "outputs names 2, .* column numbers from 0 to 1",
    ),
    (
        lambda: MarginalDisplay.from_estimator(GaussianEstimator(), X[:2], outputs=[]),
        ValueError,
        "outputs is empty; name at least one output",
    ),
    (
        lambda: PITDisplay.from_estimator(StandardScaler(), X, Y),
        TypeError,
        r"estimator must have a method predict_density, which StandardScaler\(\) lacks",
    ),
    (lambda: TrainingDisplay([]).plot(), ValueError, "loss_curve is empty"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
