"""Recalibration of a fitted density on rows that it was not trained on.

The Rosenblatt coordinates u of a calibrated density are uniform. `CalibratedDensity` learns how
they really are distributed: the normal scores ``s = ndtri(u_j)`` of each output follow a density
q_j, a normal or a mixture of normals, whose cdf Q_j gives a monotone map of the coordinate. Then

    p_c(y | x) = p(y | x) prod_j q_j(s_j) / phi(s_j),    s_j = ndtri(u_j(y | x))

is exact and normalised, with phi the standard normal density. What depends on x, or between the
outputs, stays as it was.

Conformal sets need no such model: they are widened until they hold the wanted share of the held-out
rows, which then holds for new rows as well [1]_, [2]_.

==========================  ================================================================
`CalibratedDensity`         meta-estimator: holds rows out, fits the maps and the sets
`RecalibratedDensity`       what its `predict_density` returns
==========================  ================================================================

References
----------
.. [1] Vovk, Gammerman and Shafer (2005), Algorithmic learning in a random world.
.. [2] Romano, Patterson and Candes (2019), Conformalized quantile regression.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold, ShuffleSplit, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ._estimator import SANConditionalDensityEstimator
from ._model import make_generator, sobol_points
from ._validation import check_choice, check_integer, check_real

#: Coordinates are kept this far from 0 and 1.
EDGE = 1e-15
#: Numbers of components that are tried for the density of normal scores; none is no change.
COMPONENTS = (1, 2, 3)
#: Central intervals that conformal ones are widened from; the nearest to the wanted level is taken.
BASE_LEVELS = np.array([0.5, 0.8, 0.9, 0.95, 0.99])
#: Quasi-random draws behind means and quantiles; draws behind density deficits.
N_DRAWS = 1024


@dataclass(frozen=True)
class ScoreMap:
    """Density of the normal scores of one output: a mixture of normals.

    Parameters
    ----------
    weight, loc, scale : ndarray of shape (n_components,)
    """

    weight: np.ndarray
    loc: np.ndarray
    scale: np.ndarray

    def log_ratio(self, score: np.ndarray) -> np.ndarray:
        """Log of q(s) / phi(s), of any shape."""
        t = (score[..., None] - self.loc) / self.scale
        log_q = logsumexp(np.log(self.weight / self.scale) - 0.5 * t**2, axis=-1)
        return log_q + 0.5 * score**2

    def cdf(self, score: np.ndarray) -> np.ndarray:
        """Calibrated coordinate of a score."""
        return (self.weight * ndtr((score[..., None] - self.loc) / self.scale)).sum(-1)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Score of a calibrated coordinate, by bisection."""
        ends = self.loc + self.scale * ndtri(u)[..., None]
        low, high = ends.min(-1), ends.max(-1)
        for _ in range(60 if len(self.loc) > 1 else 0):
            middle = 0.5 * (low + high)
            below = self.cdf(middle) < u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return 0.5 * (low + high)


def fit_score_map(score: np.ndarray) -> ScoreMap:
    """Map for the scores (n,) of held-out rows.

    More components must raise the cross-validated log-likelihood by more than its standard error,
    so that a calibrated density is left alone.
    """
    best, chosen = np.zeros(len(score)), 0
    for n_components in COMPONENTS:
        held_out = np.empty(len(score))
        for train, test in KFold(5, shuffle=True, random_state=0).split(score):
            held_out[test] = _fit_mixture(score[train], n_components).log_ratio(score[test])
        gain = held_out - best
        if gain.mean() > gain.std() / np.sqrt(len(gain)):
            best, chosen = held_out, n_components
    return _fit_mixture(score, chosen)


def _fit_mixture(score: np.ndarray, n_components: int) -> ScoreMap:
    if n_components == 0:
        return ScoreMap(np.ones(1), np.zeros(1), np.ones(1))
    mixture = GaussianMixture(n_components, reg_covar=1e-3, max_iter=200, random_state=0)
    mixture.fit(score[:, None])
    return ScoreMap(mixture.weights_, mixture.means_[:, 0], np.sqrt(mixture.covariances_[:, 0, 0]))


class CalibratedDensity(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Density estimator that is recalibrated on held-out rows.

    Parameters
    ----------
    estimator : estimator, default=None
        Has `predict_density`; None is ``SANConditionalDensityEstimator()``. One that is fitted
        already, and is to stay so, comes as ``FrozenEstimator(estimator)`` from
        `sklearn.frozen`; the rows of `fit` must then be new to it.
    cv : int, float, splitter or iterable, default=5
        How rows are held out. A number of folds, or a splitter: the coordinates of each row
        come from a fit without it, and the estimator is fitted once more on all rows. A share
        such as 0.2: these rows are set aside and never fitted to, which makes the coverage of
        conformal sets exact; it is so for a frozen estimator, too.
    random_state : int, RandomState or None, default=None
        Of the split.

    Attributes
    ----------
    estimator_ : estimator
        Fitted to all rows, or to those that were not set aside.
    maps_ : list of ScoreMap
        One for each output.
    n_calibration_ : int
        Rows that were held out.
    n_features_in_ : int
        Number of features, if the estimator knows it.

    Examples
    --------
    >>> from sklearn_san import CalibratedDensity, SANConditionalDensityEstimator
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(600, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=10, random_state=0)
    >>> calibrated = CalibratedDensity(est, cv=0.3, random_state=0).fit(X, y)
    >>> calibrated.predict_density(X[:4]).interval(0.9, method="conformal").shape
    (4, 2, 2)
    """

    def __init__(self, estimator: Any = None, *, cv: Any = 5, random_state: Any = None):
        self.estimator = estimator
        self.cv = cv
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> CalibratedDensity:
        """Fit the estimator, and the calibration on rows that it has not seen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        self : object
        """
        base = self.estimator if self.estimator is not None else SANConditionalDensityEstimator()
        splits, refit = self._splits(X, y)
        coordinates, scores = [], []
        for train, test in splits:
            fitted = clone(base).fit(_rows(X, train), _rows(y, train))
            density = fitted.predict_density(_rows(X, test))
            if not getattr(density, "is_continuous", True):
                raise ValueError(
                    "CalibratedDensity needs outputs that have a density everywhere; leave out "
                    "those with labels, whole numbers or point masses."
                )
            coordinates.append(_columns(density.cdf(_rows(y, test)), density))
            scores.append(_conformity(density, _rows(y, test)))
        if refit:
            fitted = clone(base).fit(X, y)
        u = np.clip(np.concatenate(coordinates), EDGE, 1.0 - EDGE)
        self.estimator_ = fitted
        self.maps_ = [fit_score_map(ndtri(column)) for column in u.T]
        self.interval_scores_ = np.sort(np.concatenate([one for one, _ in scores]), axis=0)
        self.region_scores_ = np.sort(np.concatenate([one for _, one in scores]))
        self.n_calibration_ = len(u)
        if hasattr(fitted, "n_features_in_"):
            self.n_features_in_ = fitted.n_features_in_
        return self

    def predict_density(self, X: Any) -> RecalibratedDensity:
        """Recalibrated density of every row of X."""
        check_is_fitted(self, "maps_")
        return RecalibratedDensity(
            self.estimator_.predict_density(X),
            self.maps_,
            self.interval_scores_,
            self.region_scores_,
        )

    def log_prob(self, X: Any, y: Any) -> np.ndarray:
        """Log density of y given X, (n_samples,), in nats per unit of every output."""
        return self.predict_density(X).log_prob(y)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean log-likelihood per row in nats; larger is better."""
        return float(np.average(self.log_prob(X, y), weights=sample_weight))

    def sample(self, X: Any, n_samples: int = 1, *, random_state: Any = None) -> np.ndarray:
        """Draws for every row of X, ``(n_samples, n_draws, n_outputs)``."""
        return self.predict_density(X).sample(n_samples, random_state=random_state)

    def predict(
        self, X: Any, *, output_type: str = "mean", quantiles: Any = (0.05, 0.5, 0.95),
        n_samples: int = 1, random_state: Any = None,
    ) -> np.ndarray:  # fmt: skip
        """Summarise the density of every row, as `SANConditionalDensityEstimator.predict` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        output_type : {"mean", "median", "std", "quantiles", "samples"}, default="mean"
        quantiles : float or sequence of float, default=(0.05, 0.5, 0.95)
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None

        Returns
        -------
        ndarray
        """
        types = ("mean", "median", "std", "quantiles", "samples")
        check_choice("output_type", output_type, types)
        density = self.predict_density(X)
        if output_type == "samples":
            return density.sample(n_samples, random_state=random_state)
        if output_type == "quantiles":
            return density.quantile(quantiles)
        if output_type == "median":
            return density.quantile(0.5)[:, 0]
        return getattr(density, output_type)()

    def __sklearn_tags__(self) -> Any:
        """Describe what the estimator accepts."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True
        return tags

    def _splits(self, X: Any, y: Any) -> tuple[list[tuple[np.ndarray, np.ndarray]], bool]:
        """Rows to train on and rows held out, and whether to fit all rows in the end."""
        frozen = type(self.estimator).__name__ == "FrozenEstimator"
        everything = np.arange(len(X))
        if frozen:
            return [(everything[:2], everything)], False
        if isinstance(self.cv, Real) and not isinstance(self.cv, (bool, int, np.integer)):
            check_real("cv", self.cv, 0.0, 1.0)
            one = ShuffleSplit(1, test_size=float(self.cv), random_state=self._seed())
            return list(one.split(everything)), False
        if isinstance(self.cv, (int, np.integer)):
            check_integer("cv", self.cv, 2)
            return list(KFold(self.cv, shuffle=True, random_state=self._seed()).split(X)), True
        return list(check_cv(self.cv).split(X, y)), True

    def _seed(self) -> int:
        if self.random_state is None:
            return make_generator(None).initial_seed() % 2**32
        return int(check_random_state(self.random_state).randint(2**31 - 1))


class RecalibratedDensity:
    """Recalibrated p(y | x) of given rows; made by ``CalibratedDensity.predict_density``.

    If y was one-dimensional in `fit`, the axis of the outputs is missing everywhere.

    Parameters
    ----------
    base : density
        Of the fitted estimator.
    maps : list of ScoreMap
        One for each output.
    interval_scores : ndarray of shape (n_calibration, n_levels, n_outputs)
        Rising along the rows.
    region_scores : ndarray of shape (n_calibration,)
        Rising.
    """

    def __init__(
        self,
        base: Any,
        maps: list[ScoreMap],
        interval_scores: np.ndarray,
        region_scores: np.ndarray,
    ):
        self.base, self.maps = base, maps
        self.interval_scores, self.region_scores = interval_scores, region_scores

    def __len__(self) -> int:
        return len(self.base)

    def __repr__(self) -> str:
        return f"RecalibratedDensity({self.base!r})"

    def __getitem__(self, rows: Any) -> RecalibratedDensity:
        return RecalibratedDensity(
            self.base[rows], self.maps, self.interval_scores, self.region_scores
        )

    @property
    def n_outputs(self) -> int:
        """Number of columns of y."""
        return len(self.maps)

    @property
    def output_names(self) -> list[str]:
        """Names of the columns of y."""
        return self.base.output_names

    @property
    def limits(self) -> np.ndarray:
        """Limits of every output in the units of y, (n_outputs, 2)."""
        return self.base.limits

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density at one or several y for each row, in nats per unit of every output.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs) or (n_rows, n_points, n_outputs)

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_points)
        """
        base, y = self.base, np.asarray(y)
        log_prob = base.log_prob(y)
        if log_prob.ndim == 2:  # several points: a row of the base for each
            base = base[np.repeat(np.arange(len(self)), log_prob.shape[1])]
            y = y.reshape(log_prob.size, -1) if y.ndim == 3 else y.reshape(-1)
        u = np.clip(_columns(base.cdf(y), self), EDGE, 1.0 - EDGE)
        ratios = [one.log_ratio(ndtri(column)) for one, column in zip(self.maps, u.T, strict=True)]
        return log_prob + np.sum(ratios, axis=0).reshape(log_prob.shape)

    def cdf(self, y: Any, *, random_state: Any = None) -> np.ndarray:
        """Calibrated Rosenblatt coordinates of y, (n_rows, n_outputs).

        `random_state` is there for the interface of `ConditionalDensity` and has no effect, since
        all outputs have a density.
        """
        u = self.base.cdf(y)
        score = ndtri(np.clip(_columns(u, self), EDGE, 1.0 - EDGE))
        mapped = [one.cdf(column) for one, column in zip(self.maps, score.T, strict=True)]
        return np.stack(mapped, axis=1).reshape(u.shape)

    def inverse_cdf(self, u: Any) -> np.ndarray:
        """Inverse of `cdf`; u is (n_rows, n_outputs), strictly between 0 and 1."""
        u = np.asarray(u, dtype=np.float64)
        columns = zip(self.maps, _columns(u, self).T, strict=True)
        mapped = np.stack([ndtr(one.quantile(column)) for one, column in columns], axis=1)
        return self.base.inverse_cdf(np.clip(mapped, EDGE, 1.0 - EDGE).reshape(u.shape))

    def sample(self, n_draws: int = 1, *, random_state: Any = None) -> np.ndarray:
        """Independent draws, (n_rows, n_draws, n_outputs).

        Parameters
        ----------
        n_draws : int, default=1
        random_state : int, RandomState or None, default=None
        """
        check_integer("n_draws", n_draws, 1)
        random = np.random.default_rng(make_generator(random_state).initial_seed())
        parts = []
        for rows in self._chunks(n_draws):
            shape = (rows.stop - rows.start, n_draws, self.n_outputs)
            u = np.clip(random.random(shape), EDGE, 1.0 - EDGE)
            parts.append(self._at(rows, u))
        return np.concatenate(parts)

    def mean(self) -> np.ndarray:
        """Expectation of every output, (n_rows, n_outputs), from 1,024 quasi-random draws."""
        return np.concatenate([draws.mean(axis=1) for draws in self._quasi_random_draws()])

    def std(self) -> np.ndarray:
        """Standard deviation of every output, (n_rows, n_outputs)."""
        return np.concatenate([draws.std(axis=1) for draws in self._quasi_random_draws()])

    def quantile(self, levels: Any) -> np.ndarray:
        """Quantiles of the marginal distribution of every output, (n_rows, n_levels, n_outputs)."""
        levels = np.atleast_1d(np.asarray(levels, dtype=np.float64))
        parts = [np.quantile(draws, levels, axis=1) for draws in self._quasi_random_draws()]
        return np.concatenate([part.swapaxes(0, 1) for part in parts])

    def interval(self, level: float = 0.9, *, method: str = "quantile") -> np.ndarray:
        """Interval for every output.

        Parameters
        ----------
        level : float, default=0.9
            Probability inside, strictly between 0 and 1.
        method : {"quantile", "conformal"}, default="quantile"
            Between quantiles of the recalibrated density; or a central interval of the
            estimator's own, widened or narrowed about the median until it holds this share of
            the held-out rows. The latter holds a new value with a probability of at least
            `level`, and at most ``1 / (n_calibration_ + 1)`` more, whatever the estimator's
            faults, if rows are exchangeable and were set aside; with refits it does so nearly.

        Returns
        -------
        ndarray of shape (n_rows, 2, n_outputs)
            Ends are infinite, or those of the limits, where there are too few held-out rows
            for the level.
        """
        check_real("level", level, 0.0, 1.0)
        check_choice("method", method, ("quantile", "conformal"))
        if method == "quantile":
            return self.quantile([0.5 - 0.5 * level, 0.5 + 0.5 * level])
        k = int(np.abs(BASE_LEVELS - level).argmin())
        factor = _conformal_quantile(self.interval_scores[:, k], level)  # (n_outputs,)
        own = _central_quantiles(self.base)  # (n_rows, 2 n_levels + 1, n_outputs)
        middle = own[:, len(BASE_LEVELS)]
        low, high = own[:, k], own[:, -1 - k]
        ends = np.stack([middle - factor * (middle - low), middle + factor * (high - middle)], 1)
        ends = np.clip(ends, *np.asarray(self.limits).T)
        return ends.reshape(len(self), 2) if self._one_dimensional else ends

    def contains(self, y: Any, level: float = 0.9) -> np.ndarray:
        """Whether y lies in the joint conformal region of highest density, (n_rows,) bool.

        The region holds all y whose log density is no further below that of the estimator's draws
        than that of a share `level` of the held-out rows, in units of the draws' deviation. The
        guarantee is that of a conformal `interval`, for all outputs at once.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs)
        level : float, default=0.9
        """
        check_real("level", level, 0.0, 1.0)
        largest = _conformal_quantile(self.region_scores, level)
        return density_deficit(self.base, y) <= largest

    @property
    def _one_dimensional(self) -> bool:
        return self.base.quantile([0.5]).ndim == 2 if self.n_outputs == 1 else False

    def _chunks(self, n_draws: int) -> Iterator[slice]:
        size = max(1, 16_384 // n_draws)
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def _at(self, rows: slice, u: np.ndarray) -> np.ndarray:
        """Values of some rows at calibrated coordinates u (n, n_draws, n_outputs)."""
        n, n_draws, _ = u.shape
        repeated = self[np.repeat(np.arange(rows.start, rows.stop), n_draws)]
        flat = u.reshape(n * n_draws, -1)
        y = repeated.inverse_cdf(flat[:, 0] if self._one_dimensional else flat)
        return y.reshape(n, n_draws, *y.shape[1:])

    def _quasi_random_draws(self) -> Iterator[np.ndarray]:
        """Draws of chunks of rows at one fixed set of points."""
        points = np.clip(sobol_points(N_DRAWS, self.n_outputs), EDGE, 1.0 - EDGE)
        for rows in self._chunks(N_DRAWS):
            shape = (rows.stop - rows.start, *points.shape)
            yield self._at(rows, np.broadcast_to(points, shape))


def density_deficit(density: Any, y: Any) -> np.ndarray:
    """How far the log density at y lies below that of 1,024 draws, in their deviations, (n_rows,).

    Regions of constant deficit are highest-density regions of each row.
    """
    parts = []
    y = np.asarray(y)
    for start in range(0, len(density), 256):
        rows = slice(start, start + 256)
        part = density[rows]
        drawn = part.log_prob(part.sample(N_DRAWS, random_state=start))
        spread = np.maximum(drawn.std(axis=1), np.finfo(float).tiny)
        parts.append((drawn.mean(axis=1) - part.log_prob(y[rows])) / spread)
    return np.concatenate(parts)


def _conformity(density: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """How far y lies from the middle, (n_rows, n_levels, n_outputs), and density deficits.

    The former is 1 at the ends of each central interval and 0 at the median.
    """
    own = _central_quantiles(density)
    values = _columns(np.asarray(y, dtype=np.float64), density)
    n_levels = len(BASE_LEVELS)
    middle = own[:, n_levels]
    tiny = np.finfo(float).tiny
    scores = np.empty((len(values), n_levels, values.shape[1]))
    for k in range(n_levels):
        low, high = own[:, k], own[:, -1 - k]
        width = np.where(values < middle, middle - low, high - middle)
        scores[:, k] = np.abs(values - middle) / np.maximum(width, tiny)
    return scores, density_deficit(density, y)


def _central_quantiles(density: Any) -> np.ndarray:
    """Ends of the central intervals of `BASE_LEVELS` about the median.

    Shape (n_rows, 2 n_levels + 1, n_outputs): lower ends, median, upper ends in reverse.
    """
    lower = 0.5 - 0.5 * BASE_LEVELS
    levels = np.concatenate([lower, [0.5], 1.0 - lower[::-1]])
    return density.quantile(levels).reshape(len(density), len(levels), -1)


def _conformal_quantile(scores: np.ndarray, level: float) -> np.ndarray:
    """The ceil((n + 1) level)-th smallest of the sorted scores; infinite if there are too few."""
    rank = int(np.ceil((len(scores) + 1) * level - 1e-9))
    return scores[rank - 1] if rank <= len(scores) else np.full(scores.shape[1:], np.inf)


def _columns(values: np.ndarray, density: Any) -> np.ndarray:
    """Values with an axis for the outputs."""
    return np.asarray(values).reshape(len(values), density.n_outputs)


def _rows(data: Any, index: np.ndarray) -> Any:
    """Some rows of an array or a frame."""
    return data.iloc[index] if hasattr(data, "iloc") else np.asarray(data)[index]
