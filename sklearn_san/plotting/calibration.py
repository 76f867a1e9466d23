"""All diagnostics of a calibration report in one picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..calibration.bands import uniform_band
from . import drawing
from .levels import N_POINTS

#: Regions of local calibration that are shown, the worst ones.
N_REGIONS = 8


class CalibrationDisplay:
    """What a calibration report tested, and how far the model is off.

    One panel for each diagnostic that was run, with its p-value in the title: differences of
    distribution functions from the uniform one (Rosenblatt coordinates, ranks), of coverage from
    the nominal one (densest regions, TARP), and the worst regions of x. The first panel shows the
    size of it all: which share of rows intervals and regions hold that say 90 %.

    Use `from_report` to make one; parameters are stored as attributes.

    Parameters
    ----------
    report : CalibrationReport
        Of `sklearn_san.calibration.calibration_report`.

    Attributes
    ----------
    axes_ : dict of str to matplotlib Axes
        Panel of each diagnostic, and "effects".
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    PITDisplay, RankDisplay, CoverageDisplay : Single diagnostics in more detail.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.calibration import calibration_report
    >>> from sklearn_san.datasets import make_bimodal
    >>> from sklearn_san.plotting import CalibrationDisplay
    >>> X, y, _ = make_bimodal(500, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=5, random_state=0).fit(X[:300], y[:300])
    >>> report = calibration_report(est, X[300:], y[300:], n_draws=50, random_state=0)
    >>> list(CalibrationDisplay.from_report(report).axes_)
    ['effects', 'rosenblatt', 'ranks', 'coverage', 'local']
    """

    def __init__(self, report: Any):
        self.report = report

    @classmethod
    def from_report(cls, report: Any, *, ax: Any = None, **plot_options: Any) -> CalibrationDisplay:
        """Show a report.

        Parameters
        ----------
        report : CalibrationReport
            Of `sklearn_san.calibration.calibration_report`.
        ax : axes or array of axes, default=None
            Where to draw: one axes for each panel, or one of a grid of subplots, which is
            divided. None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        CalibrationDisplay
            Drawn.

        Raises
        ------
        ValueError
            If none of the diagnostics in the report can be drawn.
        """
        return cls(report).plot(ax=ax, **plot_options)

    def plot(
        self, *, ax: Any = None, level: float = 0.99, colors: Any = None
    ) -> CalibrationDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes or array of axes, default=None
            As for `from_report`.
        level : float, default=0.99
            Probability with which a band holds a whole curve of a calibrated model.
        colors : str or sequence, default=None
            Colour of each output; None takes ones that colour-blind readers can tell apart.

        Returns
        -------
        CalibrationDisplay
            This display.
        """
        drawing.check_level(level)
        report, painters = self.report, self._painters()
        if not painters:
            raise ValueError(
                f"None of the diagnostics {', '.join(report.results)} can be drawn; run those of "
                "sklearn_san.calibration.DIAGNOSTICS."
            )
        panels = drawing.Panels.make(len(painters), ax, (3.9, 3.0))
        self.figure_ = panels.figure
        self.axes_ = dict(zip(painters, panels.axes, strict=True))
        for (name, paint), axis in zip(painters.items(), panels.axes, strict=True):
            paint(axis, level, colors)
            results = [r for n, r in report.results.items() if n in _PANELS.get(name, ())]
            pvalues = ", ".join(f"{result.pvalue:.2g}" for result in results)
            title = _TITLES[name] + (f", p = {pvalues}" if pvalues else "")
            axis.set_title(title, fontsize=10)
        self._explain(own_figure=ax is None)
        if ax is None:
            self.figure_.suptitle(report.verdict(), fontsize=11)
        return self

    def _explain(self, *, own_figure: bool) -> None:
        """One legend of all curves, beside the panels of a figure of its own."""
        shown = [self.axes_[name] for name in ("rosenblatt", "ranks", "coverage")
                 if name in self.axes_]  # fmt: skip
        if not own_figure:
            for axis in shown:
                axis.legend(frameon=False, fontsize=6)
            return
        entries: dict[str, Any] = {}
        for axis in shown:
            for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
                entries.setdefault(name, handle)
        if entries:
            width, height = self.figure_.get_size_inches()
            self.figure_.set_size_inches(width + 1.4, height)
            self.figure_.legend(
                [*entries.values()], [*entries], loc="outside right center", frameon=False,
                fontsize=8,
            )  # fmt: skip

    def _painters(self) -> dict[str, Callable[[Any, float, Any], None]]:
        """What draws each panel that the report has results for."""
        report = self.report
        panels: dict[str, Callable[[Any, float, Any], None]] = {}
        if report.effects:
            panels["effects"] = self._draw_effects
        if report.rosenblatt is not None:
            panels["rosenblatt"] = lambda *args: self._draw_curves(report.rosenblatt.u, *args)
        if report.ranks is not None:
            panels["ranks"] = lambda *args: self._draw_curves(report.ranks.pit, *args)
        if report.hpd is not None or report.tarp is not None:
            panels["coverage"] = self._draw_coverage
        if report.local is not None:
            panels["local"] = self._draw_regions
        return panels

    def _draw_effects(self, axis: Any, level: float, colors: Any) -> None:
        """Coverage of intervals and regions with error bars, against the nominal one."""
        effects = self.report.effects
        shares = 100 * np.array([effect.coverage for effect in effects])
        errors = 200 * np.array([effect.error for effect in effects])
        rows = np.arange(len(effects))[::-1]
        axis.axvline(100 * effects[0].level, color=drawing.REFERENCE, lw=1.0)
        axis.errorbar(
            shares, rows, xerr=errors, fmt="o", ms=4.0, lw=1.2, color=drawing.palette()[0]
        )
        axis.set_yticks(rows, [effect.name for effect in effects], fontsize=8)
        axis.set_ylim(-0.6, len(effects) - 0.4)
        reach = 1.2 * max(np.abs(shares - 100 * effects[0].level + errors).max(),
                          np.abs(shares - 100 * effects[0].level - errors).max(), 2.0)  # fmt: skip
        axis.set_xlim(100 * effects[0].level - reach, 100 * effects[0].level + reach)
        axis.set_xlabel("rows held [%], with two standard errors")

    def _draw_curves(self, values: np.ndarray, axis: Any, level: float, colors: Any) -> None:
        """Distribution functions of values (n_rows, n_outputs) less the uniform one."""
        grid = np.linspace(0.0, 1.0, N_POINTS + 1)
        self._draw_band(axis, grid, len(values), level)
        names = (self.report.rosenblatt or self.report.ranks).output_names
        colours = drawing.pick_colours(colors, len(names))
        for j, (name, column, colour) in enumerate(zip(names, values.T, colours, strict=True)):
            curve = np.searchsorted(np.sort(column), grid, side="right") / len(column) - grid
            style = ("-", "--", ":")[j // len(drawing.COLOURS) % 3]
            axis.plot(grid, curve, color=colour, lw=1.2, ls=style, label=name)
        axis.set(xlabel="cumulative probability", ylabel="ECDF minus uniform")

    def _draw_coverage(self, axis: Any, level: float, colors: Any) -> None:
        """Coverage of regions of all outputs less the nominal one."""
        grid = np.linspace(0.0, 1.0, N_POINTS + 1)
        found = {"HPD": self.report.hpd, "TARP": self.report.tarp}
        self._draw_band(axis, grid, self.report.n_rows, level)
        palette = (drawing.ink(), drawing.palette()[1])
        for (name, result), colour in zip(found.items(), palette, strict=True):
            if result is not None:
                values = np.sort(np.ravel(result.values))
                curve = np.searchsorted(values, grid, side="right") / len(values) - grid
                axis.plot(grid, curve, color=colour, lw=1.4, label=name)
        axis.set(xlabel="nominal coverage", ylabel="coverage minus nominal")

    def _draw_band(self, axis: Any, grid: np.ndarray, n_rows: int, level: float) -> None:
        """Range of a whole curve of a calibrated model."""
        low, high = uniform_band(n_rows, tuple(grid.tolist()), level)
        label = f"calibrated, {100 * level:g} %"
        axis.fill_between(grid, low, high, color=(drawing.ink(), drawing.FAINT), lw=0, label=label)
        axis.axhline(0.0, color=drawing.REFERENCE, lw=0.8)
        axis.set_xlim(0.0, 1.0)

    def _draw_regions(self, axis: Any, level: float, colors: Any) -> None:
        """Mean of u in the regions of x where it is off most."""
        regions = self.report.local.worst(N_REGIONS)
        rows = np.arange(len(regions))[::-1]
        axis.axvline(0.5, color=drawing.REFERENCE, lw=1.0)
        for row, region in zip(rows, regions, strict=True):
            axis.errorbar(
                region.mean_u,
                row,
                xerr=2.0 * region.mean_u_error,
                fmt="o",
                ms=4.0,
                lw=1.2,
                color=drawing.TRUTH if region.flagged else drawing.palette()[0],
            )
        words = [f"{r.output}: {r.feature} {r.low:.3g} to {r.high:.3g}" for r in regions]
        axis.set_yticks(rows, words, fontsize=7)
        axis.set_xlabel("mean of u, 0.5 if calibrated; flagged in orange")


#: Words above each panel, and the diagnostics whose p-values stand there.
_TITLES = {
    "effects": "Rows held where 90 % should be",
    "rosenblatt": "Outputs given those before",
    "ranks": "Ranks among draws",
    "coverage": "Regions of all outputs",
    "local": "Worst regions of x",
}
_PANELS = {
    "rosenblatt": ("rosenblatt",),
    "ranks": ("ranks",),
    "coverage": ("hpd", "tarp"),
    "local": ("local",),
}
