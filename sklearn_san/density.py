"""The conditional density of given rows, as an object that answers what a posterior is asked.

=====================  =====================================================================
`ConditionalDensity`   p(y | x) of given rows: draws, log density, moments, quantiles, modes,
                       cdf and its inverse, marginals, entropy, conditioning, new priors
`Marginal`             densities of one or two outputs on a grid
`GivenDensity`         p(y | x, some outputs known)
`ReweightedDensity`    p(y | x) times a ratio of priors, normalised
=====================  =====================================================================

Everything is in the user's units, column order and float64, and works in chunks, so that memory
does not grow with the number of rows or draws beyond that of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc
from tqdm.auto import tqdm

from . import _model
from . import _validation as validation
from ._columns import without_mask
from ._conditioning import GivenDensity, ReweightedDensity, resample
from ._engine import to_numpy
from ._marginals import Marginal, marginal_density
from ._model import (
    FittedModel,
    chunks,
    make_generator,
    quasi_random_points,
    sobol_points,
)
from ._network import uniform

__all__ = ["ConditionalDensity", "GivenDensity", "Marginal", "ReweightedDensity", "resample"]

#: Quasi-random points behind quantiles, and behind moments, that have no closed form.
N_POINTS, N_MOMENT_POINTS = 1024, 256
#: Of which the densest is the start of the way to the mode.
N_STARTS = 256
#: Measurements of each row that a density with errors is averaged over.
N_ERROR_POINTS = 64
#: Rows whose modes are refined at once.
N_CLIMBING = 4096


class ConditionalDensity:
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

    def __init__(self, model: FittedModel, X: np.ndarray, X_err: np.ndarray | None = None):
        self.model = model
        self._X, self._X_err = X, X_err

    def __len__(self) -> int:
        return len(self._X)

    def __repr__(self) -> str:
        return f"ConditionalDensity(n_rows={len(self)}, outputs={self.output_names})"

    def __getitem__(self, rows: Any) -> ConditionalDensity:
        """Densities of some rows: a number, a slice, or an array of numbers or booleans."""
        rows = validation.check_rows(rows, len(self))
        errors = None if self._X_err is None else self._X_err[rows]
        return ConditionalDensity(self.model, self._X[rows], errors)

    @property
    def n_outputs(self) -> int:
        """Number of columns of y."""
        return self.model.n_outputs

    @property
    def output_names(self) -> list[str]:
        """Names of the columns of y."""
        return self.model.codec.names

    @property
    def limits(self) -> np.ndarray:
        """Limits of every output in the units of y, (n_outputs, 2); infinite where none."""
        return self.model.limits

    @property
    def has_errors(self) -> bool:
        """Whether the density is a mean over measurements of X."""
        return self._X_err is not None and not self.model.encoder.use_errors

    @property
    def is_continuous(self) -> bool:
        """Whether every output has a density everywhere: no labels, no point masses."""
        return self.model.is_smooth

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density at one or several y for each row.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs) or (n_rows, n_points, n_outputs)

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_points)
            In nats per unit of every output; -inf outside the limits.
        """
        return self._log_prob(self.model.check_y(without_mask(y), len(self), several=True))

    @torch.no_grad()
    def sample(
        self,
        n_draws: int = 1,
        *,
        random_state: Any = None,
        method: str = "random",
        dtype: Any = np.float64,
        out: np.ndarray | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Draws for every row.

        Parameters
        ----------
        n_draws : int, default=1
        random_state : int, RandomState or None, default=None
            The same seed gives the same draws. None draws fresh ones.
        method : {"random", "sobol"}, default="random"
            Independent draws, or scrambled Sobol points [1]_ taken through the inverse Rosenblatt
            transform. The latter fill each row's density evenly, so that means over them have
            less variance; they are ten times slower and no longer independent of each other.
        dtype : {float32, float64}, default=float64
            Of the result.
        out : ndarray of shape (n_rows, n_draws, n_outputs), default=None
            Where to write the draws, such as a memory map; it is returned.
        progress : bool, default=False
            Whether to show a progress bar, on standard error.

        Returns
        -------
        ndarray of shape (n_rows, n_draws, n_outputs)
            In the units of y, inside the limits. The dtype is object if labels are no numbers.

        References
        ----------
        .. [1] Owen (1998), Scrambling Sobol' and Niederreiter-Xing points.
        """
        validation.check_integer("n_draws", n_draws, 1)
        validation.check_choice("method", method, ("random", "sobol"))
        validation.check_boolean("progress", progress)
        shape: tuple[int, ...] = (len(self), n_draws, self.n_outputs)
        given = out is not None
        if out is None:
            out = np.empty(shape, validation.check_dtype(dtype))
        else:
            validation.check_out(out, shape[:2] if self.model.one_dimensional else shape)
            if self.model.label_outputs:
                raise ValueError("out= takes numbers and cannot hold labels; leave it out.")
        draws = out.reshape(shape)  # a view: only adds an axis
        bar = tqdm(total=len(self), desc="sample", unit="row", disable=not progress)
        make = self._random_draws if method == "random" else self._sobol_draws
        for rows, columns, block in make(n_draws, make_generator(random_state)):
            draws[rows, columns] = block
            bar.update((rows.stop - rows.start) * (columns.stop - columns.start) / n_draws)
        bar.close()
        return out if given else self.model.present(draws)

    def mean(self) -> np.ndarray:
        """Expectation of every output, (n_rows, n_outputs); for labels the most probable one."""
        return self.model.present(self._moments()[0])

    def std(self) -> np.ndarray:
        """Standard deviation of every output, (n_rows, n_outputs)."""
        self._refuse_labels("A standard deviation")
        return self.model.present(np.sqrt(self._moments()[1]))

    def cov(self) -> np.ndarray:
        """Covariance matrix of the outputs, (n_rows, n_outputs, n_outputs); the variance of one.

        Correlations come from quasi-random draws, the diagonal is that of `std`.
        """
        self._refuse_labels("A covariance")
        cov = np.empty((len(self), self.n_outputs, self.n_outputs))
        for rows, draws in self._quasi_random_draws():
            centred = draws - draws.mean(axis=1, keepdims=True)
            cov[rows] = np.einsum("nsi,nsj->nij", centred, centred) / draws.shape[1]
        std = np.sqrt(self._moments()[1])
        drawn = np.sqrt(np.einsum("nii->ni", cov))
        ratio = np.divide(std, drawn, out=np.ones_like(std), where=drawn > 0)
        cov *= ratio[:, :, None] * ratio[:, None, :]
        return cov[:, 0, 0] if self.model.one_dimensional else cov

    def quantile(self, levels: Any) -> np.ndarray:
        """Quantiles of the marginal distribution of every output.

        The output that comes first in the autoregressive order has a closed-form cdf, which is
        inverted; the others use 1,024 quasi-random draws.

        Parameters
        ----------
        levels : float or array-like of shape (n_levels,)
            Strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_rows, n_levels, n_outputs)
        """
        levels = validation.check_quantiles(levels)
        self._refuse_labels("A quantile")
        first = self.model.order[0]
        quantiles = np.empty((len(self), len(levels), self.n_outputs))
        if self.n_outputs > 1:
            for rows, draws in self._quasi_random_draws():
                quantiles[rows] = np.quantile(draws, levels, axis=1).swapaxes(0, 1)
        for rows, z in self._first_quantiles(levels):
            # Only the first column is restored from this; the others are filled up.
            filled = np.repeat(z[..., None], self.n_outputs, axis=-1)
            quantiles[rows, :, first] = self.model.restore(filled)[..., first]
        return self.model.present(quantiles)

    def interval(self, level: float = 0.9) -> np.ndarray:
        """Interval between the quantiles ``(1 - level) / 2`` and ``(1 + level) / 2``.

        Parameters
        ----------
        level : float, default=0.9
            Probability inside, strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_rows, 2, n_outputs)
            Lower and upper end for every output.
        """
        validation.check_real("level", level, 0.0, 1.0)
        return self.quantile([0.5 - 0.5 * level, 0.5 + 0.5 * level])

    def mode(self) -> np.ndarray:
        """Point of highest density of every row, (n_rows, n_outputs).

        The best of 256 quasi-random draws, from which BFGS climbs. With a power transform as
        `y_scaler`, or outputs that have probabilities instead of densities, the best of 1,024.
        """
        model = self.model
        exact = model.on_device(torch.float64)
        climbs = model.y_scaler.linear and model.is_smooth
        modes = np.empty((len(self), self.n_outputs))
        for rows, draws in self._quasi_random_draws(N_STARTS if climbs else N_POINTS):
            z = model.scale(draws)
            log_prob = self[rows]._scaled_log_density(z)
            best = (log_prob + model.log_jacobian(draws).sum(-1)).argmax(axis=1)
            modes[rows] = z[np.arange(len(z)), best]
        if climbs:
            for rows in chunks(len(self), N_CLIMBING):
                x, start = (model.tensor(v, exact) for v in (self._contexts(rows), modes[rows]))
                modes[rows] = to_numpy(_model.climb(exact, x, start))
        return self.model.present(model.restore(modes))

    @torch.no_grad()
    def cdf(self, y: Any, *, random_state: Any = 0) -> np.ndarray:
        """Rosenblatt transform of y to the unit cube: the cdf of each conditional.

        For a calibrated model the result is uniform and independent, between rows and between
        outputs. With several members this is the transform of their mixture, not of each.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs)
        random_state : int, RandomState or None, default=0
            Chooses a point of the jump where a value has a probability: labels, whole numbers,
            point masses.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            Column j is the cdf of output j given x and the outputs before it in the
            autoregressive order.
        """
        y = np.clip(self.model.check_y(without_mask(y), len(self)), *self.model.limits.T)
        network, model = self.model.on_device(torch.float64), self.model
        generator = make_generator(random_state)
        u = np.empty(y.shape)
        for rows in chunks(len(y), _model.CHUNK // network.n_members):
            z = model.tensor(model.scale(y[rows]), network)
            noise = uniform(tuple(z.shape), generator, z.dtype).to(z.device)
            x = model.tensor(self._contexts(rows), network)
            u[rows] = to_numpy(_model.rosenblatt(network, x, z, noise))
        u = u[:, np.argsort(model.order)]
        return u[:, 0] if model.one_dimensional else u

    @torch.no_grad()
    def inverse_cdf(self, u: Any) -> np.ndarray:
        """Inverse of `cdf`.

        Parameters
        ----------
        u : array-like of shape (n_rows, n_outputs)
            Strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            Values whose conditional cdfs are `u`.
        """
        shape = (len(self),) if self.model.one_dimensional else (len(self), self.n_outputs)
        u = validation.check_unit_cube(u, shape).reshape(len(self), self.n_outputs)
        return self.model.present(
            self._from_unit_cube(np.arange(len(self)), u[:, self.model.order])
        )

    def marginal(
        self,
        outputs: Any,
        *,
        grid: Any = None,
        n_points: int = 128,
        n_draws: int = 256,
    ) -> Marginal:
        """Marginal density of one output, or joint density of two, on a grid.

        The exact conditional densities are averaged over quasi-random draws of the outputs before
        them, which leaves far less noise than a kernel estimate from as many draws.

        Parameters
        ----------
        outputs : int, str, or pair of these
            Column numbers or names.
        grid : array-like of shape (n_points,), or a pair of these, default=None
            Values at which to evaluate each output. None covers all but a thousandth of the mass
            of all rows.
        n_points : int, default=128
            Size of each grid that is not given.
        n_draws : int, default=256
            Draws of the earlier outputs.

        Returns
        -------
        Marginal
        """
        columns = validation.check_outputs(outputs, self.output_names)
        validation.check_integer("n_points", n_points, 2)
        validation.check_integer("n_draws", n_draws, 1)
        for j in columns:
            if j in self.model.label_outputs:
                raise ValueError(
                    f"output {j} ({self.output_names[j]}) has labels, which have no density; "
                    "count them in draws."
                )
        grids = validation.check_grids(grid, len(columns))
        values = [
            self._grid(j, n_points) if one is None else one
            for j, one in zip(columns, grids, strict=True)
        ]
        contexts = self._contexts(slice(None), 16)
        density = marginal_density(self.model, contexts, columns, values, n_draws)
        return Marginal([self.output_names[j] for j in columns], values, density)

    def given(self, known: Mapping[Any, Any]) -> GivenDensity:
        """Density of the other outputs when some are known.

        Parameters
        ----------
        known : dict
            Value, or ``(n_rows,)`` values, by column number or name.

        Returns
        -------
        GivenDensity
            Exact if the known outputs come first in the autoregressive order; otherwise by
            importance weights, whose effective number is returned on request.
        """
        values = validation.check_known(known, self.output_names, len(self), self.limits)
        codec = self.model.codec
        codes = {j: codec.encode_column(j, column) for j, column in values.items()}
        return GivenDensity(self, codes)

    def marginalise(self, ratio: Callable[[np.ndarray], np.ndarray]) -> ReweightedDensity:
        """Density under a new prior.

        A model learns ``p(y | x) ~ p(x | y) p(y)`` with the p(y) of its training rows. For
        another prior q(y) it must be multiplied by ``ratio(y) = q(y) / p(y)``.

        Parameters
        ----------
        ratio : callable
            Takes y of shape (n, n_outputs) and returns (n,) ratios, not negative, up to one
            common factor.

        Returns
        -------
        ReweightedDensity
        """
        if not callable(ratio):
            raise TypeError(
                f"ratio must be a function of y (n, n_outputs), got {type(ratio).__name__}; for "
                "weights of draws that you have, use sklearn_san.density.resample."
            )
        return ReweightedDensity(self, ratio)

    def entropy(self, n_draws: int = 1024) -> np.ndarray:
        """Differential entropy of every row in nats, from quasi-random draws.

        Parameters
        ----------
        n_draws : int, default=1024
            The error falls with their number, a little faster than with the root of it.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        validation.check_integer("n_draws", n_draws, 1)
        entropy = np.empty(len(self))
        for rows, draws in self._quasi_random_draws(n_draws):
            entropy[rows] = -self[rows]._log_prob(draws).mean(axis=1)
        return entropy

    def kl(self, other: Any, n_draws: int = 1024) -> np.ndarray:
        """Kullback-Leibler divergence from `other` in nats: the mean of log p - log other.

        Parameters
        ----------
        other : ConditionalDensity
            Of as many rows and the same outputs; whatever has rows and `log_prob` will do.
        n_draws : int, default=1024
            Quasi-random draws of this density.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        validation.check_integer("n_draws", n_draws, 1)
        if not (hasattr(other, "log_prob") and hasattr(other, "__len__")):
            raise TypeError(
                f"other must be a density with rows and `log_prob`, got {type(other).__name__}."
            )
        if len(other) != len(self):
            raise ValueError(f"other has {len(other)} rows, but this density has {len(self)}.")
        divergence = np.empty(len(self))
        for rows, draws in self._quasi_random_draws(n_draws):
            ratio = self[rows]._log_prob(draws) - other[rows].log_prob(self.model.present(draws))
            divergence[rows] = ratio.mean(axis=1)
        return divergence

    def to_frame(self, n_draws: int = 100, *, random_state: Any = None, index: Any = None) -> Any:
        """Draws as a pandas frame, with y's names and dtypes.

        Parameters
        ----------
        n_draws : int, default=100
        random_state : int, RandomState or None, default=None
        index : sequence of length n_rows, default=None
            Names of the rows; None numbers them.

        Returns
        -------
        DataFrame
            One row for each draw, indexed by row and draw.
        """
        validation.check_integer("n_draws", n_draws, 1)
        if index is not None and np.shape(index)[:1] != (len(self),):
            raise ValueError(
                f"index must have one entry for each of the {len(self)} rows, got {index!r}."
            )
        draws = np.empty((len(self), n_draws, self.n_outputs))
        for rows, columns, block in self._random_draws(n_draws, make_generator(random_state)):
            draws[rows, columns] = block
        return self.model.codec.to_frame(draws, index)

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

    def _contexts(self, rows: Any, n_points: int = N_ERROR_POINTS) -> np.ndarray:
        """What the network sees, (n, n_points, n_inputs); one point without measurement errors."""
        if not self.has_errors:
            return self._inputs(rows)[:, None]
        return self._jittered(rows, _normal_points(self._X.shape[1], n_points)[None])

    def _measured(self, rows: slice, n: int, generator: torch.Generator) -> np.ndarray:
        """What the network sees of `n` random measurements of each row, or of the row itself."""
        if not self.has_errors:
            return self._inputs(rows)[:, None]
        shape = (rows.stop - rows.start, n, self._X.shape[1])
        return self._jittered(rows, ndtri(uniform(shape, generator, torch.float64).numpy()))

    @torch.no_grad()
    def _scaled_log_density(self, z: np.ndarray) -> np.ndarray:
        """Log density at scaled values (n_rows, n_outputs) or (n_rows, n_points, n_outputs)."""
        contexts = self._contexts(slice(None))
        n_rows, n_contexts, n_inputs = contexts.shape
        x = contexts.reshape(-1, n_inputs)
        if n_contexts == 1:
            return self.model.engine.log_density(x, z)
        log_prob = self.model.engine.log_density(x, np.repeat(z, n_contexts, axis=0))
        log_prob = log_prob.reshape(n_rows, n_contexts, *z.shape[1:-1])
        return logsumexp(log_prob, axis=1) - np.log(n_contexts)

    def _refuse_labels(self, what: str) -> None:
        for j in self.model.label_outputs:
            raise ValueError(
                f"{what} has no meaning for the labels of output {j} ({self.output_names[j]}); use "
                "'mean', which gives the most probable label, 'mode' or 'samples'."
            )

    @torch.no_grad()
    def _log_prob(self, y: np.ndarray) -> np.ndarray:
        """`log_prob` of checked values (n_rows, n_outputs) or (n_rows, n_points, n_outputs)."""
        model, network = self.model, self.model.on_device()
        low, high = model.limits.T
        outside = ((y < low) | (y > high)).any(axis=-1)
        log_prob = np.empty(y.shape[:-1])
        n_points = y[0].size // self.n_outputs
        n_contexts = N_ERROR_POINTS if self.has_errors else 1
        for rows in chunks(len(y), max(1, _model.CHUNK // n_points // n_contexts)):
            # Values outside are scored at the nearest limit first, so that scalers accept them.
            clipped = np.clip(y[rows], low, high)
            z = model.scale(clipped)
            log_prob[rows] = self[rows]._scaled_log_density(z)
            x = model.tensor(self._inputs(rows), network).repeat_interleave(n_points, 0)
            flat = model.tensor(z.reshape(-1, self.n_outputs), network)
            counts = ~network.is_mass(x, flat).cpu().numpy().reshape(clipped.shape)
            counts &= ~np.isnan(z)  # missing outputs
            log_prob[rows] += np.where(counts, model.log_jacobian(clipped), 0.0).sum(axis=-1)
        return np.where(outside, -np.inf, log_prob)

    def _random_draws(
        self, n_draws: int, generator: torch.Generator
    ) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Blocks of independent draws with their rows and columns."""
        engine, network = self.model.engine, self.model.network
        draw, dtype = engine.draw, next(engine.network.parameters()).dtype
        n_numbers = self.n_outputs * network.n_noise + 1  # the first chooses the member
        for rows, columns in _blocks(len(self), n_draws):
            shape = (rows.stop - rows.start, columns.stop - columns.start, n_numbers)
            # Consumed in the order of the result, whatever the size of the blocks.
            noise = uniform(shape, generator, dtype).numpy()
            if not self.has_errors:
                z = draw(self._inputs(rows).astype(noise.dtype), noise)
            else:  # each draw has a measurement of its own
                z = _draw_one_by_one(draw, self._measured(rows, shape[1], generator), noise)
            yield rows, columns, self.model.restore(z)

    def _sobol_draws(
        self, n_draws: int, generator: torch.Generator
    ) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Scrambled Sobol points through the inverse Rosenblatt transform.

        Each row gets its own random shift of the points, so that rows are independent.
        """
        seed = int(torch.randint(2**31, (), generator=generator))
        engine = qmc.Sobol(self.n_outputs, rng=np.random.default_rng(seed))
        points = engine.random_base2(max(n_draws - 1, 1).bit_length())[:n_draws]
        size = max(1, _model.CHUNK // n_draws)
        for rows in chunks(len(self), size):
            n = rows.stop - rows.start
            shift = uniform((n, 1, self.n_outputs), generator, torch.float64).numpy()
            u = np.clip((points + shift) % 1.0, 1e-12, 1.0 - 1e-12)  # (n, n_draws, n_outputs)
            index = np.repeat(np.arange(rows.start, rows.stop), n_draws)
            y = self._from_unit_cube(index, u.reshape(-1, self.n_outputs))
            yield rows, slice(0, n_draws), y.reshape(u.shape)

    @torch.no_grad()
    def _from_unit_cube(self, index: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Values (n, n_outputs) of the rows `index` at u in autoregressive order."""
        network, model = self.model.on_device(torch.float64), self.model
        y = np.empty(u.shape)
        for rows in chunks(len(u), _model.CHUNK):
            x = model.tensor(self._contexts(index[rows]), network)
            z = _model.inverse_rosenblatt(network, x, model.tensor(u[rows], network))
            y[rows] = model.restore(to_numpy(z))
        return y

    @torch.no_grad()
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of every output, averaged over draws of the outputs before it."""
        model = self.model
        if not model.y_scaler.linear or self.has_errors:
            return self._moments_of_draws()
        network = model.network
        closed_form = self.n_outputs == 1 and network.families[0].cheap_moments
        n_points = 1 if closed_form else max(N_MOMENT_POINTS // network.n_members, 64)
        mean, variance = np.empty((2, len(self), self.n_outputs))
        points = quasi_random_points(network, n_points)
        for rows in chunks(len(self), max(1, _model.CHUNK // len(points))):
            mean[rows], variance[rows] = model.engine.moments_at(self._inputs(rows), points)
        back = np.argsort(model.order)
        mean = model.y_scaler.inverse_transform(mean)[:, back]
        return mean, (variance / model.y_scaler.slope**2)[:, back]

    def _moments_of_draws(self) -> tuple[np.ndarray, np.ndarray]:
        """Moments after a scaler that is not linear, from quasi-random draws."""
        mean, variance = np.empty((2, len(self), self.n_outputs))
        for rows, draws in self._quasi_random_draws():
            mean[rows], variance[rows] = draws.mean(axis=1), draws.var(axis=1)
            for d in self.model.label_outputs:
                codes = draws[..., d].astype(int)
                counts = (codes[..., None] == np.arange(codes.max() + 1)).sum(axis=1)
                mean[rows, d] = counts.argmax(axis=1)
        return mean, variance

    @torch.no_grad()
    def _quasi_random_draws(self, n_draws: int = N_POINTS) -> Iterator[tuple[slice, np.ndarray]]:
        """Chunks of rows with their draws, (n_rows, n_draws, n_outputs).

        All rows share one set of points, so that no row's result depends on the others. There are
        at least `n_draws`, as many from each member.
        """
        model = self.model
        points = quasi_random_points(model.network, -(-n_draws // model.network.n_members))
        for rows in chunks(len(self), max(1, _model.CHUNK // len(points))):
            if self.has_errors:
                z = self._draws_with_errors(rows, points)
            else:
                z = model.engine.draw_at(self._inputs(rows), points)
            yield rows, model.restore(z)

    def _draws_with_errors(self, rows: slice, points: np.ndarray) -> np.ndarray:
        """Scaled quasi-random draws (n, n_draws, n_outputs), each with its own measurement."""
        normal = _normal_points(self._X.shape[1], len(points))[None]
        contexts = self._jittered(rows, normal)
        shared = np.broadcast_to(points, (len(contexts), *points.shape))
        return _draw_one_by_one(self.model.engine.draw, contexts, shared)

    @torch.no_grad()
    def _first_quantiles(self, levels: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Exact scaled quantiles (n_rows, n_levels) of the first output in the network."""
        network, model = self.model.on_device(torch.float64), self.model
        u = model.tensor(levels, network)
        for rows in chunks(len(self), max(1, _model.CHUNK // len(levels) // network.n_members)):
            x = model.tensor(self._contexts(rows), network)
            yield rows, to_numpy(_model.first_quantiles(network, x, u))

    def _grid(self, j: int, n_points: int) -> np.ndarray:
        """Grid over all but a thousandth of the mass of output j in all rows."""
        low, high = np.inf, -np.inf
        for _, draws in self._quasi_random_draws():
            ends = np.quantile(draws[..., j], [0.0005, 0.9995], axis=1)
            low, high = min(low, ends[0].min()), max(high, ends[1].max())
        margin = 0.05 * (high - low)
        low, high = np.clip([low - margin, high + margin], *self.limits[j])
        grid = np.linspace(low, high, n_points)
        family = self.model.families[self.model.order.tolist().index(j)]
        return np.unique(family.snap(grid, self.limits[j], 0.0)) if family.discrete else grid


def _draw_one_by_one(draw: Any, contexts: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Draws of which each has its own context, (n, n_draws, n_inputs)."""
    n, n_draws, n_numbers = noise.shape
    x = contexts.reshape(n * n_draws, -1).astype(noise.dtype)
    return draw(x, noise.reshape(n * n_draws, 1, n_numbers)).reshape(n, n_draws, -1)


def _normal_points(n_features: int, n_points: int) -> np.ndarray:
    """Fixed quasi-random points of a standard normal, (n_points, n_features)."""
    return ndtri(np.clip(sobol_points(n_points, n_features), 1e-12, 1.0 - 1e-12))


def _blocks(n_rows: int, n_draws: int) -> Iterator[tuple[slice, slice]]:
    """Rows and draws to compute at once: several whole rows, or a part of one row's draws."""
    for rows in chunks(n_rows, max(1, _model.CHUNK // n_draws)):
        whole = rows.stop - rows.start > 1
        for draws in chunks(n_draws, n_draws if whole else _model.CHUNK):
            yield rows, draws
