"""Densities behind a fitted Pipeline or search.

scikit-learn forwards `predict` and `score` through a `Pipeline` or `GridSearchCV`, but neither
`sample` nor `log_prob`. `as_density_estimator` gives all of these in one call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


class DensityChain:
    """Fitted transformers and the density estimator behind them.

    Parameters
    ----------
    transformers : list of transformer
        Applied to X in this order.
    estimator : estimator
        Has `predict_density`, `sample`, `log_prob`, `score` and `predict`.
    """

    def __init__(self, transformers: list[Any], estimator: Any):
        self.transformers = transformers
        self.estimator = estimator

    def __repr__(self) -> str:
        return f"DensityChain({self.transformers!r}, {self.estimator!r})"

    def transform(self, X: Any) -> Any:
        """What the estimator sees of X."""
        for transformer in self.transformers:
            X = transformer.transform(X)
        return X

    def _check_errors(self, options: dict[str, Any]) -> None:
        """Raise for measurement errors in units that the transformers change."""
        if self.transformers and options.get("X_err") is not None:
            raise ValueError(
                "X_err is in the units of X, which the transformers before the estimator change; "
                "transform both, and pass them to `estimator`."
            )

    def predict_density(self, X: Any, **options: Any) -> Any:
        """Conditional density of every row of X, as an object."""
        self._check_errors(options)
        return self.estimator.predict_density(self.transform(X), **options)

    def sample(self, X: Any, n_samples: int = 1, **options: Any) -> Any:
        """Draws, (n_samples, n_draws, n_outputs); options are those of the estimator."""
        self._check_errors(options)
        return self.estimator.sample(self.transform(X), n_samples, **options)

    def log_prob(self, X: Any, y: Any, **options: Any) -> np.ndarray:
        """Log density of y given X, (n_samples,), in nats per unit of every output."""
        self._check_errors(options)
        return self.estimator.log_prob(self.transform(X), y, **options)

    def score(self, X: Any, y: Any, **options: Any) -> float:
        """Mean log-likelihood per row in nats."""
        self._check_errors(options)
        return self.estimator.score(self.transform(X), y, **options)

    def predict(self, X: Any, **options: Any) -> np.ndarray:
        """Summary of the density of every row; options are the estimator's."""
        self._check_errors(options)
        return self.estimator.predict(self.transform(X), **options)


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
        elif hasattr(fitted, "refit") and hasattr(fitted, "cv"):
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
    check_is_fitted(fitted)
    return DensityChain(transformers, fitted)
