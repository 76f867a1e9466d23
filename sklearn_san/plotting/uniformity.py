"""Pictures of values that are uniform if a model is calibrated; see `levels`.

=============  ==============================================================
`PITDisplay`   probability integral transform of each output
`RankDisplay`  rank of the truth among draws (simulation-based calibration)
=============  ==============================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calibration.bands import binomial_band, uniform_band
from . import arrays, drawing
from .levels import N_POINTS, check_probabilities, ranks_of


class PITDisplay:
    """Probability integral transform (PIT) of each output, which is uniform if calibrated.

    A histogram shaped like a U means densities too narrow, like a hill too wide, and a slope
    densities that are shifted. For the outputs of an estimator the transform is that of each
    output given those before it in the autoregressive order (Rosenblatt).

    Use `from_estimator` or `from_predictions` to make one; parameters are stored as attributes.

    Parameters
    ----------
    pit : ndarray of shape (n_rows, n_outputs)
        Cumulative probabilities at the true values, between 0 and 1.
    output_names : sequence of str, default=None
        Names of the outputs; None makes y0, y1, ...

    Attributes
    ----------
    axes_ : ndarray of shape (n_outputs,)
        Axes of matplotlib.
    figure_ : matplotlib Figure
        The figure.
    bands_ : list of artists
        Band of each panel.
    lines_ : list of artists
        Histogram or curve of each panel.
    legend_ : matplotlib Legend
        Explains the band and the bars outside of it.

    See Also
    --------
    RankDisplay : The same for models of which there are only draws.
    CoverageDisplay : How often regions of given mass hold the truth.

    References
    ----------
    .. [1] Gneiting, Balabdaoui and Raftery (2007), Probabilistic forecasts, calibration and
       sharpness, Journal of the Royal Statistical Society B 69.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.plotting import PITDisplay
    >>> pit = np.random.default_rng(0).uniform(size=(500, 2))
    >>> display = PITDisplay.from_predictions(pit, output_names=["mass", "age"])
    >>> display.axes_.shape
    (2,)
    """

    def __init__(self, pit: np.ndarray, *, output_names: Any = None):
        self.pit = pit
        self.output_names = output_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        outputs: Any = None,
        output_names: Any = None,
        random_state: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> PITDisplay:
        """Transform y by the conditional distribution functions of a fitted estimator.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with a method ``predict_density``.
        X : array-like of shape (n_rows, n_features)
            Rows that were not trained on.
        y : array-like of shape (n_rows, n_outputs)
            True values.
        outputs : int, str or sequence of these, default=None
            Which outputs to show, by number or name; None shows all.
        output_names : sequence of str, default=None
            Names to show instead of the estimator's, one for each output shown.
        random_state : int, RandomState or None, default=None
            Seed of the random part at the jumps of discrete outputs.
        ax : axes or array of axes, default=None
            Where to draw: one axes for each output, or one of a grid of subplots, which is
            divided. None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        PITDisplay
            Drawn.
        """
        density = arrays.density_of(estimator, X)
        columns = arrays.select(outputs, density.output_names)
        pit = np.asarray(density.cdf(y, random_state=random_state))
        display = cls(
            pit.reshape(len(density), -1)[:, columns],
            output_names=arrays.chosen_names(density, columns, output_names),
        )
        return display.plot(ax=ax, **plot_options)

    @classmethod
    def from_predictions(
        cls, pit: Any, *, output_names: Any = None, ax: Any = None, **plot_options: Any
    ) -> PITDisplay:
        """Show PIT values of any origin.

        Parameters
        ----------
        pit : array-like of shape (n_rows, n_outputs) or (n_rows,)
            Cumulative probabilities at the true values.
        output_names : sequence of str, default=None
            Names of the outputs; None makes y0, y1, ...
        ax : axes or array of axes, default=None
            As for `from_estimator`.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        PITDisplay
            Drawn.

        Raises
        ------
        ValueError
            If values lie outside [0, 1].
        """
        pit = np.asarray(pit)
        pit = check_probabilities(pit[:, None] if pit.ndim == 1 else pit, "pit", 2)
        return cls(pit, output_names=output_names).plot(ax=ax, **plot_options)

    def plot(
        self,
        *,
        ax: Any = None,
        kind: str = "histogram",
        n_bins: int | None = None,
        level: float = 0.99,
        color: Any = None,
    ) -> PITDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes or array of axes, default=None
            As for `from_estimator`.
        kind : {"histogram", "ecdf"}, default="histogram"
            Bars relative to their expectation, orange where they leave the band, or the
            difference of the empirical distribution function from the uniform one.
        n_bins : int, default=None
            Bars of a histogram; None takes up to 20, with 25 rows in each if possible.
        level : float, default=0.99
            Probability with which the band holds each bar, or a whole curve, of a calibrated
            model.
        color : color, default=None
            Of the bars or the curve.

        Returns
        -------
        PITDisplay
            This display.
        """
        n_rows = len(self.pit)
        n_bins = _n_bins(n_rows) if n_bins is None else n_bins
        edges = np.linspace(0.0, 1.0, _n_cells(kind, n_bins) + 1)
        counts = [np.histogram(column, edges)[0] for column in self.pit.T]
        _plot_uniformity(self, np.array(counts), edges, (ax, kind, level, color), "PIT")
        return self


class RankDisplay:
    """Rank of the truth among draws of each output: simulation-based calibration.

    The number of draws below the true value is uniform on 0 .. n_draws if the model is
    calibrated. Shapes mean what they mean for `PITDisplay`; the ranks of an output do not depend
    on the other outputs.

    Use `from_estimator` or `from_predictions` to make one; parameters are stored as attributes.

    Parameters
    ----------
    ranks : ndarray of shape (n_rows, n_outputs)
        Integers from 0 to `n_draws`.
    n_draws : int
        Draws of each row.
    output_names : sequence of str, default=None
        Names of the outputs; None makes y0, y1, ...

    Attributes
    ----------
    axes_ : ndarray of shape (n_outputs,)
        Axes of matplotlib.
    figure_ : matplotlib Figure
        The figure.
    bands_ : list of artists
        Band of each panel.
    lines_ : list of artists
        Histogram or curve of each panel.
    legend_ : matplotlib Legend
        Explains the band and the bars outside of it.

    References
    ----------
    .. [1] Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference
       algorithms with simulation-based calibration, arXiv:1804.06788.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.plotting import RankDisplay
    >>> random = np.random.default_rng(0)
    >>> y, draws = random.normal(size=(500, 2)), random.normal(size=(500, 99, 2))
    >>> RankDisplay.from_predictions(y, draws).ranks.shape
    (500, 2)
    """

    def __init__(self, ranks: np.ndarray, *, n_draws: int, output_names: Any = None):
        self.ranks = ranks
        self.n_draws = n_draws
        self.output_names = output_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_draws: int = 99,
        outputs: Any = None,
        output_names: Any = None,
        random_state: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> RankDisplay:
        """Rank y among draws of a fitted estimator.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with a method ``predict_density``.
        X : array-like of shape (n_rows, n_features)
            Rows that were not trained on.
        y : array-like of shape (n_rows, n_outputs)
            True values.
        n_draws : int, default=99
            Draws of each row.
        outputs : int, str or sequence of these, default=None
            Which outputs to show, by number or name; None shows all.
        output_names : sequence of str, default=None
            Names to show instead of the estimator's, one for each output shown.
        random_state : int, RandomState or None, default=None
            Seed of the draws and of the order of ties.
        ax : axes or array of axes, default=None
            Where to draw: one axes for each output, or one of a grid of subplots, which is
            divided. None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        RankDisplay
            Drawn.
        """
        density = arrays.density_of(estimator, X)
        columns = arrays.select(outputs, density.output_names)
        return cls.from_predictions(
            arrays.as_rows(y, density, columns),
            arrays.draw(density, columns, n_draws, random_state),
            output_names=arrays.chosen_names(density, columns, output_names),
            random_state=random_state,
            ax=ax,
            **plot_options,
        )

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        draws: Any,
        *,
        output_names: Any = None,
        random_state: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> RankDisplay:
        """Rank y among draws of any origin.

        Parameters
        ----------
        y : array-like of shape (n_rows, n_outputs) or (n_rows,)
            True values.
        draws : array-like of shape (n_rows, n_draws, n_outputs) or (n_rows, n_draws)
            Independent draws for each row.
        output_names : sequence of str, default=None
            Names of the outputs; None makes y0, y1, ...
        random_state : int, RandomState or None, default=None
            Seed of the order of ties.
        ax : axes or array of axes, default=None
            As for `from_estimator`.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        RankDisplay
            Drawn.

        Raises
        ------
        ValueError
            If shapes do not fit each other.
        """
        y, draws = arrays.check_pair(y, draws)
        ranks = ranks_of(draws, y, random_state)
        display = cls(ranks, n_draws=draws.shape[1], output_names=output_names)
        return display.plot(ax=ax, **plot_options)

    def plot(
        self,
        *,
        ax: Any = None,
        kind: str = "histogram",
        n_bins: int | None = None,
        level: float = 0.99,
        color: Any = None,
    ) -> RankDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes or array of axes, default=None
            As for `from_estimator`.
        kind : {"histogram", "ecdf"}, default="histogram"
            Bars relative to their expectation, orange where they leave the band, or the
            difference of the empirical distribution function from the uniform one.
        n_bins : int, default=None
            Bars of a histogram; None takes up to 20, with 25 rows in each if possible. Where it
            does not divide ``n_draws + 1``, bars stand for different numbers of ranks, and
            their expectations differ accordingly.
        level : float, default=0.99
            Probability with which the band holds each bar, or a whole curve, of a calibrated
            model.
        color : color, default=None
            Of the bars or the curve.

        Returns
        -------
        RankDisplay
            This display.
        """
        n_ranks = self.n_draws + 1
        if np.min(self.ranks) < 0 or np.max(self.ranks) >= n_ranks:
            raise ValueError(
                f"ranks must lie between 0 and n_draws={self.n_draws}; they reach from "
                f"{np.min(self.ranks)} to {np.max(self.ranks)}."
            )
        n_bins = _n_bins(len(self.ranks)) if n_bins is None else n_bins
        cells = min(_n_cells(kind, n_bins), n_ranks)
        edges = np.round(np.linspace(0, n_ranks, cells + 1))  # bin b: edges[b] <= rank < edges[b+1]
        counts = [np.histogram(column, edges - 0.5)[0] for column in self.ranks.T]
        label = f"rank / {n_ranks}"
        options = (ax, kind, level, color)
        _plot_uniformity(self, np.array(counts), edges / n_ranks, options, label)
        return self


def _plot_uniformity(
    display: Any,
    counts: np.ndarray,
    edges: np.ndarray,
    options: tuple[Any, str, float, Any],
    label: str,
) -> None:
    """Draw `counts` (n_outputs, n_bins) of values that are uniform if all is well."""
    ax, kind, level, color = options
    level, color = drawing.check_level(level), drawing.palette()[0] if color is None else color
    names, _ = drawing.check_names(display.output_names, None, len(counts))
    panels = drawing.Panels.make(len(counts), ax, (2.7, 2.2) if len(counts) > 1 else (4.0, 3.2))
    display.figure_, display.axes_ = panels.figure, panels.axes
    n = int(counts[0].sum())
    if kind == "ecdf":
        draw: Any = _draw_curve
        band = uniform_band(n, tuple(edges.tolist()), level)
    else:
        draw, expected = _draw_bars, np.diff(edges)
        band = binomial_band(n, expected, level) / (n * expected)
    drawn = [draw(axis, c, edges, band, color) for axis, c in zip(panels.axes, counts, strict=True)]
    display.bands_, display.lines_ = map(list, zip(*drawn, strict=True))
    low = min(axis.get_ylim()[0] for axis in panels.axes)
    high = max(axis.get_ylim()[1] for axis in panels.axes)
    for axis, name in zip(panels.axes, names, strict=True):
        axis.set_title(name, fontsize=10)
        axis.set(xlim=(0.0, 1.0), ylim=(low, high))
        axis.set_xticks((0.0, 0.5, 1.0), ("0", "0.5", "1"))
    y_label = "relative frequency" if kind == "histogram" else "ECDF minus uniform"
    panels.label(label, y_label, shared=True)
    display.legend_ = _explain(display, color, kind, level, own_figure=ax is None)


def _explain(display: Any, color: Any, kind: str, level: float, *, own_figure: bool) -> Any:
    """Legend of bars or curve, band, and bars outside of it."""
    percent = f"{100 * level:g} %"
    if kind == "ecdf":
        entries = {"observed": display.lines_[0], f"holds a calibrated curve in {percent}": None}
    else:
        axis = display.axes_[0]
        fill = {"lw": 1.2, "ec": color, "fc": (color, 0.3)}
        outside = {"lw": 1.2, "ec": color, "fc": (drawing.TRUTH, 0.3)}
        bars, flagged = (axis.fill([], [], **style)[0] for style in (fill, outside))
        chance = f"outside ({100 * (1 - level):.3g} % by chance)"
        entries = {"observed": bars, f"holds {percent} of calibrated bars": None, chance: flagged}
    handles = [display.bands_[0] if handle is None else handle for handle in entries.values()]
    options = {"frameon": False, "fontsize": 9}
    if not own_figure:
        return display.axes_[0].legend(handles, [*entries], **{**options, "fontsize": 7})
    width, height = display.figure_.get_size_inches()
    columns = len(entries) if width > 7.0 else 1
    display.figure_.set_size_inches(width, height + 0.2 * len(entries) / columns)
    return display.figure_.legend(
        handles, [*entries], loc="outside upper center", ncols=columns, **options
    )


def _draw_bars(
    axis: Any,
    counts: np.ndarray,
    edges: np.ndarray,
    band: np.ndarray,
    color: Any,
) -> tuple[Any, Any]:
    """Bars relative to their expectation, and the binomial band of each."""
    low, high = band
    heights = counts / (counts.sum() * np.diff(edges))
    outside = (heights < low) | (heights > high)
    for chosen, fill in ((~outside, color), (outside, drawing.TRUTH)):
        axis.stairs(np.where(chosen, heights, 0.0), edges, fill=True, color=fill, alpha=0.3)
    shade = axis.stairs(high, edges, baseline=low, fill=True, color=drawing.REFERENCE, alpha=0.25)
    axis.axhline(1.0, color=drawing.REFERENCE, lw=0.8)
    bars = axis.stairs(heights, edges, color=color, lw=1.2)
    axis.set_ylim(0.0, max(1.1 * max(high.max(), heights.max()), 1.6))
    return shade, bars


def _draw_curve(
    axis: Any,
    counts: np.ndarray,
    edges: np.ndarray,
    band: np.ndarray,
    color: Any,
) -> tuple[Any, Any]:
    """Empirical minus uniform distribution function, over the band of the whole curve."""
    low, high = band
    shade = axis.fill_between(edges, low, high, color=(drawing.ink(), drawing.FAINT), lw=0)
    axis.axhline(0.0, color=drawing.REFERENCE, lw=0.8)
    difference = np.concatenate([[0.0], counts.cumsum() / counts.sum()]) - edges
    line = axis.plot(edges, difference, color=color, lw=1.3)[0]
    reach = 1.15 * max(np.abs([low, high, difference]).max(), 1e-3)
    axis.set_ylim(-reach, reach)
    return shade, line


def _n_bins(n_rows: int) -> int:
    """Bins of a histogram with about 25 rows in each."""
    return int(np.clip(n_rows // 25, 5, 20))


def _n_cells(kind: str, n_bins: Any) -> int:
    """Bins of a histogram, or points of a curve."""
    drawing.check_option("kind", kind, ("histogram", "ecdf"))
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 2:
        raise ValueError(f"n_bins must be an integer of at least 2, got {n_bins!r}.")
    return int(n_bins) if kind == "histogram" else N_POINTS
