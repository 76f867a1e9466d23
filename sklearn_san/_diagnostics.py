"""Numerics of the calibration diagnostics: tests of uniformity and independence, ranks, bands.

Of a calibrated model, all that is tested here is uniform on (0, 1) and independent between rows.
Tests are built on normalised Legendre polynomials P_1, P_2, ... of such values u (n of them), which
have mean 0 and variance 1 and are uncorrelated: P_1 sees a bias, P_2 a wrong width, and

    sum_(k=1..4) (sum_i P_k(u_i))^2 / n  ~  chi^2 with 4 degrees of freedom

is Neyman's smooth test [1]_. At 1,000 rows it finds a width wrong by 10 % in 95 % of all
repetitions, Anderson-Darling in 83 %, Kolmogorov-Smirnov in 48 %; with a bias of 0.1 standard
deviations the three find 74, 86 and 78 %.

=========================  ==================================================================
`smooth_pvalue`            uniformity of each column
`dependence_pvalues`       independence of each pair of columns, whatever their distributions
`linear_pvalues`           whether scores depend on features: additive and smooth
`forward_pvalues`          the same with trees, for interactions and edges
`combine_independent`      one p-value of many; `combine`, `holm`: of dependent ones
`randomised_pit`           rank of the truth among draws, ties in random order
`ball_fractions`           the same for distances from reference points (TARP)
`binomial_band`            range of a count; `uniform_band`: of a whole curve
`rank_statistics`          fields of a result; `hpd_statistics`, `tarp_statistics`, `bin_statistics`
=========================  ==================================================================

References
----------
.. [1] Neyman (1937), "Smooth" test for goodness of fit, Skandinavisk Aktuarietidskrift 20.
.. [2] Liu and Xie (2020), Cauchy combination test, Journal of the American Statistical Association
   115.
.. [3] Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity and its
   applications in goodness-of-fit evaluation and multiple sample comparison, Statistics and
   Computing 32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.polynomial.legendre import legvander
from scipy import stats
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.utils import check_random_state

#: Polynomials of the smooth test.
N_POLYNOMIALS = 4
#: Where reference points can come from.
REFERENCES = ("uniform", "normal", "rows")
#: Nominal levels of coverage curves.
LEVELS = np.arange(1, 20) / 20
LEVELS.setflags(write=False)
#: Steps of the curves of distribution functions.
N_STEPS = 100
#: Numbers of an array of draws that are worked on at once.
CHUNK = 1_000_000
#: Draws of each row that take the place of the truth, for the null distribution of TARP.
N_STAND_INS = 8
#: Blocks of rows in `forward_pvalues`; each is predicted by trees grown on those before it.
N_BLOCKS = 5
#: Simulated data sets behind `uniform_band`.
N_SIMULATIONS = 4000


def random_stream(random_state: Any) -> np.random.RandomState:
    """RandomState of our own; None takes fresh entropy instead of the global state."""
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


def row_chunks(n_rows: int, row_size: int) -> Iterator[slice]:
    """Slices of rows that hold about `CHUNK` numbers."""
    step = max(1, CHUNK // row_size)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def polynomials(u: np.ndarray, degree: int) -> np.ndarray:
    """Normalised Legendre polynomials of degree 1 to `degree` on (0, 1); (..., degree)."""
    return (legvander(2.0 * u - 1.0, degree) * np.sqrt(2.0 * np.arange(degree + 1) + 1.0))[..., 1:]


def smooth_pvalue(u: np.ndarray) -> np.ndarray:
    """P-value of the uniformity of each column of u (n_rows, ...); shape (...).

    At the 5 % level, false alarms are within a tenth of that from 20 rows on.
    """
    total = polynomials(u, N_POLYNOMIALS).sum(axis=0)  # (..., N_POLYNOMIALS)
    return stats.chi2.sf((total**2).sum(axis=-1) / len(u), N_POLYNOMIALS)


def ks_pvalue(u: np.ndarray) -> np.ndarray:
    """Exact p-value of Kolmogorov and Smirnov for each column of u (n_rows, n_columns)."""
    n, ordered = len(u), np.sort(u, axis=0)
    step = np.arange(n + 1)[:, None] / n
    distance = np.maximum(step[1:] - ordered, ordered - step[:-1]).max(axis=0)
    return stats.kstwo.sf(distance, n)


def combine(pvalues: np.ndarray) -> float:
    """Cauchy combination of few p-values, which may depend on each other [2]_."""
    # One p-value next to 1 must not drown the others.
    p = np.clip(pvalues, 1e-300, 0.99)
    return float(stats.cauchy.sf((1.0 / np.tan(np.pi * p)).mean()))


def combine_independent(pvalues: np.ndarray) -> float:
    """One p-value of many: for one strong effect (Sidak) and for many weak ones (Fisher)."""
    p = np.maximum(np.ravel(pvalues), 1e-300)
    strongest = -np.expm1(len(p) * np.log1p(-min(p.min(), 1.0 - 1e-15)))
    together = stats.chi2.sf(-2.0 * np.log(p).sum(), 2 * len(p))
    return combine(np.array([strongest, together]))


def holm(pvalues: np.ndarray) -> np.ndarray:
    """P-values adjusted for their number, whatever their dependence (Holm 1979)."""
    p = np.asarray(pvalues, dtype=float)
    order = np.argsort(p, axis=None)
    adjusted = np.maximum.accumulate(p.ravel()[order] * np.arange(p.size, 0, -1))
    result = np.empty(p.size)
    result[order] = np.minimum(adjusted, 1.0)
    return result.reshape(p.shape)


def rank_scores(values: np.ndarray, degree: int) -> np.ndarray:
    """Polynomials of the ranks of each column, (n_rows, n_columns, degree)."""
    return polynomials((stats.rankdata(values, axis=0) - 0.5) / len(values), degree)


def dependence_pvalues(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Dependence between the columns of u (n_rows, n_columns), from their ranks alone.

    For each pair, the correlation of P_1(u_i) with P_1(u_j), and, for dependence that changes
    sign, the correlations of P_1 with P_2 and of P_2 with P_2. Under independence all of them are
    uncorrelated standard normal, up to the factor ``1 / sqrt(n_rows - 1)``.

    Returns
    -------
    correlations : ndarray of shape (n_columns, n_columns)
        Rank correlations.
    pvalues : ndarray of shape (n_columns, n_columns)
        For each pair; nan on the diagonal.
    pvalue : float
        For all pairs; nan for a single column.
    """
    n, n_columns = u.shape
    scores = rank_scores(u, 2)
    scores = scores - scores.mean(axis=0)
    norm = np.sqrt((scores**2).sum(axis=0))
    scores = scores / np.where(norm > 0, norm, 1.0)
    z = np.einsum("nik,njl->klij", scores, scores, optimize=True)
    linear = stats.chi2.sf((n - 1) * z[0, 0] ** 2, 1)
    shape = stats.chi2.sf((n - 1) * (z[1, 1] ** 2 + z[0, 1] ** 2 + z[1, 0] ** 2), 3)
    pvalues = np.full((n_columns, n_columns), np.nan)
    for i, j in zip(*np.triu_indices(n_columns, 1), strict=True):
        pvalues[i, j] = pvalues[j, i] = combine(np.array([linear[i, j], shape[i, j]]))
    upper = np.triu_indices(n_columns, 1)
    if n_columns == 1:
        return z[0, 0], pvalues, float("nan")
    return z[0, 0], pvalues, combine_independent(np.stack([linear[upper], shape[upper]]))


def linear_pvalues(X: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """F test of the regression of each score on straight lines and parabolas of each feature.

    Features (n_rows, n_features) count by their ranks. Scores (n_rows, n_scores) may have any
    distribution; the result has shape (n_scores,).
    """
    n = len(X)
    basis = rank_scores(X, 2).reshape(n, -1)
    left, singular, _ = np.linalg.svd(basis - basis.mean(axis=0), full_matrices=False)
    left = left[:, singular > 1e-10 * max(singular[0], 1.0)]
    n_terms = left.shape[1]
    if n_terms == 0 or n_terms >= n - 1:
        return np.ones(scores.shape[1])
    centred = scores - scores.mean(axis=0)
    total = (centred**2).sum(axis=0)
    r_squared = ((left.T @ centred) ** 2).sum(axis=0) / np.where(total > 0, total, 1.0)
    return stats.beta.sf(np.minimum(r_squared, 1.0), n_terms / 2, (n - 1 - n_terms) / 2)


def forward_pvalues(
    X: np.ndarray, scores: np.ndarray, random: np.random.RandomState, n_trees: int = 50
) -> np.ndarray:
    """Whether extremely randomised trees predict scores of rows they have not seen, (n_scores,).

    Rows come in random order and blocks; each block is predicted from those before it. Given the
    past and the scores of a block, all assignments of these to its rows are equally likely if they
    do not depend on X, so that the mean and variance of the sum of ``prediction * score`` are
    known exactly. (Blocks that predict each other, as in cross-validation, would make the sums
    depend on each other.) The test is one-sided.
    """
    ranks = stats.rankdata(X, axis=0)  # trees then do not depend on outliers
    blocks = np.array_split(random.permutation(len(X)), N_BLOCKS)
    covariance, variance = np.zeros((2, scores.shape[1]))
    for k in range(1, N_BLOCKS):
        past, now = np.concatenate(blocks[:k]), blocks[k]
        trees = ExtraTreesRegressor(
            n_trees, max_depth=5, min_samples_leaf=20, random_state=random.randint(2**31 - 1)
        ).fit(ranks[past], scores[past])
        predicted = trees.predict(ranks[now]).reshape(len(now), -1)
        predicted = predicted - predicted.mean(axis=0)
        covariance += (predicted * scores[now]).sum(axis=0)
        variance += (predicted**2).sum(axis=0) * scores[now].var(axis=0, ddof=1)
    known = variance > 0
    z = np.where(known, covariance / np.sqrt(np.where(known, variance, 1.0)), 0.0)
    return stats.norm.sf(z)


def randomised_pit(
    draws: np.ndarray, truth: np.ndarray, random: np.random.RandomState, *, is_draw: bool = False
) -> np.ndarray:
    """Rank of the truth (n_rows, ...) among draws (n_rows, n_draws, ...), spread over (0, 1).

    Ties are broken at random. Uniform if truth and draws follow the same distribution; the rank
    itself is ``floor(pit * (n_draws + 1))``. With `is_draw`, the truth is one of the draws and is
    ranked among the others.
    """
    truth, n_others = truth[:, None], draws.shape[1] - is_draw
    below = (draws < truth).sum(axis=1)
    not_above = (draws <= truth).sum(axis=1)
    ahead = below + random.uniform(size=below.shape) * (not_above - below + 1 - is_draw)
    # The largest double below 1 keeps the rank of the very last within the draws.
    return np.minimum(ahead / (n_others + 1), np.nextafter(1.0, 0.0))


def ball_fractions(
    draws: np.ndarray,
    y: np.ndarray,
    references: np.ndarray,
    scale: np.ndarray,
    random: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Share of the draws nearer to each reference point than the truth.

    Parameters
    ----------
    draws : ndarray of shape (n_rows, n_draws, n_outputs)
    y : ndarray of shape (n_rows, n_outputs)
    references : ndarray of shape (n_rows, n_references, n_outputs)
    scale : ndarray of shape (n_outputs,)
        Unit of distances along each output.
    random : RandomState

    Returns
    -------
    fractions : ndarray of shape (n_rows, n_references)
    stand_ins : ndarray of shape (n_rows, n_stand_ins, n_references)
        The same for some of the draws in the place of the truth, among the others.
    """
    n, n_draws, n_outputs = draws.shape
    n_references = references.shape[1]
    n_stand_ins = min(N_STAND_INS, n_draws)
    fractions = np.empty((n, n_references))
    stand_ins = np.empty((n, n_stand_ins, n_references))
    for rows in row_chunks(n, n_draws * n_outputs):
        pool = np.concatenate([y[rows, None], draws[rows]], axis=1) / scale
        pool = np.ascontiguousarray(pool.transpose(2, 0, 1))  # (n_outputs, n_rows, 1 + n_draws)
        for r in range(n_references):
            distance = np.zeros(pool.shape[1:])
            for column, point in zip(pool, (references[rows, r] / scale).T, strict=True):
                gap = column - point[:, None]
                distance += np.multiply(gap, gap, out=gap)
            truth, others = distance[:, 0], distance[:, 1:]
            fractions[rows, r] = randomised_pit(others, truth, random)
            for s in range(n_stand_ins):
                pit = randomised_pit(others, others[:, s], random, is_draw=True)
                stand_ins[rows, s, r] = pit
    return fractions, stand_ins


def ball_pvalue(fractions: np.ndarray, stand_ins: np.ndarray) -> float:
    """Smooth test of fractions averaged over the reference points of each row.

    The covariance of the averages is that of the stand-ins, for which the model is right.
    """
    mean = polynomials(fractions, N_POLYNOMIALS).mean(axis=(0, 1))
    null = polynomials(stand_ins, N_POLYNOMIALS).mean(axis=2).reshape(-1, N_POLYNOMIALS)
    covariance = null.T @ null / len(null)
    statistic = len(fractions) * mean @ np.linalg.solve(covariance, mean)
    return float(stats.chi2.sf(statistic, N_POLYNOMIALS))


def binomial_band(n: int, probability: np.ndarray, confidence: float) -> np.ndarray:
    """Range (2, ...) that holds each count out of n with at least the given probability."""
    tail = 0.5 * (1.0 - confidence)
    return np.stack([stats.binom.ppf(p, n, probability) for p in (tail, 1.0 - tail)])


@lru_cache(maxsize=32)
def uniform_band(n: int, edges: tuple[float, ...], confidence: float) -> np.ndarray:
    """Band (2, n_edges) that holds a whole ``ecdf(z) - z`` of n uniform values.

    At edges z that rise from 0 to 1; binomial quantiles of one probability for all z, such that
    a share `confidence` of simulated curves stays inside everywhere [3]_.
    """
    random, z = np.random.RandomState(0), np.array(edges[1:-1])
    counts = random.multinomial(n, np.diff(edges), size=N_SIMULATIONS).cumsum(axis=1)[:, :-1]
    tail = np.minimum(stats.binom.cdf(counts, n, z), stats.binom.sf(counts - 1, n, z)).min(axis=1)
    level = float(np.quantile(tail, 1.0 - confidence))
    band = np.stack([stats.binom.ppf(p, n, z) for p in (level, 1.0 - level)]) / n - z
    band = np.pad(band, [(0, 0), (1, 1)])
    band.setflags(write=False)
    return band


def rank_statistics(
    pit: np.ndarray, n_draws: int, n_bins: int = 20, confidence: float = 0.95
) -> dict[str, Any]:
    """Fields of a `RankTest` from randomised PIT values (n_rows, n_outputs)."""
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
    return {
        "ranks": ranks,
        "pit": pit,
        "n_draws": n_draws,
        "bin_edges": edges,
        "counts": counts,
        "expected": expected,
        "count_band": binomial_band(n_rows, probability, confidence),
        "ecdf_grid": grid,
        "ecdf_difference": below / n_rows - grid[:, None],
        "ecdf_band": uniform_band(n_rows, tuple(grid.tolist()), confidence),
        "pvalues": pvalues,
        "chi2_pvalues": stats.chi2.sf(chi2, n_bins - 1),
        "ks_pvalues": ks_pvalue(pit),
        "pvalue": float(holm(pvalues).min()),
    }


def hpd_statistics(values: np.ndarray, confidence: float = 0.95) -> dict[str, Any]:
    """Fields of a `CoverageTest` from the mass of each row's region, (n_rows,)."""
    return {
        "values": values,
        "levels": LEVELS,
        "coverage": (values[:, None] <= LEVELS).mean(axis=0),
        "band": binomial_band(len(values), LEVELS, confidence) / len(values),
        "pvalue": float(smooth_pvalue(values)),
    }


def tarp_statistics(
    fractions: np.ndarray, stand_ins: np.ndarray, confidence: float = 0.95
) -> dict[str, Any]:
    """Fields of a `CoverageTest` from the results of `ball_fractions`."""
    null = (stand_ins[..., None] <= LEVELS).mean(axis=2)  # (n_rows, n_stand_ins, n_levels)
    error = np.sqrt(((null - LEVELS) ** 2).mean(axis=(0, 1)) / len(fractions))
    half_width = stats.norm.ppf(0.5 + 0.5 * confidence) * error
    return {
        "values": fractions,
        "levels": LEVELS,
        "coverage": (fractions[..., None] <= LEVELS).mean(axis=(0, 1)),
        "band": np.clip([LEVELS - half_width, LEVELS + half_width], 0.0, 1.0),
        "pvalue": ball_pvalue(fractions, stand_ins),
    }


def scale_of(y: np.ndarray) -> np.ndarray:
    """Unit of distances along each output; that of a constant one does not matter."""
    scale = y.std(axis=0)
    return np.where(scale > 0, scale, 1.0)


def reference_points(
    kind: str, n_references: int, y: np.ndarray, random: np.random.RandomState
) -> np.ndarray:
    """Points (n_rows, n_references, n_outputs) of one of the `REFERENCES`."""
    n_rows = len(y)
    shape = (n_rows, n_references, y.shape[1])
    if kind == "uniform":
        return random.uniform(y.min(axis=0), y.max(axis=0), size=shape)
    if kind == "normal":
        return random.normal(y.mean(axis=0), y.std(axis=0), size=shape)
    shift = random.randint(1, n_rows, size=shape[:2])
    return y[(np.arange(n_rows)[:, None] + shift) % n_rows]


def combine_both(linear: np.ndarray, trees: np.ndarray) -> float:
    """One p-value from those of lines and of trees."""
    both = [combine_independent(linear), combine_independent(trees)]
    return combine(np.array(both))


def bin_statistics(
    u: np.ndarray, values: np.ndarray, n_bins: int, levels: Sequence[float]
) -> Iterator[tuple]:
    """Calibration of u (n_rows, n_outputs) in bins of `values` (n_rows,).

    Yields the number of an output and the fields of a `Region` from `low` to `pvalue`. The mean is
    tested by its normal limit, the number of u inside each central interval as a binomial one.
    """
    level = np.array(levels)
    inside = np.abs(u[..., None] - 0.5) <= 0.5 * level  # (n_rows, n_outputs, n_levels)
    for low, high, rows in _bins(values, n_bins):
        n, mean = len(rows), u[rows].mean(axis=0)
        count = inside[rows].sum(axis=0)  # (n_outputs, n_levels)
        error, errors = 1.0 / np.sqrt(12.0 * n), np.sqrt(level * (1.0 - level) / n)
        smallest = np.minimum(
            2.0 * stats.norm.sf(np.abs(mean - 0.5) / error),
            2.0 * stats.binom.cdf(count, n, level).min(axis=1),
        )
        smallest = np.minimum(smallest, 2.0 * stats.binom.sf(count - 1, n, level).min(axis=1))
        pvalue = np.minimum(smallest * (1 + len(level)), 1.0)
        for j in range(u.shape[1]):
            share = tuple((count[j] / n).tolist())
            yield (j, low, high, n, float(mean[j]), float(error), share,
                   tuple(errors.tolist()), float(pvalue[j]))  # fmt: skip


def _bins(values: np.ndarray, n_bins: int) -> Iterator[tuple[float, float, np.ndarray]]:
    """Edges and row numbers of each bin: quantile bins, or one for each of few values."""
    low = high = np.unique(values)
    index = np.searchsorted(low, values)
    if len(low) > n_bins:
        edges = np.unique(np.quantile(values, np.arange(n_bins + 1) / n_bins))
        low, high = edges[:-1], edges[1:]
        index = np.searchsorted(edges[1:-1], values, side="right")
    for b in np.unique(index):
        yield float(low[b]), float(high[b]), np.flatnonzero(index == b)


class NumericTargets:
    """True values as numbers (n_rows, n_outputs), and draws in the same numbers.

    Labels become their position in the sorted labels of y; those that y lacks lie in between.
    """

    def __init__(self, y: Any):
        array = np.asarray(y)
        columns = array.reshape(len(array), -1).T
        self.labels = [None if _is_numeric(column) else np.unique(column) for column in columns]
        self.numbers = self.encode(columns.T)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Float64 array of the shape of `values`, (..., n_outputs)."""
        if values.dtype.kind == "f":
            return values.astype(np.float64, copy=False)
        encoded = np.empty(values.shape)
        for d, labels in enumerate(self.labels):
            column = values[..., d]
            if labels is None:
                encoded[..., d] = column.astype(np.float64)
            else:
                ends = (np.searchsorted(labels, column, side=side) for side in ("left", "right"))
                encoded[..., d] = (sum(ends) - 1) / 2
        return encoded


def _is_numeric(column: np.ndarray) -> bool:
    try:
        column.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown table with aligned columns; numbers to three digits."""
    cells = [[f"{c:.3g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [header, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
