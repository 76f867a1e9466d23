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
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp, ndtri
from torch import Tensor

from . import _validation as validation
from ._density_base import N_CANDIDATES, N_POINTS, PAIRS, Block, Components, Density
from ._engine import to_numpy
from ._model import chunks, make_generator, sobol_points
from ._network import Conditional, uniform
from ._targets import TargetCodec
from .exceptions import EffectiveSampleSizeWarning

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
    return _resample(draws, weights, n_draws, random)


def _resample(
    draws: np.ndarray, weights: np.ndarray, n_draws: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`resample` of checked arguments; random numbers are consumed row by row."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    chosen = np.empty((len(draws), n_draws), dtype=np.intp)
    for i, cumulative in enumerate(weights.cumsum(axis=1)):
        levels = (np.arange(n_draws) + random.random()) / n_draws * cumulative[-1]
        chosen[i] = random.permutation(np.searchsorted(cumulative, levels, side="right"))
    chosen = np.minimum(chosen, weights.shape[1] - 1)
    return draws[np.arange(len(draws))[:, None], chosen], 1.0 / (weights**2).sum(axis=1)


class _WeightedDensity(Density):
    """A density that is another one with weights.

    Parameters
    ----------
    density : Density
        From which candidates are drawn.
    """

    #: Whether candidates come from the density itself and so need no weights.
    is_exact = False

    def __init__(self, density: Any):
        self.density = density

    def __len__(self) -> int:
        return len(self.density)

    @property
    def output_names(self) -> list[str]:
        return self.density.output_names

    @property
    def limits(self) -> np.ndarray:
        return self.density.limits

    @property
    def one_dimensional(self) -> bool:
        return self.density.one_dimensional

    @property
    def is_continuous(self) -> bool:
        return self.density.is_continuous

    def sample(
        self,
        n_draws: int = 1,
        *,
        random_state: Any = None,
        method: str = "random",
        dtype: Any = None,
        out: np.ndarray | None = None,
        progress: bool = False,
        n_candidates: int | None = None,
        return_ess: bool = False,
    ) -> Any:
        """Draws for every row.

        Parameters
        ----------
        n_draws : int, default=1
        random_state : int, RandomState or None, default=None
            The same seed gives the same draws. None draws fresh ones.
        method : {"random", "sobol"}, default="random"
            As for `ConditionalDensity.sample`; "sobol" where the density has an `inverse_cdf`.
        dtype : {float32, float64}, default=None
            Of the result; None is float64, or the dtype of `out`.
        out : ndarray of shape (n_rows, n_draws, n_outputs), default=None
            Where to write the draws; it is returned.
        progress : bool, default=False
            Whether to show a progress bar, on standard error.
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
        validation.check_choice("method", method, ("random", "sobol"))
        generator = make_generator(random_state)
        ess = np.full(len(self), float(n_draws))
        if method == "sobol":
            blocks = self._sobol_blocks(n_draws, generator)
        else:
            blocks = self._resampled(n_draws, generator, n_candidates, ess)
        draws = self._collect(blocks, n_draws, dtype, out, progress=progress)
        if method == "random" and not self.is_exact:
            _warn_if_few(ess, self._remedy, 3)
        return (draws, ess) if return_ess else draws

    #: What raises the effective number of draws.
    _remedy = "Raise n_candidates"

    def _draw_blocks(
        self, n_draws: int, generator: torch.Generator, method: str
    ) -> Iterator[Block]:
        validation.check_choice("method", method, ("random", "sobol"))
        if method == "sobol":
            yield from self._sobol_blocks(n_draws, generator)
            return
        ess = np.full(len(self), float(n_draws))
        yield from self._resampled(n_draws, generator, None, ess)
        if not self.is_exact:
            _warn_if_few(ess, self._remedy, 5)

    def _sobol_blocks(self, n_draws: int, generator: torch.Generator) -> Iterator[Block]:
        self._refuse("sample(method='sobol')", "it has no inverse_cdf; use method='random'")

    def _resampled(
        self,
        n_draws: int,
        generator: torch.Generator,
        n_candidates: int | None,
        ess: np.ndarray,
    ) -> Iterator[Block]:
        """Draws from weighted candidates; `ess` is filled with what these are worth."""
        # A stream of its own, so that draws do not depend on how the rows are divided
        random = np.random.default_rng(generator.initial_seed())
        n = n_draws if self.is_exact else n_candidates or max(N_CANDIDATES, 16 * n_draws)
        for rows in chunks(len(self), max(1, PAIRS // n)):
            y, log_weight = self._candidates(rows, n, generator)
            if not self.is_exact:
                weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
                y, ess[rows] = _resample(y, weight, n_draws, random)
            yield rows, slice(0, n_draws), y

    # What a kind of density must say

    @property
    def _codec(self) -> TargetCodec:
        return self.density._codec

    def _check_y(self, y: Any, *, several: bool = False) -> np.ndarray:
        return self.density._check_y(y, several=several)

    def _snap(self, j: int, grid: np.ndarray) -> np.ndarray:
        return self.density._snap(j, grid)

    @property
    def _n_fixed(self) -> int:
        return N_POINTS if self.is_exact else max(N_CANDIDATES, self.density._n_fixed)


class GivenDensity(_WeightedDensity):
    """p(y | x, known outputs); made by ``ConditionalDensity.given``.

    If the known outputs come first in the autoregressive order, the others are drawn from their own
    conditionals. Otherwise the known values take the place of draws, and each candidate is weighed
    by the density it gave to them.

    Known outputs have their values in all results, with a deviation of 0. In y, what stands in
    their columns is not looked at.

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

    _remedy = "Raise n_candidates, or fit with the known outputs first in `order`"

    def __init__(self, density: Any, known: dict[int, np.ndarray]):
        super().__init__(density)
        self.model = density.model
        self.known = known
        self.positions = {density._place(j): j for j in known}
        self._comes_first = max(self.positions) < len(known)
        self.is_exact = self._comes_first and not density.has_errors

    def __getitem__(self, rows: Any) -> GivenDensity:
        rows = validation.check_rows(rows, len(self))
        known = {j: values[rows] for j, values in self.known.items()}
        return GivenDensity(self.density[rows], known)

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density of the unknown outputs, given x and the known ones.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs) or (n_rows, n_points, n_outputs)
            All outputs; what stands in the columns of the known ones is not looked at.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_points)
            In nats per unit of every unknown output.
        """
        return super().log_prob(y)

    def grad_log_prob(self, y: Any) -> np.ndarray:
        """Gradient of `log_prob` by y, 0 for known outputs; see `ConditionalDensity`."""
        gradient = self.density._gradient(self._with_known(self._check_y(y, several=True)))
        gradient[..., list(self.known)] = 0.0
        return gradient

    def cdf(self, y: Any, *, random_state: Any = 0) -> np.ndarray:
        """Rosenblatt transform of y; known outputs have any point of the unit interval.

        Needs known outputs that come first in the order; see `ConditionalDensity`.
        """
        self._refuse_later("cdf")
        generator = make_generator(random_state)
        u = self.density._rosenblatt(self._with_known(self._check_y(y)), generator)
        u[:, list(self.known)] = uniform((len(u), len(self.known)), generator, torch.float64)
        return u

    def inverse_cdf(self, u: Any) -> np.ndarray:
        """Inverse of `cdf`."""
        self._refuse_later("inverse_cdf")
        u = validation.check_unit_cube(u, (len(self), self.n_outputs))
        index = np.arange(len(self))
        return self._present(self.density._from_unit_cube(index, u, self.known))

    def mode(self) -> np.ndarray:
        climbs = self.model.y_scaler.linear and self.is_continuous
        best = self._best_draws(N_POINTS)
        return self._present(self.density._climb(best, self.known) if climbs else best)

    def components(self, output: Any = None, y: Any = None) -> Components:
        """The conditional of the output next to the known ones as a mixture, or of a later one.

        Parameters
        ----------
        output : int or str, default=None
            Column number or name; None is the first that is not known.
        y : array-like of shape (n_rows, n_outputs), default=None
            Values of the unknown outputs before it in the order.

        Returns
        -------
        Components
        """
        self._refuse_later("components")
        following = int(self.model.order[len(self.known)])
        j = following
        if output is not None:
            j = validation.check_output(output, self.output_names, "output")
        if j in self.known:
            raise ValueError(f"output {j} ({self.output_names[j]}) is known.")
        if j != following and y is None:
            raise ValueError(
                f"output {j} ({self.output_names[j]}) depends on unknown outputs before it in the "
                "order; pass their values as y."
            )
        with torch.no_grad():
            filled = self.density._before(j, y, self.known)
            return self.density._components(j, filled)

    def given(self, known: Mapping[Any, Any]) -> GivenDensity:
        more = self.density.given(known).known
        if again := more.keys() & self.known.keys():
            j = min(again)
            raise ValueError(f"given names output {j} ({self.output_names[j]}), which is known.")
        if len(more) + len(self.known) == self.n_outputs:
            raise ValueError("given names every output, so that nothing is left to infer.")
        return GivenDensity(self.density, self.known | more)

    def marginalise(self, ratio: Callable[[np.ndarray], np.ndarray]) -> ReweightedDensity:
        return ReweightedDensity(self, check_ratio(ratio))

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
        jacobian = self.model.log_jacobian(self._filled(slice(0, len(self))))
        return evidence + jacobian[:, list(self.positions)].sum(axis=1)

    def _refuse_later(self, member: str) -> None:
        if not self._comes_first:
            names = ", ".join(self.output_names[j] for j in self.known)
            self._refuse(member, f"{names} would have to come first in `order`")

    def _with_known(self, y: np.ndarray) -> np.ndarray:
        """Values (n_rows, n_outputs) or (n_rows, n_points, n_outputs) with the known ones."""
        filled = y.copy()
        for j, values in self.known.items():
            filled[..., j] = values if y.ndim == 2 else values[:, None]
        return filled

    def _log_prob(self, y: np.ndarray) -> np.ndarray:
        evidence = self.log_evidence()
        joint = self.density._log_prob(self._with_known(y))
        return joint - (evidence if y.ndim == 2 else evidence[:, None])

    def _sobol_blocks(self, n_draws: int, generator: torch.Generator) -> Iterator[Block]:
        self._refuse_later("sample(method='sobol')")
        return self.density._sobol_draws(n_draws, generator, self.known)

    def _pinned(
        self, rows: slice, pinned: dict[int, np.ndarray], n_draws: int, *, complete: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        known = {j: values[rows, None, None] for j, values in self.known.items()}
        log_weight, y = self.density._pinned(rows, known | pinned, n_draws, complete=complete)
        # By the same points, so that what they have in common cancels
        evidence, _ = self.density._pinned(rows, known, n_draws, complete=False)
        norm = logsumexp(evidence, axis=1, keepdims=True) - np.log(evidence.shape[1])
        return log_weight - norm, y

    def _pinned_log_prob(self, pinned: dict[int, np.ndarray], n_draws: int) -> np.ndarray:
        for j in pinned:
            if j in self.known:
                raise ValueError(
                    f"output {j} ({self.output_names[j]}) is known, so that it has no density."
                )
        if not self._comes_first:  # draws that the known values make improbable count little
            n_draws = max(n_draws, N_POINTS)
        return super()._pinned_log_prob(pinned, n_draws)

    def _filled(self, rows: slice) -> np.ndarray:
        """Known values in place, (n, n_outputs); anything that scalers accept elsewhere."""
        n = rows.stop - rows.start
        y = self.model.restore(np.zeros((n, self.model.n_outputs)))
        for j, values in self.known.items():
            y[:, j] = values[rows]
        return y

    def _numbers(self, n_rows: int, n: int, generator: torch.Generator | None) -> np.ndarray:
        """Uniform numbers of each candidate, (n_rows or 1, n, n_numbers).

        The first chooses the member, the last ones make the measurement of x.
        """
        model, network = self.model, self.model.on_device()
        n_measured = self.density._X.shape[1] if self.density.has_errors else 0
        n_numbers = 1 + model.n_outputs * network.n_noise + n_measured
        if generator is None:
            return sobol_points(n, n_numbers).clip(1e-12, 1.0 - 1e-12)[None]
        dtype = next(network.parameters()).dtype
        return uniform((n_rows, n, n_numbers), generator, dtype).numpy()

    def _seen(self, rows: slice, numbers: np.ndarray) -> np.ndarray:
        """What the network sees of each candidate, or of all of a row, (n_rows, n or 1, ...)."""
        if not self.density.has_errors:
            return self.density._contexts(rows)
        measured = numbers[..., -self.density._X.shape[1] :].astype(np.float64)
        return self.density._jittered(rows, ndtri(measured))

    def _weigh(
        self, rows: slice, numbers: np.ndarray, n_outputs: int | None = None
    ) -> tuple[Tensor, np.ndarray]:
        """Scaled candidates (n_members, n_rows, n, n_outputs) and log weights, per scaled unit."""
        model, network = self.model, self.model.on_device(torch.float64)
        z_known = model.tensor(model.scale(self._filled(rows)), network)  # (n_rows, n_outputs)
        x = model.tensor(self._seen(rows, numbers), network).unsqueeze(0)
        n_noise = network.n_outputs * network.n_noise
        noise = model.tensor(numbers[..., 1 : 1 + n_noise], network)
        noise = noise.unflatten(-1, (network.n_outputs, network.n_noise))
        shape = (network.n_members, len(z_known), numbers.shape[1])
        log_weight = torch.zeros(shape, dtype=x.dtype, device=x.device)

        def choose(one: Conditional) -> Tensor:
            nonlocal log_weight
            if one.output not in self.positions:
                return one.sample(noise).expand(shape)
            r, log_prob = one.at(z_known[None, :, one.output, None])  # (1, n_rows, 1)
            log_weight = log_weight + log_prob
            return r.expand(shape)

        z = network.ancestral(x, choose, n_outputs)
        return z, to_numpy(log_weight)

    def _member_weights(self, rows: slice) -> np.ndarray:
        """Log density (n_rows, n_members) of the known outputs if they come first."""
        return self._weigh(rows, self._numbers(1, 1, None), len(self.known))[1][..., 0].T

    @torch.no_grad()
    def _candidates(
        self, rows: slice, n: int, generator: torch.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        model, n_rows = self.model, rows.stop - rows.start
        network, numbers = model.network, self._numbers(n_rows, n, generator)
        u = np.broadcast_to(numbers[..., 0], (n_rows, n))
        if self.is_exact:  # each draw from a member, chosen by the density of the known outputs
            chosen = _choose(self._member_weights(rows)[:, None], u)
        else:
            chosen = (u * network.n_members).astype(np.intp)
        known = model.scale(self._filled(rows))
        known[:, [d for d in range(model.n_outputs) if d not in self.positions]] = np.nan
        x = self._seen(rows, numbers)
        noise = numbers[..., : 1 + network.n_outputs * network.n_noise]
        if x.shape[1] > 1:  # each draw has its own measurement of x
            known, chosen = known.repeat(n, axis=0), chosen.reshape(-1, 1)
            noise = np.broadcast_to(noise, (n_rows, *noise.shape[1:]))
        noise = np.ascontiguousarray(noise).reshape(-1, noise.shape[-1])
        z, log_weight = model.engine.draw_beside(x.reshape(len(known), -1), noise, known, chosen)
        y = model.restore(z.reshape(n_rows, n, -1))
        for j, values in self.known.items():
            y[..., j] = values[rows, None]
        return y, np.zeros((n_rows, n)) if self.is_exact else log_weight.reshape(n_rows, n)


class ReweightedDensity(_WeightedDensity):
    """p(y | x) times a ratio of priors, normalised; made by ``marginalise`` of any density.

    Parameters
    ----------
    density : Density
    ratio : callable
        Takes y of shape (n, n_outputs) and returns (n,) ratios.
    """

    def __init__(self, density: Any, ratio: Callable[[np.ndarray], np.ndarray]):
        super().__init__(density)
        self.ratio = ratio

    def __getitem__(self, rows: Any) -> ReweightedDensity:
        return ReweightedDensity(self.density[rows], self.ratio)

    @property
    def _n_fixed(self) -> int:
        return self.density._n_reweighted

    @property
    def _n_reweighted(self) -> int:
        return self.density._n_reweighted

    def grad_log_prob(self, y: Any) -> np.ndarray:
        self._refuse("grad_log_prob", "the ratio is a function of which no gradient is known")

    def cdf(self, y: Any, *, random_state: Any = 0) -> np.ndarray:
        self._refuse("cdf", "the ratio ties the outputs together, so that no conditional is known")

    def inverse_cdf(self, u: Any) -> np.ndarray:
        self._refuse(
            "inverse_cdf", "the ratio ties the outputs together, so that no conditional is known"
        )

    def components(self, output: Any = None, y: Any = None) -> Components:
        self._refuse("components", "a mixture times a ratio is no mixture")

    def given(self, known: Mapping[Any, Any]) -> ReweightedDensity:
        return ReweightedDensity(self.density.given(known), self.ratio)

    def marginalise(self, ratio: Callable[[np.ndarray], np.ndarray]) -> ReweightedDensity:
        first, second = self.ratio, check_ratio(ratio)
        return ReweightedDensity(self.density, lambda y: first(y) * second(y))

    def _log_prob(self, y: np.ndarray) -> np.ndarray:
        log_prob = self.density._log_prob(y) + self._log_ratio(y)
        return log_prob - (self._log_norm if y.ndim == 2 else self._log_norm[:, None])

    @cached_property
    def _log_norm(self) -> np.ndarray:
        """Log of the mean ratio (n_rows,) over fixed candidates."""
        norm, n = np.empty(len(self)), self._n_fixed
        for rows in chunks(len(self), max(1, PAIRS // n)):
            y, log_weight = self.density._candidates(rows, n, None)
            total = logsumexp(log_weight + self._log_ratio(y), axis=1)
            norm[rows] = total - logsumexp(log_weight, axis=1)
        return norm

    def _log_ratio(self, y: np.ndarray) -> np.ndarray:
        """Log ratio of values (..., n_outputs)."""
        flat = self._present(y.reshape(-1, y.shape[-1]))
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
        y, log_weight = self.density._candidates(rows, n, generator)
        log_ratio = self._log_ratio(y)
        if np.isneginf(log_ratio).all(axis=1).any():
            raise ValueError(
                f"ratio is 0 for all {y.shape[1]} draws of a row: the new prior excludes all that "
                "the model finds possible there."
            )
        return y, log_weight + log_ratio

    def _pinned(
        self, rows: slice, pinned: dict[int, np.ndarray], n_draws: int, *, complete: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        log_weight, y = self.density._pinned(rows, pinned, n_draws, complete=True)
        assert y is not None  # it was asked for
        norm = self._log_norm[rows, None, None, None]
        return log_weight + self._log_ratio(y) - norm, y if complete else None


def check_ratio(ratio: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Ratio of priors as a function."""
    if not callable(ratio):
        raise TypeError(
            f"ratio must be a function of y (n, n_outputs), got {type(ratio).__name__}; for "
            "weights of draws that you have, use sklearn_san.density.resample."
        )
    return ratio


def _choose(log_weight: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Members in proportion to their weights (..., n_members), by uniform numbers (...)."""
    total = logsumexp(log_weight, axis=-1, keepdims=True)
    cumulative = np.exp(log_weight - total).cumsum(axis=-1)
    return np.minimum((u[..., None] >= cumulative).sum(-1), log_weight.shape[-1] - 1)


def _warn_if_few(ess: np.ndarray, remedy: str, stacklevel: int) -> None:
    few = ess < FEW
    if few.any():
        warnings.warn(
            f"{few.sum()} of {len(ess)} rows have fewer than {FEW:g} effective draws, the least "
            f"{ess.min():.1f}; their draws repeat a few values. {remedy}.",
            EffectiveSampleSizeWarning,
            stacklevel=stacklevel,
        )
