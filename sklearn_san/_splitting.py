"""Which rows are validated on: copies of a row, and rows of one group, stay on one side.

===================  =======================================================================
`Split`              rows to learn from and to validate on, of each member
`linked_rows`        groups of rows that repeat each other
`split_rows`         a split that no group straddles
`are_copies`         whether rows that are not in memory repeat those held out
`group_numbers`      groups that the user gave
===================  =======================================================================

A copy of a training row among those for validation rewards a network for knowing the row by heart.
What repeats only because its columns have few values is no copy: such rows are left free.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator

from ._hashing import hashes
from ._schema import Block

#: A column is fine, so that equal values are copies, from so many different values on, and if the
#: smallest step between them would fit so many times more often into their range.
MIN_DIFFERENT, MIN_CELLS = 8, 4.0


class Split(NamedTuple):
    """Rows of the sample to learn from and to validate on, (n_members, n) each."""

    training: np.ndarray
    holdout: np.ndarray


def linked_rows(block: Block, n_validation: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Number of the group of each row, and which rows are linked by X alone; (n_rows,) each.

    Rows are linked if they are equal in X, as several outcomes of one object, or equal in y where
    most rows are, as several measurements of one object. Both hold only for tables with a column
    of which the values are fine enough to be no coincidence. Of a large group with equal X, such
    as rows of zeros, only those with equal y stay together. The groups are None if no row repeats
    another.
    """
    table = block.identity
    by_x, by_y = hashes(table), hashes(block.y)
    (x_number, x_count), (y_number, y_count) = _numbered(by_x), _numbered(by_y)
    fine_y = len(y_count) < block.n_rows and _is_fine(block.y, by_y)
    group, by_x_alone = np.arange(block.n_rows), np.zeros(block.n_rows, dtype=bool)
    if len(x_count) < block.n_rows:
        if fine_y:
            group = _numbered(_pairs(by_x, by_y))[0]
        if _is_fine(table, by_x):
            by_x_alone = x_count[x_number] <= max(2.0, 0.5 * n_validation)
            group = np.where(by_x_alone, x_number, len(x_count) + group)
    if fine_y and np.mean(y_count[y_number] > 1) > 0.5 and y_count.max() <= 10 * np.median(y_count):
        group = _joined(group, y_number)
    _, group = np.unique(group, return_inverse=True)
    n_groups = group.max(initial=-1) + 1
    return (group if 1 < n_groups < block.n_rows else None), by_x_alone


def are_copies(block: Block, held: Block, by_x_alone: np.ndarray) -> np.ndarray:
    """Whether rows repeat any of those held out, of which some are linked by X alone; (n_rows,)."""
    x = hashes(held.identity)
    pairs, own = _pairs(x, hashes(held.y)), hashes(block.identity)
    return np.isin(own, x[by_x_alone]) | np.isin(_pairs(own, hashes(block.y)), pairs)


def split_rows(
    n_rows: int, n_validation: int, n_members: int, generator: Generator, group: np.ndarray | None
) -> Split:
    """Members validate on different rows, so that together they learn from all.

    With a `group` of each row, members validate on whole groups. So that all have equally many
    rows, some stand twice where groups are of unequal size.
    """
    if not n_validation or group is None:
        permutation = torch.randperm(n_rows, generator=generator).numpy()
        rolled = np.stack([np.roll(permutation, -m * n_validation) for m in range(n_members)])
        return Split(rolled[:, n_validation:], rolled[:, :n_validation])
    counts = np.bincount(group)
    if len(counts) < 2:
        raise ValueError(
            "groups has one group only, of which nothing can be held out; give the rows to "
            "validate on, or set early_stopping=False."
        )
    turn = torch.randperm(len(counts), generator=generator).numpy()
    place = np.argsort(np.argsort(turn)[group], kind="stable")  # rows, group after group
    ends = np.cumsum(counts[turn])
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    first, parts = 0, []
    for _ in range(n_members):
        start, chosen = ends[first] - counts[turn[first]], [turn[first]]
        while counts[chosen].sum() < n_validation and len(chosen) < len(turn) - 1:
            following = turn[(first + len(chosen)) % len(turn)]
            if counts[chosen].sum() + counts[following] > 2 * n_validation:
                break
            chosen.append(following)
        rows = np.roll(place, -start)
        n_held = min(int(counts[chosen].sum()), n_rows - 1)
        parts.append((rows[n_held:], rows[:n_held]))
        first = (first + len(chosen)) % len(turn)
    training = _rectangular([part[0] for part in parts], random)
    return Split(training, _rectangular([part[1] for part in parts], random))


def _rectangular(parts: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Rows (n_members, n), of which shorter parts repeat some."""
    size = max(map(len, parts))
    return np.stack([np.concatenate([p, random.choice(p, size - len(p))]) for p in parts])


def _pairs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Hashes of pairs from hashes of their parts."""
    return one ^ (other * np.uint64(0x9E3779B97F4A7C15))


def _numbered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the different values each is, and how often each of those occurs."""
    _, number, count = np.unique(values, return_inverse=True, return_counts=True)
    return number.ravel(), count


def _is_fine(table: np.ndarray, by_row: np.ndarray) -> bool:
    """Whether some column has values that different rows would hardly share by chance."""
    _, first = np.unique(by_row, return_index=True)
    for column in table[first].T:
        different = np.unique(column[np.isfinite(column)])
        if len(different) < MIN_DIFFERENT or len(different) < 0.5 * len(first):
            continue
        steps = np.diff(different)
        if (different[-1] - different[0]) / steps.min() > MIN_CELLS * len(different):
            return True
    return False


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Groups of rows that are linked by either of two groupings."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = int(one.max()) + 1
    size = n + int(other.max()) + 1
    graph = coo_array((np.ones(len(one)), (one, n + other)), shape=(size, size))
    return connected_components(graph, directed=False)[1][one]


def group_numbers(groups: Any, n_rows: int) -> np.ndarray:
    """What the user gave as `groups`, as numbers from 0; (n_rows,)."""
    values = np.asarray(groups)
    if values.ndim != 1 or len(values) != n_rows:
        raise ValueError(
            f"groups must have shape ({n_rows},), one for each row, got {values.shape}."
        )
    if values.dtype.kind == "O":
        values = np.array([str(v) for v in values])
    return np.unique(values, return_inverse=True)[1].ravel()
