"""Is an observation like what the simulator makes: novelty and posterior predictive checks.

=====================  =====================================================================
`check_observation`    novelty, and posterior predictive checks
`ObservationCheck`     what they found
=====================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.covariance import LedoitWolf

from .._targets import named_columns
from .._validation import check_integer
from ..calibration.results import Result, table
from .batches import Job
from .posterior import Posterior, one_row
from .simulations import Simulations, warn_of_failed

#: Streams of random numbers.
PREDICTIVE, AT_ONE_DRAW = 0, 1
#: Rows of the printed table; simulations to compare with, at least.
N_SHOWN, FEWEST = 20, 20


@dataclass(frozen=True, eq=False, repr=False)
class ObservationCheck(Result):
    """Result of `check_observation`.

    Parameters
    ----------
    statistic_names : tuple of str
        Names of the statistics.
    observed : ndarray of shape (n_statistics,)
        Of the observation.
    replicated : ndarray of shape (n_draws, n_statistics)
        Of data simulated with draws of the posterior.
    pvalues : ndarray of shape (n_statistics,)
        Of each statistic, two-sided: twice the share of replications that are at least as far to
        the side on which the observation is. Cautious, since the posterior has seen the
        observation: false alarms are rarer than the p-value says.
    distance : float
        Of the observation from simulations with one draw of the posterior (Mahalanobis).
    distances : ndarray of shape (n_draws // 2,)
        The same of simulations with that draw.
    predictive_pvalue : float
        Rank of `distance` among `distances`: exact.
    novelty : float
        The estimator's `novelty_score`: rank of the distance of the observation from rows of `fit`
        among those of other rows.
    pvalue : float
        Of both together, twice the smaller one.
    n_failed : int
        Simulations that failed and were left out.
    """

    statistic_names: tuple[str, ...]
    observed: np.ndarray
    replicated: np.ndarray
    pvalues: np.ndarray
    distance: float
    distances: np.ndarray
    predictive_pvalue: float
    novelty: float
    pvalue: float
    n_failed: int

    def summary(self) -> str:
        """Table of the statistics, the strangest first."""
        order = np.argsort(self.pvalues, kind="stable")[:N_SHOWN]
        columns = self.observed, np.median(self.replicated, axis=0), self.pvalues
        rows = [[self.statistic_names[j], *(float(one[j]) for one in columns)] for j in order]
        return (
            f"Observation: p = {self.pvalue:.3g} (novelty {self.novelty:.3g}, predictive "
            f"{self.predictive_pvalue:.3g})\n"
            + table(["statistic", "observed", "median simulated", "p"], rows)
        )

    def to_frame(self) -> Any:
        """Statistics as a pandas frame.

        Returns
        -------
        DataFrame
            A row for each statistic, with its observed value, quantiles of the simulated ones, and
            p-value.
        """
        low, median, high = np.quantile(self.replicated, (0.05, 0.5, 0.95), axis=0)
        return named_columns(
            {
                "observed": self.observed,
                "q05": low,
                "q50": median,
                "q95": high,
                "pvalue": self.pvalues,
            },
            list(self.statistic_names),
        )

    def plot(self, *, ax: Any = None, **options: Any) -> Any:
        """Histogram of each statistic with the observed value in it.

        Parameters
        ----------
        ax : axes or array of these, default=None
            Where to draw; None makes a figure.
        **options : object
            Of `sklearn_san.plotting.PredictiveDisplay.plot`.

        Returns
        -------
        PredictiveDisplay
            Drawn.
        """
        from ..plotting import PredictiveDisplay

        return PredictiveDisplay.from_predictions(
            self.replicated,
            self.observed,
            pvalues=self.pvalues,
            statistic_names=self.statistic_names,
            ax=ax,
            **options,
        )


def check_observation(
    model: Any,
    x_o: Any,
    simulate: Callable[[np.ndarray, np.random.Generator], Any],
    *,
    n_draws: int = 1000,
    statistics: Any = None,
    batch_size: int = 1000,
    n_jobs: int | None = None,
    allow_missing: bool = False,
    random_state: Any = None,
) -> ObservationCheck:
    """Compare an observation with simulations, to see whether the simulator can have made it.

    Three questions, of which the second and the third are exact tests if the posterior is right:

    - Is each statistic of the observation among those of data simulated with draws of the
      posterior (posterior predictive check)? Shows what is wrong.
    - Is the observation as near to simulations with *one* draw of the posterior as they are to each
      other? If model and posterior are right, that draw and the observation are as good a pair as
      the true parameters and the observation, so that the rank of the distance is uniform [1]_. The
      answer depends on the draw, and so on `random_state`.
    - Is the observation near to rows that the estimator was fitted to (`novelty_score`)?

    A small p-value says that something is wrong: the simulator, or the estimate of the posterior,
    which a fit to more simulations mends. None tells a simulator that is wrong in a way that
    other parameters make up for.

    Parameters
    ----------
    model : SANConditionalDensityEstimator or Posterior
        Fitted to simulations of the same simulator.
    x_o : array-like of shape (n_features,) or (1, n_features), or what one simulation is
        The observation.
    simulate : callable
        ``simulate(theta, random_state)``; see `draw_simulations`.
    n_draws : int, default=1000
        Draws of the posterior with each of which is simulated once, and simulations with one more
        draw, of which one half says what distances mean and the other half is ranked.
    statistics : callable, dict of callables or None, default=None
        ``statistics(x)`` returns statistics (n,) or (n, n_statistics) of n simulations, or a dict
        names several such functions. None takes the data as they are.
    batch_size, n_jobs, allow_missing : object
        As for `draw_simulations`.
    random_state : int, RandomState or None, default=None
        Seed of draws and data.

    Returns
    -------
    ObservationCheck

    Raises
    ------
    ValueError
        If `x_o` has another shape than simulated data, or statistics are not finite.

    References
    ----------
    .. [1] Johnson (2007), "Bayesian model assessment using pivotal quantities", Bayesian Analysis
       2; Gosselin (2011), "A new calibrated Bayesian internal goodness-of-fit method", PLoS ONE 6.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.simulation import check_observation, fit_simulator
    >>> def simulate(theta, random_state):
    ...     return theta + 0.1 * random_state.normal(size=(len(theta), 3))
    >>> est = SANConditionalDensityEstimator(K=3, n_members=1, epochs=10, random_state=0)
    >>> est = fit_simulator(est, {"level": (0, 1)}, simulate, 500, random_state=0)
    >>> check_observation(est, [0.5, 0.6, 0.4], simulate, random_state=0).pvalue > 0.05
    True
    >>> check_observation(est, [0.1, 0.5, 0.9], simulate, random_state=0).pvalue < 0.01
    True
    """
    check_integer("n_draws", n_draws, FEWEST)
    estimator, prior = model, None
    if isinstance(model, Posterior):
        estimator, prior = model.estimator, model.prior
    posterior = Posterior(estimator, x_o, prior)
    job = Job.make(simulate, batch_size, n_jobs, random_state, allow_missing=allow_missing)
    random = np.random.RandomState(job.seed)
    theta = posterior.sample(n_draws + 1, random_state=random)
    one = np.repeat(theta[-1:], n_draws, axis=0)
    spread, alike = (
        Simulations(list(job.batches(_given(rows), n_draws, stream, None)))
        for rows, stream in ((theta[:-1], PREDICTIVE), (one, AT_ONE_DRAW))
    )
    both = spread + alike
    warn_of_failed(both)
    if min(spread.n_rows, alike.n_rows) < FEWEST:
        raise ValueError(
            f"{both.n_failed} of {2 * n_draws} simulations with draws of the posterior failed, "
            f"such as {both.message}; that leaves too few to compare with."
        )
    row = one_row(x_o, spread[0][0])
    names = getattr(estimator, "feature_names_in_", None)
    labels, observed = _statistics(statistics, row, names)
    replicated = _statistics(statistics, spread.x, names)[1]
    distances = _distances(_statistics(statistics, alike.x, names)[1], observed)
    predictive = float((distances[1:] >= distances[0]).sum() + 1) / len(distances)
    novelty = float(estimator.novelty_score(row)[0])
    return ObservationCheck(
        statistic_names=tuple(labels),
        observed=observed[0],
        replicated=replicated,
        pvalues=_two_sided(replicated, observed[0]),
        distance=float(distances[0]),
        distances=distances[1:],
        predictive_pvalue=predictive,
        novelty=novelty,
        pvalue=min(1.0, 2.0 * min(predictive, novelty)),
        n_failed=both.n_failed,
    )


def _given(theta: np.ndarray) -> Callable[[int, Any, int], np.ndarray]:
    return lambda n, _, start: theta[start : start + n]


def _two_sided(replicated: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """P-value of each statistic (n_statistics,), with the observation counted as one of them."""
    n = len(replicated) + 1
    below = ((replicated <= observed).sum(axis=0) + 1) / n
    above = ((replicated >= observed).sum(axis=0) + 1) / n
    return np.minimum(1.0, 2.0 * np.minimum(below, above))


def _distances(alike: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Mahalanobis distances of the observation and of one half of simulations from the other."""
    half = len(alike) // 2
    reference, others = alike[:half], alike[half:]
    unit = reference.std(axis=0)
    unit = np.where(unit > 0, unit, 1.0)
    centre = reference.mean(axis=0)
    covariance = LedoitWolf(assume_centered=True).fit((reference - centre) / unit)
    rows = (np.concatenate([observed, others]) - centre) / unit
    return np.sqrt(np.maximum(covariance.mahalanobis(rows), 0.0))


def _statistics(statistics: Any, x: Any, feature_names: Any) -> tuple[list[str], np.ndarray]:
    """Names and values (n, n_statistics) of the statistics of rows of x.

    Raises
    ------
    ValueError, TypeError
        If `statistics` is no function, or what it returns is not finite or has other rows.
    """
    if statistics is None:
        leaves = x if isinstance(x, dict) else {"x": x}
        columns = {str(k): np.asarray(v, float).reshape(len(v), -1) for k, v in leaves.items()}
    elif isinstance(statistics, Mapping):
        columns = {str(k): _columns(k, one(x)) for k, one in statistics.items()}
    elif callable(statistics):
        columns = {"s": _columns("statistics", statistics(x))}
    else:
        raise TypeError(f"statistics must be a function, a dict of these or None: {statistics!r}.")
    n_rows = len(next(iter(x.values()))) if isinstance(x, dict) else len(x)
    for name, values in columns.items():
        if len(values) != n_rows or not np.isfinite(values).all():
            raise ValueError(
                f"statistics {name!r} returned shape {values.shape} for {n_rows} rows, or values "
                "that are not finite; it must give finite numbers, (n,) or (n, n_statistics)."
            )
    is_plain = statistics is None and not isinstance(x, dict) and feature_names is not None
    if is_plain and len(feature_names) == columns["x"].shape[1]:
        return list(map(str, feature_names)), columns["x"]
    labels = [
        name if isinstance(statistics, Mapping) and values.shape[1] == 1 else f"{name}{j}"
        for name, values in columns.items()
        for j in range(values.shape[1])
    ]
    return labels, np.concatenate(list(columns.values()), axis=1)


def _columns(name: Any, values: Any) -> np.ndarray:
    """Statistics as columns."""
    values = np.asarray(values, dtype=float)
    if values.ndim not in (1, 2):
        raise ValueError(
            f"statistics {name!r} returned shape {values.shape}; it must be (n,) or "
            "(n, n_statistics)."
        )
    return values if values.ndim == 2 else values[:, None]
