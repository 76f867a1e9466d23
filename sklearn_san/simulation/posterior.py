"""The posterior of one observation.

=============  ==================================================================
`Posterior`    p(theta | x_o) of a fitted estimator, inside the prior
`Rounds`       what happened in each round of `infer`, a table
`one_row`      an observation as a row of X
=============  ==================================================================
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .._targets import named_columns
from .._validation import check_integer
from ..calibration.results import table
from .batches import seed_of
from .priors import Prior, as_prior

#: Draws that tell how much of a density is inside the prior, and at most so many per draw wanted.
N_INSIDE, MOST_TRIED = 10_000, 1000


@dataclass(frozen=True)
class Round:
    """What happened in one round of `infer`.

    Parameters
    ----------
    n_simulations : int
        Simulations of this round that were learned from.
    n_failed : int
        Simulations of this round that failed.
    acceptance : float
        Share of the draws of the prior that were inside the region, for this round; 1 in the first
        one. Of resampled draws, the effective share of the candidates.
    volume : float
        Share of the prior in the region after this round.
    coverage : float
        Share of the simulations of the next round that the estimate of this one has in its regions
        of 90 %; nan after the last round.
    """

    n_simulations: int
    n_failed: int
    acceptance: float
    volume: float
    coverage: float = np.nan


class Rounds(tuple):
    """The rounds of an inference, first to last; a table where it is printed."""

    def __str__(self) -> str:
        if not self:
            return "Rounds()"
        rows = [[str(i), *asdict(one).values()] for i, one in enumerate(self, 1)]
        return table(["round", *asdict(self[0])], rows)

    def __repr__(self) -> str:
        return f"Rounds({len(self)})"

    def to_frame(self) -> Any:
        """The same as a pandas frame, a row for each round.

        Returns
        -------
        DataFrame
        """
        rows = [asdict(one) for one in self]
        names = list(Round.__dataclass_fields__)
        return named_columns(
            {name: np.array([row[name] for row in rows]) for name in names},
            np.arange(1, len(self) + 1),
        )


class Posterior:
    """p(theta | x_o): a fitted estimator at one observation, inside the support of the prior.

    Parameters
    ----------
    estimator : SANConditionalDensityEstimator
        Fitted to simulations.
    x_o : array-like of shape (n_features,), or whatever one row of X is
        The observation; a leading axis of length 1 may be there.
    prior : Prior, dict, list, frozen distribution or callable, default=None
        With which the simulations were made. None takes the estimator's limits for its support.
    rounds : sequence of Round, default=()
        What `infer` did.

    Attributes
    ----------
    density : ConditionalDensity
        The estimate as it is, one row, with `mean`, `quantile`, `mode`, `marginal` and all else
        that densities have. It is inside the prior where `limits` are those of the prior.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.simulation import Posterior, fit_simulator
    >>> def simulate(theta, random_state):
    ...     return theta + 0.1 * random_state.normal(size=theta.shape)
    >>> prior = {"a": (0, 1), "b": (0, 2)}
    >>> est = SANConditionalDensityEstimator(K=3, n_members=1, epochs=5, random_state=0)
    >>> est = fit_simulator(est, prior, simulate, 500, random_state=0)
    >>> posterior = Posterior(est, [0.5, 1.0], prior)
    >>> posterior
    Posterior(['a', 'b'])
    >>> posterior.sample(4, random_state=0).shape, posterior.log_prob([[0.5, 2.5]])
    ((4, 2), array([-inf]))
    """

    def __init__(self, estimator: Any, x_o: Any, prior: Any = None, *, rounds: Any = ()):
        self.estimator, self.rounds = estimator, Rounds(rounds)
        self.x_o = one_row(x_o)
        self.density = estimator.predict_density(self.x_o)
        self.prior: Prior | None = None if prior is None else as_prior(prior)
        if self.prior is not None and self.prior.n_parameters != self.density.n_outputs:
            raise ValueError(
                f"prior has {self.prior.n_parameters} parameters, but the estimator "
                f"{self.density.n_outputs} outputs."
            )

    def __repr__(self) -> str:
        rounds = f", rounds={len(self.rounds)}" if self.rounds else ""
        return f"Posterior({self.density.output_names}{rounds})"

    def sample(self, n_draws: int = 1, *, random_state: Any = None) -> np.ndarray:
        """Draws of theta, inside the support of the prior.

        Parameters
        ----------
        n_draws : int, default=1
            Number of draws.
        random_state : int, RandomState or None, default=None
            Seed.

        Returns
        -------
        ndarray of shape (n_draws, n_parameters)

        Raises
        ------
        ValueError
            If less than a thousandth of the density is inside the prior.
        """
        check_integer("n_draws", n_draws, 1)
        stream = np.random.RandomState(seed_of(random_state))
        kept: list[np.ndarray] = []
        n_kept = n_tried = 0
        while n_kept < n_draws:
            n = n_draws if not n_tried else max(n_draws, 1000)
            theta = draws_of(self.density, n, stream)
            theta = theta[self._inside(theta)]
            kept.append(theta)
            n_kept, n_tried = n_kept + len(theta), n_tried + n
            if n_kept < n_draws and n_tried > MOST_TRIED * (n_kept + 1):
                raise ValueError(
                    f"{n_kept} of {n_tried} draws are inside the prior; the estimate has not "
                    "learned its support: give limits, or simulate more."
                )
        return np.concatenate(kept)[:n_draws]

    def log_prob(self, theta: Any) -> np.ndarray:
        """Log density, normalised inside the support of the prior.

        Parameters
        ----------
        theta : array-like of shape (n, n_parameters)

        Returns
        -------
        ndarray of shape (n,)
            In nats per unit of every parameter; -inf outside the prior.
        """
        theta = np.asarray(theta, dtype=float)
        if theta.ndim != 2 or theta.shape[1] != self.density.n_outputs:
            raise ValueError(
                f"theta must have shape (n, {self.density.n_outputs}), got {theta.shape}."
            )
        log_density = log_prob_at(self.density, theta) - np.log(self.mass)
        return np.where(self._inside(theta), log_density, -np.inf)

    @cached_property
    def mass(self) -> float:
        """Share of the estimated density inside the support of the prior; 1 minus the leakage."""
        if self.prior is None:
            return 1.0
        limits = self.density.limits
        low, high = self.prior.limits.T
        if self.prior.is_box and (limits[:, 0] >= low).all() and (limits[:, 1] <= high).all():
            return 1.0
        theta = draws_of(self.density, N_INSIDE, 0)
        return max(float(self.prior.contains(theta).mean()), 1.0 / N_INSIDE)

    def _inside(self, theta: np.ndarray) -> np.ndarray:
        """Whether theta is in the support of the prior, (n,)."""
        return np.ones(len(theta), bool) if self.prior is None else self.prior.contains(theta)


def draws_of(density: Any, n_draws: int, random_state: Any) -> np.ndarray:
    """Draws (n_draws, n_outputs) of a density of one row."""
    draws = density.sample(n_draws, random_state=random_state)
    return draws.reshape(n_draws, density.n_outputs)


def log_prob_at(density: Any, theta: np.ndarray) -> np.ndarray:
    """Log density (n,) of a density of one row."""
    values = theta[:, 0] if density.one_dimensional else theta
    return density.log_prob(values[None])[0]


def one_row(x_o: Any, like: Any = None) -> Any:
    """An observation as a row of X: one more axis, unless it has it.

    Parameters
    ----------
    x_o : array-like, or dict of these
        An observation.
    like : ndarray or dict of these, default=None
        Rows of X, whose shapes it must have.

    Raises
    ------
    ValueError
        If it has another shape than rows of X, or is more than one row.
    """
    if isinstance(x_o, dict):
        if isinstance(like, dict) and like.keys() != x_o.keys():
            raise ValueError(f"x_o has {sorted(x_o)}, but simulations {sorted(like)}.")
        return {k: one_row(v, None if like is None else like[k]) for k, v in x_o.items()}
    if hasattr(x_o, "columns"):
        return x_o
    x_o = np.asarray(x_o)
    if like is not None:
        shape = np.shape(like)[1:]
        if x_o.shape not in (shape, (1, *shape)):
            raise ValueError(
                f"x_o must be one observation of shape {shape}, as simulated data are; got shape "
                f"{x_o.shape}."
            )
        return x_o.reshape(1, *shape)
    row = x_o[None] if x_o.ndim == 1 else x_o
    if row.ndim < 2 or len(row) != 1:
        raise ValueError(
            f"x_o must be one observation, (n_features,) or (1, n_features), got shape {x_o.shape}."
        )
    return row
