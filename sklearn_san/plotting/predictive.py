"""Statistics of an observation among those of simulations."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import arrays, drawing
from .smooth_densities import view_range


class PredictiveDisplay:
    """Histogram of each statistic of simulated data, with the observed value in it.

    Use `from_predictions` to make one, or `sklearn_san.simulation.ObservationCheck.plot`;
    parameters are stored as attributes.

    Parameters
    ----------
    replicated : ndarray of shape (n_draws, n_statistics)
        Statistics of simulated data.
    observed : ndarray of shape (n_statistics,)
        Those of the observation.
    pvalues : ndarray of shape (n_statistics,), default=None
        P-value of each, shown above it.
    statistic_names : sequence of str, default=None
        Names of the statistics; None makes s0, s1, ...

    Attributes
    ----------
    axes_ : ndarray of shape (n_shown,)
        Axes of matplotlib.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        The observed values.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.plotting import PredictiveDisplay
    >>> replicated = np.random.default_rng(0).normal(size=(200, 3))
    >>> display = PredictiveDisplay.from_predictions(replicated, [0.1, -0.5, 4.0])
    >>> display.axes_.shape, len(display.lines_)
    ((3,), 3)
    """

    def __init__(
        self,
        replicated: np.ndarray,
        observed: np.ndarray,
        *,
        pvalues: np.ndarray | None = None,
        statistic_names: Any = None,
    ):
        self.replicated = replicated
        self.observed = observed
        self.pvalues = pvalues
        self.statistic_names = statistic_names

    @classmethod
    def from_predictions(
        cls,
        replicated: Any,
        observed: Any,
        *,
        pvalues: Any = None,
        statistic_names: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> PredictiveDisplay:
        """Show statistics of any origin.

        Parameters
        ----------
        replicated : array-like of shape (n_draws, n_statistics)
            Statistics of simulated data.
        observed : array-like of shape (n_statistics,)
            Those of the observation.
        pvalues : array-like of shape (n_statistics,), default=None
            P-value of each, shown above it.
        statistic_names : sequence of str, default=None
            Names of the statistics; None makes s0, s1, ...
        ax : axes or array of axes, default=None
            Where to draw: one axes for each statistic shown, or one of a grid of subplots, which is
            divided. None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        PredictiveDisplay
            Drawn.

        Raises
        ------
        ValueError
            If shapes do not fit each other.
        """
        replicated = arrays.as_numbers(replicated, "replicated")
        observed = arrays.as_numbers(observed, "observed")
        if replicated.ndim != 2 or observed.shape != replicated.shape[1:]:
            raise ValueError(
                "replicated must have shape (n_draws, n_statistics) and observed (n_statistics,), "
                f"got {replicated.shape} and {observed.shape}."
            )
        if pvalues is not None:
            pvalues = arrays.as_numbers(pvalues, "pvalues")
            if pvalues.shape != observed.shape:
                raise ValueError(
                    f"pvalues has shape {pvalues.shape} for {len(observed)} statistics."
                )
        if statistic_names is None:
            statistic_names = [f"s{j}" for j in range(len(observed))]
        if len(statistic_names) != len(observed):
            raise ValueError(
                f"statistic_names has {len(statistic_names)} entries for {len(observed)} "
                "statistics."
            )
        display = cls(replicated, observed, pvalues=pvalues, statistic_names=statistic_names)
        return display.plot(ax=ax, **plot_options)

    def plot(self, *, ax: Any = None, n_bins: int = 30, max_panels: int = 12) -> PredictiveDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes or array of axes, default=None
            Where to draw; None makes a figure.
        n_bins : int, default=30
            Bins of the histograms.
        max_panels : int, default=12
            Statistics to show, those with the smallest p-values if there are more.

        Returns
        -------
        PredictiveDisplay
            This display.
        """
        shown = np.arange(len(self.observed))
        if len(shown) > max_panels:
            rank = shown if self.pvalues is None else np.argsort(self.pvalues, kind="stable")
            shown = np.sort(rank[:max_panels])
        panels = drawing.Panels.make(len(shown), ax, (2.6, 2.1))
        self.figure_, self.axes_, self.lines_ = panels.figure, panels.axes, []
        names = self.statistic_names or [f"s{j}" for j in range(len(self.observed))]
        for j, axis in zip(shown, panels.axes, strict=True):
            values, seen = self.replicated[:, j], self.observed[j]
            view = view_range([values], np.array([seen]), np.array([-np.inf, np.inf]))
            axis.hist(values, n_bins, range=view, color=drawing.palette()[0], alpha=0.6)
            self.lines_.append(axis.axvline(seen, color=drawing.TRUTH, lw=1.5))
            axis.set_xlim(view)
            axis.set_yticks([])
            drawing.set_ticks(axis.xaxis, view)
            axis.set_xlabel(drawing.axis_label(names[j], "", drawing.power_of_ten(view)))
            if self.pvalues is not None:
                axis.set_title(f"p = {self.pvalues[j]:.2g}", fontsize=8)
        return self
