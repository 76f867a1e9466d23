"""One number for each p(z), how far to trust it, and which rows to keep.

With the loss of Tanaka et al. [1]_, ``L(dz) = 1 - 1 / (1 + (dz / 0.15)^2)`` and
``dz = (z_point - z) / (1 + z)``, the risk of a point is ``R(z_point) = int p(z) L(dz) dz``, and the
best point has the least.

======================  ================================================================
`point_estimate`        mode, mean, median or the point of least risk
`risk`, `odds`          expected loss of a point; probability near it
`highest_density`       width of the smallest region with a given mass, and its pieces
`summarise`             all of that in a table
`quality_cut`           mask that keeps a share of rows, or those beyond a threshold
======================  ================================================================

References
----------
.. [1] Tanaka et al. (2018), Photometric redshifts for Hyper Suprime-Cam Subaru Strategic Program
   Data Release 1, PASJ 70, S9.
.. [2] Benitez (2000), Bayesian photometric redshift estimation, ApJ 536, 571.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _validation as validation
from ..metrics.checks import check_level
from .grids import point_weights
from .pdfs import RedshiftPDF

#: Half-width of the loss, relative to 1 + z.
LOSS_WIDTH = 0.15
KINDS = ("best", "mode", "mean", "median")


def loss(dz: Any) -> np.ndarray:
    """Loss of Tanaka et al. (2018) at ``dz = (z_point - z) / (1 + z)``: between 0 and 1."""
    squared = (np.asarray(dz, dtype=np.float64) / LOSS_WIDTH) ** 2
    return squared / (1.0 + squared)


def point_estimate(pz: RedshiftPDF, kind: str = "best") -> np.ndarray:
    """One redshift for each row.

    Parameters
    ----------
    pz : RedshiftPDF
    kind : {"best", "mode", "mean", "median"}, default="best"
        "best" has the least `risk`. It and the mode are the vertex of the parabola through the best
        point of the grid and its neighbours.

    Returns
    -------
    ndarray of shape (n_rows,)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.photoz import RedshiftPDF, point_estimate
    >>> grid = np.linspace(0.0, 3.0, 301)
    >>> peaks = [0.6, 0.4] * np.exp(-0.5 * ((grid[:, None] - [0.5, 2.0]) / 0.05) ** 2)
    >>> pz = RedshiftPDF.from_arrays(grid, peaks.sum(axis=1)[None])
    >>> [round(float(point_estimate(pz, kind)[0]), 2) for kind in ("mode", "best", "mean")]
    [0.5, 0.5, 1.1]
    """
    validation.check_choice("kind", kind, KINDS)
    if kind == "mean":
        return pz.mean()
    if kind == "median":
        return pz.quantile(0.5)[:, 0]
    found = np.empty(len(pz))
    if kind == "mode":
        for rows, p in pz.parts():
            found[rows] = _highest(pz.grid, p)
        return found
    _check_loss_on(pz.grid)
    weighted_loss = _losses(pz.grid, pz.grid) * point_weights(pz.grid)  # (n_candidates, n_points)
    for rows, p in pz.parts():
        found[rows] = _highest(pz.grid, -(p @ weighted_loss.T))
    return found


def risk(pz: RedshiftPDF, z_point: Any) -> np.ndarray:
    """Expected loss of a point estimate, (n_rows,): 0 for a sure one, 1 for a lost one.

    Parameters
    ----------
    pz : RedshiftPDF
    z_point : array-like of shape (n_rows,)
        Redshift of each row; nan gives nan.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    z_point, weight = _check_points(z_point, pz), point_weights(pz.grid)
    _check_loss_on(pz.grid)
    found = np.empty(len(pz))
    for rows, p in pz.parts():
        found[rows] = (p * _losses(z_point[rows], pz.grid)) @ weight
    return found


def odds(pz: RedshiftPDF, z_point: Any, width: float = 0.03) -> np.ndarray:
    """Probability within ``width (1 + z_point)`` of a point [2]_, (n_rows,).

    Parameters
    ----------
    pz : RedshiftPDF
    z_point : array-like of shape (n_rows,)
        Redshift of each row; nan gives nan.
    width : float, default=0.03
        Above 0.

    Returns
    -------
    ndarray of shape (n_rows,)

    References
    ----------
    .. [2] Benitez (2000), Bayesian photometric redshift estimation, ApJ 536, 571.
    """
    z_point = _check_points(z_point, pz)
    if not width > 0:
        raise ValueError(f"width must be above 0, got {width!r}.")
    reach = width * (1.0 + z_point)
    ends = np.stack([z_point - reach, z_point + reach], axis=1)
    low, high = pz.cdf_at(np.nan_to_num(ends)).T
    return np.where(np.isnan(z_point), np.nan, high - low)


def highest_density(pz: RedshiftPDF, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """The smallest region of a given mass, to a cell of the grid.

    Parameters
    ----------
    pz : RedshiftPDF
    level : float, default=0.9
        Mass of the region, strictly between 0 and 1.

    Returns
    -------
    width : ndarray of shape (n_rows,)
        Of all pieces together.
    n_modes : ndarray of int of shape (n_rows,)
        Number of pieces: modes with a share in the region, and a gap between them. 0 for rows of
        nan.
    """
    level, weight = check_level(level), point_weights(pz.grid)
    width, n_modes = np.empty(len(pz)), np.empty(len(pz), dtype=np.intp)
    for rows, p in pz.parts():
        order = np.argsort(-p, axis=1, kind="stable")
        inside = np.take_along_axis(p * weight, order, axis=1).cumsum(axis=1)
        last = np.minimum((inside < level).sum(axis=1), p.shape[1] - 1)
        least = np.take_along_axis(order, last[:, None], axis=1)
        region = p >= np.take_along_axis(p, least, axis=1)
        n_modes[rows] = (region[:, 1:] & ~region[:, :-1]).sum(axis=1) + region[:, 0]
        width[rows] = np.where(np.isnan(p[:, 0]), np.nan, region @ weight)
    return width, n_modes


def summarise(
    pz: RedshiftPDF, *, kind: str = "best", width: float = 0.03, level: float = 0.9
) -> dict[str, np.ndarray]:
    """Columns for a catalogue, to be made a table of.

    Parameters
    ----------
    pz : RedshiftPDF
    kind : {"best", "mode", "mean", "median"}, default="best"
        Point that `odds` and `risk` belong to.
    width : float, default=0.03
        Of `odds`.
    level : float, default=0.9
        Mass of the region of `highest_density`.

    Returns
    -------
    dict of str to ndarray of shape (n_rows,)
        z_best, z_mode, z_mean, z_median, z_std, z_low and z_high (quantiles 0.16 and 0.84), odds,
        risk, width and n_modes.
    """
    table = {f"z_{one}": point_estimate(pz, one) for one in KINDS}
    table["z_std"] = pz.std()
    table["z_low"], table["z_high"] = pz.quantile([0.16, 0.84]).T
    validation.check_choice("kind", kind, KINDS)
    table["odds"] = odds(pz, table[f"z_{kind}"], width)
    table["risk"] = risk(pz, table[f"z_{kind}"])
    table["width"], table["n_modes"] = highest_density(pz, level)
    return table


def quality_cut(
    quality: Any,
    *,
    keep: float | None = None,
    threshold: float | None = None,
    greater_is_better: bool = True,
) -> np.ndarray:
    """Mask of the rows to keep.

    Parameters
    ----------
    quality : array-like of shape (n_rows,)
        Odds, or with ``greater_is_better=False`` risks or widths; rows of nan are dropped.
    keep : float, default=None
        Share of the rows to keep, the best ones; of rows as good as the last one, the first.
    threshold : float, default=None
        The worst quality that is kept. Either this or `keep`.
    greater_is_better : bool, default=True

    Returns
    -------
    ndarray of bool of shape (n_rows,)

    Examples
    --------
    >>> from sklearn_san.photoz import quality_cut
    >>> quality_cut([0.9, 0.2, 0.7, 0.8], keep=0.5)
    array([ True, False, False,  True])
    >>> quality_cut([0.1, 0.6], threshold=0.2, greater_is_better=False)
    array([ True, False])
    """
    validation.check_boolean("greater_is_better", greater_is_better)
    values = np.asarray(quality, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"quality must have shape (n_rows,), got {values.shape}.")
    if (keep is None) == (threshold is None):
        raise ValueError(f"Give either keep or threshold, got {keep!r} and {threshold!r}.")
    badness = -values if greater_is_better else values
    if threshold is not None:
        return badness <= (-threshold if greater_is_better else threshold)
    if not 0.0 <= keep <= 1.0:  # type: ignore[operator]
        raise ValueError(f"keep must lie between 0 and 1, got {keep!r}.")
    best = np.argsort(badness, kind="stable")[: round(keep * len(values))]  # type: ignore[operator]
    mask = np.zeros(len(values), dtype=bool)
    mask[best] = True
    return mask & ~np.isnan(values)


def _losses(z_point: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Loss of each point for each redshift, (n_points, n_redshifts)."""
    return loss((z_point[:, None] - z) / (1.0 + z))


def _check_points(z_point: Any, pz: RedshiftPDF) -> np.ndarray:
    z_point = np.asarray(z_point, dtype=np.float64)
    if z_point.shape != (len(pz),):
        raise ValueError(f"z_point must have shape ({len(pz)},), got {z_point.shape}.")
    return z_point


def _check_loss_on(grid: np.ndarray) -> None:
    if grid[0] <= -1.0:
        raise ValueError(
            f"The loss of a redshift has no meaning at -1 or below; the grid starts at {grid[0]:g}."
        )


def _highest(grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each row of values (n, n_points) is highest; nan for rows of nan."""
    top, every = values.argmax(axis=1), np.arange(len(values))
    i = np.clip(top, 1, len(grid) - 2) if len(grid) > 2 else top
    found = grid[top]
    inner = top == i
    i, own = i[inner], every[inner]
    if len(grid) > 2:
        left, right = grid[i] - grid[i - 1], grid[i + 1] - grid[i]
        fall = (values[own, i] - values[own, i - 1]) / left
        rise = (values[own, i + 1] - values[own, i]) / right
        bend = fall - rise  # not negative at a maximum
        shift = 0.5 * (fall * right + rise * left)
        found[inner] += np.divide(shift, bend, out=np.zeros(len(i)), where=bend > 0)
    return np.where(np.isnan(values[:, 0]), np.nan, found)
