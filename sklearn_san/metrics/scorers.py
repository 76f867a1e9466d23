"""Scorers for model selection, of metrics that need more than ``predict(X)``.

A scorer is called as ``scorer(estimator, X, y)``; greater values are better.
`sklearn.metrics.make_scorer` calls ``predict(X)``, but what is scored here are draws, quantiles
and intervals, from ``predict(X, output_type=...)``. Of a Pipeline or a fitted search they ask the
density estimator inside, through the transformers before it.

================  ===================================================================
`DrawsScorer`     ``metric(y_true, y_draws)``
`QuantileScorer`  ``metric(y_true, y_quantiles, levels)``
`IntervalScorer`  ``metric(y_true, y_interval, level)``
`LogScorer`       the density estimator's own ``score``
================  ===================================================================
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from sklearn.utils.metadata_routing import MetadataRequest

from .._tables import in_order
from ..chains import predictor_of
from .checks import check_level, check_levels


def _output_names(estimator: Any) -> list[str] | None:
    """Names of the outputs of an estimator, or of what a pipeline or a search has inside."""
    while not hasattr(estimator, "output_names_"):
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return None
    return list(estimator.output_names_)


class _Scorer:
    """What scorers share: the call, and the request for weights in metadata routing."""

    _sample_weight_request: bool | str | None = None

    def __call__(self, estimator: Any, X: Any, y: Any, *, sample_weight: Any = None) -> float:
        """Score a fitted estimator on X (n_samples, n_features) and y; greater is better."""
        # Metrics and estimators without weights are asked for none.
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        names = _output_names(estimator)
        y = y if names is None else in_order(y, names, "the estimator was fitted with")
        return self._evaluate(estimator, X, y, weights)

    def _evaluate(self, estimator: Any, X: Any, y: Any, weights: dict[str, Any]) -> float:
        raise NotImplementedError

    def set_score_request(self, *, sample_weight: bool | str | None) -> _Scorer:
        """Copy of this scorer that asks scikit-learn's metadata routing for weights.

        Parameters
        ----------
        sample_weight : bool, str or None
            True asks for weights, a name for those passed under that name, False for none, and
            None makes it an error to pass any.

        Returns
        -------
        scorer
            A copy, so that a change of one entry of `SCORERS` is seen by nobody else.
        """
        changed = copy.copy(self)
        changed._sample_weight_request = sample_weight
        changed.get_metadata_routing()  # raises for what cannot be a request
        return changed

    def get_metadata_routing(self) -> MetadataRequest:
        """Request that scikit-learn's metadata routing reads."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_weight", alias=self._sample_weight_request)
        return request

    def _accept_sample_weight(self) -> bool:
        """Answer scikit-learn, which asks each scorer of a dict before it passes weights."""
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class LogScorer(_Scorer):
    """Scorer by the estimator's own ``score``, for which a density gives its mean log density.

    The value is in nats per row, per unit of y: the negative of the test NLL.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.datasets import make_bimodal
    >>> from sklearn_san.metrics import LogScorer
    >>> X, y, _ = make_bimodal(100, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=2, epochs=2, random_state=0).fit(X, y)
    >>> LogScorer()(est, X, y) == est.score(X, y)
    True
    """

    def _evaluate(self, estimator: Any, X: Any, y: Any, weights: dict[str, Any]) -> float:
        return float(predictor_of(estimator).score(X, y, **weights))


class _MetricScorer(_Scorer):
    """Scorer by a metric of what ``predict(X, output_type=...)`` returns."""

    def __init__(self, metric: Callable[..., Any], greater_is_better: bool, options: dict):
        self.metric = metric
        self.greater_is_better = greater_is_better
        self.options = options

    def _value(self, *arguments: Any, **weights: Any) -> float:
        value = float(self.metric(*arguments, **weights, **self.options))
        return value if self.greater_is_better else -value

    def _parameters(self) -> dict[str, Any]:
        raise NotImplementedError

    def __repr__(self) -> str:
        shown = self._parameters() | self.options
        if self.greater_is_better:
            shown["greater_is_better"] = True
        name = getattr(self.metric, "__name__", repr(self.metric))
        listed = "".join(f", {key}={value!r}" for key, value in shown.items())
        return f"{type(self).__name__}({name}{listed})"


class DrawsScorer(_MetricScorer):
    """Scorer by a metric of draws, such as `crps` or `energy_score`.

    It calls ``estimator.predict(X, output_type="samples", n_samples=n_draws, random_state=...)``.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_draws, **options)``, a float; with a `sample_weight` if weights are
        given.
    n_draws : int, default=200
        Draws for each row.
    random_state : int, default=0
        Seed of the draws: the same for every call, so that scores can be compared.
    greater_is_better : bool, default=False
        Whether greater values of `metric` are better; otherwise its sign is turned.
    **options : dict
        Further arguments of `metric`.

    Examples
    --------
    >>> from sklearn_san.metrics import DrawsScorer, energy_score
    >>> DrawsScorer(energy_score, n_draws=50, scale="std")
    DrawsScorer(energy_score, n_draws=50, random_state=0, scale='std')
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        *,
        n_draws: int = 200,
        random_state: Any = 0,
        greater_is_better: bool = False,
        **options: Any,
    ):
        super().__init__(metric, greater_is_better, options)
        self.n_draws = n_draws
        self.random_state = random_state

    def _parameters(self) -> dict[str, Any]:
        return {"n_draws": self.n_draws, "random_state": self.random_state}

    def _evaluate(self, estimator: Any, X: Any, y: Any, weights: dict[str, Any]) -> float:
        draws = predictor_of(estimator).predict(
            X, output_type="samples", n_samples=self.n_draws, random_state=self.random_state
        )
        return self._value(y, draws, **weights)


class QuantileScorer(_MetricScorer):
    """Scorer by a metric of quantiles, such as `pinball_loss`.

    It calls ``estimator.predict(X, output_type="quantiles", quantiles=levels)``.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_quantiles, levels, **options)``, a float; with a `sample_weight` if
        weights are given.
    levels : float or array-like of shape (n_levels,)
        Levels of the quantiles, strictly between 0 and 1.
    greater_is_better : bool, default=False
        Whether greater values of `metric` are better; otherwise its sign is turned.
    **options : dict
        Further arguments of `metric`.

    Raises
    ------
    ValueError
        For levels outside (0, 1).

    Examples
    --------
    >>> from sklearn_san.metrics import QuantileScorer, pinball_loss
    >>> QuantileScorer(pinball_loss, levels=0.95)
    QuantileScorer(pinball_loss, levels=[0.95])
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        levels: Any,
        *,
        greater_is_better: bool = False,
        **options: Any,
    ):
        super().__init__(metric, greater_is_better, options)
        self.levels = check_levels(levels)

    def _parameters(self) -> dict[str, Any]:
        return {"levels": self.levels.tolist()}

    def _evaluate(self, estimator: Any, X: Any, y: Any, weights: dict[str, Any]) -> float:
        quantiles = predictor_of(estimator).predict(
            X, output_type="quantiles", quantiles=self.levels
        )
        return self._value(y, quantiles, self.levels, **weights)


class IntervalScorer(_MetricScorer):
    """Scorer by a metric of equal-tailed intervals, such as `interval_score`.

    It calls ``estimator.predict(X, output_type="quantiles", quantiles=...)`` for the two bounds.

    Parameters
    ----------
    metric : callable
        ``metric(y_true, y_interval, level, **options)``, a float; with a `sample_weight` if
        weights are given.
    level : float
        Nominal coverage of the intervals, strictly between 0 and 1.
    greater_is_better : bool, default=False
        Whether greater values of `metric` are better; otherwise its sign is turned.
    **options : dict
        Further arguments of `metric`.

    Raises
    ------
    ValueError, TypeError
        For a level that is no number in (0, 1).

    Examples
    --------
    >>> from sklearn_san.metrics import IntervalScorer, interval_score
    >>> IntervalScorer(interval_score, level=0.5)
    IntervalScorer(interval_score, level=0.5)
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        level: float,
        *,
        greater_is_better: bool = False,
        **options: Any,
    ):
        super().__init__(metric, greater_is_better, options)
        self.level = check_level(level)

    def _parameters(self) -> dict[str, Any]:
        return {"level": self.level}

    def _evaluate(self, estimator: Any, X: Any, y: Any, weights: dict[str, Any]) -> float:
        bounds = [0.5 - 0.5 * self.level, 0.5 + 0.5 * self.level]
        interval = predictor_of(estimator).predict(X, output_type="quantiles", quantiles=bounds)
        return self._value(y, interval, self.level, **weights)
