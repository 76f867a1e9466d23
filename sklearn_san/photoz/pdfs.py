"""p(z) of many rows on one grid, linear between its points and 0 outside.

With hat functions h_i on the grid, ``p(z) = sum_i p_i h_i(z)``, so that mass, moments, cdf,
quantiles and the integral of p^2 are exact sums over the points. Rows are worked on in chunks, so
that the array may be a memory map in single precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _validation as validation
from ..chains import density_of
from ..metrics.checks import check_levels, check_numbers
from .grids import check_grid, default_grid, divided, point_weights, row_chunks, warn_of_mass


@dataclass(frozen=True, eq=False, repr=False)
class RedshiftPDF:
    """p(z) of many rows on a common grid; made by one of the ``from_...`` constructors.

    Parameters
    ----------
    grid : ndarray of shape (n_points,)
        Rising redshifts.
    pdf : ndarray of shape (n_rows, n_points)
        Densities per unit of redshift, normalised; nan in rows that have none.
    mass : ndarray of shape (n_rows,)
        Integral over the grid before normalisation: below 1 where p(z) reaches beyond the grid,
        away from 1 where the grid is too coarse.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.photoz import RedshiftPDF
    >>> grid = np.linspace(0.0, 2.0, 201)
    >>> pz = RedshiftPDF.from_arrays(grid, np.exp(-0.5 * ((grid - [[0.5], [1.0]]) / 0.1) ** 2))
    >>> pz.mean().round(3), pz.std().round(3), pz.quantile(0.5).round(3).ravel()
    (array([0.5, 1. ]), array([0.1, 0.1]), array([0.5, 1. ]))
    """

    grid: np.ndarray
    pdf: Any
    mass: np.ndarray

    @classmethod
    def from_density(
        cls, density: Any, grid: Any = None, *, output: Any = 0, dtype: Any = None, out: Any = None
    ) -> RedshiftPDF:
        """p(z) of a density, in one pass over the network and free of draws.

        Parameters
        ----------
        density : Density
            From ``predict_density``.
        grid : array-like of shape (n_points,), default=None
            Rising redshifts, two or more. None takes 301 points over the limits of the output, or
            over all but a thousandth of the mass of every row where there are none.
        output : int or str, default=0
            Column of y that is the redshift. It should come first in ``order``: later outputs are
            averaged over draws of those before.
        dtype : {float32, float64}, default=None
            Of the result; None is float64, or the dtype of `out`.
        out : array-like of shape (n_rows, n_points), default=None
            Where to write the densities, chunk by chunk: an array, a memory map, a data set of
            HDF5. May be float32.

        Returns
        -------
        RedshiftPDF

        Warns
        -----
        GridWarning
            If the grid misses 2 % of the mass in more than 1 % of the rows, or is too coarse.
        """
        values = check_grid(default_grid(density, output) if grid is None else grid)
        shape = (len(density), len(values))
        if out is None:
            out = np.empty(shape, np.float64 if dtype is None else validation.check_dtype(dtype))
        else:
            validation.check_out(out, shape)
        mass, weight = np.empty(len(density)), point_weights(values)
        for rows in row_chunks(len(density), len(values)):
            part = density[rows].pdf_grid(output, values)
            mass[rows] = part @ weight
            out[rows] = divided(part, mass[rows])
        warn_of_mass(mass)
        return cls(values, out, mass)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, grid: Any = None, **options: Any
    ) -> RedshiftPDF:
        """p(z) of a fitted estimator, Pipeline or search.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with a method ``predict_density``.
        X : array-like of shape (n_rows, n_features)
        grid : array-like of shape (n_points,), default=None
            As for `from_density`.
        **options : object
            As for `from_density`.

        Returns
        -------
        RedshiftPDF
        """
        return cls.from_density(density_of(estimator, X), grid, **options)

    @classmethod
    def from_arrays(cls, grid: Any, pdf: Any) -> RedshiftPDF:
        """p(z) of any origin on a grid.

        Parameters
        ----------
        grid : array-like of shape (n_points,)
            Rising redshifts, two or more.
        pdf : array-like of shape (n_rows, n_points)
            Densities up to a factor of each row, not negative.

        Returns
        -------
        RedshiftPDF
            Normalised.
        """
        values, array = check_grid(grid), check_numbers(pdf, "pdf")
        if array.ndim != 2 or array.shape[1] != len(values):
            raise ValueError(f"pdf must have shape (n_rows, {len(values)}), got {array.shape}.")
        if array.min() < 0:
            raise ValueError(f"pdf must not be negative, got {array.min():g}.")
        mass = array @ point_weights(values)
        return cls(values, divided(array, mass), mass)

    @classmethod
    def from_draws(cls, draws: Any, grid: Any) -> RedshiftPDF:
        """p(z) of draws: the share of them in the cell of each point.

        Parameters
        ----------
        draws : array-like of shape (n_rows, n_draws)
            Redshifts.
        grid : array-like of shape (n_points,)
            Rising redshifts, two or more. Cells end halfway between points, and at the ends.

        Returns
        -------
        RedshiftPDF
            As noisy as the draws are few: with m of them in a cell, to 1 / sqrt(m).
        """
        values, array = check_grid(grid), check_numbers(draws, "draws")
        if array.ndim != 2:
            raise ValueError(f"draws must have shape (n_rows, n_draws), got {array.shape}.")
        n_rows, n_points = len(array), len(values)
        edges = np.concatenate([values[:1], 0.5 * (values[1:] + values[:-1]), values[-1:]])
        place = np.searchsorted(edges, array, side="right") - 1
        place[array == edges[-1]] = n_points - 1
        inside = (place >= 0) & (place < n_points)
        flat = (place + n_points * np.arange(n_rows)[:, None])[inside]
        counts = np.bincount(flat, minlength=n_rows * n_points).reshape(n_rows, n_points)
        pdf = counts / (array.shape[1] * np.diff(edges))
        mass = inside.mean(axis=1)
        warn_of_mass(mass)
        return cls(values, divided(pdf, mass), mass)

    def __len__(self) -> int:
        return len(self.pdf)

    def __repr__(self) -> str:
        low, high = self.grid[[0, -1]]
        return f"RedshiftPDF(n_rows={len(self)}, {len(self.grid)} points in [{low:g}, {high:g}])"

    def __getitem__(self, rows: Any) -> RedshiftPDF:
        rows = validation.check_rows(rows, len(self))
        return RedshiftPDF(self.grid, self.pdf[rows], self.mass[rows])

    def parts(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Chunks of rows with their densities in float64, (n, n_points)."""
        for rows in row_chunks(len(self), len(self.grid)):
            yield rows, np.asarray(self.pdf[rows], dtype=np.float64)

    def pdf_at(self, z: Any) -> np.ndarray:
        """Density of each row at redshifts (n_rows,) or (n_rows, n_values); 0 off the grid."""
        z = self._check_values(z)
        return np.where(self._inside(z), self._at(z)[0], 0.0)

    def cdf_at(self, z: Any) -> np.ndarray:
        """Probability of at most z, for redshifts (n_rows,) or (n_rows, n_values)."""
        return self._at(np.clip(self._check_values(z), *self.grid[[0, -1]]))[1]

    def masses(self, edges: Any) -> np.ndarray:
        """Probability of each bin of redshift, (n_rows, n_edges - 1)."""
        edges = check_grid(edges, "edges")
        return np.diff(self.cdf_at(np.broadcast_to(edges, (len(self), len(edges)))), axis=1)

    def quantile(self, levels: Any) -> np.ndarray:
        """Quantiles of each row, (n_rows, n_levels), at levels strictly between 0 and 1."""
        levels = check_levels(levels)
        step, found = np.diff(self.grid), np.empty((len(self), len(levels)))
        for rows, p in self.parts():
            cdf, every = self._cumulated(p), np.arange(len(p))
            for column, level in enumerate(levels):
                i = np.clip((cdf < level).sum(axis=1) - 1, 0, len(step) - 1)
                left, slope = p[every, i], p[every, i + 1] - p[every, i]
                rest = np.maximum(level - cdf[every, i], 0.0) / step[i]
                # The smaller root of left t + slope t^2 / 2 = rest
                root = left + np.sqrt(np.maximum(left**2 + 2.0 * slope * rest, 0.0))
                t = np.divide(2.0 * rest, root, out=np.zeros(len(p)), where=root > 0)
                found[rows, column] = self.grid[i] + np.minimum(t, 1.0) * step[i]
                found[rows, column][np.isnan(left)] = np.nan
        return found

    def mean(self) -> np.ndarray:
        """Expected redshift, (n_rows,)."""
        return self._moments()[0]

    def std(self) -> np.ndarray:
        """Standard deviation, (n_rows,)."""
        return np.sqrt(self._moments()[1])

    def integral_of_square(self) -> np.ndarray:
        """Integral of p(z)^2, (n_rows,)."""
        step, found = np.diff(self.grid), np.empty(len(self))
        for rows, p in self.parts():
            left, right = p[:, :-1], p[:, 1:]
            found[rows] = (left**2 + left * right + right**2) @ step / 3.0
        return found

    def _check_values(self, z: Any) -> np.ndarray:
        z = check_numbers(z, "z")
        if z.ndim not in (1, 2) or len(z) != len(self):
            raise ValueError(
                f"z must have shape ({len(self)},) or ({len(self)}, n_values), got {z.shape}."
            )
        return z

    def _inside(self, z: np.ndarray) -> np.ndarray:
        return (z >= self.grid[0]) & (z <= self.grid[-1])

    def _cumulated(self, p: np.ndarray) -> np.ndarray:
        """Values of the cdf at the points, of rows (n, n_points)."""
        cells = 0.5 * (p[:, 1:] + p[:, :-1]) * np.diff(self.grid)
        return np.concatenate([np.zeros((len(p), 1)), cells.cumsum(axis=1)], axis=1)

    def _at(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Density and cdf at values of the grid's range, each of the shape of z."""
        density, cdf = np.empty((2, *z.shape))
        place = np.clip(np.searchsorted(self.grid, z) - 1, 0, len(self.grid) - 2)
        step = np.diff(self.grid)[place]
        t = (z - self.grid[place]) / step
        for rows, p in self.parts():
            own = place[rows].reshape(len(p), -1)
            left, right, below = (
                np.take_along_axis(values, own, axis=1).reshape(place[rows].shape)
                for values in (p[:, :-1], p[:, 1:], self._cumulated(p))
            )
            density[rows] = left + (right - left) * t[rows]
            cdf[rows] = below + step[rows] * t[rows] * (left + 0.5 * (right - left) * t[rows])
        return density, np.minimum(cdf, 1.0)

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance, (n_rows,) each, from the moments of hat functions."""
        middle = 0.5 * (self.grid[0] + self.grid[-1])
        a, b = self.grid[:-1] - middle, self.grid[1:] - middle
        step, first, second = b - a, np.zeros(len(self.grid)), np.zeros(len(self.grid))
        first[:-1] += step * (2.0 * a + b) / 6.0
        first[1:] += step * (a + 2.0 * b) / 6.0
        second[:-1] += step * (3.0 * a**2 + 2.0 * a * b + b**2) / 12.0
        second[1:] += step * (a**2 + 2.0 * a * b + 3.0 * b**2) / 12.0
        mean, variance = np.empty((2, len(self)))
        for rows, p in self.parts():
            mean[rows] = p @ first
            variance[rows] = np.maximum(p @ second - mean[rows] ** 2, 0.0)
        return middle + mean, variance


def as_pdf(pz: Any, grid: Any = None, output: Any = 0) -> RedshiftPDF:
    """p(z) on a grid of a `RedshiftPDF`, a density, or draws (n_rows, n_draws)."""
    if isinstance(pz, RedshiftPDF):
        return pz
    if hasattr(pz, "pdf_grid"):
        return RedshiftPDF.from_density(pz, grid, output=output)
    if grid is None:
        raise ValueError("grid must hold rising redshifts where p(z) is given as draws, got None.")
    return RedshiftPDF.from_draws(pz, grid)
