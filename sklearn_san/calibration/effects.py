"""How far a density is off, in numbers that mean something, next to how surely it is.

With many rows, a test rejects what is off by less than anybody minds. The size of it is the share
of rows that intervals hold, and what recalibration would gain: with q the density of the coordinate
u,

    KL(q || uniform) ~ 1/2 sum_k ((mean of phi_k(u))^2 - 1 / n)

to second order in the departure from uniformity, phi_k being the Legendre polynomials of Neyman's
smooth test, of which 1 / n is the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .uniformity import N_POLYNOMIALS, polynomials

#: Nominal mass of the intervals whose coverage is told.
LEVEL = 0.9


class Effect(NamedTuple):
    """How far the intervals or regions of one kind are off.

    Parameters
    ----------
    name : str
        The output, or the kind of region.
    level : float
        Nominal mass.
    coverage, error : float
        Share of rows that they hold, and its standard error.
    shift : float
        Mean of u less a half: above 0 if the density lies too low. nan for regions.
    gain : float
        Nats per row that recalibration of this output would gain, about; 0 if it is within noise.
    """

    name: str
    level: float
    coverage: float
    error: float
    shift: float
    gain: float

    def sentence(self) -> str:
        """The effect in words."""
        held = f"hold {100 * self.coverage:.1f} +- {100 * self.error:.1f} %"
        if np.isnan(self.shift):
            return f"{self.name} regions that say {100 * self.level:g} % {held}"
        text = f"{self.name}: intervals that say {100 * self.level:g} % {held}"
        if abs(self.shift) >= 0.005:
            side = "low" if self.shift > 0 else "high"
            text += f", the centre is {100 * abs(self.shift):.1f} % of the rows too {side}"
        gain = f"about {self.gain:.2g}" if self.gain >= 0.001 else "less than 0.001"
        return f"{text}, recalibration would gain {gain} nats per row"


def effects_of_outputs(u: np.ndarray, names: Sequence[str]) -> list[Effect]:
    """Effects of coordinates u (n_rows, n_outputs), which are uniform if calibrated."""
    means = polynomials(u, N_POLYNOMIALS).mean(axis=0)  # (n_outputs, N_POLYNOMIALS)
    gains = 0.5 * ((means**2).sum(axis=1) - N_POLYNOMIALS / len(u))
    inside = np.abs(2.0 * u - 1.0) <= LEVEL
    return [
        Effect(name, LEVEL, share, _error(share, len(u)), float(shift), max(float(gain), 0.0))
        for name, share, shift, gain in zip(
            names, inside.mean(axis=0).tolist(), u.mean(axis=0) - 0.5, gains, strict=True
        )
    ]


def effect_of_regions(name: str, values: np.ndarray) -> Effect:
    """Effect of masses (n_rows, ...) of the smallest regions that hold the truth."""
    share = float((values <= LEVEL).mean())
    return Effect(name, LEVEL, share, _error(share, len(values)), np.nan, np.nan)


def _error(share: float, n_rows: int) -> float:
    """Standard error of a share; of one of 0 or 1 that of one row less or more."""
    share = min(max(share, 1.0 / n_rows), 1.0 - 1.0 / n_rows) if n_rows > 1 else 0.5
    return float(np.sqrt(share * (1.0 - share) / n_rows))
