"""What `metrics` is made of: checks, means over rows and outputs, scorers.

A scorer is called as ``scorer(estimator, X, y)``; greater values are better.
`sklearn.metrics.make_scorer` calls ``predict(X)``, but what is scored here are draws, quantiles
and intervals, from ``predict(X, output_type=...)``. A Pipeline forwards that keyword argument,
unlike the method `sample`.

================  ===================================================================
`DrawsScorer`     ``metric(y_true, y_draws)``
`QuantileScorer`  ``metric(y_true, y_quantiles, levels)``
`IntervalScorer`  ``metric(y_true, y_interval, level)``
`LogScorer`       the estimator's own ``score``
================  ===================================================================
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.metadata_routing import MetadataRequest

#: Numbers that a temporary array may hold.
_CHUNK = 2**21


def check_levels(levels: Any) -> np.ndarray:
    """Levels strictly between 0 and 1, (n_levels,)."""
    try:
        array = np.atleast_1d(np.asarray(levels, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"levels must be numbers between 0 and 1, got {levels!r}.") from None
    if array.ndim != 1 or array.size == 0 or not ((array > 0) & (array < 1)).all():
        raise ValueError(
            f"levels must be one or more numbers strictly between 0 and 1, got {levels!r}."
        )
    return array


def check_level(level: Any) -> float:
    """One level strictly between 0 and 1."""
    if isinstance(level, (bool, np.bool_)) or not isinstance(level, Real):
        raise TypeError(f"level must be a number between 0 and 1, got {level!r}.")
    if not 0.0 < float(level) < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    return float(level)


def check_numbers(values: Any, name: str) -> np.ndarray:
    """Finite numbers in float64, of any shape that has rows."""
    return check_array(values, ensure_2d=False, allow_nd=True, dtype=np.float64, input_name=name)


def check_target(y_true: Any) -> tuple[np.ndarray, bool]:
    """Targets (n_rows, n_outputs), and whether they were one-dimensional."""
    y = check_numbers(y_true, "y_true")
    if y.ndim > 2:
        raise ValueError(f"y_true must have shape (n_rows,) or (n_rows, n_outputs), got {y.shape}.")
    return y.reshape(len(y), -1), y.ndim == 1


def check_like(values: Any, name: str, y: np.ndarray) -> np.ndarray:
    """Numbers of the shape of the targets, (n_rows, n_outputs)."""
    array = check_numbers(values, name)
    full = array[:, None] if array.ndim == 1 else array
    if full.shape != y.shape:
        raise ValueError(f"{name} has shape {array.shape}; {_must_be(y, '')}.")
    return full


def check_prediction(
    values: Any, name: str, y: np.ndarray, axis: str, length: int | None = None
) -> np.ndarray:
    """Predictions (n_rows, length, n_outputs); `axis` names the middle one where it is free."""
    array = check_numbers(values, name)
    full = array[..., None] if array.ndim == 2 and y.shape[1] == 1 else array
    length = length or max(full.shape[1:2], default=0)
    if length == 0 or full.shape != (len(y), length, y.shape[1]):
        raise ValueError(f"{name} has shape {array.shape}; {_must_be(y, f'{axis}, ')}.")
    return full


def _must_be(y: np.ndarray, middle: str) -> str:
    """End of an error message on shapes."""
    n_rows, n_outputs = y.shape
    rows = f"{n_rows} row{'s' if n_rows > 1 else ''}"
    outputs = f"{n_outputs} output{'s' if n_outputs > 1 else ''}"
    short = f" or ({n_rows}, {middle})".replace(", )", ")" if middle else ",)")
    accepted = f"({n_rows}, {middle}{n_outputs}){short if n_outputs == 1 else ''}"
    return f"with {rows} and {outputs} it must be {accepted}"


def check_draws(y_draws: Any, y: np.ndarray, fair: bool) -> np.ndarray:
    """Draws (n_rows, n_draws, n_outputs), at least two for each row if `fair`."""
    draws = check_prediction(y_draws, "y_draws", y, "n_draws")
    if fair and draws.shape[1] < 2:
        raise ValueError("fair=True needs at least 2 draws for each row, got 1; set fair=False.")
    return draws


def check_interval(y_interval: Any, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds, (n_rows, n_outputs) each, for y or any number of rows."""
    if y is None:
        shape = np.shape(y_interval)
        y = np.empty((shape[:1] or (1,)) + (shape[2:3] or (1,)))
    bounds = check_prediction(y_interval, "y_interval", y, "2", 2)
    lower, upper = bounds[:, 0], bounds[:, 1]
    wrong = np.argwhere(lower > upper)
    if len(wrong):
        i, d = wrong[0]
        raise ValueError(
            f"y_interval has {len(wrong)} lower bound{'s' if len(wrong) > 1 else ''} above the "
            f"upper one, such as {lower[i, d]:g} > {upper[i, d]:g} in row {i}, output {d}; give "
            "the lower bound first."
        )
    return lower, upper


def by_rows(score: Callable[[slice], np.ndarray], n_rows: int, values_per_row: int) -> np.ndarray:
    """Scores (n_rows, n_outputs) of some rows at a time, in bounded memory."""
    step = max(1, _CHUNK // values_per_row)
    return np.concatenate([score(slice(i, i + step)) for i in range(0, n_rows, step)])


def average(
    scores: np.ndarray, sample_weight: Any, multioutput: Any, per_row: bool
) -> float | np.ndarray:
    """Means of scores (n_rows, n_outputs), as the table at the top of `metrics` has them."""
    return over_rows(over_outputs(scores, multioutput), sample_weight, per_row)


def over_outputs(scores: np.ndarray, multioutput: Any) -> np.ndarray:
    """Mean over the last axis, or the scores themselves."""
    if isinstance(multioutput, str):
        if multioutput not in ("uniform_average", "raw_values"):
            raise ValueError(
                "multioutput must be 'uniform_average', 'raw_values' or one weight for each "
                f"output, got {multioutput!r}."
            )
        return scores if multioutput == "raw_values" else scores.mean(axis=-1)
    weights = np.asarray(multioutput, dtype=np.float64)
    if weights.shape != scores.shape[-1:]:
        raise ValueError(
            f"multioutput has shape {weights.shape}; as weights it must be {scores.shape[-1:]}, "
            "one for each output."
        )
    if not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(
            f"multioutput must hold weights that are not negative and not all zero, got "
            f"{weights.tolist()}."
        )
    return np.average(scores, axis=-1, weights=weights)


def over_rows(scores: np.ndarray, sample_weight: Any, per_row: bool) -> Any:
    """Mean over the first axis, or the scores themselves."""
    if per_row:
        if sample_weight is not None:
            raise ValueError(
                "sample_weight weights the mean over rows, and per_row=True takes none; leave one "
                "of them out."
            )
        return scores
    if sample_weight is None:
        mean = scores.mean(axis=0)
    else:
        weight = _check_weight(sample_weight, len(scores))
        used = weight > 0  # 0 times -inf is nan
        mean = np.average(scores[used], axis=0, weights=weight[used])
    return float(mean) if np.ndim(mean) == 0 else mean


def _check_weight(sample_weight: Any, n_rows: int) -> np.ndarray:
    """Weights (n_rows,): finite, not negative, not all zero."""
    weight = check_numbers(sample_weight, "sample_weight")
    if weight.shape != (n_rows,):
        raise ValueError(
            f"sample_weight must have shape ({n_rows},), one weight per row; got {weight.shape}."
        )
    if weight.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weight.min():g}.")
    if not (weight > 0).any():
        raise ValueError("sample_weight is zero for every row; at least one must count.")
    return weight


class _Scorer:
    """What scorers share: the call, and the request for weights in metadata routing."""

    _sample_weight_request: bool | str | None = None

    def __call__(self, estimator: Any, X: Any, y: Any, *, sample_weight: Any = None) -> float:
        """Score a fitted estimator on X (n_samples, n_features) and y; greater is better."""
        # Metrics and estimators without weights are asked for none.
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
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
        return float(estimator.score(X, y, **weights))


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
    With metadata routing enabled, the last step of a Pipeline must ask for these arguments:
    ``est.set_predict_request(output_type=True, n_samples=True, random_state=True)``.

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
        draws = estimator.predict(
            X, output_type="samples", n_samples=self.n_draws, random_state=self.random_state
        )
        return self._value(y, draws, **weights)


class QuantileScorer(_MetricScorer):
    """Scorer by a metric of quantiles, such as `pinball_loss`.

    It calls ``estimator.predict(X, output_type="quantiles", quantiles=levels)``. With metadata
    routing enabled, the last step of a Pipeline must ask for these arguments:
    ``est.set_predict_request(output_type=True, quantiles=True)``.

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
        quantiles = estimator.predict(X, output_type="quantiles", quantiles=self.levels)
        return self._value(y, quantiles, self.levels, **weights)


class IntervalScorer(_MetricScorer):
    """Scorer by a metric of equal-tailed intervals, such as `interval_score`.

    It calls ``estimator.predict(X, output_type="quantiles", quantiles=...)`` for the two bounds.
    With metadata routing enabled, the last step of a Pipeline must ask for these arguments:
    ``est.set_predict_request(output_type=True, quantiles=True)``.

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
        interval = estimator.predict(X, output_type="quantiles", quantiles=bounds)
        return self._value(y, interval, self.level, **weights)
