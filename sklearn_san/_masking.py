"""Densities of rows of which some cannot be used, and are answered with nan.

=================  =========================================================================
`MaskedDensity`    has the public members of `Density`; asks the density of the usable rows
`some_rows`        rows of an array or a frame, or of a dict of these
=================  =========================================================================
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from . import _validation as validation
from ._caller_state import OwnState
from ._density_base import Density, SameOutputs, check_index, is_shared, summary_frame
from ._keyed_noise import KeyedNoise
from ._marginals import Components, Marginal
from ._parts import is_parts
from ._targets import draws_index


def _plain(name: str) -> Any:
    """Member whose arguments are the same for all rows."""

    @functools.wraps(getattr(Density, name))
    def member(self: MaskedDensity, *args: Any, **options: Any) -> np.ndarray:
        return self._spread(getattr(self.density, name)(*args, **options))

    return member


def _by_row(name: str, n_before: int = 0) -> Any:
    """Member with an argument that has an entry for each row, behind `n_before` others."""

    @functools.wraps(getattr(Density, name))
    def member(self: MaskedDensity, *args: Any, **options: Any) -> np.ndarray:
        before, values, after = args[:n_before], args[n_before], args[n_before + 1 :]
        return self._spread(
            getattr(self.density, name)(*before, self._own(values), *after, **options)
        )

    return member


class MaskedDensity(SameOutputs, OwnState):
    """p(y | x) of given rows, nan where X cannot be used; made with ``on_bad_rows="nan"``.

    The members are those of `density`. Random numbers are those of the usable rows alone, as if the
    others had been left out.

    Parameters
    ----------
    density : Density
        Of the usable rows.
    usable : ndarray of bool of shape (n_rows,)
    index : pandas.Index, default=None
        Names of all rows.
    """

    index: Any = None

    def __init__(self, density: Any, usable: np.ndarray, index: Any = None):
        self.density, self.usable, self.index = density, usable, index

    def __len__(self) -> int:
        return len(self.usable)

    def __repr__(self) -> str:
        n_bad = int((~self.usable).sum())
        return f"MaskedDensity({self.density!r}, n_rows={len(self)}, n_bad_rows={n_bad})"

    def __getitem__(self, rows: Any) -> MaskedDensity:
        rows = validation.check_rows(rows, len(self))
        usable = self.usable[rows]
        place = np.cumsum(self.usable) - 1
        index = None if self.index is None else self.index[rows]
        return MaskedDensity(self.density[place[rows][usable]], usable, index)

    @property
    def n_outputs(self) -> int:
        """Number of columns of y."""
        return self.density.n_outputs

    grad_log_prob, cdf, inverse_cdf = map(_by_row, ("grad_log_prob", "cdf", "inverse_cdf"))
    highest_density_interval, n_modes, mass_near_mode = map(
        _plain, ("highest_density_interval", "n_modes", "mass_near_mode")
    )
    mean, std, cov, quantile, median, interval, mode, entropy, pdf_grid = map(
        _plain,
        ("mean", "std", "cov", "quantile", "median", "interval", "mode", "entropy", "pdf_grid"),
    )
    marginal_log_prob, marginal_cdf, marginal_inverse_cdf = (
        _by_row(name, 1) for name in ("marginal_log_prob", "marginal_cdf", "marginal_inverse_cdf")
    )

    def log_prob(self, y: Any) -> np.ndarray:
        """Log density at one or several y for each row; see `Density.log_prob`."""
        if is_shared(self, y):
            return self.density.log_prob(y) if self.usable[0] else np.full(len(y), np.nan)
        return self._spread(self.density.log_prob(self._own(y)))

    def sample(
        self,
        n_draws: int = 1,
        *,
        random_state: Any = None,
        out: Any = None,
        row_ids: Any = None,
        **options: Any,
    ) -> Any:
        """Draws for every row; see `Density.sample`."""
        options["random_state"] = self._own_noise(random_state)
        options["row_ids"] = None if row_ids is None else self._own(row_ids)
        if out is None:
            found = self.density.sample(n_draws, **options)
        else:
            shape: tuple[int, ...] = (len(self), n_draws, self.n_outputs)
            validation.check_out(out, shape[:2] if self.one_dimensional else shape)
            rows = _UsableRows(out, self.usable)
            found = self.density.sample(n_draws, out=rows, **options)
        draws, *more = found if isinstance(found, tuple) else (found,)
        draws = self._spread(draws) if out is None else out
        return (draws, *map(self._spread, more)) if more else draws

    def to_frame(
        self,
        n_draws: int = 100,
        *,
        random_state: Any = None,
        index: Any = None,
        row_ids: Any = None,
        **options: Any,
    ) -> Any:
        """Draws as a pandas frame; see `Density.to_frame`."""
        check_index(index, len(self))
        frame = self.density.to_frame(
            n_draws,
            random_state=self._own_noise(random_state),
            row_ids=None if row_ids is None else self._own(row_ids),
            **options,
        )
        place = np.full((len(self), n_draws), -1)
        place[self.usable] = np.arange(len(frame)).reshape(-1, n_draws)
        whole = frame.reset_index(drop=True).reindex(place.ravel())
        whole.index = draws_index(self.index if index is None else index, len(self), n_draws)
        return whole

    def summarise(self, *args: Any, **options: Any) -> dict[str, np.ndarray]:
        """Several summaries at once; see `Density.summarise`."""
        found = self.density.summarise(*args, **options)
        return {name: self._spread(values) for name, values in found.items()}

    def summary(
        self, statistics: Any = ("mean", "std", "q05", "q50", "q95"), *, index: Any = None
    ) -> Any:
        """Summaries as a pandas frame; see `Density.summary`."""
        return summary_frame(self, statistics, index)

    def kl(self, other: Any, n_draws: int = 1024) -> np.ndarray:
        """Kullback-Leibler divergence from `other` in nats; see `Density.kl`."""
        if len(other) != len(self):
            raise ValueError(f"other has {len(other)} rows, but this density has {len(self)}.")
        return self._spread(self.density.kl(other[self.usable], n_draws))

    def marginal(self, outputs: Any, **options: Any) -> Marginal:
        """Marginal density on a grid; see `Density.marginal`."""
        found = self.density.marginal(outputs, **options)
        return replace(found, density=self._spread(found.density))

    def components(self, output: Any = None, y: Any = None) -> Components:
        """Conditional density of one output as a mixture; see `Density.components`."""
        found = self.density.components(output, None if y is None else self._own(y))
        names = ("weight", "loc", "scale", "df")
        arrays = {name: getattr(found, name) for name in names}
        return replace(
            found, **{n: None if a is None else self._spread(a) for n, a in arrays.items()}
        )

    def given(self, known: Mapping[Any, Any]) -> MaskedDensity:
        """Density of the other outputs when some are known; see `Density.given`."""
        own = {key: v if np.ndim(v) == 0 else self._own(v) for key, v in known.items()}
        return MaskedDensity(self.density.given(own), self.usable, self.index)

    def marginalise(self, ratio: Callable[[np.ndarray], np.ndarray]) -> MaskedDensity:
        """Density under a new prior; see `Density.marginalise`."""
        return MaskedDensity(self.density.marginalise(ratio), self.usable, self.index)

    def _own(self, values: Any) -> Any:
        """Entries of the usable rows."""
        n = np.shape(values)[0] if np.ndim(values) else 0
        if n != len(self):
            raise ValueError(f"X has {len(self)} rows, but there are values of {n}.")
        return some_rows(values, np.flatnonzero(self.usable))

    def _own_noise(self, random_state: Any) -> Any:
        keyed = isinstance(random_state, KeyedNoise)
        return random_state.take(self.usable) if keyed else random_state

    def _spread(self, found: Any) -> np.ndarray:
        """Results of all rows (n_rows, ...), nan where a row is not usable."""
        found = np.asarray(found)
        dtype = found.dtype if found.dtype.kind in ("f", "O") else np.dtype(np.float64)
        result = np.full((len(self), *found.shape[1:]), np.nan, dtype=dtype)
        result[self.usable] = found
        return result


class _UsableRows:
    """The usable rows of what draws are written to; the others become nan."""

    def __init__(self, out: Any, usable: np.ndarray):
        self.out, self.rows = out, np.flatnonzero(usable)
        self.shape, self.dtype = (len(self.rows), *out.shape[1:]), out.dtype
        for run in _runs(np.flatnonzero(~usable)):
            out[run] = np.nan

    def __setitem__(self, key: tuple[slice, slice], block: np.ndarray) -> None:
        rows, draws = key
        done = 0
        for run in _runs(self.rows[rows]):
            n = run.stop - run.start
            self.out[run, draws] = block[done : done + n]
            done += n


def _runs(rows: np.ndarray) -> Iterator[slice]:
    """Slices that together are rising row numbers."""
    if len(rows):
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            yield slice(int(run[0]), int(run[-1]) + 1)


def some_rows(values: Any, rows: np.ndarray) -> Any:
    """Some rows of an array or a frame, or of each in a dict of parts."""
    if is_parts(values):
        return {n: None if one is None else some_rows(one, rows) for n, one in values.items()}
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    return values[rows] if hasattr(values, "__array__") else np.asarray(values)[rows]
