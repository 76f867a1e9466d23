"""The conditional density of given rows, as an object that answers what a posterior is asked.

=====================  =====================================================================
`Density`              what every density has: draws, log density and its gradient, moments,
                       quantiles, modes, cdf and its inverse, marginals, entropy, conditioning
`ConditionalDensity`   p(y | x) of given rows
`GivenDensity`         p(y | x, some outputs known)
`ReweightedDensity`    p(y | x) times a ratio of priors, normalised
`Marginal`             densities of one or two outputs on a grid
`Components`           a conditional density as a mixture
=====================  =====================================================================

Everything is in the user's units, column order and float64, and works in chunks, so that memory
does not grow with the number of rows or draws beyond that of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp, ndtri
from torch import Tensor

from . import _model
from . import _validation as validation
from ._conditioning import GivenDensity
from ._density_base import N_POINTS, Block, Density
from ._draws import pair_blocks, resample, shifted_sobol_points
from ._engine import to_numpy
from ._keyed_noise import Noise, block_uniform, some_noise
from ._marginals import (
    Components,
    Marginal,
    Points,
    conditional_given,
    kernel_name,
    make_points,
    mixture_of,
    pinned_draws,
)
from ._model import (
    FittedModel,
    chunks,
    make_random,
    quasi_random_points,
    sobol_points,
)
from ._modes import Slope, Starts, densest_draws, find_modes
from ._network import SAN, uniform
from ._reweighting import ReweightedDensity, check_ratio
from ._tables import as_table
from ._targets import TargetCodec, matching_columns

__all__ = [
    "Components",
    "ConditionalDensity",
    "Density",
    "GivenDensity",
    "Marginal",
    "ReweightedDensity",
    "resample",
]

#: Quasi-random points behind the moments and quantiles of outputs that are not the first.
N_SUMMARY_POINTS = 256
#: Pairs of row and point that the engine is given at once.
N_PAIRS = 262_144
#: Draws of which the densest are where the ways to the mode start, for one output: the more
#: outputs, the fewer draws for the same time; and the least number.
N_STARTS, MIN_STARTS = 1024, 128
#: Measurements of each row that a density with errors is averaged over.
N_ERROR_POINTS = 64
#: Points and their contexts that climb at once.
N_CLIMBING = 4096


class ConditionalDensity(Density):
    """p(y | x) for the rows of X, one density per row; made by ``predict_density``.

    It is lazy: nothing is computed before it is asked for. If y was one-dimensional in `fit`, the
    axis of the outputs is missing in everything that goes in or comes out.

    Parameters
    ----------
    model : FittedModel
    X : ndarray of shape (n_rows, n_features)
        Checked features, not scaled.
    X_err : ndarray of shape (n_rows, n_features), default=None
        Measurement errors of X, one standard deviation each. To a network that was trained with
        ``use_errors=True`` they are features. Otherwise the density is the mean of p(y | x')
        over x' around x: 64 quasi-random points of it for densities, a new one for each draw.
    index : pandas.Index, default=None
        Names of the rows.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(500, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=10, random_state=0).fit(X, y)
    >>> density = est.predict_density(X[:5])
    >>> density
    ConditionalDensity(n_rows=5, outputs=['y0', 'y1'])
    >>> density.interval(0.9).shape, density.cdf(y[:5]).shape, density[2].entropy().shape
    ((5, 2, 2), (5, 2), (1,))
    """

    def __init__(
        self,
        model: FittedModel,
        X: np.ndarray,
        X_err: np.ndarray | None = None,
        index: Any = None,
    ):
        self.model = model
        self._X, self._X_err, self.index = X, X_err, index

    def __len__(self) -> int:
        return len(self._X)

    def __getitem__(self, rows: Any) -> ConditionalDensity:
        rows = validation.check_rows(rows, len(self))
        errors = None if self._X_err is None else self._X_err[rows]
        index = None if self.index is None else self.index[rows]
        return ConditionalDensity(self.model, self._X[rows], errors, index)

    @property
    def output_names(self) -> list[str]:
        return self.model.codec.names

    @property
    def limits(self) -> np.ndarray:
        return self.model.limits

    @property
    def one_dimensional(self) -> bool:
        return self.model.one_dimensional

    @property
    def is_continuous(self) -> bool:
        return self.model.is_smooth

    @property
    def has_errors(self) -> bool:
        """Whether the density is a mean over measurements of X."""
        return self._X_err is not None and not self.model.encoder.use_errors

    def mode(self) -> np.ndarray:
        if not self.model.is_smooth or not len(self):
            return self.model.present(self._best_draws(N_POINTS))
        starts = self._scored_starts(self) if self.has_errors else self._starts()
        return self.model.present(self._climb(starts))

    @torch.no_grad()
    def cdf(self, y: Any, *, random_state: Any = 0) -> np.ndarray:
        u = self._rosenblatt(self._check_y(y), make_random(random_state))
        return u[:, 0] if self.one_dimensional else u

    @torch.no_grad()
    def inverse_cdf(self, u: Any) -> np.ndarray:
        shape = (len(self),) if self.one_dimensional else (len(self), self.n_outputs)
        u = validation.check_unit_cube(u, shape).reshape(len(self), self.n_outputs)
        return self.model.present(self._from_unit_cube(np.arange(len(self)), u))

    def grad_log_prob(self, y: Any) -> np.ndarray:
        gradient = self._gradient(self._check_y(y, several=True))
        return gradient[..., 0] if self.one_dimensional else gradient

    @torch.no_grad()
    def components(self, output: Any = None, y: Any = None) -> Components:
        first = int(self.model.order[0])
        j = first
        if output is not None:
            j = validation.check_output(output, self.output_names, "output")
        if j == first:
            return self._components(j, None)
        if y is None:
            before = self.model.order[: self._place(j)]
            raise ValueError(
                f"output {j} ({self.output_names[j]}) depends on those before it in the order, "
                f"{', '.join(self.output_names[i] for i in before)}; pass their values as y."
            )
        return self._components(j, self._before(j, y, {}))

    def given(self, known: Mapping[Any, Any]) -> GivenDensity:
        names = self.output_names
        values = validation.check_known(known, names, len(self), self.limits, self.index)
        codec = self.model.codec
        codes = {j: codec.encode_column(j, column) for j, column in values.items()}
        return GivenDensity(self, codes)

    def marginalise(self, ratio: Callable[[np.ndarray], np.ndarray]) -> ReweightedDensity:
        return ReweightedDensity(self, check_ratio(ratio))

    # What the network sees

    @property
    def _n_contexts(self) -> int:
        """Values of x that the density of each row is a mean over."""
        return N_ERROR_POINTS if self.has_errors else 1

    def _inputs(self, rows: Any) -> np.ndarray:
        """What the network sees of some rows without measurement noise, (n, n_inputs)."""
        errors = None if self._X_err is None else self._X_err[rows]
        return self.model.encoder.transform(self._X[rows], errors)

    def _jittered(self, rows: Any, normal: np.ndarray) -> np.ndarray:
        """The same with noise, (n, n_points, n_inputs).

        `normal` is (n or 1, n_points, n_features) and standard.
        """
        X, X_err = self._X[rows], self._X_err
        if X_err is None:
            raise ValueError("Without measurement errors there is no noise.")
        n_points = normal.shape[1]
        X, X_err = (np.repeat(values, n_points, axis=0) for values in (X, X_err[rows]))
        normal = np.broadcast_to(normal, (len(X) // n_points, *normal.shape[1:]))
        noisy = self.model.encoder.jitter(X, X_err, normal.reshape(X.shape))
        inputs = self.model.encoder.transform(noisy, X_err)
        return inputs.reshape(-1, n_points, inputs.shape[-1])

    def _contexts(self, rows: Any) -> np.ndarray:
        """What the network sees, (n, n_contexts, n_inputs); one without measurement errors."""
        if not self.has_errors:
            return self._inputs(rows)[:, None]
        points = sobol_points(N_ERROR_POINTS, self._X.shape[1])
        return self._jittered(rows, ndtri(np.clip(points, 1e-12, 1.0 - 1e-12))[None])

    def _seen_at(self, rows: slice, points: Points, network: SAN) -> Tensor:
        """What the network sees of some rows at fixed points, (n, n_points or 1, n_inputs)."""
        if points.normal is None:
            return self.model.tensor(self._inputs(rows)[:, None], network)
        return self.model.tensor(self._jittered(rows, points.normal[None]), network)

    # Densities

    @property
    def _codec(self) -> TargetCodec:
        return self.model.codec

    def _check_y(self, y: Any, *, several: bool = False) -> np.ndarray:
        validation.warn_of_misaligned(self.index, y=y)
        return self.model.check_y(y, len(self), several=several)

    def _place(self, j: int) -> int:
        """Place of column j in the order."""
        return self.model.order.tolist().index(j)

    def _chunk(self, network: SAN, n_points: int = 1) -> int:
        """Rows to compute at once, with so many points of each, under every member and context."""
        return max(1, _model.CHUNK // (n_points * network.n_members * self._n_contexts))

    @torch.no_grad()
    def _log_prob(self, y: np.ndarray) -> np.ndarray:
        model = self.model
        low, high = model.limits.T
        points = y if y.ndim == 3 else y[:, None]
        log_prob = np.empty(points.shape[:2])
        size = _model.CHUNK // self._n_contexts
        for rows, columns in pair_blocks(len(self), points.shape[1], size):
            # Values outside are scored at the nearest limit first, so that scalers accept them.
            own = points[rows, columns]
            clipped = np.clip(own, low, high)
            inside = self._scaled_log_density(rows, model.scale(clipped))
            inside += model.log_jacobian(clipped).sum(axis=-1)
            outside = ((own < low) | (own > high)).any(axis=-1)
            log_prob[rows, columns] = np.where(outside, -np.inf, inside)
        return log_prob.reshape(y.shape[:-1])

    def _scaled_log_density(self, rows: slice, z: np.ndarray) -> np.ndarray:
        """Log density (n, n_points) of some rows at scaled values (n, n_points, n_outputs)."""
        contexts = self._contexts(rows)
        n_rows, n_contexts, n_inputs = contexts.shape
        x, engine = contexts.reshape(-1, n_inputs), self.model.engine
        if n_contexts == 1:
            return engine.log_density(x, z)
        log_prob = engine.log_density(x, np.repeat(z, n_contexts, axis=0))
        log_prob = log_prob.reshape(n_rows, n_contexts, -1)
        return logsumexp(log_prob, axis=1) - np.log(n_contexts)

    def _gradient(
        self, y: np.ndarray, factor: Callable[[SAN, Tensor, Tensor], Tensor] | None = None
    ) -> np.ndarray:
        """`grad_log_prob` of checked values.

        `factor` is the log of a factor of the density, a function of the network, what it sees (n,
        n_contexts, n_inputs) and scaled values (n, n_outputs).
        """
        model = self.model
        if not model.is_smooth:
            names = ", ".join(
                self.output_names[j]
                for j, family in zip(model.order, model.families, strict=True)
                if family.scaling != "free"
            )
            self._refuse("grad_log_prob", f"{names} may have probabilities instead of a density")
        low, high = model.limits.T
        points = y if y.ndim == 3 else y[:, None]
        result = np.empty(points.shape)
        for rows, columns in pair_blocks(len(self), points.shape[1], self._chunk(model.network)):
            own = points[rows, columns]
            clipped = np.clip(own, low, high).reshape(-1, self.n_outputs)
            x = np.repeat(self._contexts(rows), own.shape[1], axis=0)
            z = model.scale(clipped)
            _, slope = model.engine.log_density_and_slope(x, z)
            if factor is not None:
                network = model.on_device(torch.float64)
                values = model.tensor(z, network).requires_grad_(True)
                total = factor(network, model.tensor(x, network), values).sum()
                slope = slope + to_numpy(torch.autograd.grad(total, values)[0])
            found = model.gradient_by_y(clipped, slope).reshape(own.shape)
            outside = ((own < low) | (own > high)).any(axis=-1)
            result[rows, columns] = np.where(outside[..., None], np.nan, found)
        return result.reshape(y.shape)

    def _rosenblatt(self, y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """`cdf` of checked values (n_rows, n_outputs)."""
        y = np.clip(y, *self.model.limits.T)
        network, model = self.model.on_device(torch.float64), self.model
        u = np.empty(y.shape)
        for rows in chunks(len(y), self._chunk(network)):
            scaled = model.scale(y[rows])
            z = model.tensor(np.nan_to_num(scaled), network)  # the last ones may be missing
            noise = uniform(tuple(z.shape), generator).to(z.device)
            x = model.tensor(self._contexts(rows), network)
            own = to_numpy(_model.rosenblatt(network, x, z, noise))
            u[rows] = np.where(np.isnan(scaled), np.nan, own)
        return u[:, np.argsort(model.order)]

    @torch.no_grad()
    def _conditionals(self, index: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density of each output given those before it, and its cdf, (n, n_outputs) each.

        Of values y (n, n_outputs) inside the limits, for the rows `index`.
        """
        model, network = self.model, self.model.on_device(torch.float64)
        log_prob, u = np.empty((2, *y.shape))
        for rows in chunks(len(y), self._chunk(network)):
            x = model.tensor(self._contexts(index[rows]), network)
            z = model.tensor(model.scale(y[rows]), network)
            own, cdf, _ = _model.mixed_conditionals(network, x, z)
            log_prob[rows] = to_numpy(own) + model.log_jacobian(y[rows])
            u[rows] = to_numpy(cdf)
        back = np.argsort(model.order)
        return log_prob[:, back], u[:, back]

    @torch.no_grad()
    def _from_unit_cube(
        self,
        index: np.ndarray,
        u: np.ndarray,
        known: Mapping[int, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Values (n, n_outputs) of the rows `index` at u; some may be known, (n,) by column."""
        network, model = self.model.on_device(torch.float64), self.model
        y = np.empty(u.shape)
        known = known or {}
        for rows in chunks(len(u), self._chunk(network)):
            x = model.tensor(self._contexts(index[rows]), network)
            filled = np.repeat(self._anything(), rows.stop - rows.start, axis=0)
            for j, values in known.items():
                filled[:, j] = values[rows]
            z_known = model.tensor(model.scale(filled), network)
            places = {self._place(j): z_known[:, self._place(j)] for j in known}
            target = model.tensor(u[rows][:, model.order], network)
            z = _model.inverse_rosenblatt(network, x, target, places)
            y[rows] = model.restore(to_numpy(z))
            for j, values in known.items():
                y[rows, j] = values[rows]
        return y

    # Modes

    @property
    def _n_starts(self) -> int:
        return max(N_STARTS // self.n_outputs, MIN_STARTS)

    def _starts(self) -> Starts:
        """The densest of quasi-random draws of every row."""
        model, n_members = self.model, self.model.network.n_members
        points = quasi_random_points(model.network, -(-self._n_starts // n_members))
        chosen = np.repeat(np.arange(n_members), len(points) // n_members)
        parts = []
        for rows in chunks(len(self), max(1, _model.CHUNK // len(points))):
            n_rows = rows.stop - rows.start
            known = np.full((n_rows, self.n_outputs), np.nan)
            chosen_of = np.broadcast_to(chosen, (n_rows, len(chosen)))
            parts.append(self._densest(self._inputs(rows), points, known, chosen_of))
        return Starts.concatenate(parts)

    def _densest(
        self, x: np.ndarray, noise: np.ndarray, known: np.ndarray, chosen: np.ndarray
    ) -> Starts:
        """The densest draws of some rows; see `Engine.draw_and_score`."""
        model = self.model
        z, log_prob = model.engine.draw_and_score(x, noise, known, chosen)
        if not model.y_scaler.linear:
            by_y = model.log_jacobian_at(z.reshape(-1, self.n_outputs))[0]
            log_prob = log_prob + by_y.reshape(log_prob.shape)
        return densest_draws(z, log_prob, chosen)

    def _scored_starts(self, density: Density) -> Starts:
        """The densest draws of a density of these rows, by its own log density."""
        parts = []
        for rows, y, _ in density._weighted_draws(self._n_starts):
            log_prob = density[rows]._log_prob(y)
            nobody = np.zeros(log_prob.shape, dtype=np.intp)
            parts.append(densest_draws(self.model.scale(y), log_prob, nobody))
        return Starts.concatenate(parts)

    def _climb(self, starts: Starts, held: Mapping[int, np.ndarray] | None = None) -> np.ndarray:
        """Point of highest density (n_rows, n_outputs) above the starts; some columns are held."""
        model, modes = self.model, np.empty((len(self), self.n_outputs))
        bounds = np.tile(model.network.limits.cpu().numpy().T[:, None], (1, len(self), 1))
        for j, values in (held or {}).items():
            bounds[:, :, self._place(j)] = self._scaled_column(j, values)[0]
        n_points = max(starts.z.shape[1], self._n_contexts)
        for rows in chunks(len(self), max(1, N_CLIMBING // n_points)):
            contexts, limits = self._contexts(rows), bounds[:, rows]
            own = Starts(*(array[rows] for array in starts))
            own = own._replace(z=np.clip(own.z, *limits[:, :, None]))

            def of_points(
                index: np.ndarray, member: np.ndarray | None, contexts: np.ndarray = contexts
            ) -> Slope:
                def slope(active: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                    chosen = None if member is None else member[active]
                    return self._slope(contexts[index[active]], z, chosen)

                return slope

            best = find_modes(own, of_points, limits, alone=not self.has_errors)
            modes[rows] = model.restore(best)
        for j, values in (held or {}).items():
            modes[:, j] = values
        return modes

    def _slope(
        self, contexts: np.ndarray, z: np.ndarray, chosen: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log density per unit of y up to a constant, and its slope by scaled values z."""
        value, slope = self.model.engine.log_density_and_slope(contexts, z, chosen)
        if not self.model.y_scaler.linear:
            log_jacobian, by_z = self.model.log_jacobian_at(z)
            value, slope = value + log_jacobian, slope + by_z
        return value, slope

    # Draws

    def _draw_blocks(self, n_draws: int, generator: Noise, method: str) -> Iterator[Block]:
        validation.check_choice("method", method, ("random", "sobol"))
        if method == "sobol":
            return self._sobol_draws(n_draws, generator)
        return self._random_draws(n_draws, generator)

    def _candidates(
        self, rows: slice, n: int, generator: Noise | None
    ) -> tuple[np.ndarray, np.ndarray]:
        part, generator = self[rows], some_noise(generator, rows)
        if generator is None:
            y = np.concatenate([draws for _, draws in part._quasi_random_draws(n)])
        else:
            y = np.empty((len(part), n, self.n_outputs))
            for own, columns, block in part._random_draws(n, generator):
                y[own, columns] = block
        return y, np.zeros(y.shape[:2])

    @torch.no_grad()
    def _random_draws(self, n_draws: int, generator: Noise) -> Iterator[Block]:
        """Blocks of independent draws."""
        network, draw = self.model.engine.network, self.model.engine.draw
        n_numbers = self.n_outputs * network.n_noise + 1  # the first chooses the member
        n_measured = self._X.shape[1] if self.has_errors else 0
        for rows, columns in pair_blocks(len(self), n_draws, _model.CHUNK):
            numbers = block_uniform(generator, rows, columns, n_numbers + n_measured)
            noise = np.ascontiguousarray(numbers[..., :n_numbers])
            if not self.has_errors:
                z = draw(self._inputs(rows), noise)
            else:  # each draw has a measurement of its own
                normal = ndtri(numbers[..., n_numbers:])
                z = _draw_one_by_one(draw, self._jittered(rows, normal), noise)
            yield rows, columns, self.model.restore(z)

    def _sobol_draws(
        self,
        n_draws: int,
        generator: Noise,
        known: Mapping[int, np.ndarray] | None = None,
    ) -> Iterator[Block]:
        """Scrambled Sobol points through the inverse Rosenblatt transform.

        Each row gets its own random shift of the points, so that rows are independent.
        """
        for rows, u in shifted_sobol_points(len(self), n_draws, self.n_outputs, generator):
            index = np.repeat(np.arange(rows.start, rows.stop), n_draws)
            own = {j: values[index] for j, values in (known or {}).items()}
            y = self._from_unit_cube(index, u.reshape(-1, self.n_outputs), own)
            yield rows, slice(0, n_draws), y.reshape(u.shape)

    @torch.no_grad()
    def _quasi_random_draws(self, n_draws: int = N_POINTS) -> Iterator[tuple[slice, np.ndarray]]:
        """Chunks of rows with their draws, (n_rows, n_draws, n_outputs).

        All rows share one set of points, so that no row's result depends on the others. There are
        at least `n_draws`, as many from each member.
        """
        model, n_members = self.model, self.model.network.n_members
        points = quasi_random_points(model.network, -(-n_draws // n_members))
        for rows in chunks(len(self), max(1, _model.CHUNK // len(points))):
            if self.has_errors:
                z = self._draws_with_errors(rows, len(points))
            else:
                z = model.engine.draw_at(self._inputs(rows), points)
            yield rows, model.restore(z)

    def _draws_with_errors(self, rows: slice, n_draws: int) -> np.ndarray:
        """Scaled quasi-random draws (n, n_draws, n_outputs), each with its own measurement.

        Noise of x and of y are one sequence: two that are scrambled apart would be correlated.
        """
        network = self.model.network
        n_numbers = 1 + network.n_outputs * network.n_noise
        points = sobol_points(n_draws, n_numbers + self._X.shape[1]).clip(1e-12, 1.0 - 1e-12)
        contexts = self._jittered(rows, ndtri(points[:, n_numbers:])[None])
        noise = np.repeat(points[None, :, :n_numbers], len(contexts), axis=0)
        return _draw_one_by_one(self.model.engine.draw, contexts, noise)

    # Marginal distributions as means of conditionals

    def _summaries(
        self, levels: np.ndarray, *, with_moments: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        model, shape = self.model, (len(self), self.n_outputs)
        mean, variance = np.full((2, *shape), np.nan)
        quantiles = np.empty((len(self), len(levels), self.n_outputs))
        linear = model.y_scaler.linear  # a mean is no function of that of scaled values
        if with_moments and not linear:
            mean, variance, _ = super()._summaries(np.empty(0), with_moments=True)
        with_moments = with_moments and linear
        if with_moments or len(levels):
            cheap = model.network.families[0].cheap_moments or not with_moments
            points = self._points(1 if self.n_outputs == 1 and cheap else N_SUMMARY_POINTS)
            for rows, x in self._at_points(points):
                found = model.engine.summaries_at(
                    x, points.noise, levels, with_moments=with_moments
                )
                if with_moments:
                    own = model.y_scaler.inverse_transform(found.mean)
                    mean[rows] = own[:, np.argsort(model.order)]
                    spread = found.variance / model.y_scaler.slope**2
                    variance[rows] = spread[:, np.argsort(model.order)]
                if len(levels):
                    quantiles[rows] = model.restore(found.quantiles)
        if self.has_errors and len(levels):  # by the very measurements of densities
            first = int(model.order[0])
            quantiles[..., first] = self._quantiles_of(first, levels)
        return mean, variance, quantiles

    def _quantiles_of(self, j: int, levels: np.ndarray) -> np.ndarray:
        model, d = self.model, self._place(j)
        points = self._points(N_SUMMARY_POINTS, j)
        quantiles = np.empty((len(self), len(levels)))
        for rows, x in self._at_points(points):
            found = model.engine.summaries_at(x, points.noise, levels, with_moments=False, output=d)
            quantiles[rows] = self._restored(j, found.quantiles[..., d])
        return quantiles

    def _points(self, n: int, j: int | None = None) -> _Points:
        """Fixed points, about n: fewer where nothing is drawn before column j."""
        network, n_members = self.model.network, self.model.network.n_members
        is_first = j is not None and self._place(j) == 0
        if not self.has_errors:
            # Sobol points are the most even where their number is a power of two
            n_own = 1 if is_first else 1 << (-(-n // n_members) - 1).bit_length()
            return _Points(quasi_random_points(network, n_own), None)
        # Noise of x and of y are one sequence: two that are scrambled apart would be correlated
        n_numbers, n_features = network.n_outputs * network.n_noise, self._X.shape[1]
        if is_first:
            measured = np.tile(sobol_points(N_ERROR_POINTS, n_features), (n_members, 1))
            noise = np.full((len(measured), n_numbers), 0.5)
        else:
            n = -(-max(n, N_ERROR_POINTS) // n_members) * n_members
            noise, measured = np.split(sobol_points(n, n_numbers + n_features), [n_numbers], 1)
        choose = np.repeat((np.arange(n_members) + 0.5) / n_members, len(noise) // n_members)
        numbers = np.concatenate([choose[:, None], _inner(noise)], axis=1)
        return _Points(numbers, ndtri(_inner(measured)))

    def _at_points(self, points: _Points) -> Iterator[tuple[slice, np.ndarray]]:
        """Chunks of rows with what the network sees of them, the same or one for each point."""
        for rows in chunks(len(self), max(1, N_PAIRS // len(points.noise))):
            if points.normal is None:
                yield rows, self._inputs(rows)
            else:
                yield rows, self._jittered(rows, points.normal[None])

    # One or two outputs

    def _anything(self) -> np.ndarray:
        """Values that scalers accept, (1, n_outputs)."""
        return self.model.restore(np.zeros((1, self.n_outputs)))

    def _restored(self, j: int, z: np.ndarray) -> np.ndarray:
        """Values of column j, of any shape, from scaled ones."""
        filled = np.repeat(z[..., None], self.n_outputs, axis=-1)  # with anything beside it
        return self.model.restore(filled)[..., j]

    def _scaled_column(self, j: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scaled values of column j, of any shape, and their log-Jacobian."""
        y = np.repeat(self._anything(), values.size, axis=0)
        y[:, j] = values.ravel()
        d = self._place(j)
        z, log_slope = self.model.scale(y)[:, d], self.model.log_jacobian(y)[:, d]
        return z.reshape(values.shape), log_slope.reshape(values.shape)

    def _n_points(self, n_draws: int, columns: Any = None) -> int:
        """Points of each member for so many draws, one where none is drawn before `columns`."""
        n_points = -(-n_draws // self.model.network.n_members)
        if self.has_errors:
            return max(n_points, N_ERROR_POINTS)
        none_drawn = columns is not None and max(map(self._place, columns)) < len(columns)
        return 1 if none_drawn else n_points

    def _pinned_log_prob(self, pinned: dict[int, np.ndarray], n_draws: int) -> np.ndarray:
        if len(pinned) == 1:
            ((j, values),) = pinned.items()
            flat = values.reshape(len(values), math.prod(values.shape[1:]))
            log_prob = self._marginal_log_prob(j, flat, n_draws)
            return log_prob.reshape(len(self), *values.shape[1:])
        n_draws = self._n_points(n_draws, pinned) * self.model.network.n_members
        return super()._pinned_log_prob(pinned, n_draws)

    def _grid_density(self, j: int, grid: np.ndarray, n_draws: int) -> np.ndarray:
        return np.exp(self._marginal_log_prob(j, grid[None], n_draws, quickly=True))

    def _marginal_log_prob(
        self, j: int, values: np.ndarray, n_draws: int, *, quickly: bool = False
    ) -> np.ndarray:
        """Log density (n_rows, n_values) of column j at values, of which all rows may share one."""
        low, high = self.limits[j]
        z, log_slope = self._scaled_column(j, np.clip(values, low, high))
        log_slope[(values < low) | (values > high)] = -np.inf
        points, log_prob = self._points(n_draws, j), np.empty((len(self), values.shape[1]))
        for rows, x in self._at_points(points):
            own = z if len(z) == 1 else z[rows]
            log_prob[rows] = self.model.engine.log_density_at(
                x, points.noise, self._place(j), own, quickly=quickly
            )
        return log_prob + log_slope

    def _marginal_cdf(self, j: int, values: np.ndarray, n_draws: int) -> np.ndarray:
        low, high = self.limits[j]
        z, _ = self._scaled_column(j, np.clip(values, low, high))
        points, cdf = self._points(n_draws, j), np.empty(values.shape)
        for rows, x in self._at_points(points):
            cdf[rows] = self.model.engine.cdf_at(x, points.noise, self._place(j), z[rows])
        return np.where(values < low, 0.0, np.where(values >= high, 1.0, cdf))

    @torch.no_grad()
    def _pinned(
        self, rows: slice, pinned: dict[int, np.ndarray], n_draws: int, *, complete: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        model, network = self.model, self.model.on_device(torch.float64)
        n_points = self._n_points(n_draws, None if complete else pinned)
        points = make_points(network, n_points, self._X.shape[1] if self.has_errors else 0)
        scaled, log_slope = {}, np.zeros((1, 1, 1))
        for j, values in pinned.items():
            z_j, slope_j = self._scaled_column(j, values)
            scaled[self._place(j)] = model.tensor(z_j, network)
            log_slope = log_slope + slope_j
        n_outputs = self.n_outputs if complete else max(scaled) + 1
        x = self._seen_at(rows, points, network)
        log_weight, z = pinned_draws(network, x, points.noise, scaled, n_outputs)
        # (n_members, n, n_points or 1, ...) to (n, n_members * n_points, ...)
        shape = (network.n_members, len(x), n_points if complete else z.shape[2])
        values_shape = np.broadcast_shapes(*(v.shape[1:] for v in pinned.values()))
        weights = to_numpy(log_weight.expand(*shape, *values_shape).transpose(0, 1).flatten(1, 2))
        weights = weights + log_slope[:, None]
        if not complete:
            return weights, None
        drawn = to_numpy(z.expand(*shape, *values_shape, -1).transpose(0, 1).flatten(1, 2))
        y = model.restore(drawn)
        for j, values in pinned.items():
            y[..., j] = values[:, None]
        return weights, y

    def _snap(self, j: int, grid: np.ndarray) -> np.ndarray:
        family = self.model.families[self._place(j)]
        return np.unique(family.snap(grid, self.limits[j], 0.0)) if family.discrete else grid

    # Components

    def _before(self, j: int, y: Any, known: Mapping[int, np.ndarray]) -> np.ndarray:
        """Numbers and codes (n_rows, n_outputs) of the outputs before column j in the order.

        From `known`, else from the user's y; the other columns hold anything that scalers accept.
        """
        filled = np.repeat(self._anything(), len(self), axis=0)
        columns: list[np.ndarray] = []
        if y is not None:
            y = as_table(y, "y")
            columns = matching_columns(y, self.output_names, "this density has")
        if columns and len(columns[0]) != len(self):
            raise ValueError(
                f"y must have shape ({len(self)}, {self.n_outputs}), got ({len(columns[0])}, "
                f"{len(columns)})."
            )
        for i in self.model.order[: self._place(j)]:
            values = known[i] if i in known else self.model.codec.encode_column(i, columns[i])
            filled[:, i] = np.clip(values, *self.limits[i])
        return filled

    def _components(self, j: int, y: np.ndarray | None) -> Components:
        """`components` of column j, given checked values of the outputs before it."""
        model, network, d = self.model, self.model.on_device(torch.float64), self._place(j)
        if not model.y_scaler.linear:
            self._refuse("components", "y_scaler is not linear, so that they have no known shape")
        slope, origin = model.y_scaler.slope[d], model.y_scaler.origin()[d]
        family, parts = network.families[d], []
        for rows in list(chunks(len(self), self._chunk(network))) or [slice(0, 0)]:
            x = model.tensor(self._contexts(rows), network)
            one, log_weight = conditional_given(
                network, x, self._scaled_before(y, rows, network), d
            )
            try:
                mixture = mixture_of(one)
            except TypeError as error:
                self._refuse("components", str(error))
            weight = (log_weight.unsqueeze(-1) + mixture.log_weight).exp()
            df = mixture.theta[2:]
            columns = weight, origin + mixture.loc / slope, mixture.scale / slope, *df
            # (n_members, n, n_contexts, K) to (n, n_members * n_contexts * K)
            flat = [v.expand(weight.shape).movedim(1, 0).flatten(1) for v in columns]
            parts.append([to_numpy(v) for v in flat])
        weights, locs, scales, *extra = (np.concatenate(c) for c in zip(*parts, strict=True))
        low, high = self.limits[j].tolist()
        return Components(
            self.output_names[j],
            kernel_name(family),
            weights,
            locs,
            scales,
            df=extra[0] if extra else None,
            limits=(low, high) if family.bounded else None,
        )

    def _scaled_before(self, y: np.ndarray | None, rows: slice, network: SAN) -> Tensor:
        n = rows.stop - rows.start
        filled = np.repeat(self._anything(), n, axis=0) if y is None else y[rows]
        return self.model.tensor(self.model.scale(filled), network)


class _Points(NamedTuple):
    """Fixed points that all rows share."""

    noise: np.ndarray  # (n_points, 1 + n_outputs * n_noise), of an engine
    normal: np.ndarray | None  # (n_points, n_features), of the errors of x


def _inner(u: np.ndarray) -> np.ndarray:
    """Points strictly inside the unit cube."""
    return np.clip(u, 1e-12, 1.0 - 1e-12)


def _draw_one_by_one(draw: Any, contexts: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Draws of which each has its own context, (n, n_draws, n_inputs)."""
    n, n_draws, n_numbers = noise.shape
    x = contexts.reshape(n * n_draws, -1)
    return draw(x, noise.reshape(n * n_draws, 1, n_numbers)).reshape(n, n_draws, -1)
