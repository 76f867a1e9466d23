"""Learning curves of a fitted estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ..chains import as_density_estimator, inner_estimator
from . import drawing


class TrainingDisplay:
    """Training and validation loss after each epoch, in nats per row.

    Use `from_estimator` to make one; parameters are stored as attributes.

    Parameters
    ----------
    loss_curve : sequence of float
        Mean negative log-likelihood of the training rows in each epoch.
    validation_curve : sequence of float, default=()
        The same for the validation rows.
    best_epoch : int, default=None
        Epoch whose weights were kept, counted from 1.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        Training curve, and validation curve if there is one.

    Examples
    --------
    >>> from sklearn_san.plotting import TrainingDisplay
    >>> display = TrainingDisplay([3.0, 2.0, 1.5], [3.1, 2.4, 2.5], best_epoch=2).plot()
    >>> len(display.lines_)
    2
    """

    def __init__(
        self,
        loss_curve: Sequence[float],
        validation_curve: Sequence[float] = (),
        *,
        best_epoch: int | None = None,
    ):
        self.loss_curve = loss_curve
        self.validation_curve = validation_curve
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **plot_options: Any
    ) -> TrainingDisplay:
        """Show how an estimator was trained.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted, with ``loss_curve_``, ``validation_curve_`` and ``best_epoch_``.
        ax : axes, default=None
            Where to draw; None makes a figure.
        **plot_options : object
            Passed to `plot`.

        Returns
        -------
        TrainingDisplay
            Drawn.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        """
        if hasattr(inner_estimator(estimator)[0], "predict_density"):
            estimator = as_density_estimator(estimator).estimator_
        elif isinstance(estimator, Pipeline):
            estimator = estimator[-1]
        check_is_fitted(estimator, "loss_curve_")
        display = cls(
            estimator.loss_curve_,
            estimator.validation_curve_,
            best_epoch=estimator.best_epoch_,
        )
        return display.plot(ax=ax, **plot_options)

    def plot(self, *, ax: Any = None, zoom: bool = True) -> TrainingDisplay:
        """Draw it.

        Parameters
        ----------
        ax : axes, default=None
            Where to draw; None makes a figure.
        zoom : bool, default=True
            Whether to choose the range of losses without the first tenth of the epochs, from 20
            epochs on, so that the end can be seen.

        Returns
        -------
        TrainingDisplay
            This display.

        Raises
        ------
        ValueError
            If there is no epoch.
        """
        if not len(self.loss_curve):
            raise ValueError("loss_curve is empty; there is no epoch to show.")
        panels = drawing.Panels.make(1, ax, (5.2, 3.9))
        self.figure_, self.ax_, self.lines_ = panels.figure, panels.axes[0], []
        curves = {"training": self.loss_curve, "validation": self.validation_curve}
        for (name, curve), colour in zip(curves.items(), drawing.palette(), strict=False):
            if len(curve):
                epochs = np.arange(1, len(curve) + 1)
                marker = "o" if len(curve) <= 20 else None
                self.lines_ += self.ax_.plot(
                    epochs, curve, color=colour, lw=1.5, marker=marker, ms=3.5, label=name
                )
        if zoom:
            self._zoom()
        self._mark_best()
        self.ax_.set(xlabel="epoch", ylabel="negative log-likelihood [nats per row]")
        self.ax_.locator_params(axis="x", integer=True)
        self.ax_.legend(frameon=False)
        return self

    def _zoom(self) -> None:
        """Range of the losses after the first tenth of the epochs."""
        start = len(self.loss_curve) // 10 if len(self.loss_curve) >= 20 else 0
        values = np.concatenate([self.loss_curve[start:], self.validation_curve[start:]])
        low, high = values.min(), values.max()
        margin = 0.06 * (high - low) or 0.5
        self.ax_.set_ylim(low - margin, high + margin)

    def _mark_best(self) -> None:
        """Line at the epoch whose weights were kept."""
        if not self.best_epoch or not len(self.validation_curve):
            return
        loss = self.validation_curve[self.best_epoch - 1]
        label = f"kept: epoch {self.best_epoch}, ${loss:.3g}$"
        self.ax_.axvline(self.best_epoch, color=drawing.REFERENCE, lw=1.0, ls=":", label=label)
