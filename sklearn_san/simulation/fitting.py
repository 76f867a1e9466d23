"""Fit the estimator to a prior and a simulator: neural posterior estimation.

===================  ========================================================
`fit_simulator`      simulate, and fit to what was simulated
`prepared`           the estimator with the limits and names of a prior
===================  ========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone

from .._validation import check_boolean, check_integer, check_limits
from .batches import VALIDATION, Job, from_prior
from .priors import Prior, as_prior
from .simulations import Simulations, draw_simulations, warn_of_failed

#: Rows up to which all are read at once, and beyond which the estimator reads them in pieces.
IN_MEMORY = 100_000
#: Of fresh rows a tenth, but not more than these, are simulated to validate on.
MAX_VALIDATION = 10_000


def fit_simulator(
    estimator: Any,
    prior: Any,
    simulate: Callable[[np.ndarray, np.random.Generator], Any],
    n_simulations: int,
    *,
    fresh: bool = False,
    batch_size: int = 1000,
    n_jobs: int | None = None,
    cache_dir: Any = None,
    allow_missing: bool = False,
    random_state: Any = None,
) -> Any:
    """Fit the density of the parameters given simulated data, p(theta | x).

    This is neural posterior estimation (NPE) [1]_: the estimator learns from pairs of parameters,
    drawn from the prior, and data that are simulated with them.

    Parameters
    ----------
    estimator : SANConditionalDensityEstimator
        Which is cloned. Without `limits` it gets those of the prior, without `output_names` the
        names of its parameters.
    prior : Prior, dict, list, frozen distribution or callable
        Of theta; see `Prior`.
    simulate : callable
        ``simulate(theta, random_state)`` returns data for parameters theta (n, n_parameters); see
        `draw_simulations`. What it returns is X, untouched.
    n_simulations : int
        Simulations to make; with ``fresh=True`` those of each pass, more than 100,000.
    fresh : bool, default=False
        Whether rows are simulated anew for every pass, so that no row is seen twice and nothing
        can be overfitted; for simulators that are faster than training. Rows are not kept. With
        `n_jobs` they are simulated while training goes on.
    batch_size : int, default=1000
        Simulations of a call.
    n_jobs : int, default=None
        Processes that simulate; the estimator has its own parameter.
    cache_dir : str or path, default=None
        Folder in which simulations are kept, from which a run that was killed goes on; see
        `draw_simulations`. The state of the training is kept in the estimator's `checkpoint_dir`.
    allow_missing : bool, default=False
        Whether nan and infinity beside other values are data; see `draw_simulations`.
    random_state : int, RandomState or None, default=None
        Seed of parameters and data; the estimator has its own.

    Returns
    -------
    estimator
        Fitted clone. ``Posterior(estimator, x_o, prior)`` is the posterior of an observation.

    Raises
    ------
    ValueError, TypeError
        As of `draw_simulations` and of the estimator; if its limits are inside those of the prior.

    Warns
    -----
    FailedSimulationsWarning
        With the number of simulations that failed and an example.

    Notes
    -----
    Up to 100,000 rows are fitted as a table. More are read block by block, from disk if there is a
    `cache_dir`, so that memory does not grow with their number. The estimator wants to see all rows
    once before it begins, for scalers and extremes, so that simulating and training overlap with
    ``fresh=True`` alone.

    References
    ----------
    .. [1] Papamakarios and Murray (2016), "Fast epsilon-free inference of simulation models with
       Bayesian conditional density estimation"; Greenberg, Nonnenmacher and Macke (2019),
       "Automatic posterior transformation for likelihood-free inference".

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.simulation import fit_simulator
    >>> def simulate(theta, random_state):
    ...     return theta + 0.1 * random_state.normal(size=theta.shape)
    >>> est = SANConditionalDensityEstimator(K=3, n_members=1, epochs=5, random_state=0)
    >>> est = fit_simulator(est, {"a": (0, 1), "b": (0, 2)}, simulate, 500, random_state=0)
    >>> est.output_names_, est.limits_.tolist()
    (['a', 'b'], [[0.0, 1.0], [0.0, 2.0]])
    """
    prior = as_prior(prior)
    check_boolean("fresh", fresh)
    estimator = prepared(estimator, prior)
    if fresh:
        if cache_dir is not None:
            raise ValueError("fresh=True keeps no rows: leave cache_dir out.")
        check_integer("n_simulations", n_simulations, IN_MEMORY + 1)
        job = Job.make(simulate, batch_size, n_jobs, random_state, allow_missing=allow_missing)
        return _fit_fresh(estimator, prior, job, n_simulations)
    pairs = draw_simulations(
        prior,
        simulate,
        n_simulations,
        batch_size=batch_size,
        n_jobs=n_jobs,
        cache_dir=cache_dir,
        allow_missing=allow_missing,
        random_state=random_state,
    )
    return fit_pairs(estimator, pairs)


def fit_pairs(estimator: Any, pairs: Simulations) -> Any:
    """Fit to simulations, as to a table while they are few."""
    if pairs.n_rows > IN_MEMORY:
        return estimator.fit(pairs)
    return estimator.fit(pairs.x, pairs.theta)


def _fit_fresh(estimator: Any, prior: Prior, job: Job, n_simulations: int) -> Any:
    """Fit to rows that are simulated anew whenever they are read."""
    n_held = min(MAX_VALIDATION, n_simulations // 10)
    held = Simulations(list(job.batches(from_prior(prior), n_held, VALIDATION, None)))
    warn_of_failed(held)
    passes = iter(range(VALIDATION + 1, 2**31))

    def batches() -> Iterator[tuple[Any, np.ndarray]]:
        for batch in job.batches(from_prior(prior), n_simulations, next(passes), None):
            if not batch.failed.all():
                yield batch.good()

    return estimator.fit(batches, X_val=held.x, y_val=held.theta)


def prepared(estimator: Any, prior: Prior) -> Any:
    """A clone of an estimator with the limits and names of a prior where it has none.

    Raises
    ------
    TypeError
        If it is no density estimator.
    ValueError
        If its own are others.
    """
    parameters = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    if not hasattr(estimator, "predict_density") or "limits" not in parameters:
        raise TypeError(
            f"estimator must be a SANConditionalDensityEstimator, got {type(estimator).__name__}; "
            "give a pipeline the pairs of draw_simulations instead."
        )
    estimator, names = clone(estimator), prior.names
    if names is not None:
        own = parameters["output_names"]
        if own is not None and list(own) != names:
            raise ValueError(
                f"output_names {list(own)} are not the names of the prior's parameters, {names}."
            )
        estimator.set_params(output_names=names)
    if parameters["limits"] is None:
        if np.isfinite(prior.limits).any():
            estimator.set_params(limits=prior.limits)
        return estimator
    own = parameters["output_names"] if names is None else names
    names = [f"y{j}" for j in range(prior.n_parameters)] if own is None else list(own)
    limits = check_limits(parameters["limits"], names)
    inside = (limits[:, 0] > prior.limits[:, 0]) | (limits[:, 1] < prior.limits[:, 1])
    if inside.any():
        j = int(inside.argmax())
        raise ValueError(
            f"limits of output {j} ({names[j]}), {limits[j].tolist()}, are inside those of the "
            f"prior, {prior.limits[j].tolist()}; leave limits out, or change the prior."
        )
    return estimator
