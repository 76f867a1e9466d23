"""Densities that are reached through weights: some outputs known, or another prior.

With candidates y_s from a proposal and weights w_s in proportion to target over proposal, means are
weighted means and draws are candidates resampled by weight. The effective sample size

    n_eff = (sum_s w_s)^2 / sum_s w_s^2

says how many equally weighted draws they are worth [1]_.

====================  ======================================================================
`GivenDensity`        p(y | x, known outputs), exact if these come first in the order
`ReweightedDensity`   p(y | x) ratio(y), normalised
`resample`            draws from weighted draws
====================  ======================================================================

References
----------
.. [1] Kong (1992), A note on importance sampling using standardized weights.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from . import _validation as validation
from ._columns import without_mask
from ._engine import to_numpy
from ._model import chunks, make_generator, sobol_points
from ._network import Conditional, uniform
from .exceptions import EffectiveSampleSizeWarning

#: Weighted candidates of each row, at least, and draws behind means and quantiles that are exact.
N_CANDIDATES, N_DRAWS = 8192, 1024
#: Pairs of row and candidate that are computed at once.
PAIRS = 65_536
#: Fewer effective draws than this are warned of.
FEW = 50.0


def resample(
    draws: np.ndarray, weights: np.ndarray, n_draws: int, *, random_state: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Equally weighted draws from weighted ones, by systematic resampling.

    Parameters
    ----------
    draws : ndarray of shape (n_rows, n_candidates, ...)
    weights : ndarray of shape (n_rows, n_candidates)
        Not negative, not all zero in a row; need not be normalised.
    n_draws : int
    random_state : int, RandomState or None, default=None

    Returns
    -------
    resampled : ndarray of shape (n_rows, n_draws, ...)
    effective_sample_size : ndarray of shape (n_rows,)
        Of the weighted draws, between 1 and n_candidates.

    Raises
    ------
    ValueError
        For weights that are negative, not finite or all zero in a row.

    Examples
    --------
    >>> import numpy as np
    >>> draws, ess = resample(np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 1.0, 1.0]]), 4,
    ...                       random_state=0)
    >>> sorted(draws[0].tolist()), ess
    ([2.0, 2.0, 3.0, 3.0], array([2.]))
    """
    validation.check_integer("n_draws", n_draws, 1)
    draws, weights = np.asarray(draws), np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2 or draws.shape[:2] != weights.shape:
        raise ValueError(
            f"weights must have one entry for each of the draws, {draws.shape[:2]}, got shape "
            f"{weights.shape}."
        )
    bad = ~(np.isfinite(weights).all(1) & (weights >= 0).all(1) & (weights.sum(1) > 0))
    if bad.any():
        raise ValueError(
            f"weights of row {int(bad.argmax())} must be finite, not negative and not all zero."
        )
    random = np.random.default_rng(make_generator(random_state).initial_seed())
    weights = weights / weights.sum(axis=1, keepdims=True)
    chosen = np.empty((len(draws), n_draws), dtype=np.intp)
    for i, cumulative in enumerate(weights.cumsum(axis=1)):
        levels = (np.arange(n_draws) + random.random()) / n_draws * cumulative[-1]
        chosen[i] = random.permutation(np.searchsorted(cumulative, levels, side="right"))
    chosen = np.minimum(chosen, weights.shape[1] - 1)
    return draws[np.arange(len(draws))[:, None], chosen], 1.0 / (weights**2).sum(axis=1)


class _WeightedDensity:
    """What is computed from candidates and their weights.

    Parameters
    ----------
    density : ConditionalDensity
    """

    #: Whether candidates come from the density itself and so need no weights.
    is_exact = False

    def __init__(self, density: Any):
        self.density = density
        self.model = density.model

    def __len__(self) -> int:
        return len(self.density)

    @abstractmethod
    def _candidates(
        self, rows: slice, n: int, generator: torch.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Candidates (n_rows, n or more, n_outputs) in user's columns, and log weights.

        Without a generator they are the same each time.
        """

    def sample(
        self,
        n_draws: int = 1,
        *,
        random_state: Any = None,
        n_candidates: int | None = None,
        return_ess: bool = False,
    ) -> Any:
        """Draws for every row.

        Parameters
        ----------
        n_draws : int, default=1
        random_state : int, RandomState or None, default=None
        n_candidates : int, default=None
            Weighted draws of each row that these are resampled from; None takes 16 times as many,
            at least 8,192. Not used where the density is exact.
        return_ess : bool, default=False
            Whether to return the effective sample size as well.

        Returns
        -------
        draws : ndarray of shape (n_rows, n_draws, n_outputs)
            All outputs, known ones included.
        effective_sample_size : ndarray of shape (n_rows,)
            With `return_ess` only: how many independent draws of each row the candidates are
            worth; `n_draws` where the density is exact.

        Warns
        -----
        EffectiveSampleSizeWarning
            If that is below 50 for any row.
        """
        validation.check_integer("n_draws", n_draws, 1)
        validation.check_integer("n_candidates", n_candidates, 1, optional=True)
        validation.check_boolean("return_ess", return_ess)
        generator = make_generator(random_state)
        n_outputs = self.model.n_outputs
        draws = np.empty((len(self), n_draws, n_outputs))
        ess = np.full(len(self), float(n_draws))
        n = n_draws if self.is_exact else n_candidates or max(N_CANDIDATES, 16 * n_draws)
        for rows in chunks(len(self), max(1, PAIRS // n)):
            y, log_weight = self._candidates(rows, n, generator)
            if self.is_exact:
                draws[rows] = y
                continue
            weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
            seed = int(torch.randint(2**31, (), generator=generator))
            draws[rows], ess[rows] = resample(y, weight, n_draws, random_state=seed)
        if not self.is_exact:
            _warn_if_few(ess)
        presented = self.model.present(draws)
        return (presented, ess) if return_ess else presented

    def mean(self) -> np.ndarray:
        """Expectation of every output, (n_rows, n_outputs), from one fixed set of candidates."""
        return self.model.present(self._moments()[0])

    def std(self) -> np.ndarray:
        """Standard deviation of every output, (n_rows, n_outputs)."""
        return self.model.present(np.sqrt(self._moments()[1]))

    def quantile(self, levels: Any) -> np.ndarray:
        """Quantiles of every output, (n_rows, n_levels, n_outputs)."""
        levels = validation.check_quantiles(levels)
        result = np.empty((len(self), len(levels), self.model.n_outputs))
        for rows, y, weight in self._weighted():
            shared = np.broadcast_to(weight[..., None], y.shape)
            quantiles = np.quantile(y, levels, axis=1, weights=shared, method="inverted_cdf")
            result[rows] = quantiles.swapaxes(0, 1)
        return self.model.present(result)

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = np.empty((2, len(self), self.model.n_outputs))
        for rows, y, weight in self._weighted():
            mean[rows] = (weight[..., None] * y).sum(axis=1)
            variance[rows] = (weight[..., None] * (y - mean[rows][:, None]) ** 2).sum(axis=1)
        return mean, variance

    def _weighted(self) -> Any:
        """Chunks of rows with candidates and normalised weights."""
        n = N_DRAWS if self.is_exact else N_CANDIDATES
        for rows in chunks(len(self), PAIRS // n):
            y, log_weight = self._candidates(rows, n, None)
            yield rows, y, np.exp(log_weight - logsumexp(log_weight, axis=1, keepdims=True))


class GivenDensity(_WeightedDensity):
    """p(y | x, known outputs); made by ``ConditionalDensity.given``.

    If the known outputs come first in the autoregressive order, the others are drawn from their own
    conditionals. Otherwise the known values take the place of draws, and each candidate is weighed
    by the density it gave to them.

    Parameters
    ----------
    density : ConditionalDensity
    known : dict of int to ndarray of shape (n_rows,)
        Values, or codes of labels, by the user's column.

    Attributes
    ----------
    is_exact : bool
        Whether the known outputs come first in the order, and X has no measurement errors.
    """

    def __init__(self, density: Any, known: dict[int, np.ndarray]):
        super().__init__(density)
        self.known = known
        order = self.model.order.tolist()
        self.positions = {order.index(j): j for j in known}
        self.is_exact = max(self.positions) < len(known) and not density.has_errors

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density of the unknown outputs, given x and the known ones.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs)
            All outputs; what stands in the columns of the known ones is not looked at.

        Returns
        -------
        ndarray of shape (n_rows,)
            In nats per unit of every unknown output.
        """
        y = self.model.check_y(without_mask(y), len(self)).copy()
        for j, values in self.known.items():
            y[:, j] = values
        return self.density._log_prob(y) - self.log_evidence()

    @torch.no_grad()
    def log_evidence(self) -> np.ndarray:
        """Log density of the known outputs given x, (n_rows,), in nats per unit of each.

        Exact if they come first in the order; otherwise the mean weight of fixed candidates.
        """
        evidence = np.empty(len(self))
        for rows in chunks(len(self), PAIRS // (1 if self.is_exact else N_CANDIDATES)):
            if self.is_exact:
                log_weight = self._member_weights(rows)
            else:
                log_weight = self._candidates(rows, N_CANDIDATES, None)[1]
            evidence[rows] = logsumexp(log_weight, axis=1) - np.log(log_weight.shape[1])
        y = self._filled(slice(0, len(self)))
        jacobian = self.model.log_jacobian(y)
        for d in self.positions:
            if not self.model.families[d].discrete:
                evidence += jacobian[:, d]
        return evidence

    def _filled(self, rows: slice) -> np.ndarray:
        """Known values in place, (n, n_outputs); anything that scalers accept elsewhere."""
        n = rows.stop - rows.start
        y = self.model.restore(np.zeros((n, self.model.n_outputs)))
        for j, values in self.known.items():
            y[:, j] = values[rows]
        return y

    def _weigh(
        self, rows: slice, n: int, generator: torch.Generator, n_outputs: int | None = None
    ) -> tuple[Tensor, np.ndarray]:
        """Scaled candidates (n_members, n_rows, n, n_outputs) and log weights, per scaled unit."""
        model, network = self.model, self.model.on_device(torch.float64)
        z_known = model.tensor(model.scale(self._filled(rows)), network)  # (n_rows, n_outputs)
        contexts = self.density._measured(rows, n, generator)  # (n_rows, n or 1, n_inputs)
        x = model.tensor(contexts, network).unsqueeze(0)
        shape = (len(z_known), n, network.n_outputs, network.n_noise)
        noise = uniform(shape, generator, torch.float64).to(model.device)
        log_weight = torch.zeros((network.n_members, *shape[:2]), dtype=x.dtype, device=x.device)

        def choose(one: Conditional) -> Tensor:
            nonlocal log_weight
            if one.output not in self.positions:
                return one.sample(noise)
            r, log_prob = one.at(z_known[None, :, one.output, None])  # (1, n_rows, 1)
            log_weight = log_weight + log_prob
            return r.expand(log_weight.shape)

        z = network.ancestral(x, choose, n_outputs)
        return z, to_numpy(log_weight)

    def _member_weights(self, rows: slice) -> np.ndarray:
        """Log density (n_rows, n_members) of the known outputs if they come first."""
        return self._weigh(rows, 1, make_generator(0), len(self.known))[1][..., 0].T

    @torch.no_grad()
    def _candidates(
        self, rows: slice, n: int, generator: torch.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        model, engine, n_rows = self.model, self.model.engine, rows.stop - rows.start
        network = engine.network
        n_numbers = 1 + network.n_outputs * network.n_noise
        if generator is None:
            noise = np.clip(sobol_points(n, n_numbers), 1e-12, 1.0 - 1e-12)
        else:
            dtype = next(network.parameters()).dtype
            noise = uniform((n_rows * n, n_numbers), generator, dtype).numpy()
        u = np.broadcast_to(noise[:, 0].reshape(-1, n), (n_rows, n))
        if self.is_exact:  # each draw from a member, chosen by the density of the known outputs
            chosen = _choose(self._member_weights(rows)[:, None], u)
        else:
            chosen = (u * network.n_members).astype(np.intp)
        known = model.scale(self._filled(rows))
        known[:, [d for d in range(model.n_outputs) if d not in self.positions]] = np.nan
        x = self.density._measured(rows, n, generator or make_generator(0))
        if x.shape[1] > 1:  # each draw has its own measurement of x
            known, chosen = known.repeat(n, axis=0), chosen.reshape(-1, 1)
            noise = np.tile(noise, (n_rows * n // len(noise), 1))
        z, log_weight = engine.draw_beside(x.reshape(len(known), -1), noise, known, chosen)
        y = model.restore(z.reshape(n_rows, n, -1))
        for j, values in self.known.items():
            y[..., j] = values[rows, None]
        return y, np.zeros((n_rows, n)) if self.is_exact else log_weight.reshape(n_rows, n)


class ReweightedDensity(_WeightedDensity):
    """p(y | x) times a ratio of priors, normalised; made by ``ConditionalDensity.marginalise``.

    Parameters
    ----------
    density : ConditionalDensity
    ratio : callable
        Takes y of shape (n, n_outputs) and returns (n,) ratios.
    """

    def __init__(self, density: Any, ratio: Callable[[np.ndarray], np.ndarray]):
        super().__init__(density)
        self.ratio = ratio

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density under the new prior, (n_rows,), in nats per unit of every output.

        Its normalisation is the mean ratio of fixed candidates.
        """
        y = self.model.check_y(without_mask(y), len(self))
        norm = np.empty(len(self))
        for rows in chunks(len(self), PAIRS // N_CANDIDATES):
            log_weight = self._candidates(rows, N_CANDIDATES, None)[1]
            norm[rows] = logsumexp(log_weight, axis=1) - np.log(log_weight.shape[1])
        return self.density._log_prob(y) + self._log_ratio(y) - norm

    def _log_ratio(self, y: np.ndarray) -> np.ndarray:
        """Log ratio of values (..., n_outputs)."""
        flat = self.model.present(y.reshape(-1, y.shape[-1]))
        ratio = np.asarray(self.ratio(flat))
        if ratio.dtype.kind not in "biuf":
            raise TypeError(f"ratio must return numbers, got {ratio.dtype}.")
        if ratio.shape != (len(flat),):
            raise ValueError(
                f"ratio must return one number for each of the {len(flat)} values, shape "
                f"({len(flat)},), got shape {ratio.shape}."
            )
        if not (np.isfinite(ratio).all() and (ratio >= 0).all()):
            wrong = ratio[~(np.isfinite(ratio) & (ratio >= 0))][0]
            raise ValueError(f"ratio must be finite and not negative, got {wrong}.")
        with np.errstate(divide="ignore"):
            return np.log(ratio).reshape(y.shape[:-1])

    def _candidates(
        self, rows: slice, n: int, generator: torch.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        part = self.density[rows]
        y = np.empty((len(part), n, self.model.n_outputs))
        for own, columns, block in part._random_draws(n, generator or make_generator(0)):
            y[own, columns] = block
        log_weight = self._log_ratio(y)
        if np.isneginf(log_weight).all(axis=1).any():
            raise ValueError(
                f"ratio is 0 for all {n} draws of a row: the new prior excludes all that the model "
                "finds possible there."
            )
        return y, log_weight


def _choose(log_weight: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Members in proportion to their weights (..., n_members), by uniform numbers (...)."""
    total = logsumexp(log_weight, axis=-1, keepdims=True)
    cumulative = np.exp(log_weight - total).cumsum(axis=-1)
    return np.minimum((u[..., None] >= cumulative).sum(-1), log_weight.shape[-1] - 1)


def _warn_if_few(ess: np.ndarray) -> None:
    few = ess < FEW
    if few.any():
        warnings.warn(
            f"{few.sum()} of {len(ess)} rows have fewer than {FEW:g} effective draws, the least "
            f"{ess.min():.1f}; their draws repeat a few values. Raise n_candidates, or fit with "
            "the known outputs first in `order`.",
            EffectiveSampleSizeWarning,
            stacklevel=3,
        )
