"""Densities behind a fitted Pipeline or search.

scikit-learn forwards `predict` and `score` through a `Pipeline` or `GridSearchCV`, but neither
`sample` nor `log_prob`. `as_density_estimator` gives all of these in one call.

========================  ==================================================================
`as_density_estimator`    the density estimator inside, as a `DensityChain`
`DensityChain`            transformers and the density estimator behind them, an estimator
`density_of`              the density of rows, whatever the estimator
`predictor_of`            what takes the arguments of the estimator's own `predict`
`inner_estimator`         what stands at the end of an unfitted chain
========================  ==================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

__all__ = ["DensityChain", "as_density_estimator"]


class DensityChain(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Transformers of X and the density estimator behind them.

    Parameters
    ----------
    transformers : list of transformer
        Applied to X in this order.
    estimator : estimator
        Has `predict_density`, `sample`, `log_prob`, `score` and `predict`.

    Attributes
    ----------
    transformers_, estimator_ : list of transformer, estimator
        The same, fitted; those of `as_density_estimator` are the ones that it found.
    """

    def __init__(self, transformers: list[Any], estimator: Any):
        self.transformers = transformers
        self.estimator = estimator

    def fit(self, X: Any, y: Any, **options: Any) -> DensityChain:
        """Fit a clone of each transformer, and of the estimator to what they make of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        **options : dict
            For the estimator's `fit`.

        Returns
        -------
        self : object
        """
        self._check_errors(options)
        fitted = []
        for transformer in self.transformers:
            fitted.append(clone(transformer).fit(X, y))
            X = fitted[-1].transform(X)
        self.estimator_ = clone(self.estimator).fit(X, y, **options)
        self.transformers_ = fitted
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Answer scikit-learn's `check_is_fitted`."""
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Any:
        """Describe what the estimator accepts."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True
        tags.input_tags.allow_nan = True
        return tags

    def _fitted(self) -> DensityChain:
        check_is_fitted(self)
        return self

    def transform(self, X: Any) -> Any:
        """What the estimator sees of X."""
        check_is_fitted(self)
        for transformer in self.transformers_:
            X = transformer.transform(X)
        return X

    def _check_errors(self, options: dict[str, Any]) -> None:
        """Raise for measurement errors in units that the transformers change."""
        if self.transformers and options.get("X_err") is not None:
            raise ValueError(ERRORS_BEHIND_TRANSFORMERS)

    def predict_density(self, X: Any, **options: Any) -> Any:
        """Conditional density of every row of X, as an object."""
        self._check_errors(options)
        return self._fitted().estimator_.predict_density(self.transform(X), **options)

    def sample(self, X: Any, n_samples: int = 1, **options: Any) -> Any:
        """Draws, (n_samples, n_draws, n_outputs); options are those of the estimator."""
        self._check_errors(options)
        return self._fitted().estimator_.sample(self.transform(X), n_samples, **options)

    def log_prob(self, X: Any, y: Any, **options: Any) -> np.ndarray:
        """Log density of y given X, (n_samples,), in nats per unit of every output."""
        self._check_errors(options)
        return self._fitted().estimator_.log_prob(self.transform(X), y, **options)

    def score(self, X: Any, y: Any, **options: Any) -> float:
        """Mean log-likelihood per row in nats."""
        self._check_errors(options)
        return self._fitted().estimator_.score(self.transform(X), y, **options)

    def predict(self, X: Any, **options: Any) -> np.ndarray:
        """Summary of the density of every row; options are the estimator's."""
        self._check_errors(options)
        return self._fitted().estimator_.predict(self.transform(X), **options)


def as_density_estimator(fitted: Any) -> DensityChain:
    """Give `sample`, `log_prob` and `predict_density` of what is inside a pipeline or a search.

    Parameters
    ----------
    fitted : estimator
        A fitted density estimator, a `Pipeline` that ends in one, a search such as
        `GridSearchCV` over these, or any nesting of them.

    Returns
    -------
    DensityChain

    Raises
    ------
    NotFittedError
        If it was not fitted, or a search did not refit its best estimator.
    TypeError
        If there is no density estimator inside. A `TransformedTargetRegressor` is refused, since
        the Jacobian of its transformation would be lost; use `y_scaler`.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.chains import as_density_estimator
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=5, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), est).fit(X, y)
    >>> as_density_estimator(pipeline).sample(X[:4], 7, random_state=0).shape
    (4, 7, 2)
    """
    transformers: list[Any] = []
    while not hasattr(fitted, "predict_density"):
        if isinstance(fitted, Pipeline):
            *before, last = (step for _, step in fitted.steps)
            transformers += [step for step in before if step not in (None, "passthrough")]
            fitted = last
        elif isinstance(fitted, FrozenEstimator):
            fitted = fitted.estimator
        elif _is_search(fitted):
            check_is_fitted(fitted, "best_estimator_")
            fitted = fitted.best_estimator_
        elif hasattr(fitted, "regressor") and hasattr(fitted, "transformer"):
            raise TypeError(
                "TransformedTargetRegressor loses the Jacobian of its transformation, so that its "
                "densities would be wrong; set y_scaler of the estimator instead."
            )
        else:
            raise TypeError(
                "as_density_estimator needs an estimator with predict_density, or a Pipeline or "
                f"search that ends in one, got {fitted!r}."
            )
    if isinstance(fitted, BaseEstimator):
        check_is_fitted(fitted)
    chain = DensityChain(transformers, fitted)
    chain.transformers_, chain.estimator_ = transformers, fitted
    return chain


def density_of(estimator: Any, X: Any, **options: Any) -> Any:
    """``predict_density(X, **options)`` of an estimator, or of what is inside a chain."""
    if hasattr(estimator, "predict_density"):
        return estimator.predict_density(X, **options)
    return as_density_estimator(estimator).predict_density(X, **options)


def predictor_of(estimator: Any) -> Any:
    """What takes the arguments of a density estimator's `predict`: itself, or what is inside."""
    if hasattr(estimator, "predict_density"):
        return estimator
    try:
        return as_density_estimator(estimator)
    except TypeError:  # no density estimator of ours, but perhaps with such a `predict`
        return estimator


def inner_estimator(estimator: Any) -> tuple[Any, str, bool]:
    """What stands at the end of a chain that need not be fitted.

    Returns
    -------
    estimator : estimator
    prefix : str
        With which arguments of its `fit` are passed to that of the chain.
    is_transformed : bool
        Whether transformers stand before it.
    """
    prefix, is_transformed = "", False
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "predict_density"):
            break
        elif isinstance(estimator, Pipeline):
            name, last = estimator.steps[-1]
            is_transformed |= any(s not in (None, "passthrough") for _, s in estimator.steps[:-1])
            prefix, estimator = f"{prefix}{name}__", last
        elif _is_search(estimator):
            estimator = estimator.estimator
        else:
            break
    return estimator, prefix, is_transformed


def _is_search(estimator: Any) -> bool:
    return hasattr(estimator, "refit") and hasattr(estimator, "cv")


#: What is said where measurement errors would be in other units than the estimator's.
ERRORS_BEHIND_TRANSFORMERS = (
    "X_err is in the units of X, which the transformers before the estimator change; "
    "transform both, and pass them to `estimator`."
)
