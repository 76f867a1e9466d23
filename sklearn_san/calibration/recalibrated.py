"""Recalibrated densities of given rows, and conformal sets.

With the maps Q_j of `score_maps`, whose densities are q_j,

    p_c(y | x) = p(y | x) prod_j q_j(s_j) / phi(s_j),    s_j = ndtri(u_j(y | x))

is exact and normalised, with phi the standard normal density and u_j the cdf of output j given x
and the outputs before it. Everything needs no more of the estimator's density than its `log_prob`,
`cdf`, `inverse_cdf` and `quantile`; what does says so.

======================  ====================================================================
`RecalibratedDensity`   p_c(y | x), conformal intervals and regions
`conformity`            scores of held-out rows, from which conformal sets are made
`density_deficit`       how far the log density at y lies below that of draws
======================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp, ndtr, ndtri
from torch import Tensor

from .._density_base import N_POINTS, Block, Density
from .._draws import pair_blocks, shifted_sobol_points
from .._keyed_noise import Noise, block_uniform
from .._marginals import Components
from .._model import CHUNK, chunks, mixed_conditionals, sobol_points
from .._network import SAN
from .._reweighting import ReweightedDensity, check_ratio
from .._tables import in_order
from .._targets import TargetCodec
from .._validation import check_choice, check_real, check_unit_cube
from ..density import ConditionalDensity
from .score_maps import EDGE, ScoreMap

#: Central intervals that conformal ones are widened from; the nearest to the wanted level is taken.
BASE_LEVELS = np.array([0.5, 0.8, 0.9, 0.95, 0.99])


class RecalibratedDensity(Density):
    """Recalibrated p(y | x) of given rows; made by ``CalibratedDensity.predict_density``.

    If y was one-dimensional in `fit`, the axis of the outputs is missing everywhere.

    Parameters
    ----------
    base : density
        Of the fitted estimator.
    maps : list of ScoreMap
        One for each output.
    interval_scores : ndarray of shape (n_calibration, n_levels, n_outputs)
        Rising along the rows.
    region_scores : ndarray of shape (n_calibration,)
        Rising.
    one_dimensional : bool
        Whether y was one-dimensional in `fit`.
    """

    def __init__(
        self,
        base: Any,
        maps: list[ScoreMap],
        interval_scores: np.ndarray,
        region_scores: np.ndarray,
        *,
        one_dimensional: bool,
    ):
        self.base, self.maps = base, maps
        self.interval_scores, self.region_scores = interval_scores, region_scores
        self._one_dimensional = one_dimensional

    def __len__(self) -> int:
        return len(self.base)

    def __repr__(self) -> str:
        return f"RecalibratedDensity({self.base!r})"

    def __getitem__(self, rows: Any) -> RecalibratedDensity:
        return RecalibratedDensity(
            self.base[rows],
            self.maps,
            self.interval_scores,
            self.region_scores,
            one_dimensional=self._one_dimensional,
        )

    @property
    def output_names(self) -> list[str]:
        return list(self.base.output_names)

    @property
    def limits(self) -> np.ndarray:
        return np.asarray(self.base.limits)

    @property
    def one_dimensional(self) -> bool:
        return self._one_dimensional

    @property
    def is_continuous(self) -> bool:
        return True

    @property
    def index(self) -> Any:
        return getattr(self.base, "index", None)

    def interval(self, level: float = 0.9, *, method: str = "quantile") -> np.ndarray:
        """Interval for every output.

        Parameters
        ----------
        level : float, default=0.9
            Probability inside, strictly between 0 and 1.
        method : {"quantile", "conformal"}, default="quantile"
            Between quantiles of the recalibrated density; or a central interval of the
            estimator's own, widened or narrowed about the median until it holds this share of
            the held-out rows. The latter holds a new value with a probability of at least
            `level`, and at most ``1 / (n_calibration_ + 1)`` more, whatever the estimator's
            faults, if rows are exchangeable and were set aside; with refits it does so nearly.

        Returns
        -------
        ndarray of shape (n_rows, 2, n_outputs)
            Ends are infinite, or those of the limits, where there are too few held-out rows
            for the level.
        """
        check_choice("method", method, ("quantile", "conformal"))
        if method == "quantile":
            return super().interval(level)
        check_real("level", level, 0.0, 1.0)
        k = int(np.abs(BASE_LEVELS - level).argmin())
        factor = _conformal_quantile(self.interval_scores[:, k], level)  # (n_outputs,)
        own = _central_quantiles(self.base)  # (n_rows, 2 n_levels + 1, n_outputs)
        middle = own[:, len(BASE_LEVELS)]
        low, high = own[:, k], own[:, -1 - k]
        ends = np.stack([middle - factor * (middle - low), middle + factor * (high - middle)], 1)
        return self._present(np.clip(ends, *self.limits.T))

    def contains(self, y: Any, level: float = 0.9) -> np.ndarray:
        """Whether y lies in the joint conformal region of highest density, (n_rows,) bool.

        The region holds all y whose log density is no further below that of the estimator's draws
        than that of a share `level` of the held-out rows, in units of the draws' deviation. The
        guarantee is that of a conformal `interval`, for all outputs at once.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs)
        level : float, default=0.9
        """
        check_real("level", level, 0.0, 1.0)
        largest = _conformal_quantile(self.region_scores, level)
        y = self._check_y(y)
        return density_deficit(self.base, y, one_dimensional=self._one_dimensional) <= largest

    def cdf(self, y: Any, *, random_state: Any = None) -> np.ndarray:
        """Calibrated Rosenblatt coordinates of y, (n_rows, n_outputs).

        `random_state` is that of the protocol and has no effect, since all outputs have a density.
        """
        u = self._coordinates(np.arange(len(self)), self._check_y(y))
        mapped = [one.cdf(column) for one, column in zip(self.maps, ndtri(u).T, strict=True)]
        return self._present(np.stack(mapped, axis=1))

    def inverse_cdf(self, u: Any) -> np.ndarray:
        """Inverse of `cdf`; u is (n_rows, n_outputs), strictly between 0 and 1."""
        shape = (len(self),) if self._one_dimensional else (len(self), self.n_outputs)
        u = check_unit_cube(u, shape).reshape(len(self), self.n_outputs)
        return self._present(self._at(np.arange(len(self)), u))

    def grad_log_prob(self, y: Any) -> np.ndarray:
        base = self._network_density("grad_log_prob", "the gradient")
        gradient = base._gradient(self._check_y(y, several=True), self._log_factor)
        return self._present(gradient)

    def components(self, output: Any = None, y: Any = None) -> Components:
        self._refuse("components", "a recalibrated mixture is no mixture")

    def given(self, known: Mapping[Any, Any]) -> Density:
        self._refuse("given", "maps are those of unknown outputs; use that of its `base`")

    def marginalise(self, ratio: Callable[[np.ndarray], np.ndarray]) -> ReweightedDensity:
        return ReweightedDensity(self, check_ratio(ratio))

    # What a kind of density must say

    @property
    def _n_reweighted(self) -> int:
        return N_POINTS  # each inverts all conditionals

    @property
    def _codec(self) -> TargetCodec:
        nothing = [False] * self.n_outputs
        return TargetCodec(self.output_names, nothing, nothing)

    def _check_y(self, y: Any, *, several: bool = False) -> np.ndarray:
        if isinstance(self.base, Density):
            return self.base._check_y(y, several=several)
        y = np.asarray(in_order(y, self.output_names), dtype=np.float64)
        y = y[..., None] if self._one_dimensional else y
        if y.shape[::2] != (len(self), self.n_outputs) and y.shape != (len(self), self.n_outputs):
            raise ValueError(
                f"y must have one row for each of {len(self)} and {self.n_outputs} outputs, got "
                f"shape {y.shape}."
            )
        return y

    def _log_prob(self, y: np.ndarray) -> np.ndarray:
        points = y if y.ndim == 3 else y[:, None]
        log_prob = np.empty(points.shape[:2])
        for rows, columns in pair_blocks(len(self), points.shape[1], CHUNK):
            own = points[rows, columns]
            index = np.repeat(np.arange(rows.start, rows.stop), own.shape[1])
            flat = own.reshape(-1, self.n_outputs)
            score = ndtri(self._coordinates(index, flat))
            found = self.base[index].log_prob(self._present(flat))
            for one, column in zip(self.maps, score.T, strict=True):
                found = found + one.log_ratio(column)
            log_prob[rows, columns] = found.reshape(own.shape[:2])
        return log_prob.reshape(y.shape[:-1])

    def _draw_blocks(self, n_draws: int, generator: Noise, method: str) -> Iterator[Block]:
        check_choice("method", method, ("random", "sobol"))
        return self._blocks(n_draws, generator, method)

    def _blocks(self, n_draws: int, generator: Noise, method: str) -> Iterator[Block]:
        if method == "sobol":
            for rows, u in shifted_sobol_points(len(self), n_draws, self.n_outputs, generator):
                yield rows, slice(0, n_draws), self._at_points(rows, u)
            return
        for rows, columns in pair_blocks(len(self), n_draws, CHUNK):
            u = block_uniform(generator, rows, columns, self.n_outputs)
            yield rows, columns, self._at_points(rows, u)

    def _candidates(
        self, rows: slice, n: int, generator: Noise | None
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = (rows.stop - rows.start, n, self.n_outputs)
        if generator is None:
            u = np.broadcast_to(_inner(sobol_points(n, self.n_outputs)), shape)
        else:
            u = block_uniform(generator, rows, slice(0, n), self.n_outputs)
        return self._at_points(rows, u), np.zeros(shape[:2])

    def _pinned_log_prob(self, pinned: dict[int, np.ndarray], n_draws: int) -> np.ndarray:
        base = self._network_density("marginal density", "the density of one output alone")
        n_first = len(pinned)
        none_drawn = max(map(base._place, pinned)) < n_first
        return super()._pinned_log_prob(pinned, 1 if none_drawn else n_draws)

    def _pinned(
        self, rows: slice, pinned: dict[int, np.ndarray], n_draws: int, *, complete: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        base = self._network_density("marginal density", "the density of one output alone")
        n = rows.stop - rows.start
        u = self._own_coordinates(_inner(sobol_points(n_draws, self.n_outputs)))  # (n_draws, ...)
        last = max(pinned, key=base._place)
        # Draws of the outputs before the last one do not depend on it
        known = {j: v for j, v in pinned.items() if complete or j != last}
        shape = np.broadcast_shapes((n, 1, 1), *(v.shape for v in known.values()))
        full = (n, n_draws, *shape[1:])
        index = np.broadcast_to(np.arange(rows.start, rows.stop)[:, None, None, None], full).ravel()
        coordinates = np.broadcast_to(u[:, None, None], (*full, self.n_outputs))
        flat = {j: np.broadcast_to(v[:, None], full).ravel() for j, v in known.items()}
        y = base._from_unit_cube(index, coordinates.reshape(-1, self.n_outputs), flat)
        values = np.broadcast_shapes(*(v.shape for v in pinned.values()))
        full = (n, n_draws, *values[1:])
        y = np.broadcast_to(y.reshape(n, n_draws, *shape[1:], -1), (*full, self.n_outputs)).copy()
        for j, v in pinned.items():
            y[..., j] = v[:, None]
        index = np.broadcast_to(np.arange(rows.start, rows.stop)[:, None, None, None], full).ravel()
        log_prob, cdf = base._conditionals(index, y.reshape(-1, self.n_outputs))
        score = ndtri(np.clip(cdf, EDGE, 1.0 - EDGE))
        log_weight = sum(log_prob[:, j] + self.maps[j].log_ratio(score[:, j]) for j in pinned)
        return np.reshape(log_weight, full), y if complete else None

    def _marginal_cdf(self, j: int, values: np.ndarray, n_draws: int) -> np.ndarray:
        points, cdf = _inner(sobol_points(n_draws, self.n_outputs)), np.empty(values.shape)
        for rows, some in pair_blocks(len(self), values.shape[1], max(1, CHUNK // n_draws)):
            n, n_values = rows.stop - rows.start, some.stop - some.start
            y = self._at_points(rows, np.broadcast_to(points, (n, *points.shape)))
            y = np.repeat(y[:, :, None], n_values, axis=2)  # (n, n_draws, n_values, n_outputs)
            y[..., j] = np.clip(values[rows, None, some], *self.limits[j])
            index = np.repeat(np.arange(rows.start, rows.stop), n_draws * n_values)
            u = self._coordinates(index, y.reshape(-1, self.n_outputs))[:, j]
            cdf[rows, some] = self.maps[j].cdf(ndtri(u)).reshape(n, n_draws, n_values).mean(axis=1)
        low, high = self.limits[j]
        return np.where(values < low, 0.0, np.where(values >= high, 1.0, cdf))

    # Between y and coordinates

    def _coordinates(self, index: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Coordinates (n, n_outputs) of values, under the estimator's density of rows `index`."""
        u = np.asarray(self.base[index].cdf(self._present(y)))
        return np.clip(u.reshape(y.shape), EDGE, 1.0 - EDGE)

    def _own_coordinates(self, u: np.ndarray) -> np.ndarray:
        """Coordinates under the estimator's density of calibrated ones (..., n_outputs)."""
        columns = [ndtr(one.quantile(u[..., j])) for j, one in enumerate(self.maps)]
        return np.clip(np.stack(columns, axis=-1), EDGE, 1.0 - EDGE)

    def _at(self, index: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Values (n, n_outputs) of rows `index` at calibrated coordinates."""
        return _values_at(self.base, index, self._own_coordinates(u), self._one_dimensional)

    def _at_points(self, rows: slice, u: np.ndarray) -> np.ndarray:
        """The same for several points (n, n_points, n_outputs) of each row."""
        index = np.repeat(np.arange(rows.start, rows.stop), u.shape[1])
        return self._at(index, u.reshape(-1, self.n_outputs)).reshape(u.shape)

    def _network_density(self, member: str, what: str) -> ConditionalDensity:
        """Density of the estimator, if it is one whose conditionals are known."""
        if not isinstance(self.base, ConditionalDensity):
            self._refuse(member, f"{type(self.base).__name__} does not tell {what}")
        return self.base

    def _log_factor(self, network: SAN, x: Tensor, z: Tensor) -> Tensor:
        """Log of what the density is multiplied with (n,), with a gradient."""
        _, cdf, _ = mixed_conditionals(network, x, z)
        score = torch.special.ndtri(cdf.clamp(EDGE, 1.0 - EDGE))
        columns = zip(self.base.model.order, score.unbind(-1), strict=True)
        return torch.stack([self.maps[j].log_ratio_in_torch(s) for j, s in columns]).sum(0)


def density_deficit(density: Any, y: np.ndarray, *, one_dimensional: bool) -> np.ndarray:
    """How far the log density at y lies below that of draws, in their deviations, (n_rows,).

    Regions of constant deficit are highest-density regions of each row. The draws are 1,024 at
    fixed points, so that no row's result depends on the rows beside it.
    """
    parts = []
    for rows in chunks(len(density), 64):
        part = density[rows]
        draws, log_weight = _fixed_draws(part, one_dimensional)
        weight = np.exp(log_weight - logsumexp(log_weight, axis=1, keepdims=True))
        drawn = np.asarray(part.log_prob(draws[..., 0] if one_dimensional else draws))
        mean = (weight * drawn).sum(axis=1)
        spread = np.sqrt((weight * (drawn - mean[:, None]) ** 2).sum(axis=1))
        own = np.asarray(part.log_prob(y[rows, 0] if one_dimensional else y[rows]))
        parts.append((mean - own) / np.maximum(spread, np.finfo(float).tiny))
    return np.concatenate([*parts, np.empty(0)])


def _fixed_draws(density: Any, one_dimensional: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n_rows, n_draws, n_outputs) at points that all rows share, and their log weights."""
    n, n_outputs = len(density), density.n_outputs
    if isinstance(density, Density):
        return density._candidates(slice(0, n), N_POINTS, None)
    u = np.tile(_inner(sobol_points(N_POINTS, n_outputs)), (n, 1))
    y = _values_at(density, np.repeat(np.arange(n), N_POINTS), u, one_dimensional)
    return y.reshape(n, N_POINTS, n_outputs), np.zeros((n, N_POINTS))


def conformity(
    density: Any, y: np.ndarray, *, one_dimensional: bool
) -> tuple[np.ndarray, np.ndarray]:
    """How far y lies from the middle, (n_rows, n_levels, n_outputs), and density deficits.

    The former is 1 at the ends of each central interval and 0 at the median.
    """
    own = _central_quantiles(density)
    n_levels = len(BASE_LEVELS)
    middle = own[:, n_levels]
    tiny = np.finfo(float).tiny
    scores = np.empty((len(y), n_levels, y.shape[1]))
    for k in range(n_levels):
        low, high = own[:, k], own[:, -1 - k]
        width = np.where(y < middle, middle - low, high - middle)
        scores[:, k] = np.abs(y - middle) / np.maximum(width, tiny)
    return scores, density_deficit(density, y, one_dimensional=one_dimensional)


def _central_quantiles(density: Any) -> np.ndarray:
    """Ends of the central intervals of `BASE_LEVELS` about the median.

    Shape (n_rows, 2 n_levels + 1, n_outputs): lower ends, median, upper ends in reverse.
    """
    lower = 0.5 - 0.5 * BASE_LEVELS
    levels = np.concatenate([lower, [0.5], 1.0 - lower[::-1]])
    return np.reshape(density.quantile(levels), (len(density), len(levels), -1))


def _conformal_quantile(scores: np.ndarray, level: float) -> np.ndarray:
    """The ceil((n + 1) level)-th smallest of the sorted scores; infinite if there are too few."""
    rank = int(np.ceil((len(scores) + 1) * level - 1e-9))
    return scores[rank - 1] if rank <= len(scores) else np.full(scores.shape[1:], np.inf)


def _values_at(density: Any, index: np.ndarray, u: np.ndarray, one_dimensional: bool) -> np.ndarray:
    """Values (n, n_outputs) of the rows `index` of any density at coordinates u."""
    y = density[index].inverse_cdf(u[:, 0] if one_dimensional else u)
    return np.asarray(y, dtype=np.float64).reshape(u.shape)


def _inner(u: np.ndarray) -> np.ndarray:
    """Points strictly inside the unit cube."""
    return np.clip(u, EDGE, 1.0 - EDGE)
