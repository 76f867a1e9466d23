"""Gradient boosting of oblivious trees by squared error [1]_; `_features` evaluates them.

References
----------
.. [1] Prokhorenkova et al. (2018), CatBoost: unbiased boosting with categorical features.
"""

from __future__ import annotations

import numpy as np

from .jit import kernel, piece


@piece
def _uniform(state):
    """Next uniform number of Marsaglia's xorshift, whose state is `state[0]`."""
    s = state[0]
    s ^= s << np.uint64(13)
    s ^= s >> np.uint64(7)
    s ^= s << np.uint64(17)
    state[0] = s
    return np.float64(s >> np.uint64(11)) * 2.0**-53


@kernel
def _best_split(codes, n_bins, leaf, moments, rows, n_leaves, penalty, share, state):
    """Column and code of the question that best divides all leaves at once.

    `moments` are weighted residual and weight of each row, (n_rows, 2), and `leaf` are the leaves,
    both of `rows` alone.
    """
    most = n_bins.max()
    total = np.empty((n_leaves, most, 2))
    gain = np.empty(most)
    best, best_column, best_code = -np.inf, 0, 0
    for f in range(len(codes)):
        n = n_bins[f]
        if n < 2 or (_uniform(state) >= share and best > -np.inf):
            continue
        for a in range(n_leaves):
            for b in range(n):
                total[a, b, 0] = 0.0
                total[a, b, 1] = 0.0
        own = codes[f]
        for j in range(len(rows)):
            a, b = leaf[j], own[rows[j]]
            total[a, b, 0] += moments[j, 0]
            total[a, b, 1] += moments[j, 1]
        gain[:] = 0.0
        for a in range(n_leaves):
            whole, size = 0.0, 0.0
            for b in range(n):
                whole += total[a, b, 0]
                size += total[a, b, 1]
            if size == 0.0:
                continue
            below, n_below = 0.0, 0.0
            for b in range(n - 1):
                below += total[a, b, 0]
                n_below += total[a, b, 1]
                gain[b] += below**2 / (n_below + penalty)
                gain[b] += (whole - below) ** 2 / (size - n_below + penalty)
        for b in range(n - 1):
            if gain[b] > best:
                best, best_column, best_code = gain[b], f, b
    return best_column, best_code


@kernel
def grow(codes, n_bins, y, weight, rate, penalty, row_share, column_share, seed,
         column, code, value):  # fmt: skip
    """Trees one after the other, each fitted to what those before it leave of y.

    Parameters
    ----------
    codes : ndarray of uint8 of shape (n_columns, n_rows)
        Bin of each value.
    n_bins : ndarray of shape (n_columns,)
    y, weight : ndarray of shape (n_rows,)
        Rows of weight 0 are not learned from.
    rate, penalty : float
        Share of each step that is taken; rows of residual 0 that each leaf has besides its own.
    row_share, column_share : float
        Of rows that a tree, and of columns that a question is chosen by.
    seed : int
    column, code : ndarray of shape (n_trees, depth)
        Filled: a row is above the question if its bin is above the code.
    value : ndarray of shape (n_trees, 2**depth)
        Filled.
    """
    n_rows = codes.shape[1]
    n_trees, depth = column.shape
    state = np.full(1, np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(seed))
    prediction, residual = np.zeros(n_rows), np.empty(n_rows)
    leaf, chosen = np.zeros(n_rows, dtype=np.int64), np.empty(n_rows, dtype=np.int64)
    moments, chosen_leaf = np.empty((n_rows, 2)), np.zeros(n_rows, dtype=np.int64)
    total, count = np.empty(1 << depth), np.empty(1 << depth)
    for t in range(n_trees):
        n_chosen = 0
        for i in range(n_rows):
            leaf[i] = 0
            residual[i] = y[i] - prediction[i]
            if weight[i] > 0.0 and _uniform(state) < row_share:
                chosen[n_chosen] = i
                moments[n_chosen, 0] = weight[i] * residual[i]
                moments[n_chosen, 1] = weight[i]
                chosen_leaf[n_chosen] = 0
                n_chosen += 1
        rows = chosen[:n_chosen]
        for level in range(depth):
            f, b = _best_split(codes, n_bins, chosen_leaf, moments, rows, 1 << level, penalty,
                               column_share, state)  # fmt: skip
            column[t, level], code[t, level] = f, b
            for i in range(n_rows):
                if codes[f, i] > b:
                    leaf[i] += 1 << level
            for j in range(n_chosen):
                chosen_leaf[j] = leaf[rows[j]]
        total[:], count[:] = 0.0, 0.0
        for i in rows:
            total[leaf[i]] += weight[i] * residual[i]
            count[leaf[i]] += weight[i]
        for a in range(1 << depth):
            value[t, a] = rate * total[a] / (count[a] + penalty)
        for i in range(n_rows):
            prediction[i] += value[t, leaf[i]]
