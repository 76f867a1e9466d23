"""Posteriors of many rows against the truth, output by output."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from . import arrays, drawing
from .smooth_densities import spread_ties, view_range

#: Rows up to which each one is a point of its own.
MAX_POINTS = 300
#: Cells of a histogram along the draws; most along the truth, and the fewest rows in one of these.
N_CELLS, MAX_COLUMNS, MIN_ROWS = 60, 40, 40
#: Width of the kernel that smooths them, in columns and cells: single rows are not to be seen.
SMOOTHING = (1.0, 1.5)


class RecoveryDisplay:
    """Posteriors of many rows against their true values, one panel for each output.

    A few rows are shown as medians with intervals. Many are shown as histograms of the draws in
    columns of true values, a little smoothed: each column holds 40 rows or more and is relative to
    its highest cell, so that colours show posteriors and not how many rows there are. Above each
    panel stand R2 and the root mean square error of the medians, and the share of intervals that
    hold the truth.

    Use `from_estimator` or `from_predictions` to make one; parameters are stored as attributes.

    Parameters
    ----------
    y : ndarray of shape (n_rows, n_outputs)
        True values.
    draws : ndarray of shape (n_rows, n_draws, n_outputs)
        Draws of each row, in the units of y.
    limits : array-like of shape (n_outputs, 2), default=None
        Lower and upper limit of every output; infinite where there is none.
    output_names : sequence of str, default=None
        Names of the outputs; None makes y0, y1, ...
    units : dict, default=None
        Unit of each output that has one, by name.

    Attributes
    ----------
    axes_ : ndarray of shape (n_outputs,)
        Axes of matplotlib.
    figure_ : matplotlib Figure
        The figure.
    artists_ : list
        Error bars or histogram of each panel.
    colorbar_ : matplotlib Colorbar or None
        What the colours of histograms mean.
    r2_, rmse_, coverage_ : ndarray of shape (n_outputs,)
        What stands above the panels: R2 and the root mean square error of the medians, the
        latter in the units of y, and the share of rows whose interval holds the truth.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.plotting import RecoveryDisplay
    >>> random = np.random.default_rng(0)
    >>> y = random.normal(size=(100, 2))
    >>> draws = y[:, None] + random.normal(size=(100, 1, 2)) + random.normal(size=(100, 50, 2))
    >>> RecoveryDisplay.from_predictions(y, draws).coverage_.shape
    (2,)
    """

    def __init__(
        self,
        y: np.ndarray,
        draws: np.ndarray,
        *,
        limits: Any = None,
        output_names: Any = None,
        units: Any = None,
    ):
        self.y = y
        self.draws = draws
        self.limits = limits
        self.output_names = output_names
        self.units = units

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_draws: int = 200,
        outputs: Any = None,
        output_names: Any = None,
        units: Any = None,
        random_state: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> RecoveryDisplay:
        """Compare draws of a fitted estimator with true values.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with a method ``predict_density``.
        X : array-like of shape (n_rows, n_features)
            Rows that were not trained on.
        y : array-like of shape (n_rows, n_outputs)
            True values.
        n_draws : int, default=200
            Draws of each row.
        outputs : int, str or sequence of these, default=None
            Which outputs to show, by number or name; None shows all.
        output_names : sequence of str, default=None
            Names to show instead of the estimator's, one for each output shown.
        units : dict, default=None
            Unit of each output that has one, by the name shown.
        random_state : int, RandomState or None, default=None
            Seed of the draws.
        ax : axes or array of axes, default=None
            Where to draw: one axes for each output, or one of a grid of subplots, which is
            divided. None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        RecoveryDisplay
            Drawn.
        """
        density = arrays.density_of(estimator, X)
        columns = arrays.select(outputs, density.output_names)
        return cls.from_predictions(
            arrays.as_rows(y, density, columns),
            arrays.draw(density, columns, n_draws, random_state),
            limits=np.asarray(density.limits)[columns],
            output_names=arrays.chosen_names(density, columns, output_names),
            units=units,
            ax=ax,
            **plot_options,
        )

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        draws: Any,
        *,
        limits: Any = None,
        output_names: Any = None,
        units: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> RecoveryDisplay:
        """Compare draws of any origin with true values.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs) or (n_rows,)
            True values.
        draws : array-like of shape (n_rows, n_draws, n_outputs) or (n_rows, n_draws)
            Draws of each row.
        limits : array-like of shape (n_outputs, 2), default=None
            Lower and upper limit of every output; infinite where there is none.
        output_names : sequence of str, default=None
            Names of the outputs; None makes y0, y1, ...
        units : dict, default=None
            Unit of each output that has one, by name.
        ax : axes or array of axes, default=None
            As for `from_estimator`.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        RecoveryDisplay
            Drawn.

        Raises
        ------
        ValueError
            If shapes do not fit each other, or draws lie outside the limits.
        """
        y, draws = arrays.check_pair(y, draws)
        display = cls(y, draws, limits=limits, output_names=output_names, units=units)
        return display.plot(ax=ax, **plot_options)

    def plot(
        self, *, ax: Any = None, kind: str = "auto", interval: float = 0.68, color: Any = None
    ) -> RecoveryDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes or array of axes, default=None
            As for `from_estimator`.
        kind : {"auto", "points", "histogram"}, default="auto"
            Medians with intervals, or a histogram of all draws. "auto" takes points up to 300
            rows.
        interval : float, default=0.68
            Mass of the equal-tailed intervals.
        color : color, default=None
            Of points, and of the middle of the colours of a histogram.

        Returns
        -------
        RecoveryDisplay
            This display.
        """
        drawing.check_option("kind", kind, ("auto", "points", "histogram"))
        drawing.check_level(interval, "interval")
        n_rows, n_outputs = np.shape(self.y)
        names, units = drawing.check_names(self.output_names, self.units, n_outputs)
        limits = arrays.check_limits(self.limits, n_outputs)
        arrays.check_inside([np.reshape(self.draws, (-1, n_outputs))], limits, names)
        levels = [0.5 - interval / 2, 0.5, 0.5 + interval / 2]
        quantiles = np.quantile(self.draws, levels, axis=1)  # (3, n_rows, n_outputs)
        self.r2_, self.rmse_, self.coverage_ = _agreement(self.y, quantiles)
        points = kind == "points" or (kind == "auto" and n_rows <= MAX_POINTS)
        colour = drawing.palette()[0] if color is None else color
        panels = drawing.Panels.make(n_outputs, ax, (2.7, 3.0) if n_outputs > 1 else (4.2, 4.5))
        self.figure_, self.axes_, self.artists_ = panels.figure, panels.axes, []
        for j, axis in enumerate(panels.axes):
            if points:
                drawn = _draw_points(axis, self.y[:, j], quantiles[..., j], limits[j], colour)
            else:
                own = (self.y[:, j], self.draws[..., j], limits[j])
                drawn = _draw_histogram(axis, *own, colour)
            artist, view = drawn
            self.artists_.append(artist)
            _square(axis, view)
            title = drawing.axis_label(names[j], units[j], drawing.power_of_ten(view))
            axis.set_title(title, fontsize=10, pad=17)
            numbers = self._numbers(j, interval)
            axis.text(0.5, 1.025, numbers, transform=axis.transAxes, ha="center", fontsize=8)
        panels.label("true value", "posterior", shared=False)
        self.colorbar_ = None
        if not points:
            self.colorbar_ = self.figure_.colorbar(
                self.artists_[0], ax=list(self.axes_), aspect=40.0, pad=0.02, ticks=(0.0, 0.5, 1.0)
            )
            self.colorbar_.set_label("density / highest in column", fontsize=9)
            if ax is None:
                width, height = self.figure_.get_size_inches()
                self.figure_.set_size_inches(width + 0.9, height)
        return self

    def _numbers(self, j: int, interval: float) -> str:
        """How well output j is recovered."""
        r2 = "" if np.isnan(self.r2_[j]) else f"R$^2$ ${self.r2_[j]:.2f}$, "
        covered = 100 * self.coverage_[j]
        return f"{r2}RMSE {self.rmse_[j]:.2g}, {100 * interval:g} % holds {covered:.0f} %"


def _agreement(y: np.ndarray, quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R2 and RMSE of medians, and coverage of intervals, each (n_outputs,).

    `quantiles` (3, n_rows, n_outputs) are the lower end, the median and the upper end.
    """
    low, median, high = quantiles
    squared = ((y - median) ** 2).mean(axis=0)
    variance = y.var(axis=0)
    r2 = np.full(y.shape[1], np.nan)
    np.divide(squared, variance, out=r2, where=variance > 0)
    return 1.0 - r2, np.sqrt(squared), ((low <= y) & (y <= high)).mean(axis=0)


def _draw_points(
    axis: Any, truth: np.ndarray, quantiles: np.ndarray, limits: np.ndarray, colour: Any
) -> tuple[Any, tuple[float, float]]:
    """Medians with bars, and the range to show; `quantiles` is (3, n_rows)."""
    low, median, high = quantiles
    bars = axis.errorbar(
        truth,
        median,
        yerr=np.stack([median - low, high - median]),
        fmt="o",
        ms=2.5,
        color=colour,
        ecolor=(colour, 0.35),
        elinewidth=0.8,
    )
    return bars, view_range([low, high], truth, limits, cut=0.0)


def _draw_histogram(
    axis: Any, truth: np.ndarray, draws: np.ndarray, limits: np.ndarray, colour: Any
) -> tuple[Any, tuple[float, float]]:
    """Draws (n_rows, n_draws) in columns of the truth (n_rows,), and the range to show."""
    random = np.random.default_rng(0)
    truth = spread_ties(truth[:, None], random)[:, 0]
    values = spread_ties(draws.reshape(-1, 1), random).reshape(draws.shape)
    view = view_range([values.ravel()], truth, limits)
    ends = np.clip(view, *limits)
    columns, cells = _columns(truth), np.linspace(ends[0], ends[1], N_CELLS + 1)
    place = np.clip(np.searchsorted(columns, truth, side="right") - 1, 0, len(columns) - 2)
    counts = np.stack([np.histogram(values[place == k], cells)[0] for k in range(len(columns) - 1)])
    smooth = gaussian_filter(counts.astype(float), SMOOTHING, mode="nearest")
    heights = smooth / np.maximum(smooth.max(axis=1, keepdims=True), 1e-300)
    mesh = axis.pcolormesh(
        columns,
        cells,
        heights.T,
        cmap=drawing.shades(colour),
        vmin=0.0,
        vmax=1.0,
        rasterized=True,
    )
    return mesh, view


def _columns(truth: np.ndarray) -> np.ndarray:
    """Edges of columns of equal width, joined until each holds enough rows."""
    edges = np.linspace(truth.min(), truth.max(), MAX_COLUMNS + 1)
    below = np.searchsorted(np.sort(truth), edges[1:-1])
    kept, last = [edges[0]], 0
    for edge, n in zip(edges[1:-1], below, strict=True):
        if n - last >= MIN_ROWS and len(truth) - n >= MIN_ROWS:
            kept.append(edge)
            last = n
    end = edges[-1] if edges[-1] > edges[0] else edges[0] + 1.0
    return np.array([*kept, end])


def _square(axis: Any, view: tuple[float, float]) -> None:
    """The same range on both axes, and their diagonal."""
    axis.plot(view, view, color=drawing.TRUTH, lw=1.0)
    axis.set(xlim=view, ylim=view)
    drawing.set_ticks(axis.xaxis, view)
    drawing.set_ticks(axis.yaxis, view)
