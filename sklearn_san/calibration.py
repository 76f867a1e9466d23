"""Diagnostics of calibration: is p(y | x) right, and if not, where and how is it wrong.

Each diagnostic turns held-out rows into values that are uniform and independent between rows if the
model is the truth, tests that, and returns a result with its p-value and what a plot needs.

==================================  =======================================================
`rosenblatt_test`                   ``u_j = P(Y_j <= y_j | x, outputs before j)``: each uniform,
                                    all independent; the only one that is complete but for x
`rank_test_from_draws`              rank of y_j among draws (simulation-based calibration)
`hpd_coverage_from_log_prob`        share of draws that are denser than the truth
`tarp_coverage_from_draws`          share of draws nearer to random points than the truth
`local_calibration`                 does u depend on x? In which regions is it off?
`calibration_report`                all of them for a fitted estimator
==================================  =======================================================

The rows must not have been trained on and must be independent of each other. The estimator is used
through ``predict_density(X)`` alone, whose result must have `cdf`, `sample` and `log_prob`.

Results are frozen dataclasses: `pvalue` is that of the whole diagnostic, `summary()` a table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length

from . import _diagnostics as numerics
from ._validation import check_choice, check_integer, check_real

#: What `calibration_report` can run.
DIAGNOSTICS = ("rosenblatt", "ranks", "hpd", "tarp", "local")
#: Fewer rows tell nothing.
MIN_ROWS = 20


class _Result(ABC):
    """Short `repr`, and the summary where the result is printed."""

    pvalue: Any

    def __repr__(self) -> str:
        return f"{type(self).__name__}(pvalue={self.pvalue:.3g})"

    def __str__(self) -> str:
        return self.summary()

    @abstractmethod
    def summary(self) -> str:
        """Result as text."""


@dataclass(frozen=True, eq=False, repr=False)
class RosenblattTest(_Result):
    """Result of `rosenblatt_test`.

    Parameters
    ----------
    u : ndarray of shape (n_rows, n_outputs)
        Rosenblatt coordinates.
    output_names : tuple of str
        Names of the outputs.
    spread : ndarray of shape (n_outputs,)
        Standard deviation of u relative to that of a uniform value; above 1 if conditionals are
        too narrow.
    uniformity_pvalues : ndarray of shape (n_outputs,)
        Neyman's smooth test of each output.
    ks_pvalues : ndarray of shape (n_outputs,)
        Kolmogorov-Smirnov test of each output, for comparison: it has less power.
    correlations : ndarray of shape (n_outputs, n_outputs)
        Rank correlations of the coordinates, 0 if the dependence of the outputs is right.
    dependence_pvalues : ndarray of shape (n_outputs, n_outputs)
        Independence of each pair; nan on the diagonal.
    uniformity_pvalue, independence_pvalue : float
        Of all outputs and of all pairs; the latter is nan for one output.
    pvalue : float
        Of both.
    """

    u: np.ndarray
    output_names: tuple[str, ...]
    spread: np.ndarray
    uniformity_pvalues: np.ndarray
    ks_pvalues: np.ndarray
    correlations: np.ndarray
    dependence_pvalues: np.ndarray
    uniformity_pvalue: float
    independence_pvalue: float
    pvalue: float

    def summary(self) -> str:
        """Table of the outputs, each with the output it depends on most."""
        rows = []
        for j, name in enumerate(self.output_names):
            mean, spread = self.u[:, j].mean(), self.spread[j]
            row = [name, f"{mean:.3f}", f"{spread:.3f}", self.uniformity_pvalues[j]]
            if len(self.output_names) > 1:
                other = int(np.nanargmin(self.dependence_pvalues[j]))
                row += [self.output_names[other], f"{self.correlations[j, other]:.3f}",
                        self.dependence_pvalues[j, other]]  # fmt: skip
            rows.append(row)
        header = ["output", "mean u", "spread", "p uniform", "depends on", "corr.", "p indep."]
        title = f"Rosenblatt test: p = {self.pvalue:.3g}"
        if len(self.output_names) > 1:
            title += f" (uniform {self.uniformity_pvalue:.3g}, "
            title += f"independent {self.independence_pvalue:.3g})"
        return title + "\n" + numerics.table(header[: len(rows[0])], rows)


@dataclass(frozen=True, eq=False, repr=False)
class RankTest(_Result):
    """Result of `rank_test_from_draws`.

    Parameters
    ----------
    ranks : ndarray of shape (n_rows, n_outputs)
        Number of draws below the truth, ties broken at random; 0 to `n_draws`.
    pit : ndarray of shape (n_rows, n_outputs)
        Ranks spread evenly over (0, 1).
    n_draws : int
        Draws of each row.
    output_names : tuple of str
        Names of the outputs.
    bin_edges : ndarray of shape (n_bins + 1,)
        Bin b holds the ranks ``bin_edges[b] <= rank < bin_edges[b + 1]``.
    counts : ndarray of shape (n_bins, n_outputs)
        Rank histogram.
    expected : ndarray of shape (n_bins,)
        Expected counts, not equal where the number of bins does not divide that of the ranks.
    count_band : ndarray of shape (2, n_bins)
        Range of each count of a calibrated model (binomial).
    ecdf_grid : ndarray of shape (n_points,)
        Where the empirical distribution function of `pit` is given.
    ecdf_difference : ndarray of shape (n_points, n_outputs)
        The function less the diagonal.
    ecdf_band : ndarray of shape (2, n_points)
        Range of the whole curve of a calibrated model (simultaneous).
    pvalues, chi2_pvalues, ks_pvalues : ndarray of shape (n_outputs,)
        Neyman's smooth test, which `pvalue` uses; chi-square test of the histogram, for departures
        narrower than a quarter of all ranks; Kolmogorov-Smirnov test.
    pvalue : float
        Of all outputs (Holm).
    """

    ranks: np.ndarray
    pit: np.ndarray
    n_draws: int
    output_names: tuple[str, ...]
    bin_edges: np.ndarray
    counts: np.ndarray
    expected: np.ndarray
    count_band: np.ndarray
    ecdf_grid: np.ndarray
    ecdf_difference: np.ndarray
    ecdf_band: np.ndarray
    pvalues: np.ndarray
    chi2_pvalues: np.ndarray
    ks_pvalues: np.ndarray
    pvalue: float

    def summary(self) -> str:
        """Table of the outputs."""
        columns = self.pit.T, self.pvalues, self.chi2_pvalues, self.ks_pvalues
        rows = [
            [name, f"{pit.mean():.3f}", f"{pit.std() * np.sqrt(12.0):.3f}", *pvalues]
            for name, pit, *pvalues in zip(self.output_names, *columns, strict=True)
        ]
        header = ["output", "mean rank", "spread", "p", "p chi-square", "p KS"]
        return f"Ranks among {self.n_draws} draws: p = {self.pvalue:.3g}\n" + numerics.table(
            header, rows
        )


@dataclass(frozen=True, eq=False, repr=False)
class CoverageTest(_Result):
    """Result of `hpd_coverage_from_log_prob` and `tarp_coverage_from_draws`.

    Parameters
    ----------
    name : str
        "HPD" or "TARP".
    values : ndarray of shape (n_rows,) or (n_rows, n_references)
        Mass of the smallest region that holds the truth, uniform if calibrated.
    levels : ndarray of shape (n_levels,)
        Nominal levels.
    coverage : ndarray of shape (n_levels,)
        Share of rows whose region of that mass holds the truth; a mean over reference points.
    band : ndarray of shape (2, n_levels)
        Range of the coverage of a calibrated model, for each level on its own.
    pvalue : float
        Neyman's smooth test.
    """

    name: str
    values: np.ndarray
    levels: np.ndarray
    coverage: np.ndarray
    band: np.ndarray
    pvalue: float

    def summary(self) -> str:
        """Table of some levels."""
        rows = [
            [f"{level:.2f}", f"{coverage:.3f}", f"{low:.3f} to {high:.3f}"]
            for level, coverage, low, high in zip(
                self.levels, self.coverage, *self.band, strict=True
            )
        ]
        chosen = rows[:: max(1, len(rows) // 9)]
        header = ["level", f"{self.name} coverage", "if calibrated"]
        return f"{self.name} coverage: p = {self.pvalue:.3g}\n" + numerics.table(header, chosen)


class Region(NamedTuple):
    """Calibration of one output in one bin; a list of these makes a pandas frame.

    Parameters
    ----------
    feature, output : str
        Names of what the rows are binned by, and of the output.
    low, high : float
        Edges of the bin.
    n_rows : int
        Rows in it.
    mean_u, mean_u_error : float
        Mean of u, 1/2 if calibrated, and its standard error if calibrated.
    coverage, coverage_error : tuple of float
        Share of u inside each central interval, and its standard error if calibrated.
    pvalue : float
        Two-sided, of mean and coverages together (Bonferroni); not adjusted for other regions.
    flagged : bool
        Whether the p-value, adjusted for all regions (Holm), is at most `alpha`.
    """

    feature: str
    output: str
    low: float
    high: float
    n_rows: int
    mean_u: float
    mean_u_error: float
    coverage: tuple[float, ...]
    coverage_error: tuple[float, ...]
    pvalue: float
    flagged: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class LocalCalibration(_Result):
    """Result of `local_calibration`.

    Parameters
    ----------
    output_names : tuple of str
        Names of the outputs.
    linear_pvalues, tree_pvalues : ndarray of shape (n_outputs, 2)
        Can the centre (first column) and the width (second) of u be predicted from the features
        by lines and parabolas, or by trees?
    pvalues : ndarray of shape (n_outputs,)
        Does u depend on x at all?
    pvalue : float
        Of all outputs.
    regions : tuple of Region
        Every bin and output.
    levels : tuple of float
        Levels of the central intervals in `regions`.
    """

    output_names: tuple[str, ...]
    linear_pvalues: np.ndarray
    tree_pvalues: np.ndarray
    pvalues: np.ndarray
    pvalue: float
    regions: tuple[Region, ...]
    levels: tuple[float, ...]

    def worst(self, n_regions: int = 5) -> list[Region]:
        """Regions of the smallest p-values, the worst first."""
        return sorted(self.regions, key=lambda region: region.pvalue)[:n_regions]

    def summary(self) -> str:
        """Tables of the outputs and of the worst regions."""
        rows = [
            [name, *pvalues]
            for name, *pvalues in zip(
                self.output_names,
                self.pvalues,
                self.linear_pvalues.min(axis=1),
                self.tree_pvalues.min(axis=1),
                strict=True,
            )
        ]
        header = ["output", "p local", "smallest p, lines", "smallest p, trees"]
        text = f"Dependence of u on x: p = {self.pvalue:.3g}\n" + numerics.table(header, rows)
        n_flagged = sum(region.flagged for region in self.regions)
        text += f"\nWorst of {len(self.regions)} regions, {n_flagged} of which are flagged (*)\n"
        rows = [
            [r.output, f"{r.feature} in [{r.low:.4g}, {r.high:.4g}]", r.n_rows,
             f"{r.mean_u:.3f} ± {r.mean_u_error:.3f}", *(f"{c:.3f}" for c in r.coverage),
             f"{r.pvalue:.3g}{' *' if r.flagged else ''}"]
            for r in self.worst()
        ]  # fmt: skip
        header = ["output", "region", "rows", "mean u", *(f"in {v:.0%}" for v in self.levels), "p"]
        return text + numerics.table(header, rows)


@dataclass(frozen=True, eq=False, repr=False)
class CalibrationReport(_Result):
    """Result of `calibration_report`; what was not asked for is None.

    Parameters
    ----------
    rosenblatt : RosenblattTest or None
    ranks : RankTest or None
    hpd, tarp : CoverageTest or None
    local : LocalCalibration or None
    n_rows, n_draws : int
        Rows, and draws of each.
    """

    rosenblatt: RosenblattTest | None
    ranks: RankTest | None
    hpd: CoverageTest | None
    tarp: CoverageTest | None
    local: LocalCalibration | None
    n_rows: int
    n_draws: int

    @property
    def results(self) -> dict[str, Any]:
        """Results that are there, by the name of their attribute."""
        return {name: v for name in DIAGNOSTICS if (v := getattr(self, name)) is not None}

    @property
    def pvalues(self) -> dict[str, float]:
        """P-value of each diagnostic."""
        return {name: result.pvalue for name, result in self.results.items()}

    @property
    def pvalue(self) -> float:
        """Smallest p-value, adjusted for the number of diagnostics (Holm)."""
        return float(numerics.holm(np.array(list(self.pvalues.values()))).min())

    def summary(self) -> str:
        """Table of the diagnostics, and the summary of each."""
        adjusted = numerics.holm(np.array(list(self.pvalues.values())))
        rows = [[*item, p] for item, p in zip(self.pvalues.items(), adjusted, strict=True)]
        title = f"Calibration on {self.n_rows} rows, {self.n_draws} draws each"
        verdict = "rejected" if self.pvalue <= 0.05 else "not rejected"
        parts = [
            title + "\n" + numerics.table(["diagnostic", "p", "p (Holm)"], rows),
            f"Calibration is {verdict} at the 5 % level.",
        ]
        return "\n\n".join(parts + [result.summary() for result in self.results.values()])


def rosenblatt_test(u: Any, *, output_names: Sequence[str] | None = None) -> RosenblattTest:
    """Test that Rosenblatt coordinates are uniform and independent of each other.

    A density with the right marginal of every output but the wrong dependence, such as one that
    ignores it, has coordinates that are uniform one by one but depend on each other, so both are
    tested: uniformity by Neyman's smooth test, the independence of each pair by rank correlations,
    of the coordinates and of their distances from 1/2. The p-values of all outputs (or pairs) are
    combined for one strong effect (Sidak) and for many weak ones (Fisher), and these by a Cauchy
    combination, as are the two groups. Coordinates that depend on x but not on each other
    pass: see `local_calibration`. So does dependence that shows only among three or more.

    Parameters
    ----------
    u : array-like of shape (n_rows, n_outputs)
        From ``density.cdf(y)``, between 0 and 1; or any values that are to be uniform.
    output_names : sequence of str, default=None
        Names of the outputs; None makes y0, y1, ...

    Returns
    -------
    RosenblattTest

    Raises
    ------
    ValueError
        For values outside [0, 1] or fewer than 20 rows.

    References
    ----------
    .. [1] Rosenblatt (1952), Remarks on a multivariate transformation, Annals of Mathematical
       Statistics 23.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.calibration import rosenblatt_test
    >>> u = np.random.default_rng(0).uniform(size=(1000, 2))
    >>> rosenblatt_test(u).pvalue > 0.05
    True
    >>> rosenblatt_test(np.stack([u[:, 0], u[:, 0]], axis=1)).pvalue < 1e-6
    True
    """
    u = _check_unit(u, "u")
    uniformity = numerics.smooth_pvalue(u)
    correlations, dependence, independent = numerics.dependence_pvalues(u)
    uniform = numerics.combine_independent(uniformity)
    several = u.shape[1] > 1
    return RosenblattTest(
        u=u,
        output_names=_names(output_names, u.shape[1]),
        spread=u.std(axis=0) * np.sqrt(12.0),
        uniformity_pvalues=uniformity,
        ks_pvalues=numerics.ks_pvalue(u),
        correlations=correlations,
        dependence_pvalues=dependence,
        uniformity_pvalue=uniform,
        independence_pvalue=independent,
        pvalue=numerics.combine(np.array([uniform, independent])) if several else uniform,
    )


def rank_test_from_draws(
    draws: Any,
    y: Any,
    *,
    n_bins: int = 20,
    confidence: float = 0.95,
    output_names: Sequence[str] | None = None,
    random_state: Any = None,
) -> RankTest:
    """Simulation-based calibration: rank of the truth among draws of each output.

    Sees the marginal distribution of every output, given x; not their dependence.

    Parameters
    ----------
    draws : array-like of shape (n_rows, n_draws, n_outputs)
        Draws of the model; independent of each other in each row, so that no thinning is needed.
    y : array-like of shape (n_rows, n_outputs)
        True values.
    n_bins : int, default=20
        Bins of the histogram; at most one for each rank.
    confidence : float, default=0.95
        Probability of the bands.
    output_names : sequence of str, default=None
        Names of the outputs; None makes y0, y1, ...
    random_state : int, RandomState or None, default=None
        Breaks ties, as there are between discrete values.

    Returns
    -------
    RankTest

    References
    ----------
    .. [1] Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference
       algorithms with simulation-based calibration, arXiv:1804.06788.
    .. [2] Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity and its
       applications in goodness-of-fit evaluation and multiple sample comparison, Statistics and
       Computing 32.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.calibration import rank_test_from_draws
    >>> random = np.random.default_rng(0)
    >>> y, draws = random.normal(size=(500, 1)), random.normal(size=(500, 100, 1))
    >>> rank_test_from_draws(draws, y, random_state=0)
    RankTest(pvalue=0.29)
    >>> rank_test_from_draws(0.7 * draws, y, random_state=0).pvalue < 1e-6
    True
    """
    check_integer("n_bins", n_bins, 2)
    check_real("confidence", confidence, 0.0, 1.0)
    draws, y = _check_draws(draws, y)
    random = numerics.random_stream(random_state)
    pit = [
        numerics.randomised_pit(draws[rows], y[rows], random)
        for rows in numerics.row_chunks(len(y), draws[0].size)
    ]
    statistics = numerics.rank_statistics(np.concatenate(pit), draws.shape[1], n_bins, confidence)
    return RankTest(output_names=_names(output_names, y.shape[1]), **statistics)


def hpd_coverage_from_log_prob(
    log_prob_draws: Any,
    log_prob: Any,
    *,
    confidence: float = 0.95,
    random_state: Any = None,
) -> CoverageTest:
    """Coverage of the densest regions: how often those of each mass hold the truth.

    A region holds the truth if its mass is more than the share of the draws that are denser. Sees
    the joint density, but in one number: too wide here and too narrow there may cancel.

    Parameters
    ----------
    log_prob_draws : array-like of shape (n_rows, n_draws)
        Log density of draws of the model.
    log_prob : array-like of shape (n_rows,)
        Log density of the truth; may be -inf.
    confidence : float, default=0.95
        Probability of the binomial band.
    random_state : int, RandomState or None, default=None
        Breaks ties.

    Returns
    -------
    CoverageTest

    References
    ----------
    .. [1] Hermans, Delaunoy, Rozet, Wehenkel, Begy and Louppe (2022), A crisis in
       simulation-based inference? Beware, your posterior approximations can be unfaithful, TMLR.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.calibration import hpd_coverage_from_log_prob
    >>> random = np.random.default_rng(0)
    >>> y, draws = random.normal(size=500), 0.7 * random.normal(size=(500, 200))
    >>> result = hpd_coverage_from_log_prob(-(draws**2), -(y**2), random_state=0)
    >>> result.coverage[result.levels == 0.9].round(2)
    array([0.7...])
    """
    check_real("confidence", confidence, 0.0, 1.0)
    draws, truth = _check_draws(log_prob_draws, log_prob, "log_prob_draws", "log_prob")
    random = numerics.random_stream(random_state)
    values = [
        numerics.randomised_pit(-draws[rows], -truth[rows], random)
        for rows in numerics.row_chunks(len(truth), draws[0].size)
    ]
    return CoverageTest("HPD", **numerics.hpd_statistics(np.concatenate(values)[:, 0], confidence))


def tarp_coverage_from_draws(
    draws: Any,
    y: Any,
    *,
    references: Any = "uniform",
    n_references: int = 10,
    confidence: float = 0.95,
    random_state: Any = None,
) -> CoverageTest:
    """Coverage of balls around random reference points (TARP); needs no density.

    The ball around a reference point with the truth on its edge has the mass of the share of the
    draws inside. The points of a row are averaged over before testing, which gives more power than
    any one of them; the covariance of these averages, and so the p-value and the band, comes from
    draws that take the place of the truth. The p-value is accurate from about 100 rows on.

    Parameters
    ----------
    draws : array-like of shape (n_rows, n_draws, n_outputs)
        Draws of the model.
    y : array-like of shape (n_rows, n_outputs)
        True values. Distances are in units of their standard deviations.
    references : {"uniform", "normal", "rows"} or array-like, default="uniform"
        Distribution of the reference points: uniform over the box around y, normal with the mean
        and standard deviation of each output, or the y of other rows; or the points themselves,
        (n_rows, n_references, n_outputs). These may depend on x but not on y itself. Points that
        do not depend on x cannot tell the truth from a density that ignores x, if that is the
        distribution of y.
    n_references : int, default=10
        Points for each row.
    confidence : float, default=0.95
        Probability of the band.
    random_state : int, RandomState or None, default=None
        Source of the points; breaks ties.

    Returns
    -------
    CoverageTest

    References
    ----------
    .. [1] Lemos, Coogan, Hezaveh and Perreault-Levasseur (2023), Sampling-based accuracy testing
       of posterior estimators for general inference, ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.calibration import tarp_coverage_from_draws
    >>> random = np.random.default_rng(0)
    >>> y, draws = random.normal(size=(500, 2)), random.normal(size=(500, 100, 2))
    >>> tarp_coverage_from_draws(draws, y, random_state=0).pvalue > 0.05
    True
    >>> tarp_coverage_from_draws(0.7 * draws, y, random_state=0).pvalue < 1e-6
    True
    """
    check_real("confidence", confidence, 0.0, 1.0)
    draws, y = _check_draws(draws, y)
    random = numerics.random_stream(random_state)
    points = _references(references, n_references, y, random)
    fractions = numerics.ball_fractions(draws, y, points, numerics.scale_of(y), random)
    return CoverageTest("TARP", **numerics.tarp_statistics(*fractions, confidence))


def local_calibration(
    u: Any,
    X: Any,
    *,
    by: Any = None,
    n_bins: int = 10,
    levels: Sequence[float] = (0.5, 0.9),
    alpha: float = 0.05,
    output_names: Sequence[str] | None = None,
    random_state: Any = None,
) -> LocalCalibration:
    """Test whether u can be predicted from x, and find the regions where it is off.

    Values u_j that are uniform over all rows may be too high for some x and too low for others.
    The test asks whether their centre and width, the polynomials P_1(u_j) and P_2(u_j), can be
    predicted from the features, in two ways: an F test of lines and parabolas of each feature, and
    trees grown on earlier rows that predict later ones. It does not see a miscalibration that is
    the same everywhere, and the two are combined as in `rosenblatt_test`.

    Parameters
    ----------
    u : array-like of shape (n_rows, n_outputs)
        From ``density.cdf(y)``, or other values that are to be uniform for every x, such as
        `RankTest.pit`, which are about the marginal distribution of each output.
    X : array-like of shape (n_rows, n_features)
        Features; names are taken from a frame.
    by : callable, array-like of shape (n_rows,), dict of these, or None, default=None
        What the table of regions is binned by: ``by(X)`` or values for each row. None bins by
        every feature.
    n_bins : int, default=10
        Quantile bins; a variable of no more values has a bin for each.
    levels : sequence of float, default=(0.5, 0.9)
        Levels of the central intervals of u whose coverage is given.
    alpha : float, default=0.05
        Probability that any region is flagged if the model is calibrated.
    output_names : sequence of str, default=None
        Names of the outputs; None makes y0, y1, ...
    random_state : int, RandomState or None, default=None
        Order of the rows and seed of the trees.

    Returns
    -------
    LocalCalibration

    References
    ----------
    .. [1] Zhao, Dalmasso, Izbicki and Lee (2021), Diagnostics for conditional density models and
       Bayesian inference algorithms, UAI.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.calibration import local_calibration
    >>> random = np.random.default_rng(0)
    >>> X, u = random.uniform(size=(1000, 2)), random.uniform(size=(1000, 1))
    >>> u[X[:, 1] > 0.9] **= 2
    >>> result = local_calibration(u, X, random_state=0)
    >>> result.pvalue < 0.001
    True
    >>> [(region.feature, round(region.low, 1), region.flagged) for region in result.worst(1)]
    [('x1', 0.9, True)]
    """
    check_integer("n_bins", n_bins, 1)
    check_real("alpha", alpha, 0.0, 1.0)
    levels = tuple(float(level) for level in _check_levels(levels))
    u = _check_unit(u, "u")
    features = check_array(X, dtype=np.float64, input_name="X")
    check_consistent_length(features, u)
    names = _names(output_names, u.shape[1])
    random = numerics.random_stream(random_state)
    scores = numerics.polynomials(u, 2)  # (n_rows, n_outputs, 2)
    flat, shape = scores.reshape(len(u), -1), scores.shape[1:]
    linear = numerics.linear_pvalues(features, flat).reshape(shape)
    trees = numerics.forward_pvalues(features, flat, random).reshape(shape)
    variables = _binning_variables(by, X, features)
    return LocalCalibration(
        output_names=names,
        linear_pvalues=linear,
        tree_pvalues=trees,
        pvalues=np.array(
            [numerics.combine_both(*pair) for pair in zip(linear, trees, strict=True)]
        ),
        pvalue=numerics.combine_both(linear, trees),
        regions=_regions(u, variables, names, n_bins, levels, alpha),
        levels=levels,
    )


def calibration_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    n_draws: int = 1000,
    diagnostics: Sequence[str] = DIAGNOSTICS,
    references: Any = "uniform",
    n_references: int = 10,
    by: Any = None,
    random_state: Any = None,
) -> CalibrationReport:
    """Run the diagnostics on rows that the estimator was not trained on.

    Draws are made, used and dropped for some rows at a time. Labels are compared by their order.

    Parameters
    ----------
    estimator : object
        Fitted, with ``predict_density(X)``.
    X : array-like of shape (n_rows, n_features)
        Features.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        True values.
    n_draws : int, default=1000
        Draws of each row.
    diagnostics : sequence of {"rosenblatt", "ranks", "hpd", "tarp", "local"}, default=all
        Which to run. The results of each do not depend on the others.
    references, n_references : object, int, default="uniform", 10
        As for `tarp_coverage_from_draws`.
    by : object, default=None
        As for `local_calibration`.
    random_state : int, RandomState or None, default=None
        Source of all randomness.

    Returns
    -------
    CalibrationReport

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.calibration import calibration_report
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(700, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=10, random_state=0).fit(X[:500], y[:500])
    >>> report = calibration_report(est, X[500:], y[500:], n_draws=100, random_state=0)
    >>> sorted(report.pvalues)
    ['hpd', 'local', 'ranks', 'rosenblatt', 'tarp']
    >>> print(report.summary().splitlines()[0])
    Calibration on 200 rows, 100 draws each
    """
    check_integer("n_draws", n_draws, 2)
    _check_diagnostics(diagnostics)
    check_consistent_length(X, y)
    targets = numerics.NumericTargets(y)
    _check_rows(len(targets.numbers), "y")
    seeds = numerics.random_stream(random_state).randint(2**31 - 1, size=len(DIAGNOSTICS) + 1)
    names = (*DIAGNOSTICS, "draws")
    streams = {k: np.random.RandomState(seed) for k, seed in zip(names, seeds, strict=True)}
    density = estimator.predict_density(X)
    output_names = _names(density.output_names, targets.numbers.shape[1])
    points = None
    if "tarp" in diagnostics:
        points = _references(references, n_references, targets.numbers, streams["tarp"])
    results: dict[str, Any] = dict.fromkeys(DIAGNOSTICS)
    if "rosenblatt" in diagnostics or "local" in diagnostics:
        u = density.cdf(y, random_state=streams["rosenblatt"])
    if "rosenblatt" in diagnostics:
        results["rosenblatt"] = rosenblatt_test(u, output_names=output_names)
    if "local" in diagnostics:
        results["local"] = local_calibration(
            u, X, by=by, output_names=output_names, random_state=streams["local"]
        )
    values = _values_of_draws(density, y, targets, n_draws, diagnostics, points, streams)
    if "ranks" in diagnostics:
        statistics = numerics.rank_statistics(values["ranks"], n_draws)
        results["ranks"] = RankTest(output_names=output_names, **statistics)
    if "hpd" in diagnostics:
        statistics = numerics.hpd_statistics(values["hpd"][:, 0])
        results["hpd"] = CoverageTest("HPD", **statistics)
    if "tarp" in diagnostics:
        statistics = numerics.tarp_statistics(values["tarp"], values["stand_ins"])
        results["tarp"] = CoverageTest("TARP", **statistics)
    return CalibrationReport(**results, n_rows=len(density), n_draws=n_draws)


def _values_of_draws(
    density: Any,
    y: Any,
    targets: numerics.NumericTargets,
    n_draws: int,
    diagnostics: Sequence[str],
    points: np.ndarray | None,
    streams: dict[str, np.random.RandomState],
) -> dict[str, np.ndarray]:
    """What "ranks", "hpd" and "tarp" keep of the draws of each row."""
    if not {"ranks", "hpd", "tarp"} & set(diagnostics):
        return {}
    truth, scale = targets.numbers, numerics.scale_of(targets.numbers)
    log_prob = _log_prob(density, y) if "hpd" in diagnostics else None
    parts: dict[str, list[np.ndarray]] = {"ranks": [], "hpd": [], "tarp": [], "stand_ins": []}
    for rows in numerics.row_chunks(len(truth), n_draws * truth.shape[1]):
        part = density[rows]
        draws = part.sample(n_draws, random_state=streams["draws"])
        numbers = targets.encode(np.asarray(draws).reshape(len(part), n_draws, -1))
        if "ranks" in diagnostics:
            pit = numerics.randomised_pit(numbers, truth[rows], streams["ranks"])
            parts["ranks"].append(pit)
        if log_prob is not None:
            denser = -_log_prob(part, draws)
            parts["hpd"].append(numerics.randomised_pit(denser, -log_prob[rows], streams["hpd"]))
        if points is not None:
            arguments = (numbers, truth[rows], points[rows], scale, streams["tarp"])
            fractions, stand_ins = numerics.ball_fractions(*arguments)
            parts["tarp"].append(fractions)
            parts["stand_ins"].append(stand_ins)
    return {name: np.concatenate(arrays) for name, arrays in parts.items() if arrays}


def _log_prob(density: Any, values: Any) -> np.ndarray:
    """Log density of one or several values for each row, with an axis of length 1 at the end."""
    log_prob = np.asarray(density.log_prob(values))
    if np.isnan(log_prob).any():
        raise ValueError(
            f"log_prob gave nan for {np.isnan(log_prob).sum()} of {log_prob.size} values; it must "
            "be a number or -inf."
        )
    return log_prob[..., None]


def _check_diagnostics(diagnostics: Sequence[str]) -> None:
    if isinstance(diagnostics, str):
        raise TypeError(f"diagnostics must be a sequence of names, got {diagnostics!r}.")
    if not len(diagnostics):
        raise ValueError(f"diagnostics is empty; name at least one of {', '.join(DIAGNOSTICS)}.")
    for name in diagnostics:
        check_choice("diagnostics", name, DIAGNOSTICS)


def _binning_variables(by: Any, X: Any, features: np.ndarray) -> dict[str, np.ndarray]:
    """Named variables (n_rows,) that rows are binned by."""
    if by is None:
        columns = getattr(X, "columns", None)
        names = [f"x{j}" for j in range(features.shape[1])] if columns is None else columns
        return {str(name): column for name, column in zip(names, features.T, strict=True)}
    if not isinstance(by, Mapping):
        by = {getattr(by, "__name__", "by"): by}
    variables = {}
    for name, entry in by.items():
        values = np.asarray(entry(X) if callable(entry) else entry, dtype=np.float64)
        if values.shape != (len(features),) or not np.isfinite(values).all():
            raise ValueError(
                f"by must give one finite number for each of the {len(features)} rows; "
                f"{name!r} has shape {values.shape}."
            )
        variables[str(name)] = values
    return variables


def _regions(
    u: np.ndarray,
    variables: Mapping[str, np.ndarray],
    output_names: tuple[str, ...],
    n_bins: int,
    levels: tuple[float, ...],
    alpha: float,
) -> tuple[Region, ...]:
    """Every bin of every variable, for every output."""
    regions = [
        Region(feature, output_names[j], *statistics)
        for feature, values in variables.items()
        for j, *statistics in numerics.bin_statistics(u, values, n_bins, levels)
    ]
    adjusted = numerics.holm(np.array([region.pvalue for region in regions]))
    flags = (adjusted <= alpha).tolist()
    return tuple(r._replace(flagged=flag) for r, flag in zip(regions, flags, strict=True))


def _names(output_names: Sequence[str] | None, n_outputs: int) -> tuple[str, ...]:
    if output_names is None:
        return tuple(f"y{j}" for j in range(n_outputs))
    if len(output_names) != n_outputs:
        raise ValueError(
            f"output_names has {len(output_names)} entries, but there are {n_outputs} outputs."
        )
    return tuple(map(str, output_names))


def _check_rows(n_rows: int, name: str) -> None:
    if n_rows < MIN_ROWS:
        raise ValueError(f"{name} has {n_rows} rows; at least {MIN_ROWS} are needed.")


def _check_unit(u: Any, name: str) -> np.ndarray:
    """Values in [0, 1] as float64 (n_rows, n_outputs)."""
    u = np.asarray(u, dtype=np.float64)
    if u.ndim == 1:
        u = u[:, None]
    if u.ndim != 2 or u.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n_rows, n_outputs), got {u.shape}.")
    _check_rows(len(u), name)
    wrong = ~((u >= 0.0) & (u <= 1.0))  # nan included
    if wrong.any():
        raise ValueError(f"{name} must lie between 0 and 1, got {u[wrong][0]:g}.")
    return u


def _check_draws(
    draws: Any, y: Any, draws_name: str = "draws", y_name: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n_rows, n_draws, n_outputs) and truth (n_rows, n_outputs) as floats."""
    draws, y = np.asarray(draws), np.asarray(y, dtype=np.float64)
    if draws.dtype not in (np.float32, np.float64):  # which may be large memory maps
        draws = draws.astype(np.float64)
    if y.ndim == 1 and draws.ndim == 2:
        draws, y = draws[..., None], y[:, None]
    if draws.ndim != 3 or y.ndim != 2 or (len(draws), draws.shape[2]) != y.shape:
        raise ValueError(
            f"{draws_name} must have one axis of draws between those of {y_name}; got shapes "
            f"{draws.shape} and {y.shape}."
        )
    if draws.shape[1] < 2:
        raise ValueError(f"{draws_name} has {draws.shape[1]} draws; at least 2 are needed.")
    _check_rows(len(y), y_name)
    for name, values in ((draws_name, draws), (y_name, y)):
        if np.isnan(values).any():
            raise ValueError(f"{name} has {np.isnan(values).sum()} values that are nan.")
    return draws, y


def _references(
    references: Any, n_references: int, y: np.ndarray, random: np.random.RandomState
) -> np.ndarray:
    """Points (n_rows, n_references, n_outputs) in the units of y."""
    check_integer("n_references", n_references, 1)
    if isinstance(references, str):
        check_choice("references", references, numerics.REFERENCES)
        return numerics.reference_points(references, n_references, y, random)
    points = np.asarray(references, dtype=np.float64)
    n_rows, n_outputs = y.shape
    if points.ndim != 3 or points.shape[::2] != y.shape or not np.isfinite(points).all():
        raise ValueError(
            f"references must be one of {', '.join(map(repr, numerics.REFERENCES))} or finite "
            f"points of shape ({n_rows}, n_references, {n_outputs}); got an array of shape "
            f"{points.shape}."
        )
    return points


def _check_levels(levels: Any) -> np.ndarray:
    levels = np.asarray(levels, dtype=np.float64)
    if levels.ndim != 1 or not len(levels) or not ((levels > 0.0) & (levels < 1.0)).all():
        raise ValueError(f"levels must be numbers strictly between 0 and 1, got {levels!r}.")
    return levels
