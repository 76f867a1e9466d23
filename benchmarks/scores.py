"""How good the densities of a model are: proper scores, the classifier test, and ranks over tasks.

Models have ``log_prob(X, y)`` and ``sample(X, n, random_state)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.stats import rankdata

N_ROWS = 500  # test rows of scores that need draws
N_DRAWS = 200


def energy_score(model: Any, X: np.ndarray, y: np.ndarray, unit: np.ndarray | float) -> float:
    """Mean energy score in units of `unit (n_outputs,)`; the CRPS for one output."""
    X, y = X[:N_ROWS], y[:N_ROWS]
    draws, y = model.sample(X, N_DRAWS, random_state=0) / unit, y / unit
    error = np.linalg.norm(draws - y[:, None], axis=-1).mean()
    spread = np.mean([
        np.linalg.norm(draws - np.roll(draws, s, axis=1), axis=-1).mean() for s in range(1, 50)
    ])  # fmt: skip
    return float(error - 0.5 * spread)


def cde_loss(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Mean of the integral of p(t | x)^2 over t, less 2 p(y | x); per unit of y.

    It is the squared distance from the true density, up to a constant of the task. The integral
    is the mean of p over draws of p.
    """
    X, y = X[:N_ROWS], y[:N_ROWS]
    draws = model.sample(X, N_DRAWS, random_state=0).reshape(len(X) * N_DRAWS, -1)
    square = np.exp(model.log_prob(X.repeat(N_DRAWS, axis=0), draws)).mean()
    return float(square - 2.0 * np.exp(model.log_prob(X, y)).mean())


def c2st(draws: np.ndarray, reference: np.ndarray) -> float:
    """Accuracy of a classifier that tells draws from the reference; 0.5 means it cannot.

    Both ``(n_draws, n_outputs)``. As published: z-scores, two layers of ten units per output,
    five folds.
    """
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    both = (np.concatenate([reference, draws]) - reference.mean(0)) / reference.std(0)
    label = np.repeat([0, 1], [len(reference), len(draws)])
    width = 10 * both.shape[1]
    classifier = MLPClassifier((width, width), max_iter=1000, random_state=1)
    folds = KFold(5, shuffle=True, random_state=1)
    return float(cross_val_score(classifier, both, label, cv=folds).mean())


def rank_table(rows: Iterable[dict[str, Any]], measures: Iterable[str]) -> list[list[Any]]:
    """Model, number of tasks, and mean rank by each measure over the tasks that have it.

    `rows` have a "task", a "model" and values of measures, of which the smallest is the best.
    Tasks with a single model do not count. The best mean rank by the first measure comes first,
    models without one last.
    """
    rows, measures = list(rows), list(measures)
    ranks: dict[str, dict[str, list[float]]] = {row["model"]: {} for row in rows}
    tasks: dict[str, set[str]] = {row["model"]: set() for row in rows}
    for name in measures:
        for task in dict.fromkeys(row["task"] for row in rows):
            of_task = [row for row in rows if row["task"] == task and _is_finite(row.get(name))]
            if len(of_task) < 2:
                continue
            for row, rank in zip(of_task, rankdata([row[name] for row in of_task]), strict=True):
                ranks[row["model"]].setdefault(name, []).append(float(rank))
                tasks[row["model"]].add(task)
    table = [
        [model, len(tasks[model]), *(_mean(of_model.get(name)) for name in measures)]
        for model, of_model in ranks.items()
        if tasks[model]
    ]
    return sorted(table, key=lambda line: [np.inf if rank is None else rank for rank in line[2:]])


def _is_finite(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def _mean(values: list[float] | None) -> float | None:
    return None if values is None else float(np.mean(values))
