"""The meta-estimator that recalibrates a density on rows that it was not trained on."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from scipy.special import ndtri
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.model_selection import KFold, ShuffleSplit, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._estimator import SANConditionalDensityEstimator
from .._model import make_generator
from .._tables import as_table, in_order
from .._targets import split_columns
from .._validation import check_choice, check_integer, check_real
from .recalibrated import RecalibratedDensity, conformity
from .score_maps import EDGE, fit_score_map


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
        X, y = as_table(X), as_table(y, "y")
        splits, refit = self._splits(X, y)
        one_dimensional = np.ndim(y) == 1
        coordinates, scores = [], []
        for train, test in splits:
            fitted = clone(base).fit(_rows(X, train), _rows(y, train))
            density = fitted.predict_density(_rows(X, test))
            if not getattr(density, "is_continuous", True):
                raise ValueError(
                    "CalibratedDensity needs outputs that have a density everywhere; leave out "
                    "those with labels, whole numbers or point masses."
                )
            own = _rows(y, test)
            own = in_order(own, density.output_names)
            values = np.stack(split_columns(own)[0], axis=1).astype(np.float64)
            coordinates.append(np.reshape(density.cdf(own), values.shape))
            scores.append(conformity(density, values, one_dimensional=one_dimensional))
        if refit:
            fitted = clone(base).fit(X, y)
        u = np.clip(np.concatenate(coordinates), EDGE, 1.0 - EDGE)
        self.estimator_ = fitted
        self.maps_ = [fit_score_map(ndtri(column)) for column in u.T]
        self.interval_scores_ = np.sort(np.concatenate([one for one, _ in scores]), axis=0)
        self.region_scores_ = np.sort(np.concatenate([one for _, one in scores]))
        self.n_calibration_ = len(u)
        self._one_dimensional = one_dimensional
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
            one_dimensional=self._one_dimensional,
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
            return density.median()
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


def _rows(data: Any, index: np.ndarray) -> Any:
    """Some rows of an array or a frame."""
    return data.iloc[index] if hasattr(data, "iloc") else np.asarray(data)[index]
