"""What a diagnostic of a report reads: held-out rows, and draws for some of them at a time.

=====================  ====================================================================
`HeldOut`              the rows and what several diagnostics share; each is computed once
`SomeDraws`            draws for some of the rows
`DrawsDiagnostic`      a diagnostic that reads draws; any other is a function of `HeldOut`
`NumericTargets`       labels as numbers, in y and in draws
=====================  ====================================================================
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from .._tables import in_order
from .checks import check_rows, names_of
from .references import check_references, reference_points

#: Numbers of an array of draws that are worked on at once.
CHUNK = 1_000_000


def random_stream(random_state: Any) -> np.random.RandomState:
    """RandomState of our own; None takes fresh entropy instead of the global state."""
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


def row_chunks(n_rows: int, row_size: int) -> Iterator[slice]:
    """Slices of rows that hold about `CHUNK` numbers."""
    step = max(1, CHUNK // row_size)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def log_density(density: Any, values: Any) -> np.ndarray:
    """Log density of one value for each row, (n_rows,), or of several, (n_rows, n_values)."""
    log_prob = np.asarray(density.log_prob(values))
    if np.isnan(log_prob).any():
        raise ValueError(
            f"log_prob gave nan for {np.isnan(log_prob).sum()} of {log_prob.size} values; it must "
            "be a number or -inf."
        )
    return log_prob


class SomeDraws(NamedTuple):
    """Draws for some of the held-out rows.

    Parameters
    ----------
    rows : slice
        Which rows.
    density : object
        Their densities.
    draws : ndarray of shape (n_rows, n_draws, n_outputs) or (n_rows, n_draws)
        As the densities give them.
    numbers : ndarray of shape (n_rows, n_draws, n_outputs)
        The same as numbers: labels are counted in their order.
    """

    rows: slice
    density: Any
    draws: Any
    numbers: np.ndarray


@dataclass(eq=False)
class HeldOut:
    """Rows that a density was not trained on, and what diagnostics read of them.

    Parameters
    ----------
    density : object
        Densities of the rows, with `cdf`, `sample` and `log_prob`.
    X, y : array-like of shape (n_rows, n_features), (n_rows, n_outputs) or (n_rows,)
        Features and true values.
    n_draws : int
        Draws of each row.
    seed : int
        Source of all randomness.
    references, n_references, by : object, int, object
        As `calibration_report` has them.

    Attributes
    ----------
    truth : ndarray of shape (n_rows, n_outputs)
        True values as numbers; labels are counted in their order.
    output_names : tuple of str
        Names of the outputs.
    u : ndarray of shape (n_rows, n_outputs) or (n_rows,)
        Rosenblatt coordinates.
    log_prob : ndarray of shape (n_rows,)
        Log density of y, in nats.
    reference_points : ndarray of shape (n_rows, n_references, n_outputs)
        Points that distances are measured from.
    """

    density: Any
    X: Any
    y: Any
    n_draws: int
    seed: int
    references: Any = "uniform"
    n_references: int = 10
    by: Any = None

    def __post_init__(self) -> None:
        self.y = in_order(self.y, self.density.output_names)
        self.targets = NumericTargets(self.y)
        self.truth = self.targets.numbers
        check_rows(len(self.truth), "y")
        self.references = check_references(self.references, self.n_references, self.truth)
        self.output_names = names_of(self.density.output_names, self.truth.shape[1])

    def random(self, name: str) -> np.random.RandomState:
        """Stream of random numbers of this name, whatever else is run."""
        return np.random.RandomState([self.seed, zlib.crc32(name.encode())])

    @cached_property
    def u(self) -> np.ndarray:
        return self.density.cdf(self.y, random_state=self.random("coordinates"))

    @cached_property
    def log_prob(self) -> np.ndarray:
        return log_density(self.density, self.y)

    @cached_property
    def reference_points(self) -> np.ndarray:
        random = self.random("references")
        return reference_points(self.references, self.n_references, self.truth, random)

    def draws(self) -> Iterator[SomeDraws]:
        """Draws of all rows, some rows at a time; the same ones whenever asked."""
        random = self.random("draws")
        n_rows, n_outputs = self.truth.shape
        for rows in row_chunks(n_rows, self.n_draws * n_outputs):
            part = self.density[rows]
            draws = part.sample(self.n_draws, random_state=random)
            numbers = np.asarray(draws).reshape(len(part), self.n_draws, n_outputs)
            yield SomeDraws(rows, part, draws, self.targets.encode(numbers))


class DrawsDiagnostic(NamedTuple):
    """A diagnostic that reads draws, which are dropped as soon as it has seen them.

    Parameters
    ----------
    of_draws : callable
        ``of_draws(held_out, some_draws, random)`` gives what is kept of some rows, (n_rows, ...).
    test : callable
        ``test(held_out, random, kept)`` makes the result from that of all rows.
    """

    of_draws: Callable[[HeldOut, SomeDraws, np.random.RandomState], np.ndarray]
    test: Callable[[HeldOut, np.random.RandomState, np.ndarray], Any]


#: ``diagnostic(held_out, random)`` makes the result, or a `DrawsDiagnostic` does.
Diagnostic = Callable[[HeldOut, np.random.RandomState], Any] | DrawsDiagnostic


class NumericTargets:
    """True values as numbers (n_rows, n_outputs), and draws in the same numbers.

    Labels become their position in the sorted labels of y; those that y lacks lie in between.
    """

    def __init__(self, y: Any):
        array = np.asarray(y)
        columns = array.reshape(len(array), -1).T
        self.labels = [None if _is_numeric(column) else np.unique(column) for column in columns]
        self.numbers = self.encode(columns.T)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Float64 array of the shape of `values`, (..., n_outputs)."""
        if values.dtype.kind == "f":
            return values.astype(np.float64, copy=False)
        encoded = np.empty(values.shape)
        for d, labels in enumerate(self.labels):
            column = values[..., d]
            if labels is None:
                encoded[..., d] = column.astype(np.float64)
            else:
                ends = (np.searchsorted(labels, column, side=side) for side in ("left", "right"))
                encoded[..., d] = (sum(ends) - 1) / 2
        return encoded


def _is_numeric(column: np.ndarray) -> bool:
    try:
        column.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True
