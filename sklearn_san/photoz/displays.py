"""Pictures of photometric redshifts; those of PIT values are `sklearn_san.plotting.PITDisplay`.

======================  ==========================================================
`RedshiftDisplay`       point estimates against true redshifts
`DistributionDisplay`   n(z) with bootstrap errors
======================  ==========================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..plotting import drawing
from ..plotting.arrays import as_numbers
from .pdfs import RedshiftPDF
from .points import point_estimate
from .populations import RedshiftDistribution
from .scores import PointScores, point_scores

#: Rows up to which each one is a point; cells of a histogram of more.
MAX_POINTS, N_CELLS = 1000, 80


class RedshiftDisplay:
    """Photometric against spectroscopic redshifts, with the lines of outliers.

    Use `from_estimator` or `from_predictions` to make one; parameters are stored as attributes.

    Parameters
    ----------
    z_point : ndarray of shape (n_rows,)
        Photometric redshifts.
    z : ndarray of shape (n_rows,)
        True redshifts.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    artist_ : artist
        Points or histogram.
    scores_ : PointScores
        Of which some stand above the panel.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.photoz import RedshiftDisplay
    >>> z = np.linspace(0.1, 2.0, 100)
    >>> RedshiftDisplay.from_predictions(z + 0.2, z).scores_.outliers_015
    0.13
    """

    def __init__(self, z_point: np.ndarray, z: np.ndarray):
        self.z_point = z_point
        self.z = z

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        z: Any,
        *,
        kind: str = "best",
        grid: Any = None,
        output: Any = 0,
        ax: Any = None,
        **plot_options: Any,
    ) -> RedshiftDisplay:
        """Compare point estimates of a fitted estimator with true redshifts.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with a method ``predict_density``.
        X : array-like of shape (n_rows, n_features)
            Rows that were not trained on.
        z : array-like of shape (n_rows,)
            True redshifts.
        kind : {"best", "mode", "mean", "median"}, default="best"
            As for `point_estimate`.
        grid : array-like of shape (n_points,), default=None
            As for `RedshiftPDF.from_density`.
        output : int or str, default=0
            Column of y that is the redshift.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        RedshiftDisplay
            Drawn.
        """
        pz = RedshiftPDF.from_estimator(estimator, X, grid, output=output)
        return cls.from_predictions(point_estimate(pz, kind), z, ax=ax, **plot_options)

    @classmethod
    def from_predictions(
        cls, z_point: Any, z: Any, *, ax: Any = None, **plot_options: Any
    ) -> RedshiftDisplay:
        """Compare point estimates of any origin with true redshifts.

        Parameters
        ----------
        z_point : array-like of shape (n_rows,)
            Photometric redshifts.
        z : array-like of shape (n_rows,)
            True redshifts.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        RedshiftDisplay
            Drawn.
        """
        z_point, z = as_numbers(z_point, "z_point", 1), as_numbers(z, "z", 1)
        return cls(z_point, z).plot(ax=ax, **plot_options)

    def plot(
        self, *, ax: Any = None, kind: str = "auto", outlier: float = 0.15, color: Any = None
    ) -> RedshiftDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        kind : {"auto", "points", "histogram"}, default="auto"
            "auto" takes points up to 1,000 rows.
        outlier : float, default=0.15
            Lines are drawn at z +- outlier (1 + z).
        color : color, default=None
            Of points.

        Returns
        -------
        RedshiftDisplay
            This display.
        """
        drawing.check_option("kind", kind, ("auto", "points", "histogram"))
        self.scores_: PointScores = point_scores(self.z_point, self.z)
        panels = drawing.Panels.make(1, ax, (4.2, 4.5))
        self.figure_, self.ax_ = panels.figure, panels.axes[0]
        both = np.concatenate([self.z, self.z_point])
        margin = 0.02 * (np.ptp(both) or 1.0)
        view = float(both.min() - margin), float(both.max() + margin)
        if kind == "points" or (kind == "auto" and len(self.z) <= MAX_POINTS):
            colour = drawing.palette()[0] if color is None else color
            (self.artist_,) = self.ax_.plot(
                self.z, self.z_point, "o", ms=2, alpha=0.5, color=colour
            )
        else:
            self.artist_ = self.ax_.hist2d(
                self.z,
                self.z_point,
                N_CELLS,
                range=[view, view],
                cmap="Blues",
                norm="log",
                rasterized=True,
            )[3]
        ends = np.array(view)
        self.ax_.plot(ends, ends, color=drawing.TRUTH, lw=1.0)
        for sign in (-1.0, 1.0):
            reach = ends + sign * outlier * (1.0 + ends)
            self.ax_.plot(ends, reach, color=drawing.REFERENCE, lw=0.8, ls="--")
        self.ax_.set(xlim=view, ylim=view, xlabel="true redshift", ylabel="photometric redshift")
        drawing.set_ticks(self.ax_.xaxis, view)
        drawing.set_ticks(self.ax_.yaxis, view)
        beyond = np.mean(np.abs(self.z_point - self.z) > outlier * (1.0 + self.z))
        bias, sigma = self.scores_.bias, self.scores_.sigma_mad
        numbers = rf"bias {bias:.4f}, $\sigma_{{MAD}}$ {sigma:.4f}, {beyond:.1%} beyond {outlier:g}"
        self.ax_.set_title(numbers, fontsize=8)
        return self


class DistributionDisplay:
    """n(z) of each tomographic bin, with a band of two bootstrap errors.

    Use `from_distribution` to make one; parameters are stored as attributes.

    Parameters
    ----------
    distribution : RedshiftDistribution
    truth : ndarray of shape (n_bins, n_edges - 1), default=None
        True n(z) per unit of redshift.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_, bands_ : list of artists
        Of each bin.
    """

    def __init__(self, distribution: RedshiftDistribution, *, truth: Any = None):
        self.distribution = distribution
        self.truth = truth

    @classmethod
    def from_distribution(
        cls,
        distribution: RedshiftDistribution,
        *,
        z: Any = None,
        bins: Any = None,
        ax: Any = None,
        **plot_options: Any,
    ) -> DistributionDisplay:
        """Show the result of `stacked_nz` or `hierarchical_nz`.

        Parameters
        ----------
        distribution : RedshiftDistribution
        z : array-like of shape (n_rows,), default=None
            True redshifts of the rows, whose histogram is dashed.
        bins : array-like of int of shape (n_rows,), default=None
            Their tomographic bins; None is one bin.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        DistributionDisplay
            Drawn.
        """
        truth = None
        if z is not None:
            z = as_numbers(z, "z", 1)
            bins = np.zeros(len(z), dtype=int) if bins is None else np.asarray(bins)
            if bins.shape != z.shape:
                raise ValueError(f"bins must have shape {z.shape}, got {bins.shape}.")
            n_bins = len(distribution.density)
            own = [np.histogram(z[bins == k], distribution.edges)[0] for k in range(n_bins)]
            counts = np.array(own, dtype=np.float64)
            width = np.diff(distribution.edges)
            truth = counts / (width * np.maximum(counts.sum(axis=1, keepdims=True), 1.0))
        return cls(distribution, truth=truth).plot(ax=ax, **plot_options)

    def plot(self, *, ax: Any = None, names: Any = None, colors: Any = None) -> DistributionDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        names : sequence of str, default=None
            Of the bins, for a legend.
        colors : sequence of colors, default=None
            Of the bins.

        Returns
        -------
        DistributionDisplay
            This display.
        """
        panels = drawing.Panels.make(1, ax, (5.0, 3.4))
        self.figure_, self.ax_ = panels.figure, panels.axes[0]
        self.lines_, self.bands_ = [], []
        found, edges = self.distribution, self.distribution.edges
        n_bins, error = len(found.density), found.std
        colours = drawing.pick_colours(colors, n_bins)
        labels = [None] * n_bins if names is None else list(map(str, names))
        if len(labels) != n_bins:
            raise ValueError(f"names has {len(labels)} entries for {n_bins} bins.")
        for k, colour in enumerate(colours):
            ends = (
                np.maximum(found.density[k] - 2.0 * error[k], 0.0),
                found.density[k] + 2.0 * error[k],
            )
            self.bands_.append(
                self.ax_.stairs(
                    ends[1], edges, baseline=ends[0], fill=True, color=(colour, 0.3), lw=0
                )
            )
            line = self.ax_.stairs(
                found.density[k], edges, baseline=None, color=colour, label=labels[k]
            )
            self.lines_.append(line)
            if self.truth is not None:
                self.ax_.stairs(self.truth[k], edges, baseline=None, color=colour, ls="--", lw=0.8)
        self.ax_.set(xlabel="redshift", ylabel="n(z)", xlim=(edges[0], edges[-1]))
        self.ax_.set_ylim(bottom=0.0)
        if names is not None:
            self.ax_.legend(frameon=False, fontsize=8)
        return self
