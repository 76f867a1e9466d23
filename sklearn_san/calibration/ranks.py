"""Simulation-based calibration: ranks of the truth among draws of each output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from .._validation import check_integer, check_real
from .bands import binomial_band, uniform_band
from .checks import check_draws, names_of
from .diagnostic import (
    DrawsDiagnostic,
    HeldOut,
    SomeDraws,
    random_stream,
    row_chunks,
)
from .results import Result, table
from .uniformity import (
    holm,
    ks_pvalue,
    randomised_pit,
    smooth_pvalue,
)

#: Steps of the curves of distribution functions.
N_STEPS = 100


@dataclass(frozen=True, eq=False, repr=False)
class RankTest(Result):
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
        return f"Ranks among {self.n_draws} draws: p = {self.pvalue:.3g}\n" + table(header, rows)


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
    draws, y = check_draws(draws, y)
    random = random_stream(random_state)
    pit = [
        randomised_pit(draws[rows], y[rows], random) for rows in row_chunks(len(y), draws[0].size)
    ]
    names = names_of(output_names, y.shape[1])
    return _result(np.concatenate(pit), draws.shape[1], names, n_bins, confidence)


def _ranks_of_draws(
    held_out: HeldOut, some: SomeDraws, random: np.random.RandomState
) -> np.ndarray:
    return randomised_pit(some.numbers, held_out.truth[some.rows], random)


def _diagnose(held_out: HeldOut, random: np.random.RandomState, pit: np.ndarray) -> RankTest:
    return _result(pit, held_out.n_draws, held_out.output_names)


#: The entry of the table of diagnostics.
RANKS = DrawsDiagnostic(_ranks_of_draws, _diagnose)


def _result(
    pit: np.ndarray,
    n_draws: int,
    output_names: tuple[str, ...],
    n_bins: int = 20,
    confidence: float = 0.95,
) -> RankTest:
    """Result from randomised PIT values (n_rows, n_outputs)."""
    n_rows, n_ranks = len(pit), n_draws + 1
    ranks = np.floor(pit * n_ranks).astype(int)
    n_bins = min(n_bins, n_ranks)
    edges = -(-np.arange(n_bins + 1) * n_ranks // n_bins)  # rounded up
    counts = np.stack([np.histogram(column, edges - 0.5)[0] for column in ranks.T], axis=1)
    probability = np.diff(edges) / n_ranks
    expected = n_rows * probability
    chi2 = ((counts - expected[:, None]) ** 2 / expected[:, None]).sum(axis=0)
    n_steps = min(N_STEPS, n_rows)
    grid, ordered = np.arange(n_steps + 1) / n_steps, np.sort(pit, axis=0)
    below = np.stack([np.searchsorted(column, grid, side="right") for column in ordered.T], axis=1)
    pvalues = smooth_pvalue(pit)
    return RankTest(
        ranks=ranks,
        pit=pit,
        n_draws=n_draws,
        output_names=output_names,
        bin_edges=edges,
        counts=counts,
        expected=expected,
        count_band=binomial_band(n_rows, probability, confidence),
        ecdf_grid=grid,
        ecdf_difference=below / n_rows - grid[:, None],
        ecdf_band=uniform_band(n_rows, tuple(grid.tolist()), confidence),
        pvalues=pvalues,
        chi2_pvalues=stats.chi2.sf(chi2, n_bins - 1),
        ks_pvalues=ks_pvalue(pit),
        pvalue=float(holm(pvalues).min()),
    )
