"""Rows drawn from a model of the whole table, to learn from besides those that were observed.

What was simulated is often simpler seen from the parameters: y has a plain density, and x, given y,
is a smooth function with some noise, while y given x is thin, bent and has several modes. So both
of the former are learned from few rows better than the latter, and rows drawn from them,

    y ~ p(y),    x ~ p(x | y),

are rows for p(y | x) of which there are as many as wanted. They teach dependence on x that the
observed rows are too few for; these are repeated among them, and alone validate, so that errors
of the model do not go unseen.

==================  ========================================================================
`with_drawn_rows`   rows to learn from, with others drawn from a model of them if that is worth it
`TableModel`        density of the rows of a table, to draw more of them
==================  ========================================================================
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ._rows import Pools, WholeTable
from ._schema import Block, Schema
from ._training import auto_batch_size, auto_epochs, auto_members, turns
from .compiled.jit import unavailable

#: "auto" draws rows for tables of so many rows and of at most so many features and at least so
#: many outputs: so many for each that was observed, and at most so many.
LEAST_ROWS, MOST_ROWS, MOST_FEATURES, LEAST_OUTPUTS = 500, 50_000, 32, 2
PER_ROW, MOST_DRAWN = 10, 100_000
#: Whether that is worth it is tried on so many rows, divided by the outputs, but no fewer than
#: these, of which a share is held out, with so many drawn for each, by ensembles like those of the
#: fit, but of so many members at most: single ones, which overfit more, are helped more. It must be
#: better by so many standard errors.
TRIAL_ROWS, FEWEST_TRIED, TRIAL_HELD, TRIAL_PER_ROW = 20_000, 2000, 0.25, 5
MOST_MEMBERS, MARGIN = 4, 2.0
#: Members of the density of x given y, what share of the usual epochs it is trained for, since what
#: is known by heart is drawn again, and epochs of the density of y.
MEMBERS, SHARE_OF_EPOCHS, PRIOR_EPOCHS = 4, 0.7, 10
#: A column of which so large a share of the values are different has no ties.
CONTINUOUS = 0.9

#: Gives an estimator with some parameters.
Make = Callable[..., Any]


class TableModel:
    """Density of the rows of a table: that of y, and that of x given y.

    Values of x that occur often, such as counts, are spread evenly over the gaps to their
    neighbours while that is learned, and draws become the nearest of them. Columns of x that are
    constant stay so.

    Parameters
    ----------
    make : callable
    rows : Block
        Numbers without gaps.
    limits : ndarray of shape (n_outputs, 2)
        Of y.
    """

    def __init__(self, make: Make, rows: Block, limits: np.ndarray):
        X, y, weight = rows.X, rows.y, rows.weight
        self.constant = X[0]
        self.varies = np.flatnonzero(np.ptp(X, axis=0) > 0.0).tolist()
        self.ranges = np.stack([X.min(axis=0), X.max(axis=0)])
        self.values: dict[int, np.ndarray] = {}
        columns, random = [], np.random.default_rng(0)
        for j in self.varies:
            values, place = np.unique(X[:, j], return_inverse=True)
            column = X[:, j]
            if len(values) < CONTINUOUS * len(X):
                self.values[j] = values
                cuts = _cuts(values)
                column = random.uniform(cuts[place], cuts[place + 1])
            columns.append(column)
        self.prior = make(limits=limits, n_members=1, epochs=PRIOR_EPOCHS, encoder_shape=None)
        self.prior.fit(np.zeros((len(y), 1)), y, sample_weight=weight)
        self.forward = make(n_members=MEMBERS)
        turned = turns(auto_batch_size(len(y)), max(self.forward.module_shape))
        epochs = round(SHARE_OF_EPOCHS * auto_epochs(len(y), turned=turned))
        self.forward.set_params(epochs=epochs)
        self.forward.fit(y, np.stack(columns, axis=1), sample_weight=weight)

    def sample(self, n_rows: int, random_state: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw X (n, n_features) and y (n, n_outputs).

        Those beyond the range of what was observed are left out, so that there are fewer than
        `n_rows`.
        """
        y = self.prior.sample(np.zeros((1, 1)), n_rows, random_state=random_state)[0]
        y = y.astype(np.float64)
        X = np.tile(self.constant, (n_rows, 1))
        X[:, self.varies] = self.forward.sample(y, 1, random_state=random_state + 1)[:, 0]
        for j, values in self.values.items():
            X[:, j] = values[np.searchsorted(_cuts(values)[1:-1], X[:, j])]
        inside = ((self.ranges[0] <= X) & (self.ranges[1] >= X)).all(axis=1)
        return X[inside], y[inside]


def _cuts(values: np.ndarray) -> np.ndarray:
    """Ends of the intervals around n sorted values, (n + 1,)."""
    middle = 0.5 * (values[1:] + values[:-1])
    return np.concatenate([[2.0 * values[0] - middle[0]], middle, [2.0 * values[-1] - middle[-1]]])


def with_drawn_rows(
    options: Any,
    schema: Schema,
    rows: WholeTable | Pools,
    make: Make,
    seed: int,
    is_worth: bool | None = None,
) -> WholeTable | Pools:
    """Rows to learn from, with others drawn from a model of them.

    Parameters
    ----------
    options : estimator
    schema : Schema
    rows : WholeTable or Pools
    make : callable
    seed : int
        Of what is drawn.
    is_worth : bool, default=None
        What "auto" is to find; None leaves that open.

    Returns
    -------
    rows : WholeTable or Pools
        The same rows, where none are drawn.
    """
    wanted = options.synthetic_rows
    if wanted == 0:
        return rows
    reason = _unfit(options, schema, rows)
    if wanted != "auto" and reason is not None:
        raise ValueError(f"synthetic_rows={wanted} needs {reason}; use synthetic_rows='auto' or 0.")
    if reason is not None or not isinstance(rows, WholeTable):
        return rows
    observed = rows.sample.take(slice(rows.n_rows))
    limits = schema.limits[schema.order]
    n_drawn = _n_drawn(rows.n_rows) if wanted == "auto" else int(wanted)
    with warnings.catch_warnings():  # those of the table have been told
        warnings.simplefilter("ignore")
        try:
            if wanted == "auto":
                if is_worth is None:
                    is_worth = _may_be_worth(options, rows) and _is_worth(
                        options, observed, limits, make
                    )
                if not is_worth:
                    return rows
            X, y = TableModel(make, observed, limits).sample(n_drawn, seed)
        except ValueError as error:  # values too extreme for a density or to be learned from
            if wanted == "auto":
                return rows
            raise ValueError(
                f"synthetic_rows={wanted} finds no model of the table, in which y are features and "
                f"X are outputs; use synthetic_rows='auto' or 0. {error}"
            ) from error
    X, y = rows.ranks.first("the rows drawn", (X, y))
    return rows.with_drawn(X, y)


def _unfit(options: Any, schema: Schema, rows: WholeTable | Pools) -> str | None:
    """What a table lacks for a model of it; None if nothing."""
    sample = rows.sample
    if not isinstance(rows, WholeTable):
        return "rows that are in memory"
    if schema.layout is not None or any(n is not None for n in schema.n_categories):
        return "features that are numbers, without categories and encoders"
    if not schema.feature_names:
        return "features"
    if any(family.scaling != "free" for family in schema.families):
        return "outputs that are numbers with a density"
    if rows.groups is not None or sample.X_err is not None:
        return "rows without groups and X_err"
    gaps = np.isnan(sample.X).any() or np.isnan(sample.y).any() or np.isinf(sample.X).any()
    if gaps or options.missing_rate not in ("auto", 0):
        return "rows without missing and infinite values, and missing_rate='auto' or 0"
    if np.ptp(sample.X[: rows.n_rows], axis=0).max() == 0.0:
        return "features that are not constant"
    return None


def _n_drawn(n_rows: int) -> int:
    """Rows that "auto" draws for so many."""
    return min(PER_ROW * n_rows, MOST_DRAWN)


def _may_be_worth(options: Any, rows: WholeTable) -> bool:
    """Whether to try a model of the table."""
    n_features, n_outputs = rows.sample.X.shape[1], rows.sample.y.shape[1]
    sized = LEAST_ROWS <= rows.n_rows <= MOST_ROWS
    sized = sized and n_features <= MOST_FEATURES and n_outputs >= LEAST_OUTPUTS
    whole = options.epochs == "auto" and options.teacher_forcing and options.early_stopping
    return bool(sized and whole and unavailable() is None)


def _is_worth(options: Any, observed: Block, limits: np.ndarray, make: Make) -> bool:
    """Whether rows drawn from a model of some rows clearly improve the density of others."""
    n = min(observed.n_rows, max(FEWEST_TRIED, TRIAL_ROWS // observed.y.shape[1]))
    some = observed.take(np.random.default_rng(0).permutation(observed.n_rows)[:n])
    n_held = round(TRIAL_HELD * n)
    held, training = some.take(slice(n_held)), some.take(slice(n_held, None))
    model = TableModel(make, training, limits)
    table = WholeTable(training).with_drawn(*model.sample(TRIAL_PER_ROW * training.n_rows, 0))
    split = table.split(0, 1, torch.Generator().manual_seed(0))
    log_prob = []
    parts = training, table.sample.take(split.training[0])
    for part, n_members in zip(parts, _members(options, observed.n_rows), strict=True):
        est = make(limits=limits, y_scaler=options.y_scaler, n_members=n_members)
        est.fit(part.X, part.y, sample_weight=part.weight)
        log_prob.append(est.log_prob(held.X, held.y))
    gain = log_prob[1] - log_prob[0]
    mean = np.average(gain, weights=held.weight)
    return bool(mean > MARGIN * gain.std() / np.sqrt(n_held))


def _members(options: Any, n_rows: int) -> list[int]:
    """Members of the trial's ensembles, without drawn rows and with them."""
    both = [
        auto_members(n) if options.n_members == "auto" else int(options.n_members)
        for n in (n_rows, n_rows + _n_drawn(n_rows))
    ]
    share = min(1.0, MOST_MEMBERS / both[0])
    return [int(np.ceil(share * n)) for n in both]
