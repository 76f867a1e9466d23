"""Targets between the user's world and the network's: columns, names, labels, dtypes.

The network works on one float64 matrix; columns of labels are codes there, 0, 1, ... in the sorted
order of the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._columns import (
    category_columns,
    checked,
    column_values,
    frame_columns,
    has_category_type,
    holds_dates,
    is_missing,
    is_series,
)
from ._tables import are_made_up, is_frame, places_of
from .exceptions import AlignmentWarning, warn_caller


def split_columns(y: Any) -> tuple[list[np.ndarray], list[str], bool]:
    """Columns of y, their names, and whether y was one-dimensional.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Frames keep the dtype of each column.
    """
    if is_frame(y):
        return frame_columns(y), [str(name) for name in y.columns], False
    array = column_values(y) if is_series(y) else np.asarray(y)
    if array.ndim == 1:
        name = getattr(y, "name", None)
        return [array], [name if isinstance(name, str) else "y0"], True
    if array.ndim != 2:
        raise ValueError(
            f"y must have one or two dimensions, got {array.ndim} (dim {array.ndim} array)."
        )
    return list(array.T), [f"y{d}" for d in range(array.shape[1])], False


def category_targets(y: Any) -> list[bool]:
    """Which columns of y say by their type that they are categories, whatever they hold."""
    if is_frame(y):
        return category_columns(y)
    return [has_category_type(y)] if np.ndim(y) == 1 else [False] * np.shape(y)[1]


def matching_columns(
    y: Any, names: list[str], before: str, *, what: str = "y", unnamed: bool | None = None
) -> list[np.ndarray]:
    """Columns of y in the order of `names`, by which those of a frame are found.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    names : list of str
        Of the outputs that are known.
    before : str
        What knows them, for messages.
    what : str, default="y"
        Name of y, for messages.
    unnamed : bool, default=None
        Whether `names` stand for none; None tells it from them.

    Raises
    ------
    ValueError
        If y has another number of columns, or a frame other names.
    """
    columns, own, _ = split_columns(y)
    if len(columns) != len(names):
        kind = "outputs" if what == "y" else "columns"
        raise ValueError(
            f"{what} has {len(columns)} {kind}, but {before} {len(names)} ({', '.join(names)})."
        )
    unnamed = are_made_up(names) if unnamed is None else unnamed
    if not is_frame(y):
        if is_series(y) and own[0] not in (names[0], "y0", "") and not unnamed:
            warn_caller(
                f"{what} is the column {own[0]!r}, but {before} {names[0]!r}; is it the right one?",
                AlignmentWarning,
            )
        return columns
    return [columns[place] for place in places_of(names, own, before, what, unnamed=unnamed)]


def has_labels(column: np.ndarray) -> bool:
    """Whether a column can only be one of labels: text or booleans."""
    if column.dtype.kind in "USbT":
        return True
    if column.dtype != object:
        return False
    values = [value for value in column if not is_missing(value)]
    return len(values) > 0 and all(isinstance(v, (str, bool, np.bool_)) for v in values)


class TargetCodec:
    """Codes for the labels in y, and y's columns back from codes.

    Parameters
    ----------
    names : list of str
        Of the columns of y.
    is_label : list of bool
        Columns that hold labels.

    Attributes
    ----------
    classes : list of ndarray or None
        Sorted labels of each column; None for columns of numbers.
    whole : list of bool
        Columns of numbers that are to be whole numbers.
    units : dict of str to str
        Of the columns that had one.
    """

    units: Mapping[str, str] = {}

    def __init__(self, names: list[str], is_label: list[bool], whole: list[bool]):
        self.names = names
        self.is_label = is_label
        self.whole = whole
        self.classes: list[np.ndarray | None] = [None] * len(names)

    def fit(self, columns: list[np.ndarray]) -> TargetCodec:
        """Learn the labels."""
        self.classes = [None] * len(self.names)
        self.extend(columns)
        return self

    def extend(self, columns: list[np.ndarray]) -> None:
        """Add the labels of more rows."""
        for d, column in enumerate(columns):
            if self.is_label[d]:
                self._check_complete(d, column)
                known = self.classes[d]
                self.classes[d] = np.unique(
                    column if known is None else np.concatenate([known, column])
                )

    def encode(self, columns: list[np.ndarray], limits: np.ndarray | None = None) -> np.ndarray:
        """Columns as one float64 matrix (n_samples, n_outputs).

        With limits (n_outputs, 2), what single precision made of a limit is that limit.
        """
        encoded = [self.encode_column(d, column) for d, column in enumerate(columns)]
        if limits is not None:
            encoded = [on_limits(*pair) for pair in zip(encoded, limits, strict=True)]
        return np.stack(encoded, axis=1)

    def encode_column(self, d: int, column: np.ndarray) -> np.ndarray:
        """Column d of y (n,) as float64."""
        classes = self.classes[d]
        if classes is None:
            return numbers_of(column, "y", f" in output {d} ({self.names[d]})")
        self._check_complete(d, column)
        known = np.isin(column, classes)
        if not known.all():
            label = column[~known].tolist()[0]
            raise ValueError(
                f"y has the label {label!r} in output {d} ({self.names[d]}), which "
                f"was not there in fit; known are {', '.join(map(repr, classes.tolist()))}."
            )
        return np.searchsorted(classes, column).astype(np.float64)

    def decode_column(self, d: int, values: np.ndarray) -> np.ndarray:
        """Values of column d in the user's dtype, of any shape."""
        classes = self.classes[d]
        if classes is not None:
            return classes[np.round(values).astype(np.intp)]
        return np.round(values).astype(np.int64) if self.whole[d] else values

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Values (..., n_outputs): float64, or object where a column's labels are no numbers."""
        if not any(self.is_label):
            return values
        columns = [
            self.decode_column(d, values[..., d]) if is_label else values[..., d]
            for d, is_label in enumerate(self.is_label)
        ]
        if all(column.dtype.kind in "iuf" for column in columns):
            return np.stack([column.astype(np.float64) for column in columns], axis=-1)
        decoded = np.empty(values.shape, dtype=object)
        for d, column in enumerate(columns):
            decoded[..., d] = column
        return decoded

    def to_frame(self, draws: np.ndarray, index: Any = None) -> Any:
        """Draws (n_rows, n_draws, n_outputs) as a pandas frame with one row for each draw."""
        import pandas as pd

        return pd.DataFrame(
            {
                name: self.decode_column(d, draws[..., d].ravel())
                for d, name in enumerate(self.names)
            },
            index=draws_index(index, *draws.shape[:2]),
        )

    def _check_complete(self, d: int, column: np.ndarray) -> None:
        missing = np.array([is_missing(value) for value in column], dtype=bool)
        if missing.any():
            raise ValueError(
                f"y has {missing.sum()} missing labels in output {d} ({self.names[d]}); drop those "
                "rows."
            )


def on_limits(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Float64 values, and the limit (2,) itself where they are what single precision makes of it.

    That is the nearest number of single precision, or the next one inward: float32(0.1) > 0.1.
    """
    with np.errstate(over="ignore"):
        nearest = limits.astype(np.float32)
    for limit, *single in zip(limits, nearest, in_single_precision(limits), strict=True):
        values = np.where(np.isin(values, np.array(single, np.float64)), limit, values)
    return values


def single_inside(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Values (..., n_outputs) inside limits (n_outputs, 2) as float32 that are inside as well."""
    low, high = in_single_precision(limits).T
    with np.errstate(over="ignore"):
        return np.clip(values.astype(np.float32), low, high)


def in_single_precision(limits: np.ndarray) -> np.ndarray:
    """Limits (..., 2) as float32, rounded inward."""
    with np.errstate(over="ignore"):
        rounded = limits.astype(np.float32)
    low, high = rounded[..., 0], rounded[..., 1]
    low = np.where(low < limits[..., 0], np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > limits[..., 1], np.nextafter(high, np.float32(-np.inf)), high)
    return np.stack([low, high], axis=-1)


def named_columns(columns: Mapping[str, np.ndarray], index: Any) -> Any:
    """Columns as a pandas frame, each in the type of what it holds."""
    import pandas as pd

    return pd.DataFrame(columns, index=index).infer_objects()


def draws_index(names: Any, n_rows: int, n_draws: int) -> Any:
    """Index of a frame of draws, by the names of the rows or their numbers, and the draw."""
    import pandas as pd

    rows = pd.RangeIndex(n_rows) if names is None else names
    rows = rows if hasattr(rows, "nlevels") else pd.Index(rows)
    levels = [rows.get_level_values(level) for level in range(rows.nlevels)]
    own = ["row" if name is None and rows.nlevels == 1 else name for name in rows.names]
    return pd.MultiIndex.from_arrays(
        [*(level.repeat(n_draws) for level in levels), np.tile(np.arange(n_draws), n_rows)],
        names=[*own, "draw"],
    )


def has_gaps(missing: np.ndarray) -> np.ndarray:
    """Rows (n_rows,) in which a value is missing before one that is not.

    `missing` is (n_rows, n_outputs), in autoregressive order.
    """
    return np.asarray((np.diff(missing.astype(int), axis=1) < 0).any(axis=1))


def check_missing_targets(y: np.ndarray, order: np.ndarray, names: list[str]) -> None:
    """Raise unless every row of y lacks none but the last outputs in the order.

    Parameters
    ----------
    y : ndarray of shape (n_samples, n_outputs)
        In the user's column order; nan stands for a missing value.
    order : ndarray of shape (n_outputs,)
    names : list of str
    """
    missing = np.isnan(y[:, order])
    broken = np.flatnonzero(has_gaps(missing))
    if missing[:, 0].any():
        j = order[0]
        raise ValueError(
            f"y has {missing[:, 0].sum()} missing values (NaN) in output {j} ({names[j]}), which "
            "comes first in the order, so that nothing can be learned from those rows; drop them, "
            "or put that output later in `order`."
        )
    if len(broken):
        row = missing[broken[0]]
        first = int(row.argmax())
        later = first + int(np.argmin(row[first:]))
        raise ValueError(
            f"y has {len(broken)} rows with a missing value before an observed one in the order, "
            f"such as row {broken[0]}: output {order[first]} ({names[order[first]]}) is missing "
            f"and output {order[later]} ({names[order[later]]}) is not. Put the outputs that lack "
            "values last in `order`, or drop those rows."
        )


def check_gaps(gaps: np.ndarray, order: np.ndarray, names: list[str]) -> None:
    """The same for rows that are not at hand.

    `gaps` (n_outputs, n_outputs) tells, in the order, whether some row lacks the one output and has
    the other.
    """
    broken = np.argwhere(np.triu(gaps, 1))
    if len(broken):
        first, later = order[broken[0]]
        raise ValueError(
            f"y has rows in which output {first} ({names[first]}) is missing and output {later} "
            f"({names[later]}), which comes later in the order, is not; drop those rows."
        )


def numbers_of(column: np.ndarray, name: str, where: str = "") -> np.ndarray:
    """Column of numbers as float64, with nan where a value is missing; `where` is for messages."""
    if holds_dates(column):
        raise ValueError(
            f"{name} has dates or durations{where}; convert them to numbers, such as days."
        )
    if column.dtype == object:
        column = np.array([np.nan if is_missing(value) else value for value in column])
    if column.ndim > 1:
        raise ValueError(
            f"{name} has a sequence in each cell{where}; give each number a column of its own."
        )
    options: dict[str, Any] = {"ensure_2d": False, "ensure_min_samples": 0}
    return checked(column, name, ensure_all_finite="allow-nan", **options)
