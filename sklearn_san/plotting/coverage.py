"""Nominal against empirical coverage; levels are from `levels`, bands from `calibration`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..calibration.bands import uniform_band
from . import arrays, drawing
from .levels import N_POINTS, check_probabilities, hpd_levels

#: Curves up to which their names fit into the axes.
MAX_INSIDE = 4


class CoverageDisplay:
    """Nominal against empirical coverage, with a band around the diagonal.

    The level of a row is the mass of the smallest region of its family that holds the truth:
    ``abs(2 * pit - 1)`` for central intervals of one output, the share of draws that are denser
    than the truth for highest-density regions of all outputs. Coverage is the share of rows with
    a level below the nominal one: under the diagonal, regions are too small.

    Use `from_estimator` or `from_predictions` to make one; parameters are stored as attributes.

    Parameters
    ----------
    levels : dict
        Levels of each curve, of shape (n_rows,), by its name.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    band_ : artist
        The band.
    lines_ : dict
        Line of each curve, by its name.

    References
    ----------
    .. [1] Lemos, Coogan, Hezaveh and Perreault-Levasseur (2023), Sampling-based accuracy testing
       of posterior estimators for general inference, ICML; levels of its regions (TARP) can be
       shown with `from_predictions`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.plotting import CoverageDisplay
    >>> levels = np.random.default_rng(0).uniform(size=(500, 2))
    >>> display = CoverageDisplay.from_predictions({"HPD": levels[:, 0], "TARP": levels[:, 1]})
    >>> sorted(display.lines_)
    ['HPD', 'TARP']
    """

    def __init__(self, levels: Mapping[str, np.ndarray]):
        self.levels = levels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_draws: int = 100,
        joint: bool = True,
        outputs: Any = None,
        output_names: Any = None,
        random_state: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> CoverageDisplay:
        """Coverage of the intervals and regions of a fitted estimator.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with a method ``predict_density``.
        X : array-like of shape (n_rows, n_features)
            Rows that were not trained on.
        y : array-like of shape (n_rows, n_outputs)
            True values.
        n_draws : int, default=100
            Draws of each row for the highest-density regions.
        joint : bool, default=True
            Whether to add the highest-density regions of all outputs together.
        outputs : int, str or sequence of these, default=None
            Outputs whose central intervals to show, given the outputs before them in the
            autoregressive order; None shows all, an empty sequence none.
        output_names : sequence of str, default=None
            Names to show instead of the estimator's, one for each output shown.
        random_state : int, RandomState or None, default=None
            Seed of the draws.
        ax : axes, default=None
            Where to draw; None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        CoverageDisplay
            Drawn.
        """
        density = arrays.density_of(estimator, X)
        levels = {}
        if outputs is None or np.size(outputs):
            columns = arrays.select(outputs, density.output_names)
            pit = np.asarray(density.cdf(y, random_state=random_state)).reshape(len(density), -1)
            names = arrays.chosen_names(density, columns, output_names)
            levels = dict(zip(names, np.abs(2.0 * pit[:, columns].T - 1.0), strict=True))
        if joint:
            levels["joint"] = hpd_levels(density, y, n_draws, random_state)
        return cls.from_predictions(levels, ax=ax, **plot_options)

    @classmethod
    def from_predictions(
        cls, levels: Any, *, ax: Any = None, **plot_options: Any
    ) -> CoverageDisplay:
        """Show levels of any origin, for instance those of TARP.

        Parameters
        ----------
        levels : dict of array-like of shape (n_rows,), or array-like
            Levels of each curve by its name, or those of a single curve. All curves have the
            same number of rows, on which the band depends.
        ax : axes, default=None
            Where to draw; None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        CoverageDisplay
            Drawn.

        Raises
        ------
        ValueError
            If there are no levels, levels outside [0, 1], or curves of different length.
        """
        if not isinstance(levels, Mapping):
            levels = {"coverage": levels}
        checked = {
            str(name): check_probabilities(values, f"levels of {name!r}", 1)
            for name, values in levels.items()
        }
        if len({len(values) for values in checked.values()}) != 1:
            lengths = {name: len(values) for name, values in checked.items()}
            raise ValueError(
                f"levels must have one or more curves with the same number of rows; got {lengths}."
            )
        return cls(checked).plot(ax=ax, **plot_options)

    def plot(
        self,
        *,
        ax: Any = None,
        kind: str = "coverage",
        level: float = 0.99,
        colors: Any = None,
    ) -> CoverageDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes, default=None
            Where to draw; None makes a figure.
        kind : {"coverage", "difference"}, default="coverage"
            Empirical coverage, or its difference from the nominal one.
        level : float, default=0.99
            Probability with which the band holds the whole curve of a calibrated model.
        colors : str or sequence, default=None
            Colour of each curve; None takes ones that colour-blind readers can tell apart, and
            black for "joint".

        Returns
        -------
        CoverageDisplay
            This display.
        """
        drawing.check_option("kind", kind, ("coverage", "difference"))
        panels = drawing.Panels.make(1, ax, (4.8, 4.6))
        self.figure_, self.ax_ = panels.figure, panels.axes[0]
        nominal = np.linspace(0.0, 1.0, N_POINTS + 1)
        offset = nominal if kind == "coverage" else np.zeros_like(nominal)
        n_rows = len(next(iter(self.levels.values())))
        low, high = uniform_band(n_rows, tuple(nominal.tolist()), drawing.check_level(level))
        self.band_ = self.ax_.fill_between(
            nominal,
            low + offset,
            high + offset,
            color=(drawing.ink(), drawing.FAINT),
            lw=0,
            label=f"{100 * level:g} % band",
        )
        self.ax_.plot(nominal, offset, color=drawing.REFERENCE, lw=0.8)
        self.lines_ = {}
        styles = _curve_styles(list(self.levels), colors)
        for (name, values), style in zip(self.levels.items(), styles, strict=True):
            coverage = np.searchsorted(np.sort(values), nominal, side="right") / n_rows
            curve = coverage - nominal + offset
            self.lines_[name] = self.ax_.plot(nominal, curve, label=name, **style)[0]
        self._finish(kind)
        self._explain(kind, own_figure=ax is None)
        return self

    def _finish(self, kind: str) -> None:
        """Labels, and what the two sides of the diagonal mean."""
        axis = self.ax_
        y_label = "empirical coverage" if kind == "coverage" else "empirical minus nominal coverage"
        axis.set(xlabel="nominal coverage", ylabel=y_label, xlim=(0.0, 1.0))
        words = {"color": drawing.REFERENCE, "fontsize": 8, "transform": axis.transAxes}
        if kind == "coverage":
            axis.set_ylim(0.0, 1.0)
            axis.text(0.97, 0.03, "regions too small", ha="right", **words)
        else:
            reach = 1.3 * max(np.abs(axis.get_ylim()))
            axis.set_ylim(-reach, reach)
            axis.text(0.03, 0.03, "regions too small", **words)
            axis.text(0.03, 0.97, "regions too large", va="top", **words)

    def _explain(self, kind: str, *, own_figure: bool) -> None:
        """Legend, beside the axes where it would hide the curves."""
        if own_figure and len(self.lines_) > MAX_INSIDE:
            letters = max(map(len, self.lines_))
            self.figure_.set_size_inches(5.6 + 0.08 * letters, 4.6)
            self.figure_.legend(loc="outside right upper", frameon=False, fontsize=9)
            return
        place = "upper left" if kind == "coverage" else "upper right"
        self.ax_.legend(loc=place, frameon=False, fontsize=8)


def _curve_styles(names: list[str], colors: Any) -> list[dict[str, Any]]:
    """Colour and dashes of each curve; black and thick for the joint one."""
    if colors is not None:
        return [{"color": colour, "lw": 1.4} for colour in drawing.pick_colours(colors, len(names))]
    palette = drawing.palette()[:-1]
    styles: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        dashes = ("-", "--", ":", "-.")[(index // len(palette)) % 4]
        styles.append({"color": palette[index % len(palette)], "lw": 1.3, "ls": dashes})
        if name == "joint":
            styles[-1] = {"color": drawing.ink(), "lw": 2.0}
    return styles
