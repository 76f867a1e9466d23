"""The result of tests of coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .results import Result, table

#: Nominal levels of coverage curves.
LEVELS = np.arange(1, 20) / 20
LEVELS.setflags(write=False)


@dataclass(frozen=True, eq=False, repr=False)
class CoverageTest(Result):
    """Result of `hpd_coverage_from_log_prob` and `tarp_coverage_from_draws`.

    Parameters
    ----------
    name : str
        "HPD" or "TARP".
    values : ndarray of shape (n_rows,) or (n_rows, n_references)
        Mass of the smallest region that holds the truth, uniform if calibrated.
    levels : ndarray of shape (n_levels,)
        Nominal levels.
    coverage : ndarray of shape (n_levels,)
        Share of rows whose region of that mass holds the truth; a mean over reference points.
    band : ndarray of shape (2, n_levels)
        Range of the coverage of a calibrated model, for each level on its own.
    pvalue : float
        Neyman's smooth test.
    """

    name: str
    values: np.ndarray
    levels: np.ndarray
    coverage: np.ndarray
    band: np.ndarray
    pvalue: float

    def summary(self) -> str:
        """Table of some levels."""
        rows = [
            [f"{level:.2f}", f"{coverage:.3f}", f"{low:.3f} to {high:.3f}"]
            for level, coverage, low, high in zip(
                self.levels, self.coverage, *self.band, strict=True
            )
        ]
        chosen = rows[:: max(1, len(rows) // 9)]
        header = ["level", f"{self.name} coverage", "if calibrated"]
        return f"{self.name} coverage: p = {self.pvalue:.3g}\n" + table(header, chosen)
