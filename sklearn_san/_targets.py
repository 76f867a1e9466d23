"""Targets between the user's world and the network's: columns, names, labels, dtypes.

The network works on one float64 matrix; columns of labels are codes there, 0, 1, ... in the sorted
order of the labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from ._columns import frame_columns, is_frame


def split_columns(y: Any) -> tuple[list[np.ndarray], list[str], bool]:
    """Columns of y, their names, and whether y was one-dimensional.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Frames keep the dtype of each column.
    """
    if is_frame(y):
        return frame_columns(y), [str(name) for name in y.columns], False
    array = np.asarray(y)
    if array.ndim == 1:
        name = getattr(y, "name", None)
        return [array], [name if isinstance(name, str) else "y0"], True
    if array.ndim != 2:
        raise ValueError(
            f"y must have one or two dimensions, got {array.ndim} (dim {array.ndim} array)."
        )
    return list(array.T), [f"y{d}" for d in range(array.shape[1])], False


def matching_columns(y: Any, names: list[str], before: str) -> list[np.ndarray]:
    """Columns of y in the order of `names`, by which those of a frame are found.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    names : list of str
        Of the outputs that are known.
    before : str
        What knows them, for messages.

    Raises
    ------
    ValueError
        If y has another number of columns, or a frame other names.
    """
    columns, own, _ = split_columns(y)
    if len(columns) != len(names):
        raise ValueError(
            f"y has {len(columns)} outputs, but {before} {len(names)} ({', '.join(names)})."
        )
    unnamed = names == [f"y{d}" for d in range(len(names))]
    if not is_frame(y) or own == names or unnamed:
        return columns
    if sorted(own) != sorted(names):
        raise ValueError(
            f"y has the columns {', '.join(own)}, but {before} {', '.join(names)}; rename or "
            "choose the columns."
        )
    return [columns[own.index(name)] for name in names]


def has_labels(column: np.ndarray) -> bool:
    """Whether a column can only be one of labels: text or booleans."""
    if column.dtype.kind in "USbT":
        return True
    return column.dtype == object and all(isinstance(v, (str, bool, np.bool_)) for v in column)


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
    """

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

    def encode(self, columns: list[np.ndarray]) -> np.ndarray:
        """Columns as one float64 matrix (n_samples, n_outputs)."""
        encoded = [self.encode_column(d, column) for d, column in enumerate(columns)]
        return np.stack(encoded, axis=1)

    def encode_column(self, d: int, column: np.ndarray) -> np.ndarray:
        """Column d of y (n,) as float64."""
        classes = self.classes[d]
        if classes is None:
            return _numbers(column, f"output {d} ({self.names[d]})")
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

        n_rows, n_draws, _ = draws.shape
        rows = np.arange(n_rows) if index is None else index
        return pd.DataFrame(
            {
                name: self.decode_column(d, draws[..., d].ravel())
                for d, name in enumerate(self.names)
            },
            index=pd.MultiIndex.from_product([rows, range(n_draws)], names=["row", "draw"]),
        )

    def _check_complete(self, d: int, column: np.ndarray) -> None:
        missing = np.array([v is None or v != v for v in column], dtype=bool)
        if missing.any():
            raise ValueError(
                f"y has {missing.sum()} missing labels in output {d} ({self.names[d]}); drop those "
                "rows."
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


def _numbers(column: np.ndarray, where: str) -> np.ndarray:
    if column.dtype.kind in "mM":
        raise ValueError(
            f"y has dates or durations in {where}; convert them to numbers, such as days."
        )
    checked = check_array(
        column,
        ensure_2d=False,
        dtype=np.float64,
        ensure_all_finite="allow-nan",
        ensure_min_samples=0,
        input_name="y",
    )
    return np.asarray(checked, dtype=np.float64)
