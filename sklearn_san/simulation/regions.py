"""The part of a prior where the estimate at one observation has its mass.

=============  ===================================================================
`Region`       of highest density: its share of the prior, and draws of the prior in it
=============  ===================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import logsumexp

from .posterior import draws_of, log_prob_at
from .priors import Prior

#: Draws of the estimate behind the threshold: so many for each of those below it, between two ends.
DRAWS_BELOW, FEWEST, MOST = 10, 10_000, 100_000
#: Draws of the prior behind the volume, in steps until so many are inside.
STEP, MOST_OF_PRIOR, ENOUGH = 20_000, 200_000, 400
#: Below this share of accepted draws they are resampled, each from so many candidates.
LOW_ACCEPTANCE, N_CANDIDATES = 0.005, 128
#: Draws of the prior after which a region of which nothing was found is given up.
HOPELESS = 2_000_000
#: Candidates that are weighed at once.
PAIRS = 131_072


class Region:
    """Where the density of one row is above a quantile of that of its own draws.

    Parameters
    ----------
    density : ConditionalDensity
        Of one row.
    prior : Prior
    epsilon : float
        Share of the density that is left out.
    random : numpy.random.Generator
    """

    def __init__(self, density: Any, prior: Prior, epsilon: float, random: np.random.Generator):
        self.density, self.prior = density, prior
        n = int(np.clip(DRAWS_BELOW / epsilon, FEWEST, MOST))
        log_prob = log_prob_at(density, draws_of(density, n, _seed(random)))
        self.threshold = float(np.quantile(log_prob, epsilon))

    def contains(self, theta: np.ndarray) -> np.ndarray:
        """Whether theta (n, n_parameters) is inside, (n,)."""
        return log_prob_at(self.density, theta) >= self.threshold

    def volume(self, random: np.random.Generator) -> float:
        """Share of the prior inside."""
        n_inside = n_tried = 0
        while n_inside < ENOUGH and n_tried < MOST_OF_PRIOR:
            n_inside += int(self.contains(self.prior.sample(STEP, random)).sum())
            n_tried += STEP
        if n_inside < ENOUGH and self.prior.has_density:
            return float(np.exp(self._candidates(PAIRS, random)[1]).mean())
        return n_inside / n_tried

    def draw(self, n: int, random: np.random.Generator) -> tuple[np.ndarray, float]:
        """Draws of the prior inside, and which share of draws was good for it.

        Draws of the prior are rejected outside. Where few are accepted, draws of the estimate
        are resampled in proportion to prior over estimate, each from candidates of its own [1]_.

        Returns
        -------
        theta : ndarray of shape (n, n_parameters)
        acceptance : float
            Accepted share, or effective share of the candidates.

        Raises
        ------
        ValueError
            If nothing is accepted, and the prior has no density to resample with.

        References
        ----------
        .. [1] Rubin (1988), "Using the SIR algorithm to simulate posterior distributions".
        """
        kept: list[np.ndarray] = []
        n_kept = n_tried = 0
        while n_kept < n:
            theta = self.prior.sample(STEP, random)
            theta = theta[self.contains(theta)]
            kept.append(theta)
            n_kept, n_tried = n_kept + len(theta), n_tried + STEP
            if n_kept < n and n_kept < LOW_ACCEPTANCE * n_tried:
                if self.prior.has_density:
                    return self._resample(n, random)
                if not n_kept and n_tried >= HOPELESS:
                    raise ValueError(
                        f"None of {n_tried} draws of the prior is in the region of x_o, and the "
                        "prior is a function without log_prob; give Prior(function, log_prob=...)."
                    )
        return np.concatenate(kept)[:n], n_kept / n_tried

    def _resample(self, n: int, random: np.random.Generator) -> tuple[np.ndarray, float]:
        parts: list[np.ndarray] = []
        effective = []
        while sum(map(len, parts)) < n:
            theta, log_weight = self._candidates(PAIRS, random)
            log_weight = log_weight.reshape(-1, N_CANDIDATES)
            with np.errstate(over="ignore", invalid="ignore"):
                effective.append(np.exp(2 * logsumexp(log_weight) - logsumexp(2 * log_weight)))
                noise = random.gumbel(size=log_weight.shape)
                best = (log_weight + noise).argmax(axis=1)
            some = np.isfinite(log_weight).any(axis=1)
            chosen = theta.reshape(len(best), N_CANDIDATES, -1)[np.arange(len(best)), best]
            parts.append(chosen[some])
        return np.concatenate(parts)[:n], float(np.mean(effective) / PAIRS)

    def _candidates(self, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws of the estimate, and logs of prior over estimate, -inf outside; (n,)."""
        theta = draws_of(self.density, n, _seed(random))
        log_prob = log_prob_at(self.density, theta)
        inside = (log_prob >= self.threshold) & self.prior.contains(theta)
        log_weight = np.full(n, -np.inf)
        log_weight[inside] = self.prior.log_prob(theta[inside]) - log_prob[inside]
        return theta, log_weight


def _seed(random: np.random.Generator) -> int:
    return int(random.integers(2**31 - 1))
