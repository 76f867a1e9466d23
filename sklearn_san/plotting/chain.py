"""How one draw comes about: the chain of conditional densities, output by output."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import arrays, drawing
from .smooth_densities import view_range

#: Names of known outputs that fit into a title; more are counted.
MAX_KNOWN = 2


class ChainDisplay:
    """How one joint draw of a row comes about, one panel for each output.

    A sequential autoregressive network draws the first output from p(y_1 | x), the second from
    p(y_2 | y_1, x) at the value that was drawn, and so on. Each panel shows that conditional
    density with the value that is drawn from it, and as a dashed line the marginal density
    p(y_d | x): the difference is what the outputs before it tell.

    Use `from_estimator` to make one; parameters are stored as attributes.

    Parameters
    ----------
    draw : ndarray of shape (n_outputs,)
        Values drawn, in the order of the chain.
    conditionals, marginals : list of (ndarray, ndarray)
        Grid and density of each output, (n_points,) each, in the order of the chain.
    y : ndarray of shape (n_outputs,), default=None
        True values, in the order of the chain.
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
    lines_ : list of matplotlib Line2D
        Conditional density of each output.
    legend_ : matplotlib Legend
        Explains the lines.

    See Also
    --------
    CornerDisplay : Joint density of all outputs.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.datasets import make_bimodal
    >>> from sklearn_san.plotting import ChainDisplay
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=5, random_state=0).fit(X, y)
    >>> display = ChainDisplay.from_estimator(est, X[:1], random_state=0)
    >>> [axis.get_title() for axis in display.axes_]
    ['p(y0 | x)', 'p(y1 | y0, x)']
    """

    def __init__(
        self,
        draw: np.ndarray,
        conditionals: list[tuple[np.ndarray, np.ndarray]],
        marginals: list[tuple[np.ndarray, np.ndarray]],
        *,
        y: Any = None,
        limits: Any = None,
        output_names: Any = None,
        units: Any = None,
    ):
        self.draw = draw
        self.conditionals = conditionals
        self.marginals = marginals
        self.y = y
        self.limits = limits
        self.output_names = output_names
        self.units = units

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        output_names: Any = None,
        units: Any = None,
        random_state: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> ChainDisplay:
        """Draw once from the density of a row, and show how.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with a method ``predict_density`` whose densities have ``given`` and
            ``pdf_grid``. Where it has ``order_``, that is the order of the chain; elsewhere it is
            that of the columns.
        X : array-like of shape (1, n_features)
            One row.
        y : array-like of shape (1, n_outputs), default=None
            True values.
        output_names : sequence of str, default=None
            Names to show instead of the estimator's, in the order of the columns of y.
        units : dict, default=None
            Unit of each output that has one, by the name shown.
        random_state : int, RandomState or None, default=None
            Seed of the draw.
        ax : axes or array of axes, default=None
            Where to draw: one axes for each output, or one of a grid of subplots, which is
            divided. None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        ChainDisplay
            Drawn.

        Raises
        ------
        ValueError
            If X has not one row, or some outputs may have probabilities instead of a density.
        """
        density = arrays.density_of(estimator, X)
        if len(density) != 1:
            raise ValueError(f"There are {len(density)} rows, but a chain shows one: X[:1].")
        marginals = arrays.marginals_of(density, np.arange(density.n_outputs))
        if marginals is None:
            raise ValueError(
                "ChainDisplay needs outputs that have a density on a grid; among "
                f"{', '.join(density.output_names)} some may have probabilities."
            )
        order = np.asarray(
            getattr(arrays.fitted_of(estimator), "order_", np.arange(density.n_outputs))
        )
        draw = np.asarray(density.sample(1, random_state=random_state)).reshape(-1)[order]
        names = [density.output_names[j] for j in order]
        shown = density.output_names if output_names is None else list(output_names)
        display = cls(
            draw,
            _conditionals(density, names, draw, [marginals[j][0] for j in order]),
            [(marginals[j][0], marginals[j][1][0]) for j in order],
            y=None if y is None else arrays.as_rows(y, density, order)[0],
            limits=np.asarray(density.limits)[order],
            output_names=[shown[j] for j in order],
            units=units,
        )
        return display.plot(ax=ax, **plot_options)

    def plot(self, *, ax: Any = None, color: Any = None) -> ChainDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes or array of axes, default=None
            As for `from_estimator`.
        color : color, default=None
            Of the densities.

        Returns
        -------
        ChainDisplay
            This display.
        """
        n_outputs = len(self.draw)
        names, units = drawing.check_names(self.output_names, self.units, n_outputs)
        limits = arrays.check_limits(self.limits, n_outputs)
        colour = drawing.palette()[0] if color is None else color
        panels = drawing.Panels.make(n_outputs, ax, (2.9, 2.3))
        self.figure_, self.axes_, self.lines_ = panels.figure, panels.axes, []
        for j, axis in enumerate(panels.axes):
            handles = self._draw_one(axis, j, colour)
            self.lines_.append(handles["conditional"])
            seen = [self.draw[j]] if self.y is None else [self.draw[j], self.y[j]]
            grid = self.marginals[j][0]
            view = view_range([grid[[0, -1]]], np.array(seen), limits[j], cut=0.0)
            drawing.shade_outside(axis.axvspan, view, limits[j])
            axis.set(xlim=view, yticks=[])
            axis.set_ylim(bottom=0.0)
            drawing.set_ticks(axis.xaxis, view)
            axis.set_xlabel(drawing.axis_label(names[j], units[j], drawing.power_of_ten(view)))
            title = _title(names, j)
            size = drawing.fitting_size(title, drawing.size_in_inches(axis)[0], 10.0)
            axis.set_title(title, fontsize=size)
            if j and (ax is not None or j % panels.n_columns):
                self._pass_on(panels.axes[j - 1], axis, j - 1)
        self.legend_ = self._explain(handles, own_figure=ax is None)
        return self

    def _draw_one(self, axis: Any, j: int, colour: Any) -> dict[str, Any]:
        """Densities of one output and its draw; what the legend shows of them."""
        grid, density = self.conditionals[j]
        line = drawing.draw_density(axis, grid, density, colour, np.empty((0, 2)))
        handles = {"conditional": line}
        handles["marginal"] = axis.plot(
            *self.marginals[j], color=drawing.REFERENCE, lw=1.0, ls="--"
        )[0]
        height = np.interp(self.draw[j], grid, density)
        axis.plot([self.draw[j]] * 2, [0.0, height], color=drawing.TRUTH, lw=1.3)
        handles["draw"] = axis.plot(
            self.draw[j], height, "o", color=drawing.TRUTH, ms=5.0, clip_on=False, zorder=5
        )[0]
        if self.y is not None:
            handles["true value"] = axis.axvline(self.y[j], color=drawing.ink(), lw=1.0, ls=":")
        return handles

    def _pass_on(self, before: Any, after: Any, j: int) -> None:
        """Arrow from the draw of one panel to the next one."""
        height = np.interp(self.draw[j], *self.conditionals[j])
        arrow = after.annotate(
            "",
            (0.02, 0.9),
            xycoords=after.transAxes,
            xytext=(self.draw[j], height),
            textcoords=before.transData,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "->",
                "color": drawing.TRUTH,
                "lw": 0.9,
                "shrinkA": 4.0,
                "connectionstyle": "arc3,rad=-0.15",
            },
        )
        arrow.set_in_layout(False)

    def _explain(self, handles: dict[str, Any], *, own_figure: bool) -> Any:
        """Legend of the lines."""
        names = {"conditional": "given what was drawn before", "marginal": "given x alone"}
        labels = [names.get(name, name) for name in handles]
        options: dict[str, Any] = {"frameon": False, "fontsize": 9}
        if not own_figure:
            return self.axes_[0].legend([*handles.values()], labels, **{**options, "fontsize": 7})
        width, height = self.figure_.get_size_inches()
        columns = len(handles) if width > 6.5 else 2
        self.figure_.set_size_inches(width, height + 0.25 * len(handles) / columns)
        place = {"loc": "outside upper center", "ncols": columns}
        return self.figure_.legend([*handles.values()], labels, **place, **options)


def _conditionals(
    density: Any, names: list[str], draw: np.ndarray, grids: list[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Grid and density of each output, given the draws of those before it."""
    found = []
    for j, (name, grid) in enumerate(zip(names, grids, strict=True)):
        given = density.given(dict(zip(names[:j], draw[:j], strict=True))) if j else density
        fine = np.unique(np.append(grid, _around(given, name, draw[j])))
        found.append((fine, np.asarray(given.pdf_grid(name, fine))[0]))
    return found


def _around(given: Any, name: str, value: float) -> np.ndarray:
    """Points where a conditional has its mass, which can be much narrower than the marginal."""
    names = list(given.output_names)
    levels = np.linspace(0.001, 0.999, 100)
    points = np.asarray(given.quantile(levels)).reshape(1, len(levels), -1)
    return np.append(points[0, :, names.index(name)], value)


def _title(names: list[str], j: int) -> str:
    """The conditional that is drawn from."""
    known = names[:j] if j <= MAX_KNOWN else [f"{j} before"]
    return f"p({names[j]} | {', '.join([*known, 'x'])})"
