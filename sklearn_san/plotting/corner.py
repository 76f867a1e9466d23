"""Corner plots: the joint density of all outputs of one or a few rows, pair by pair.

Each panel below the diagonal shows the highest-density regions of two outputs, which enclose the
given masses of the draws; each panel on it shows one output, as the model's own marginal density
where there is a model. Smoothing is in `smooth_densities`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import arrays, drawing
from .smooth_densities import (
    Curve,
    PairDensity,
    densest_pieces,
    density_of_draws,
    spread_ties,
    view_range,
)

#: Rows up to which titles give medians and intervals.
MAX_NUMBERS = 4
#: Outputs from which on the empty half has room for a table.
MIN_TABLE = 5
#: Tick labels of panels that nearly touch.
SMALL = {"font_size": 7.0, "overhang": 0.04}


class CornerDisplay:
    """Joint density of the outputs of one or a few rows, as a triangle of pairs.

    Contours enclose the densest regions that hold 68 % and 95 % of the draws. They are smoothed as
    much as the draws allow, most where outputs hardly depend on each other. Panels end at the
    limits of the outputs where the draws reach them, what lies beyond is grey, and no smoothing
    crosses the limits. On the diagonal are the marginal densities of the model; from draws alone,
    smoothed ones. For one row and five outputs or more, a table of the outer intervals, true values
    and limits stands in the empty half.

    Use `from_estimator` or `from_predictions` to make one; parameters are stored as attributes.

    Parameters
    ----------
    draws : sequence of ndarray of shape (n_draws, n_outputs)
        Draws of each row, in the units of y; rows may have different numbers of them.
    y : ndarray of shape (n_rows, n_outputs), default=None
        True values.
    limits : array-like of shape (n_outputs, 2), default=None
        Lower and upper limit of every output; infinite where there is none.
    output_names : sequence of str, default=None
        Names of the outputs; None makes y0, y1, ...
    units : dict, default=None
        Unit of each output that has one, by name.
    row_names : sequence of str, default=None
        Names of the rows in the legend.
    marginals : list of (ndarray, ndarray), default=None
        Grid (n_points,) and density (n_rows, n_points) of each output. None smooths the draws.

    Attributes
    ----------
    axes_ : ndarray of shape (n_outputs, n_outputs)
        Axes of matplotlib, None above the diagonal.
    figure_ : matplotlib Figure
        The figure.
    contours_ : dict
        ``contours_[row, i, j]`` is the QuadContourSet of outputs i (vertical) and j < i.
    curves_ : dict
        ``curves_[row, j]`` is the curve or histogram of output j.
    legend_ : matplotlib Legend
        Explains colours and lines.
    table_ : matplotlib Table or None
        Numbers of each output, in the empty half.

    See Also
    --------
    MarginalDisplay : Densities of single outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.plotting import CornerDisplay
    >>> draws = np.random.default_rng(0).normal(size=(500, 2))
    >>> display = CornerDisplay.from_predictions(draws, y=[0.0, 0.5])
    >>> display.axes_.shape, len(display.contours_)
    ((2, 2), 1)
    """

    def __init__(
        self,
        draws: Sequence[np.ndarray],
        *,
        y: np.ndarray | None = None,
        limits: Any = None,
        output_names: Any = None,
        units: Any = None,
        row_names: Any = None,
        marginals: Any = None,
    ):
        self.draws = draws
        self.y = y
        self.limits = limits
        self.output_names = output_names
        self.units = units
        self.row_names = row_names
        self.marginals = marginals

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        n_draws: int = 50_000,
        outputs: Any = None,
        output_names: Any = None,
        units: Any = None,
        row_names: Any = None,
        random_state: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> CornerDisplay:
        """Draw the posterior of each row of X.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with a method ``predict_density``.
        X : array-like of shape (n_rows, n_features)
            At most 7 rows.
        y : array-like of shape (n_rows, n_outputs), default=None
            True values.
        n_draws : int, default=50_000
            Draws of each row, behind the contours.
        outputs : int, str or sequence of these, default=None
            Which outputs to show, by number or name; None shows all.
        output_names : sequence of str, default=None
            Names to show instead of the estimator's, one for each output shown.
        units : dict, default=None
            Unit of each output that has one, by the name shown.
        row_names : sequence of str, default=None
            Names of the rows in the legend.
        random_state : int, RandomState or None, default=None
            Seed of the draws.
        ax : axes, default=None
            One of a grid of subplots, to be divided into panels. None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        CornerDisplay
            Drawn.

        Raises
        ------
        ValueError
            If X has too many rows.
        """
        density = arrays.density_of(estimator, X)
        arrays.check_n_rows(len(density))
        columns = arrays.select(outputs, density.output_names)
        display = cls(
            list(arrays.draw(density, columns, n_draws, random_state)),
            y=None if y is None else arrays.as_rows(y, density, columns),
            limits=np.asarray(density.limits)[columns],
            output_names=arrays.chosen_names(density, columns, output_names),
            units=units,
            row_names=row_names,
            marginals=arrays.marginals_of(density, columns),
        )
        return display.plot(ax=ax, **plot_options)

    @classmethod
    def from_predictions(
        cls,
        draws: Any,
        *,
        y: Any = None,
        limits: Any = None,
        output_names: Any = None,
        units: Any = None,
        row_names: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> CornerDisplay:
        """Show draws of any origin.

        Parameters
        ----------
        draws : array-like of shape (n_draws, n_outputs), or a sequence of such arrays
            Draws of one row, or of each of at most 7 rows.
        y : array-like of shape (n_rows, n_outputs) or (n_outputs,), default=None
            True values; one-dimensional ones are those of all rows.
        limits : array-like of shape (n_outputs, 2), default=None
            Lower and upper limit of every output; infinite where there is none.
        output_names : sequence of str, default=None
            Names of the outputs; None makes y0, y1, ...
        units : dict, default=None
            Unit of each output that has one, by name.
        row_names : sequence of str, default=None
            Names of the rows in the legend.
        ax : axes, default=None
            As for `from_estimator`.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        CornerDisplay
            Drawn.

        Raises
        ------
        ValueError
            If shapes do not fit each other, there are too many rows, or draws lie outside the
            limits.
        """
        parts = arrays.check_row_draws(draws)
        display = cls(
            parts,
            y=arrays.check_row_truth(y, parts),
            limits=limits,
            output_names=output_names,
            units=units,
            row_names=row_names,
        )
        return display.plot(ax=ax, **plot_options)

    def plot(
        self,
        *,
        ax: Any = None,
        levels: Sequence[float] = (0.68, 0.95),
        diagonal: str = "density",
        interval: float = 0.68,
        zoom: bool = True,
        colors: Any = None,
        panel_size: float | None = None,
    ) -> CornerDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes, default=None
            As for `from_estimator`.
        levels : sequence of float, default=(0.68, 0.95)
            Masses that the contours enclose.
        diagonal : {"density", "histogram"}, default="density"
            What to draw of each single output.
        interval : float, default=0.68
            Mass of the interval that is shaded on the diagonal and stands in the titles, for up to
            4 rows. It is equal-tailed, around the median, unless there are separate modes: then
            all pieces of the densest region.
        zoom : bool, default=True
            Whether to show where the draws are. False shows all between the limits.
        colors : str or sequence, default=None
            Colour of each row; None takes ones that colour-blind readers can tell apart.
        panel_size : float, default=None
            Side of a panel of a new figure in inches; None depends on their number.

        Returns
        -------
        CornerDisplay
            This display.
        """
        drawing.check_option("diagonal", diagonal, ("density", "histogram"))
        drawing.check_level(interval, "interval")
        for level in levels:
            drawing.check_level(level, "levels")
        n_outputs = self.draws[0].shape[1]
        names, units = drawing.check_names(self.output_names, self.units, n_outputs)
        limits = arrays.check_limits(self.limits, n_outputs)
        truth = np.empty((0, n_outputs)) if self.y is None else np.asarray(self.y)
        arrays.check_inside(list(self.draws), limits, names)
        colours = drawing.pick_colours(colors, len(self.draws))
        random = np.random.default_rng(0)
        parts = [spread_ties(part, random) for part in self.draws]
        views = [
            view_range([part[:, j] for part in parts], truth[:, j], limits[j], zoom=zoom)
            for j in range(n_outputs)
        ]
        self.figure_, self.axes_, empty = _triangle(n_outputs, ax, panel_size, len(parts))
        inside = [np.clip(view, *limits[j]) for j, view in enumerate(views)]
        curves = self._curves(parts, inside)
        pieces = {key: densest_pieces(*curve, interval) for key, curve in curves.items()}
        self._draw_densities(parts, inside, colours, curves, (levels, diagonal, pieces))
        _draw_truth(self.axes_, truth, colours)
        _frame(self.axes_, views, limits)
        _label(self.axes_, views, names, units)
        numbers = {
            (row, j): drawing.pieces_text(found)
            if len(found) > 1
            else drawing.interval_text(float(np.median(self.draws[row][:, j])), *found[0])
            for (row, j), found in pieces.items()
        }
        labels = [drawing.axis_label(*pair) for pair in zip(names, units, strict=True)]
        for j, label in enumerate(labels):
            lines = [numbers[row, j] for row in range(len(parts)) if len(parts) <= MAX_NUMBERS]
            _title(self.axes_[j, j], label, lines, colours, topmost=j == 0)
        self.legend_ = self._explain(empty, colours, levels, interval)
        self.table_ = None
        if len(parts) == 1 and n_outputs >= MIN_TABLE and ax is None:
            outer = max(levels, default=interval)
            found = [densest_pieces(*curves[0, j], outer) for j in range(n_outputs)]
            columns = {f"{100 * outer:g} %": [drawing.pieces_text(own) for own in found]}
            if len(truth):
                columns["true"] = [f"{value:.3g}" for value in truth[0]]
            if np.isfinite(limits).any():
                columns["limits"] = [drawing.limits_text(*own) for own in limits]
            grid = empty.get_subplotspec().get_gridspec()
            self.table_ = _table(self.figure_, grid, columns, labels)
        return self

    def _curves(
        self, parts: list[np.ndarray], inside: list[np.ndarray]
    ) -> dict[tuple[int, int], Curve]:
        """Grid and density of each row and output."""
        if self.marginals is None:
            return {
                (row, j): density_of_draws(part[:, j], *inside[j])
                for row, part in enumerate(parts)
                for j in range(len(inside))
            }
        return {
            (row, j): (np.asarray(grid), np.asarray(density)[row])
            for j, (grid, density) in enumerate(self.marginals)
            for row in range(len(parts))
        }

    def _draw_densities(
        self,
        parts: list[np.ndarray],
        inside: list[np.ndarray],
        colours: Sequence[Any],
        curves: Mapping[tuple[int, int], Curve],
        options: tuple[Sequence[float], str, Mapping[tuple[int, int], np.ndarray]],
    ) -> None:
        """Densities of all rows; `inside` is the part of each view within the limits."""
        levels, diagonal, pieces = options
        opacity = (0.25, 0.6) if len(parts) == 1 else (0.15, 0.45)  # rows stay visible behind rows
        self.contours_, self.curves_ = {}, {}
        for row, (part, colour) in enumerate(zip(parts, colours, strict=True)):
            for i, j in _pairs(len(inside)):
                axis, x, y = self.axes_[i, j], part[:, j], part[:, i]
                if i != j:
                    known = (curves[row, j], curves[row, i])
                    pair = PairDensity.of_draws(x, y, inside[j], inside[i], *known)
                    self.contours_[row, i, j] = _draw_pair(axis, pair, levels, colour, opacity)
                elif diagonal == "density":
                    self.curves_[row, j] = drawing.draw_density(
                        axis, *curves[row, j], colour, pieces[row, j]
                    )
                else:
                    bars = _draw_bars(axis, x, inside[j], pieces[row, j], colour)
                    self.curves_[row, j] = bars

    def _explain(
        self, axis: Any, colours: Sequence[Any], levels: Sequence[float], interval: float
    ) -> Any:
        """Legend of colours, contours, truth and limits."""
        names = arrays.check_row_names(self.row_names, len(self.draws))
        for name, colour in zip(names, colours, strict=True):
            axis.fill([], [], fc=(colour, 0.4), ec=colour, label=name)
        if self.y is not None:
            colour = drawing.TRUTH if len(self.draws) == 1 else drawing.REFERENCE
            axis.plot([], [], color=colour, marker="s", ms=4, lw=1.0, label="true value")
        if self.limits is not None and np.isfinite(self.limits).any():
            axis.fill([], [], fc=(drawing.ink(), drawing.FAINT), ec="none", label="beyond limits")
        size = 9.0 if len(self.axes_) < 4 else 11.0
        percent = " and ".join(f"{100 * level:g} %" for level in sorted(levels))
        contours = f"contours: {percent}\n" if len(self.axes_) > 1 else ""
        legend = axis.legend(
            loc="upper right",
            frameon=False,
            fontsize=size,
            title=f"{contours}shaded: {100 * interval:g} %",
            title_fontsize=size,
            alignment="left",
        )
        legend.set_in_layout(False)
        return legend


def _triangle(
    n_outputs: int, ax: Any, panel_size: float | None, n_rows: int
) -> tuple[Any, np.ndarray, Any]:
    """Figure, axes (n_outputs, n_outputs) with shared scales, and axes for the legend."""
    if ax is None:
        side = panel_size or (1.35 if n_outputs > 6 else 1.7 if n_outputs > 3 else 2.3)
        figure, grid = _new_grid(
            n_outputs, side, title_height=0.3 + 0.21 * (n_rows if n_rows <= MAX_NUMBERS else 0)
        )
    else:
        figure, place = drawing.single_place(ax, n_outputs * (n_outputs + 1) // 2)
        grid = place.subgridspec(n_outputs, n_outputs, wspace=0.06, hspace=0.06)
    axes = np.full((n_outputs, n_outputs), None, dtype=object)
    for j in range(n_outputs):
        axes[j, j] = figure.add_subplot(grid[j, j])
        axes[j, j].set_yticks([])  # the height of a density on its own says nothing
    for i, j in _pairs(n_outputs):
        if i > j:
            first = None if j == 0 else axes[i, 0]
            axes[i, j] = figure.add_subplot(grid[i, j], sharex=axes[j, j], sharey=first)
    if n_outputs == 1:
        return figure, axes, axes[0, 0]
    empty = figure.add_subplot(grid[0, n_outputs - 1])
    empty.set_axis_off()
    return figure, axes, empty


def _new_grid(n_outputs: int, side: float, title_height: float) -> tuple[Any, Any]:
    """New figure and grid with margins of fixed size, whatever the number of panels."""
    left, right, bottom, gap = 0.85, 0.2, 0.65, 0.1  # inches
    inner = n_outputs * side + (n_outputs - 1) * gap
    width, height = left + inner + right, bottom + inner + title_height
    figure = drawing.pyplot().figure(figsize=(width, height))
    grid = figure.add_gridspec(
        n_outputs,
        n_outputs,
        left=left / width,
        right=1.0 - right / width,
        bottom=bottom / height,
        top=1.0 - title_height / height,
        wspace=gap / side,
        hspace=gap / side,
    )
    return figure, grid


def _draw_bars(
    axis: Any, values: np.ndarray, ends: np.ndarray, pieces: np.ndarray, colour: Any
) -> Any:
    """Histogram of one output, with its median and the ends of its interval."""
    bars = axis.hist(
        values,
        bins=30,
        range=tuple(ends),
        density=True,
        histtype="stepfilled",
        fc=(colour, 0.3),
        ec=colour,
    )
    for value in (float(np.median(values)), *pieces.ravel()):
        axis.axvline(value, color=colour, lw=0.8, ls="--")
    return bars[2][0]


def _draw_pair(
    axis: Any,
    pair: PairDensity,
    levels: Sequence[float],
    colour: Any,
    opacity: tuple[float, float],
) -> Any:
    """Filled regions of the given masses, the densest darkest."""
    thresholds = pair.thresholds(levels)
    top = 1.001 * pair.density.max()
    shades = [(colour, alpha) for alpha in np.linspace(*opacity, len(thresholds))]
    axis.contourf(pair.x, pair.y, pair.density.T, levels=[*thresholds, top], colors=shades)
    return axis.contour(
        pair.x, pair.y, pair.density.T, levels=thresholds, colors=[colour], linewidths=0.8
    )


def _draw_truth(axes: np.ndarray, truth: np.ndarray, colours: Sequence[Any]) -> None:
    """Lines and a marker at the true values (n_rows, n_outputs)."""
    for row, values in enumerate(truth):
        colour = drawing.TRUTH if len(truth) == 1 else colours[row]
        for i, j in _pairs(len(axes)):
            axis = axes[i, j]
            axis.axvline(values[j], color=colour, lw=0.9)
            if i != j:
                axis.axhline(values[i], color=colour, lw=0.9)
                axis.plot(
                    values[j],
                    values[i],
                    "s",
                    color=colour,
                    ms=4.5,
                    mec=drawing.paper(),
                    mew=0.7,
                    clip_on=False,  # whole at a limit
                    zorder=5,
                )


def _frame(axes: np.ndarray, views: list[tuple[float, float]], limits: np.ndarray) -> None:
    """Ranges and ticks; what lies outside the limits is grey."""
    for i, j in _pairs(len(axes)):
        axis = axes[i, j]
        bottom, left = i == len(axes) - 1, j == 0 and i > 0
        axis.tick_params(length=2.5, labelbottom=bottom, labelleft=left)
        drawing.shade_outside(axis.axvspan, views[j], limits[j])
        axis.set_xlim(views[j])
        drawing.set_ticks(axis.xaxis, views[j], **SMALL)
        if i == j:
            axis.set_ylim(bottom=0.0)
        else:
            drawing.shade_outside(axis.axhspan, views[i], limits[i])
            axis.set_ylim(views[i])
            drawing.set_ticks(axis.yaxis, views[i], **SMALL)


def _label(
    axes: np.ndarray, views: list[tuple[float, float]], names: list[str], units: list[str]
) -> None:
    """Labels along the left and the bottom, in line beyond the longest tick label."""
    width, height = drawing.size_in_inches(axes[0, 0])
    letters = max((drawing.longest_tick_label(axis.yaxis) for axis in axes[1:, 0]), default=0)
    for j, view in enumerate(views):
        label = drawing.axis_label(names[j], units[j], drawing.power_of_ten(view))
        below, left = axes[-1, j], axes[j, 0]
        below.set_xlabel(label, fontsize=drawing.fitting_size(label, width))
        below.xaxis.set_label_coords(0.5, -0.33 / height)
        if j > 0:
            left.set_ylabel(label, fontsize=drawing.fitting_size(label, height))
            left.yaxis.set_label_coords(-(0.2 + 0.062 * letters) / width, 0.5)


def _title(
    axis: Any, label: str, numbers: Sequence[str], colours: Sequence[Any], *, topmost: bool
) -> None:
    """Name of the output, and the numbers of each row in its colour."""
    width = drawing.size_in_inches(axis)[0]
    lines = [(label, drawing.ink(), drawing.fitting_size(label, width))]
    for text, colour in zip(numbers, colours, strict=False):
        # Of mathtext the signs that take no room, and the smaller half of an interval, do not count
        plain = text.split("_{")[0].replace("^{", "") if text.startswith("$") else text
        own = drawing.ink() if len(numbers) == 1 else colour
        lines.append((text, own, drawing.fitting_size(plain, width)))
    for k, (text, colour, size) in enumerate(reversed(lines)):
        annotation = axis.annotate(
            text,
            (0.5, 1.0),
            xycoords="axes fraction",
            xytext=(0.0, 5.5 + 14.8 * k),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontsize=size,
        )
        annotation.set_in_layout(topmost)  # others have the empty half of the square


def _table(
    figure: Any, grid: Any, columns: Mapping[str, Sequence[str]], labels: Sequence[str]
) -> Any:
    """Table of what the titles do not say, under the legend in the empty half."""
    n_outputs = len(labels)
    place = figure.add_subplot(grid[1, n_outputs - 1])
    place.set_axis_off()
    table = place.table(
        [*zip(labels, *columns.values(), strict=True)],
        colLabels=["", *columns],
        edges="open",
        loc="upper right",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8.0)
    table.auto_set_column_width(list(range(1 + len(columns))))
    height = 0.19 / drawing.size_in_inches(place)[1]
    for cell in table.get_celld().values():
        cell.set_height(height)
    table.set_in_layout(False)
    return table


def _pairs(n_outputs: int) -> list[tuple[int, int]]:
    """Row and column of each panel of the triangle."""
    return [(i, j) for i in range(n_outputs) for j in range(i + 1)]
