"""Densities of single outputs of one or a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import arrays, drawing
from .smooth_densities import densest_pieces, density_of_draws, spread_ties, view_range

#: Rows from which on shading would mix: intervals and truths stand on a line for each row instead.
MIN_LINES = 3
#: Height of such a line, relative to that of the curves.
LINE_STEP = 0.09
#: Mass that may lie outside the picture on each side.
CUT = 0.001


class MarginalDisplay:
    """Marginal density of each output of one or a few rows, per unit of the output.

    Intervals are shaded. From three rows on, where shades would mix, each row has a line of its own
    above the curves instead, with its interval and, as a diamond, its true value.

    Use `from_estimator` or `from_predictions` to make one; parameters are stored as attributes.

    Parameters
    ----------
    grids : list of ndarray of shape (n_points,)
        Values of each output.
    densities : list of ndarray of shape (n_rows, n_points)
        Density of each output on its grid; probabilities of the values of a discrete output,
        which are drawn as bars.
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

    Attributes
    ----------
    axes_ : ndarray of shape (n_outputs,)
        Axes of matplotlib.
    figure_ : matplotlib Figure
        The figure.
    curves_ : dict
        ``curves_[row, j]`` is the curve of output j, or its bars.

    See Also
    --------
    CornerDisplay : Joint densities of all pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.plotting import MarginalDisplay
    >>> draws = np.random.default_rng(0).normal(size=(2, 500, 3))
    >>> display = MarginalDisplay.from_predictions(draws, output_names=["a", "b", "c"])
    >>> display.axes_.shape, len(display.curves_)
    ((3,), 6)
    """

    def __init__(
        self,
        grids: list[np.ndarray],
        densities: list[np.ndarray],
        *,
        y: np.ndarray | None = None,
        limits: Any = None,
        output_names: Any = None,
        units: Any = None,
        row_names: Any = None,
    ):
        self.grids = grids
        self.densities = densities
        self.y = y
        self.limits = limits
        self.output_names = output_names
        self.units = units
        self.row_names = row_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        outputs: Any = None,
        output_names: Any = None,
        units: Any = None,
        row_names: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> MarginalDisplay:
        """Show the marginal densities of a fitted estimator.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with a method ``predict_density``.
        X : array-like of shape (n_rows, n_features)
            At most 7 rows.
        y : array-like of shape (n_rows, n_outputs), default=None
            True values.
        outputs : int, str or sequence of these, default=None
            Which outputs to show, by number or name; None shows all.
        output_names : sequence of str, default=None
            Names to show instead of the estimator's, one for each output shown.
        units : dict, default=None
            Unit of each output that has one, by the name shown.
        row_names : sequence of str, default=None
            Names of the rows in the legend.
        ax : axes or array of axes, default=None
            Where to draw: one axes for each output, or one of a grid of subplots, which is
            divided. None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        MarginalDisplay
            Drawn.

        Raises
        ------
        ValueError
            If X has too many rows.
        """
        density = arrays.density_of(estimator, X)
        arrays.check_n_rows(len(density))
        columns = arrays.select(outputs, density.output_names)
        curves = arrays.marginals_of(density, columns)
        if curves is None:
            found = [density.marginal(int(j)) for j in columns]
            curves = [(arrays.as_numbers(one.grid, "grid"), one.density) for one in found]
        display = cls(
            [grid for grid, _ in curves],
            [np.asarray(values) for _, values in curves],
            y=None if y is None else arrays.as_rows(y, density, columns),
            limits=np.asarray(density.limits)[columns],
            output_names=arrays.chosen_names(density, columns, output_names),
            units=units,
            row_names=row_names,
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
    ) -> MarginalDisplay:
        """Show smoothed densities of draws of any origin.

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
        ax : axes or array of axes, default=None
            As for `from_estimator`.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        MarginalDisplay
            Drawn.

        Raises
        ------
        ValueError
            If shapes do not fit each other, there are too many rows, or draws lie outside the
            limits.
        """
        parts = arrays.check_row_draws(draws)
        n_outputs = parts[0].shape[1]
        box = arrays.check_limits(limits, n_outputs)
        names, _ = drawing.check_names(output_names, units, n_outputs)
        arrays.check_inside(parts, box, names)
        random = np.random.default_rng(0)
        spread = [spread_ties(part, random) for part in parts]
        grids, densities = [], []
        for j in range(n_outputs):
            columns = [part[:, j] for part in spread]
            low, high = np.clip(view_range(columns, np.empty(0), box[j]), *box[j])
            pairs = [density_of_draws(column, low, high) for column in columns]
            grids.append(pairs[0][0])
            densities.append(np.stack([density for _, density in pairs]))
        display = cls(
            grids,
            densities,
            y=arrays.check_row_truth(y, parts),
            limits=limits,
            output_names=output_names,
            units=units,
            row_names=row_names,
        )
        return display.plot(ax=ax, **plot_options)

    def plot(
        self, *, ax: Any = None, interval: float = 0.68, zoom: bool = True, colors: Any = None
    ) -> MarginalDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes or array of axes, default=None
            As for `from_estimator`.
        interval : float, default=0.68
            Mass of the interval that is shaded darker, equal-tailed unless there are separate
            modes: then all pieces of the densest region.
        zoom : bool, default=True
            Whether to show where the densities are. False shows all between the limits.
        colors : str or sequence, default=None
            Colour of each row; None takes ones that colour-blind readers can tell apart.

        Returns
        -------
        MarginalDisplay
            This display.
        """
        drawing.check_level(interval, "interval")
        n_outputs, n_rows = len(self.grids), len(self.densities[0])
        names, units = drawing.check_names(self.output_names, self.units, n_outputs)
        row_names = arrays.check_row_names(self.row_names, n_rows)
        limits = arrays.check_limits(self.limits, n_outputs)
        truth = np.empty((0, n_outputs)) if self.y is None else np.asarray(self.y)
        colours = drawing.pick_colours(colors, n_rows)
        panels = drawing.Panels.make(n_outputs, ax, (2.9, 2.2) if n_outputs > 1 else (4.4, 3.3))
        self.figure_, self.axes_, self.curves_ = panels.figure, panels.axes, {}
        in_lines = n_rows >= MIN_LINES
        for j, axis in enumerate(panels.axes):
            output = _Output(self.grids[j], self.densities[j], limits[j])
            for row, colour in enumerate(colours):
                opacity = 0.0 if in_lines else 0.2
                self.curves_[row, j] = output.draw(axis, row, colour, interval, opacity)
                value = truth[row, j] if len(truth) else None
                if in_lines:
                    output.draw_line(axis, row, colour, interval, value)
                elif value is not None:
                    axis.axvline(value, **_truth_style(row, n_rows, colours))
            view = view_range(output.ends(), truth[:, j], output.limits, zoom=zoom, cut=0.0)
            _frame(axis, view, output.limits, n_rows if in_lines else 0)
            axis.set_xlabel(drawing.axis_label(names[j], units[j], drawing.power_of_ten(view)))
            axis.set_ylabel(output.label(units[j], drawing.power_of_ten(axis.get_ylim())))
        self._explain(row_names, interval, own_figure=ax is None)
        return self

    def _explain(self, row_names: list[str], interval: float, *, own_figure: bool) -> None:
        """Legend of rows, intervals and truth, if there is something to tell apart."""
        n_rows = len(row_names)
        handles = [self.curves_[row, 0] for row in range(n_rows)]
        if n_rows >= MIN_LINES:
            bar = {"color": drawing.REFERENCE, "lw": 3.0, "alpha": 0.6}
            handles += self.axes_[0].plot([], [], **bar)
            row_names = [*row_names, f"{100 * interval:g} %"]
        if self.y is not None:
            style = _truth_style(0, n_rows, [drawing.REFERENCE])
            if n_rows >= MIN_LINES:
                style = {"color": drawing.REFERENCE, "marker": "D", "ms": 4.0, "lw": 0.0}
            handles.append(self.axes_[0].plot([], [], **style)[0])
            row_names = [*row_names, "true value"]
        if len(handles) == 1:
            return
        options = {"frameon": False, "fontsize": 9}
        if own_figure:
            self.figure_.legend(
                handles, row_names, loc="outside upper center", ncols=len(handles), **options
            )
        else:
            self.axes_[0].legend(handles, row_names, **options)


class _Output:
    """Densities of one output, or its probabilities if it is discrete.

    Parameters
    ----------
    grid : ndarray of shape (n_points,)
    densities : ndarray of shape (n_rows, n_points)
    limits : ndarray of shape (2,)
    """

    def __init__(self, grid: np.ndarray, densities: np.ndarray, limits: np.ndarray):
        self.grid = grid
        self.densities = densities
        # Probabilities add up to one whatever the distance of the values
        self.discrete = np.allclose(densities.sum(axis=1), 1.0, atol=0.01)
        self.width = np.diff(grid).min(initial=1.0) if self.discrete else 0.0
        self.limits = limits + 0.5 * self.width * np.array([-1.0, 1.0])

    def ends(self) -> list[np.ndarray]:
        """Range (2,) of nearly all mass of each row."""
        half = 0.5 * self.width * np.array([-1.0, 1.0])
        return [self._quantiles(density, [CUT, 1.0 - CUT]) + half for density in self.densities]

    def draw(self, axis: Any, row: int, colour: Any, interval: float, opacity: float) -> Any:
        """Curve with its interval shaded, or bars."""
        density = self.densities[row]
        if self.discrete:
            return axis.bar(self.grid, density, 0.9 * self.width, fc=(colour, 0.35), ec=colour)
        pieces = self._pieces(row, interval)
        return drawing.draw_density(axis, self.grid, density, colour, pieces, opacity)

    def draw_line(self, axis: Any, row: int, colour: Any, interval: float, truth: Any) -> None:
        """Interval and true value of one row, on a line of its own above the curves."""
        placed = {"transform": axis.get_xaxis_transform(), "color": colour}
        height = 1.0 - LINE_STEP * (row + 0.75) / (1.0 + LINE_STEP * len(self.densities))
        for piece in self._pieces(row, interval):
            axis.plot(piece, [height, height], lw=3.0, solid_capstyle="butt", alpha=0.6, **placed)
        if truth is not None:
            axis.plot(truth, height, "D", ms=4.0, mec=drawing.paper(), mew=0.6, **placed)

    def _pieces(self, row: int, interval: float) -> np.ndarray:
        """Interval of one row, or its pieces, (n_pieces, 2)."""
        if not self.discrete:
            return densest_pieces(self.grid, self.densities[row], interval)
        tails = [0.5 - interval / 2, 0.5 + interval / 2]
        return self._quantiles(self.densities[row], tails)[None]

    def label(self, unit: str, power: int) -> str:
        """Label of the vertical axis."""
        factor = rf"$10^{{{power}}}$" if power else ""
        if self.discrete:
            return f"probability [{factor}]" if factor else "probability"
        per_unit = f"{factor or '1'} / {unit}" if unit else factor
        return f"density [{per_unit}]" if per_unit else "density"

    def _quantiles(self, density: np.ndarray, levels: Sequence[float]) -> np.ndarray:
        """Quantiles (n_levels,) of one row."""
        if self.discrete:
            index = np.searchsorted(np.cumsum(density), levels)
            return self.grid[np.minimum(index, len(self.grid) - 1)]
        mass = 0.5 * (density[1:] + density[:-1]) * np.diff(self.grid)
        cumulative = np.concatenate([[0.0], np.cumsum(mass)])
        return np.interp(np.array(levels) * cumulative[-1], cumulative, self.grid)


def _frame(axis: Any, view: tuple[float, float], limits: np.ndarray, n_lines: int) -> None:
    """Range, limits and ticks; with room for lines above the curves."""
    top = axis.dataLim.y1 if n_lines else axis.get_ylim()[1]
    drawing.shade_outside(axis.axvspan, view, limits)
    for limit in limits[(limits >= view[0]) & (limits <= view[1])]:
        axis.axvline(limit, color=drawing.REFERENCE, lw=0.9, ls=":")
    axis.set_xlim(view)
    axis.set_ylim(0.0, 1.05 * top * (1.0 + LINE_STEP * n_lines) if n_lines else top)
    drawing.set_ticks(axis.xaxis, view)
    drawing.set_ticks(axis.yaxis, axis.get_ylim())


def _truth_style(row: int, n_rows: int, colours: Sequence[Any]) -> dict[str, Any]:
    """Line at a true value: dashed in the colour of its row, if there are several."""
    if n_rows == 1:
        return {"color": drawing.TRUTH, "lw": 1.3}
    return {"color": colours[row], "lw": 1.3, "ls": "--"}
