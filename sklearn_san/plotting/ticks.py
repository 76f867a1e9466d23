"""Tick locations for small panels. The only file that needs matplotlib when it is imported."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator


class SparseLocator(MaxNLocator):
    """At most `most` ticks, whose labels fit beside each other and inside the panel.

    Parameters
    ----------
    most : int
        Largest number of ticks.
    power : int
        Labels show values divided by ten to this power.
    font_size : float
        Of the labels, in points.
    overhang : float
        Inches by which a label may stick out of its panel.
    """

    axis: Any

    def __init__(self, most: int, power: int, font_size: float, overhang: float):
        super().__init__(nbins=most, steps=[1, 2, 2.5, 5, 10])
        self.most = most
        self.power = power
        self.font_size = font_size
        self.overhang = overhang

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Locations of the ticks for a view from `vmin` to `vmax`."""
        low, high = sorted((vmin, vmax))
        inches = self._length() / (high - low)
        ticks = np.empty(0)
        for most in range(self.most, 0, -1):
            self.set_params(nbins=most)
            ticks = np.asarray(super().tick_values(low, high))
            ticks = ticks[(ticks >= low) & (ticks <= high)]
            size = self._label_size(ticks)
            room = inches * np.minimum(ticks - low, high - ticks)
            ticks = ticks[room >= 0.5 * size - self.overhang]
            if len(ticks) < 2 or inches * (ticks[1] - ticks[0]) >= 1.3 * size:
                break
        return ticks

    def _length(self) -> float:
        """Length of the axis in inches."""
        axes = self.axis.axes
        box = axes.get_window_extent()
        return (box.width if self.axis.axis_name == "x" else box.height) / axes.figure.dpi

    def _label_size(self, ticks: np.ndarray) -> float:
        """Extent of the longest label along the axis, in inches."""
        letter = self.font_size / 72.0
        if self.axis.axis_name == "y" or len(ticks) == 0:
            return letter
        shown = np.round(ticks / 10.0**self.power, 10)
        return 0.64 * letter * max(len(f"{value:.10g}".replace(".", "")) + 0.5 for value in shown)
