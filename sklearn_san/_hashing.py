"""A number for each row of a table, equal for equal rows."""

from __future__ import annotations

import numpy as np


def hashes(table: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each row of a table (n_rows, n_columns), equal for equal rows."""
    words = np.where(np.isnan(table), np.nan, table + 0.0).astype(np.float64).view(np.uint64)
    mixed = np.zeros(len(table), dtype=np.uint64)
    for column in words.T:  # the finaliser of splitmix64, column by column
        mixed = (mixed ^ column) + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
    return mixed
