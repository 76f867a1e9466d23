"""The protocol of all densities, and what follows from draws and log densities alone.

A kind of density says how it is drawn from and what its log density is. Mean, quantiles, mode,
entropy and the like then follow from weighted draws at fixed points, which all rows share, so that
no row's result depends on the rows beside it. Marginal densities follow from *pinned* draws, in
which some outputs have given values v and the others are drawn,

    p(v | x) = E exp(log_weight),    log_weight = sum_(j pinned) log p(v_j | x, outputs before j)

Kinds that know more, such as closed forms, override.

=============  =====================================================================
`Density`      the members of every density, with their shapes and units
=============  =====================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
from scipy.special import logsumexp
from tqdm.auto import tqdm

from . import _validation as validation
from ._caller_state import OwnState
from ._densest import count_modes, densest_region, highest_points
from ._draws import grid_blocks, weighted_mean, weighted_quantiles
from ._keyed_noise import Noise, make_noise
from ._marginals import Components, Marginal
from ._model import chunks
from ._targets import TargetCodec, named_columns, on_limits, single_inside

#: Draws behind means, quantiles and modes, and the same where they have weights.
N_POINTS, N_CANDIDATES = 1024, 8192
#: Draws behind marginal densities.
N_PINNED = 256
#: Draws behind the highest density of one output, and points beside 104 quantiles of each row.
N_DENSEST, N_EVEN = 1024, 200
#: Levels between whose quantiles others are sought, and halvings of what lies between.
N_BRACKETS, N_HALVINGS = 65, 40
#: Pairs of row and weighted draw that are computed at once.
PAIRS = 65_536
#: Pairs of row and pinned draw that are computed at once.
PINNED = 262_144

#: Summaries that labels do not have.
_NOT_OF_LABELS = {
    "std": "A standard deviation",
    "median": "A quantile",
    "quantiles": "A quantile",
}

#: Rows, draws and values of a block of draws.
Block = tuple[slice, slice, np.ndarray]


class SameOutputs:
    """Of a density whose outputs are those of another one, its `density`."""

    density: Any

    @property
    def output_names(self) -> list[str]:
        """Names of the columns of y."""
        return self.density.output_names

    @property
    def limits(self) -> np.ndarray:
        """Limits of every output, (n_outputs, 2)."""
        return self.density.limits

    @property
    def one_dimensional(self) -> bool:
        """Whether y was one-dimensional in `fit`."""
        return self.density.one_dimensional

    @property
    def is_continuous(self) -> bool:
        """Whether every output has a density everywhere."""
        return self.density.is_continuous


def is_shared(density: Any, y: Any) -> bool:
    """Whether a density is that of one row, for which there are several y."""
    has_rows = hasattr(y, "__len__") and getattr(y, "ndim", 1) > 0
    return len(density) == 1 and has_rows and len(y) != 1


def summary_frame(density: Any, statistics: Any, index: Any) -> Any:
    """`Density.summary` of a density of any kind."""
    levels = validation.check_columns_of_summary(statistics)
    check_index(index, len(density))
    at = [level for level in levels.values() if level is not None]
    wanted = [one for one, level in levels.items() if level is None] + ["quantiles"] * bool(at)
    found = density.summarise(wanted, quantiles=at or 0.5)
    if at:
        quantiles = np.moveaxis(found["quantiles"], 1, 0)  # (n_levels, n_rows, n_outputs)
        found |= zip([one for one in levels if levels[one] is not None], quantiles, strict=True)
    names = density.output_names
    columns = {
        f"{name}_{one}": found[one].reshape(len(density), len(names))[:, j]
        for j, name in enumerate(names)
        for one in levels
    }
    return named_columns(columns, density.index if index is None else index)


def check_index(index: Any, n_rows: int) -> None:
    """Raise unless `index` is None or has a name for each row."""
    if index is not None and np.shape(index)[:1] != (n_rows,):
        raise ValueError(f"index must have one entry for each of the {n_rows} rows, got {index!r}.")


class Density(OwnState, ABC):
    """One density of y for each row: the members that every kind of density has.

    Arrays are rows first, in the units and the column order of y. If y was one-dimensional in
    `fit`, the axis of the outputs is missing in everything that goes in or comes out. Where a kind
    of density has no answer, the member raises `NotImplementedError` and says why.
    """

    #: Names of the rows, such as the index of the frame that they come from; None if they have none
    index: Any = None

    # What the density is of

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_rows={len(self)}, outputs={self.output_names})"

    @abstractmethod
    def __getitem__(self, rows: Any) -> Density:
        """Densities of some rows: a number, a slice, or an array of numbers or booleans."""

    @property
    def n_outputs(self) -> int:
        """Number of columns of y."""
        return len(self.output_names)

    @property
    @abstractmethod
    def output_names(self) -> list[str]:
        """Names of the columns of y."""

    @property
    @abstractmethod
    def limits(self) -> np.ndarray:
        """Limits of every output in the units of y, (n_outputs, 2); infinite where none."""

    @property
    @abstractmethod
    def one_dimensional(self) -> bool:
        """Whether y was one-dimensional in `fit`."""

    @property
    @abstractmethod
    def is_continuous(self) -> bool:
        """Whether every output has a density everywhere: no labels, no point masses."""

    # Densities

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density at one or several y for each row.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs) or (n_rows, n_points, n_outputs)
            The density of a single row takes any number of y, (n_points, n_outputs), as well.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_points)
            In nats per unit of every output; -inf outside the limits. (n_points,) for so many y of
            a single row.
        """
        if is_shared(self, y):
            values = self[np.zeros(len(y), dtype=int)]._check_y(y)
            return self._log_prob(values[None])[0]
        return self._log_prob(self._check_y(y, several=True))

    @abstractmethod
    def grad_log_prob(self, y: Any) -> np.ndarray:
        """Gradient of `log_prob` by y.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs) or (n_rows, n_points, n_outputs)

        Returns
        -------
        ndarray of the shape of y
            In nats per unit of each output, the Jacobian of scalers included; 0 for missing
            outputs, nan outside the limits. As exact as `log_prob`: in the dtype of the network.

        Raises
        ------
        NotImplementedError
            If an output has probabilities instead of a density.
        """

    @abstractmethod
    def cdf(self, y: Any, *, random_state: Any = 0) -> np.ndarray:
        """Rosenblatt transform of y to the unit cube: the cdf of each conditional.

        For a calibrated model the result is uniform and independent, between rows and between
        outputs. With several members this is the transform of their mixture, not of each.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs)
        random_state : int, RandomState or None, default=0
            Chooses a point of the jump where a value has a probability: labels, whole numbers,
            point masses, known outputs.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            Column j is the cdf of output j given x and the outputs before it in the
            autoregressive order; nan for missing outputs.
        """

    @abstractmethod
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

    # Draws

    def sample(
        self,
        n_draws: int = 1,
        *,
        random_state: Any = None,
        method: str = "random",
        dtype: Any = None,
        out: Any = None,
        progress: bool = False,
        row_ids: Any = None,
    ) -> Any:
        """Draws for every row.

        Parameters
        ----------
        n_draws : int, default=1
        random_state : int, RandomState or None, default=None
            The same seed gives the same draws. None draws fresh ones.
        method : {"random", "sobol"}, default="random"
            Independent draws, or scrambled Sobol points [1]_ taken through `inverse_cdf`. The
            latter fill each row's density evenly, so that means over them have less variance;
            they are ten times slower and no longer independent of each other.
        dtype : {float32, float64}, default=None
            Of the result; None is float64, or the dtype of `out`.
        out : array-like of shape (n_rows, n_draws, n_outputs), default=None
            Where to write the draws, block by block: an array, a memory map, a data set of HDF5 or
            zarr, or whatever else has a shape, a dtype and item assignment; it is returned. May be
            float32.
        progress : bool, default=False
            Whether to show a progress bar, on standard error.
        row_ids : array-like of shape (n_rows,), default=None
            Name of each row, a whole number or text. The draws of a row then depend on its name
            and `random_state`, a whole number, alone: they are the same whatever rows are beside
            it, and independent of those of other rows in other calls. Without names the noise
            belongs to the position of a row, so that parts of a table need seeds of their own.

        Returns
        -------
        ndarray of shape (n_rows, n_draws, n_outputs)
            In the units of y, inside the limits. The dtype is object if labels are no numbers.

        References
        ----------
        .. [1] Owen (1998), Scrambling Sobol' and Niederreiter-Xing points.
        """
        validation.check_integer("n_draws", n_draws, 1)
        noise = make_noise(random_state, row_ids, len(self))
        blocks = self._draw_blocks(n_draws, noise, method)
        return self._collect(blocks, n_draws, dtype, out, progress=progress)

    def to_frame(
        self,
        n_draws: int = 100,
        *,
        random_state: Any = None,
        method: str = "random",
        index: Any = None,
        progress: bool = False,
        row_ids: Any = None,
    ) -> Any:
        """Draws as a pandas frame, with y's names and dtypes.

        Parameters
        ----------
        n_draws : int, default=100
        random_state : int, RandomState or None, default=None
        method : {"random", "sobol"}, default="random"
            As for `sample`.
        index : sequence of length n_rows, default=None
            Names of the rows; None takes the index of the frame that they come from, else numbers.
        progress : bool, default=False
        row_ids : array-like of shape (n_rows,), default=None
            As for `sample`.

        Returns
        -------
        DataFrame
            One row for each draw, indexed by the name of its row, which keeps its own name or is
            called row, and by draw.
        """
        validation.check_integer("n_draws", n_draws, 1)
        check_index(index, len(self))
        noise = make_noise(random_state, row_ids, len(self))
        blocks = self._draw_blocks(n_draws, noise, method)
        draws = np.empty((len(self), n_draws, self.n_outputs))
        self._fill(draws, blocks, n_draws, progress=progress)
        return self._codec.to_frame(draws, self.index if index is None else index)

    # Summaries

    def summarise(
        self,
        statistics: Any = ("mean", "std", "quantiles"),
        *,
        quantiles: Any = (0.05, 0.5, 0.95),
    ) -> dict[str, np.ndarray]:
        """Several summaries at once, all but the mode from one pass over the network.

        Parameters
        ----------
        statistics : str or sequence of str, default=("mean", "std", "quantiles")
            Any of "mean", "median", "std", "quantiles" and "mode".
        quantiles : float or sequence of float, default=(0.05, 0.5, 0.95)
            Levels of "quantiles", strictly between 0 and 1.

        Returns
        -------
        dict of str to ndarray
            What the members of these names return, and `quantile` for "quantiles".
        """
        statistics = validation.check_statistics("statistics", statistics)
        levels = validation.check_quantiles(quantiles)
        for one, what in _NOT_OF_LABELS.items():
            if one in statistics:
                self._refuse_labels(what)
        n_levels = len(levels) if "quantiles" in statistics else 0
        levels = levels[:n_levels]
        if "median" in statistics:
            levels = np.append(levels, 0.5)
        with_moments = "mean" in statistics or "std" in statistics
        found: dict[str, np.ndarray] = {}
        if with_moments or len(levels):
            mean, variance, at = self._summaries(levels, with_moments=with_moments)
            found = {"mean": mean, "std": np.sqrt(variance), "quantiles": at[:, :n_levels]}
            found["median"] = at[:, -1] if len(levels) else mean
        return {
            one: self.mode() if one == "mode" else self._present(found[one]) for one in statistics
        }

    def summary(
        self, statistics: Any = ("mean", "std", "q05", "q50", "q95"), *, index: Any = None
    ) -> Any:
        """Summaries as a pandas frame, with names of rows and outputs.

        Parameters
        ----------
        statistics : str or sequence of str, default=("mean", "std", "q05", "q50", "q95")
            Any of "mean", "median", "std" and "mode", and quantiles in percent, such as "q16" or
            "q97.5".
        index : sequence of length n_rows, default=None
            Names of the rows; None takes the index of the frame that they come from, else numbers.

        Returns
        -------
        DataFrame
            One row for each row, and for each output the columns name_mean, name_q16 and so on.
        """
        return summary_frame(self, statistics, index)

    def mean(self) -> np.ndarray:
        """Expectation of every output, (n_rows, n_outputs); for labels the most probable one."""
        return self.summarise(("mean",))["mean"]

    def std(self) -> np.ndarray:
        """Standard deviation of every output, (n_rows, n_outputs)."""
        return self.summarise(("std",))["std"]

    def cov(self) -> np.ndarray:
        """Covariance matrix of the outputs, (n_rows, n_outputs, n_outputs); the variance of one.

        Correlations come from quasi-random draws, the diagonal is that of `std`.
        """
        self._refuse_labels("A covariance")
        cov = np.empty((len(self), self.n_outputs, self.n_outputs))
        for rows, y, weight in self._weighted_draws(N_POINTS):
            centred = y - (weight[..., None] * y).sum(axis=1, keepdims=True)
            cov[rows] = np.einsum("ns,nsi,nsj->nij", weight, centred, centred, optimize=True)
        std = np.sqrt(self._summaries(np.empty(0), with_moments=True)[1])
        drawn = np.sqrt(np.einsum("nii->ni", cov))
        ratio = np.divide(std, drawn, out=np.ones_like(std), where=drawn > 0)
        cov *= ratio[:, :, None] * ratio[:, None, :]
        return cov[:, 0, 0] if self.one_dimensional else cov

    def quantile(self, levels: Any) -> np.ndarray:
        """Quantiles of the marginal distribution of every output.

        Where the density is the network's own they are those of the mean of its conditionals over
        quasi-random draws of the outputs before [1]_, so that the tails are as exact as the middle;
        nothing is drawn before the output that comes first in the autoregressive order. Those of
        other densities come from 1,024 weighted draws or more.

        Parameters
        ----------
        levels : float or array-like of shape (n_levels,)
            Strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_rows, n_levels, n_outputs)

        References
        ----------
        .. [1] Gelfand and Smith (1990), Sampling-based approaches to calculating marginal
           densities.
        """
        return self.summarise(("quantiles",), quantiles=levels)["quantiles"]

    def median(self) -> np.ndarray:
        """Median of the marginal distribution of every output, (n_rows, n_outputs)."""
        return self.quantile(0.5)[:, 0]

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

        Where the network's own density is asked, plain or with known outputs, and every output has
        a density, BFGS climbs for a fixed number of steps from several of the densest quasi-random
        draws that lie apart. Otherwise the densest draw.
        """
        return self._present(self._best_draws(N_POINTS))

    def entropy(self, n_draws: int = N_POINTS) -> np.ndarray:
        """Differential entropy of every row in nats, from quasi-random draws.

        Parameters
        ----------
        n_draws : int, default=1024
            At least. The error falls with their number, a little faster than with the root of it.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        validation.check_integer("n_draws", n_draws, 1)
        entropy = np.empty(len(self))
        for rows, y, weight in self._weighted_draws(n_draws):
            entropy[rows] = -weighted_mean(self[rows]._log_prob(y), weight)
        return entropy

    def kl(self, other: Any, n_draws: int = N_POINTS) -> np.ndarray:
        """Kullback-Leibler divergence from `other` in nats: the mean of log p - log other.

        Parameters
        ----------
        other : Density
            Of as many rows and the same outputs; whatever has rows and `log_prob` will do.
        n_draws : int, default=1024
            Quasi-random draws of this density, at least.

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
        names = getattr(other, "output_names", self.output_names)
        if names != self.output_names:
            raise ValueError(
                f"other has the outputs {', '.join(names)}, but this density has "
                f"{', '.join(self.output_names)}, in this order."
            )
        divergence = np.empty(len(self))
        for rows, y, weight in self._weighted_draws(n_draws):
            ratio = self[rows]._log_prob(y) - other[rows].log_prob(self._present(y))
            divergence[rows] = weighted_mean(ratio, weight)
        return divergence

    # One or two outputs

    def marginal(
        self,
        outputs: Any,
        *,
        grid: Any = None,
        n_points: int = 128,
        n_draws: int = N_PINNED,
    ) -> Marginal:
        """Marginal density of one output, or joint density of two, on a grid.

        The exact conditional densities are averaged over quasi-random draws of the other outputs
        [1]_, which leaves far less noise than a kernel estimate from as many draws.

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
            Draws of the other outputs.

        Returns
        -------
        Marginal

        References
        ----------
        .. [1] Gelfand and Smith (1990), Sampling-based approaches to calculating marginal
           densities.
        """
        columns = validation.check_outputs(outputs, self.output_names)
        validation.check_integer("n_points", n_points, 2)
        validation.check_integer("n_draws", n_draws, 1)
        for j in columns:
            self._check_marginal(j)
        given = validation.check_grids(grid, len(columns))
        grids = [
            self._grid(j, n_points) if one is None else one
            for j, one in zip(columns, given, strict=True)
        ]
        names = [self.output_names[j] for j in columns]
        if len(columns) == 1:
            return Marginal(names, grids[0], self._grid_density(columns[0], grids[0], n_draws))
        pinned = {columns[0]: grids[0][None, :, None], columns[1]: grids[1][None, None]}
        return Marginal(names, grids, np.exp(self._pinned_log_prob(pinned, n_draws)))

    def pdf_grid(self, output: Any, grid: Any, *, n_draws: int = N_PINNED) -> np.ndarray:
        """Density of one output on a grid that all rows share, in one pass over the network.

        For the output that comes first in the autoregressive order it is the network's own; for
        others the mean of their conditional densities over quasi-random draws of the outputs before
        them. To the accuracy of float32.

        Parameters
        ----------
        output : int or str
            Column number or name.
        grid : array-like of shape (n_points,)
            Rising values of the output.
        n_draws : int, default=256
            Draws of the other outputs.

        Returns
        -------
        ndarray of shape (n_rows, n_points)
            Per unit of the output, 0 outside the limits; probabilities for whole numbers.
        """
        j = self._check_marginal(validation.check_output(output, self.output_names, "output"))
        validation.check_integer("n_draws", n_draws, 1)
        (values,) = validation.check_grids(grid, 1)
        if values is None:
            raise ValueError("grid must hold rising numbers, got None.")
        return self._grid_density(j, values, n_draws)

    def marginal_log_prob(self, output: Any, values: Any, *, n_draws: int = N_PINNED) -> np.ndarray:
        """Log of the marginal density of one output at given values of each row.

        Parameters
        ----------
        output : int or str
            Column number or name.
        values : array-like of shape (n_rows,) or (n_rows, n_values)
            In the units of the output.
        n_draws : int, default=256
            Draws of the other outputs.

        Returns
        -------
        ndarray of the shape of `values`
            In nats per unit of the output; -inf outside the limits.
        """
        j = self._check_marginal(validation.check_output(output, self.output_names, "output"))
        validation.check_integer("n_draws", n_draws, 1)
        values = on_limits(self._check_values(values), self.limits[j])
        by_row = values.reshape(len(self), 1, values[:1].size or 1)
        log_prob = self._pinned_log_prob({j: by_row}, n_draws)
        return log_prob.reshape(values.shape)

    def marginal_cdf(self, output: Any, values: Any, *, n_draws: int = N_PINNED) -> np.ndarray:
        """Marginal cdf of one output at given values of each row.

        Parameters
        ----------
        output : int or str
            Column number or name.
        values : array-like of shape (n_rows,) or (n_rows, n_values)
            In the units of the output.
        n_draws : int, default=256
            Draws of the other outputs; where conditional cdfs cannot be averaged over them, the
            weight of at least 1,024 draws up to each value is taken.

        Returns
        -------
        ndarray of the shape of `values`
            Probability of at most the value.
        """
        j = self._check_marginal(validation.check_output(output, self.output_names, "output"))
        validation.check_integer("n_draws", n_draws, 1)
        values = on_limits(self._check_values(values), self.limits[j])
        by_row = values.reshape(len(self), values[:1].size or 1)
        cdf = self._marginal_cdf(j, by_row, n_draws)
        return cdf.reshape(values.shape)

    def marginal_inverse_cdf(self, output: Any, u: Any, *, n_draws: int = N_PINNED) -> np.ndarray:
        """Inverse of `marginal_cdf`: quantiles of one output at levels of each row.

        Where all rows have the same levels, `quantile` is the faster way to them.

        Parameters
        ----------
        output : int or str
            Column number or name.
        u : array-like of shape (n_rows,) or (n_rows, n_values)
            Strictly between 0 and 1.
        n_draws : int, default=256
            As for `marginal_cdf`.

        Returns
        -------
        ndarray of the shape of `u`
            In the units of the output.
        """
        j = self._check_marginal(validation.check_output(output, self.output_names, "output"))
        validation.check_integer("n_draws", n_draws, 1)
        u = self._check_values(u)
        u = validation.check_unit_cube(u, u.shape)
        levels = np.unique(u)
        if len(levels) > N_BRACKETS:
            levels = levels[np.linspace(0, len(levels) - 1, N_BRACKETS).round().astype(int)]
        elif not len(levels):
            return u
        # Between quantiles at levels that all rows share
        by_row = u.reshape(len(self), u[:1].size)
        place = np.searchsorted(levels, by_row)
        quantiles = self._quantiles_of(j, levels)
        high = np.take_along_axis(quantiles, place, axis=1)
        if (levels[place] != by_row).any():
            low = np.take_along_axis(quantiles, np.maximum(place - 1, 0), axis=1)
            low = np.where(levels[place] == by_row, high, low)
            for _ in range(N_HALVINGS):
                middle = 0.5 * (low + high)
                is_below = self._marginal_cdf(j, middle, n_draws) < by_row
                low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
        return high.reshape(u.shape)

    # Where a single output has its mass

    def highest_density_interval(
        self, output: Any, level: float = 0.9, *, n_draws: int = N_DENSEST
    ) -> np.ndarray:
        """The smallest region of one output with a given mass, in as many pieces as it has.

        From the exact marginal density, at points that follow its mass in each row.

        Parameters
        ----------
        output : int or str
            Column number or name.
        level : float, default=0.9
            Mass of the region, strictly between 0 and 1.
        n_draws : int, default=1024
            Draws of the other outputs, as for `pdf_grid`.

        Returns
        -------
        ndarray of shape (n_rows, n_pieces, 2)
            Lower and upper ends in the units of the output, rising; nan behind the last piece of
            rows that have fewer than others.

        Raises
        ------
        NotImplementedError
            If some outputs have probabilities instead of a density.

        References
        ----------
        .. [1] Hyndman (1996), Computing and graphing highest density regions, The American
           Statistician 50, 120.

        Examples
        --------
        >>> from sklearn_san import SANConditionalDensityEstimator
        >>> from sklearn_san.datasets import make_bimodal
        >>> X, y, _ = make_bimodal(300, random_state=0)
        >>> est = SANConditionalDensityEstimator(K=3, epochs=5, random_state=0).fit(X, y)
        >>> regions = est.predict_density(X[:4]).highest_density_interval("y0", 0.9)
        >>> regions.shape[0], regions.shape[2]
        (4, 2)
        """
        validation.check_real("level", level, 0.0, 1.0)
        grid, density = self._densest_curves("highest_density_interval", output, n_draws)
        rows = [densest_region(*curve, level) for curve in zip(grid, density, strict=True)]
        found = np.full((len(self), max(map(len, rows), default=1), 2), np.nan)
        for row, pieces in enumerate(rows):
            found[row, : len(pieces)] = pieces
        return found

    def n_modes(
        self, output: Any, *, depth: float = 0.1, least: float = 0.01, n_draws: int = N_DENSEST
    ) -> np.ndarray:
        """Number of modes of the marginal density of one output.

        Parameters
        ----------
        output : int or str
            Column number or name.
        depth : float, default=0.1
            Two peaks are modes of their own if the density between them falls by this share of the
            lower one or more; strictly between 0 and 1. Draws of the other outputs make ripples of
            some percent.
        least : float, default=0.01
            Height of the lowest peak that counts, relative to the highest one of the row.
        n_draws : int, default=1024
            Draws of the other outputs, as for `pdf_grid`.

        Returns
        -------
        ndarray of int of shape (n_rows,)
            Maxima at the limits count.

        Raises
        ------
        NotImplementedError
            If some outputs have probabilities instead of a density.
        """
        validation.check_real("depth", depth, 0.0, 1.0)
        validation.check_real("least", least, 0.0, 1.0, low_included=True)
        _, density = self._densest_curves("n_modes", output, n_draws)
        return count_modes(density, depth, least)

    def mass_near_mode(self, output: Any, width: float, *, n_draws: int = N_DENSEST) -> np.ndarray:
        """Probability that one output lies within `width` of the mode of its marginal density.

        It tells sure rows from doubtful ones; astronomers know it as odds [1]_.

        Parameters
        ----------
        output : int or str
            Column number or name.
        width : float
            Half-width in the units of the output, above 0.
        n_draws : int, default=1024
            Draws of the other outputs, as for `pdf_grid`.

        Returns
        -------
        ndarray of shape (n_rows,)

        Raises
        ------
        NotImplementedError
            If some outputs have probabilities instead of a density.

        See Also
        --------
        sklearn_san.photoz.odds : The same for redshifts, with a width that grows with 1 + z.

        References
        ----------
        .. [1] Benitez (2000), Bayesian photometric redshift estimation, ApJ 536, 571.
        """
        validation.check_real("width", width, 0.0, np.inf)
        grid, density = self._densest_curves("mass_near_mode", output, n_draws)
        mode = highest_points(grid, density)
        ends = np.stack([mode - width, mode + width], axis=1)
        low, high = self.marginal_cdf(output, ends, n_draws=n_draws).T
        return high - low

    def _densest_curves(
        self, member: str, output: Any, n_draws: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and marginal density of one output, (n_rows, n_points) each.

        The points are as dense as the mass of each row, and even between them.
        """
        j = self._check_marginal(validation.check_output(output, self.output_names, "output"))
        validation.check_integer("n_draws", n_draws, 1)
        if not self.is_continuous:
            self._refuse(member, "some outputs may have probabilities instead of a density")
        levels = np.concatenate([[1e-4, 1e-3], np.linspace(0.005, 0.995, 100), [0.999, 0.9999]])
        quantiles = np.asarray(self._quantiles_of(j, levels)).reshape(len(self), len(levels))
        low, high = quantiles[:, :1], quantiles[:, -1:]
        low, high = np.clip([1.2 * low - 0.2 * high, 1.2 * high - 0.2 * low], *self.limits[j])
        even = np.linspace(0.0, 1.0, N_EVEN)
        points = np.concatenate([(quantiles - low) / (high - low), even + 0.0 * low], axis=1)
        # Shifted a little, so that no two coincide
        n_points = points.shape[1]
        place = (1.0 - 1e-9 * n_points) * np.sort(points, axis=1) + 1e-9 * np.arange(n_points)
        grid = low + place * (high - low)
        return grid, np.exp(self.marginal_log_prob(j, grid, n_draws=n_draws))

    @abstractmethod
    def components(self, output: Any = None, y: Any = None) -> Components:
        """The conditional density of one output as a mixture, members of an ensemble included.

        Parameters
        ----------
        output : int or str, default=None
            Column number or name. None is the output that comes first in the order, of which
            this is the marginal density.
        y : array-like of shape (n_rows, n_outputs), default=None
            Values of the outputs before it in the order, needed for all but the first. The other
            columns are not looked at.

        Returns
        -------
        Components

        Raises
        ------
        NotImplementedError
            If the family is no mixture of location-scale distributions, or y is scaled by
            something that is not linear.
        """

    # New densities

    @abstractmethod
    def given(self, known: Mapping[Any, Any]) -> Density:
        """Density of the other outputs when some are known.

        Parameters
        ----------
        known : dict
            Value, or ``(n_rows,)`` values, by column number or name.

        Returns
        -------
        Density
            Exact if the known outputs come first in the autoregressive order; otherwise by
            importance weights, whose effective number is returned on request.
        """

    @abstractmethod
    def marginalise(self, ratio: Callable[[np.ndarray], np.ndarray]) -> Density:
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
        Density
        """

    # What a kind of density must say. Arrays of y are numbers and codes with the axis of outputs.

    @property
    @abstractmethod
    def _codec(self) -> TargetCodec:
        """Names and labels of the columns of y."""

    @abstractmethod
    def _check_y(self, y: Any, *, several: bool = False) -> np.ndarray:
        """User's y as numbers and codes, (n_rows, n_outputs), or with `several` points."""

    @abstractmethod
    def _log_prob(self, y: np.ndarray) -> np.ndarray:
        """`log_prob` of checked values (n_rows, n_outputs) or (n_rows, n_points, n_outputs)."""

    @abstractmethod
    def _draw_blocks(self, n_draws: int, generator: Noise, method: str) -> Iterator[Block]:
        """Blocks of equally weighted draws; random numbers are consumed row by row."""

    @abstractmethod
    def _candidates(
        self, rows: slice, n: int, generator: Noise | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws (n_rows, n or more, n_outputs) and their log weights, up to a constant.

        Without a generator they come from fixed points that all rows share. Random numbers are
        consumed row by row. So no row's result depends on the rows beside it.
        """

    @abstractmethod
    def _pinned(
        self, rows: slice, pinned: dict[int, np.ndarray], n_draws: int, *, complete: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Draws of which some outputs have given values.

        Parameters
        ----------
        rows : slice
        pinned : dict of int to ndarray of shape (n, n_first or 1, n_second or 1)
            Values by column, in the units of y and inside the limits.
        n_draws : int
            At least.
        complete : bool
            Whether draws of all outputs are wanted.

        Returns
        -------
        log_weight : ndarray of shape (n, n_draws, n_first, n_second)
            Sum of the log densities of the pinned values, per unit of each.
        y : ndarray of shape (n, n_draws, n_first, n_second, n_outputs) or None
            With `complete` only.
        """

    @property
    def _n_fixed(self) -> int:
        """Fixed draws of each row, at least."""
        return 0

    @property
    def _n_reweighted(self) -> int:
        """The same of what is this density times a ratio."""
        return N_CANDIDATES

    # What follows from that

    def _present(self, values: np.ndarray) -> np.ndarray:
        """Labels for codes (..., n_outputs), and y's number of dimensions."""
        decoded = self._codec.decode(values)
        return decoded[..., 0] if self.one_dimensional else decoded

    @property
    def _label_outputs(self) -> list[int]:
        return [j for j, is_label in enumerate(self._codec.is_label) if is_label]

    def _refuse(self, member: str, reason: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} has no {member}: {reason}.")

    def _refuse_labels(self, what: str) -> None:
        for j in self._label_outputs:
            raise ValueError(
                f"{what} has no meaning for the labels of output {j} ({self.output_names[j]}); use "
                "'mean', which gives the most probable label, 'mode' or 'samples'."
            )

    def _check_marginal(self, j: int) -> int:
        if j in self._label_outputs:
            raise ValueError(
                f"output {j} ({self.output_names[j]}) has labels, which have no density; count "
                "them in draws."
            )
        return j

    def _check_values(self, values: Any) -> np.ndarray:
        """Values of one output, (n_rows,) or (n_rows, n_values), as float64."""
        try:
            array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"values must be numbers, got {values!r}.") from None
        if array.ndim not in (1, 2) or len(array) != len(self):
            raise ValueError(
                f"values must have shape ({len(self)},) or ({len(self)}, n_values), got "
                f"{array.shape}."
            )
        if np.isnan(array).any():
            raise ValueError(f"values has {np.isnan(array).sum()} entries that are nan.")
        return array

    def _collect(
        self, blocks: Iterator[Block], n_draws: int, dtype: Any, out: Any, *, progress: bool
    ) -> Any:
        """Draws in the user's form from their blocks."""
        validation.check_boolean("progress", progress)
        wanted = None if dtype is None else validation.check_dtype(dtype)
        shape: tuple[int, ...] = (len(self), n_draws, self.n_outputs)
        if out is not None:
            validation.check_out(out, shape[:2] if self.one_dimensional else shape)
            if self._label_outputs:
                raise ValueError("out= takes numbers and cannot hold labels; leave it out.")
            if wanted is not None and wanted != validation.dtype_of(out):
                raise ValueError(
                    f"dtype={wanted} is not that of out, {out.dtype}; leave one of the two out."
                )
            self._fill(out, blocks, n_draws, progress=progress)
            return out
        draws = np.empty(shape, np.float64 if wanted is None else wanted)
        self._fill(draws, blocks, n_draws, progress=progress)
        presented = self._present(draws)
        if wanted is None or presented.dtype == wanted:
            return presented
        if presented.dtype == object:
            raise ValueError(f"dtype={wanted} cannot hold labels; leave it out.")
        return presented.astype(wanted)

    def _fill(self, draws: Any, blocks: Iterator[Block], n_draws: int, *, progress: bool) -> None:
        """Write blocks to what has the shape of the draws, or lacks the axis of one output."""
        bar = tqdm(total=len(self), desc="sample", unit="row", disable=not progress)
        single = draws.dtype == np.float32
        for rows, columns, block in blocks:
            values = single_inside(block, self.limits) if single else block
            draws[rows, columns] = values if len(draws.shape) == 3 else values[..., 0]
            bar.update((rows.stop - rows.start) * (columns.stop - columns.start) / n_draws)
        bar.close()

    def _weighted_draws(self, n: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Chunks of rows with `n` fixed draws or more and their weights, which sum to 1."""
        n = max(n, self._n_fixed)
        for rows in chunks(len(self), max(1, PAIRS // n)):
            y, log_weight = self._candidates(rows, n, None)
            yield rows, y, np.exp(log_weight - logsumexp(log_weight, axis=1, keepdims=True))

    def _summaries(
        self, levels: np.ndarray, *, with_moments: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and variance of every output, and quantiles (n_rows, n_levels, n_outputs).

        The mean of labels is the most probable code. Moments are nan where they are not wanted.
        """
        mean, variance = np.full((2, len(self), self.n_outputs), np.nan)
        quantiles = np.empty((len(self), len(levels), self.n_outputs))
        for rows, y, weight in self._weighted_draws(N_POINTS):
            if len(levels):
                quantiles[rows] = weighted_quantiles(y, weight, levels)
            if not with_moments:
                continue
            mean[rows] = (weight[..., None] * y).sum(axis=1)
            variance[rows] = (weight[..., None] * (y - mean[rows][:, None]) ** 2).sum(axis=1)
            for j in self._label_outputs:
                codes = np.arange(len(self._codec.classes[j]))  # type: ignore[arg-type]
                shares = (weight[..., None] * (y[..., j, None] == codes)).sum(axis=1)
                mean[rows, j] = shares.argmax(axis=1)
        return mean, variance, quantiles

    def _best_draws(self, n: int) -> np.ndarray:
        """The draw of highest density of every row, (n_rows, n_outputs)."""
        best = np.empty((len(self), self.n_outputs))
        for rows, y, _ in self._weighted_draws(n):
            best[rows] = y[np.arange(len(y)), self[rows]._log_prob(y).argmax(axis=1)]
        return best

    def _pinned_log_prob(self, pinned: dict[int, np.ndarray], n_draws: int) -> np.ndarray:
        """Log density (n_rows, n_first, n_second) of values by column, as for `_pinned`.

        Values that all rows share have 1 in the place of n_rows.
        """
        shape = np.broadcast_shapes((len(self), 1, 1), *(v.shape for v in pinned.values()))
        full = {j: np.broadcast_to(v, (shape[0], *v.shape[1:])) for j, v in pinned.items()}
        log_prob = np.empty(shape)
        for block in grid_blocks(shape, max(1, PINNED // n_draws)):
            own, inside = {}, np.True_
            for j, values in full.items():
                part = values[
                    tuple(
                        axis if n > 1 or i == 0 else slice(None)
                        for i, (axis, n) in enumerate(zip(block, values.shape, strict=True))
                    )
                ]
                own[j] = np.clip(part, *self.limits[j])
                inside = inside & (part == own[j])
            log_weight, _ = self._pinned(block[0], own, n_draws, complete=False)
            mean = logsumexp(log_weight, axis=1) - np.log(log_weight.shape[1])
            log_prob[block] = np.where(inside, mean, -np.inf)
        return log_prob

    def _grid_density(self, j: int, grid: np.ndarray, n_draws: int) -> np.ndarray:
        """Density (n_rows, n_points) of output j on a grid."""
        return np.exp(self._pinned_log_prob({j: grid[None, None]}, n_draws)[:, 0])

    def _snap(self, j: int, grid: np.ndarray) -> np.ndarray:
        """Values that output j can have, next to those of a grid."""
        return grid

    def _marginal_cdf(self, j: int, values: np.ndarray, n_draws: int) -> np.ndarray:
        """Weight of the draws up to each value (n_rows, n_values)."""
        cdf = np.empty(values.shape)
        for rows, y, weight in self._weighted_draws(max(n_draws, N_POINTS)):
            for i, (column, own) in enumerate(zip(y[..., j], weight, strict=True), rows.start):
                order = np.argsort(column)
                below = np.concatenate([[0.0], own[order].cumsum()])
                cdf[i] = below[np.searchsorted(column[order], values[i], side="right")]
        return np.minimum(cdf, 1.0)

    def _grid(self, j: int, n_points: int) -> np.ndarray:
        """Grid over all but a thousandth of the mass of output j in all rows."""
        low, high, margin = 0.0, 0.0, 1.0
        if len(self):
            ends = self._quantiles_of(j, np.array([0.0005, 0.9995]))
            low, high = ends[:, 0].min(), ends[:, 1].max()
            margin = 0.05 * (high - low)
        low, high = np.clip([low - margin, high + margin], *self.limits[j])
        return self._snap(j, np.linspace(low, high, n_points))

    def _quantiles_of(self, j: int, levels: np.ndarray) -> np.ndarray:
        """Quantiles (n_rows, n_levels) of output j."""
        parts = [
            weighted_quantiles(y[..., [j]], weight, levels)[..., 0]
            for _, y, weight in self._weighted_draws(N_POINTS)
        ]
        return np.concatenate(parts)
