"""Features between the user's table and one matrix of numbers: names, categories, missing values.

`FeatureTable` turns a frame, or an array, into float columns. Categories become codes 0, 1, ... in
sorted order; missing values and categories that were not there in `fit` become nan, the latter with
a warning.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from numbers import Integral, Number
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.utils.validation import check_array

from ._tables import Frame, is_frame
from .exceptions import UnknownCategoryWarning, warn_caller


class FeatureTable:
    """Which columns of X are categories, and which categories they have.

    Parameters
    ----------
    spec : {"from_dtype"}, sequence of int or str, or None
        "from_dtype" takes the columns of a frame that hold text, booleans or categories.

    Attributes
    ----------
    names : list of str
        For messages.
    categories : list of list or None
        Sorted categories of each column; None for columns of numbers.
    """

    def __init__(self, spec: Any):
        self.spec = spec
        self.names: list[str] = []
        self.categories: list[list[Any] | None] = []

    @property
    def has_categories(self) -> bool:
        """Whether any column holds categories."""
        return any(known is not None for known in self.categories)

    def fit(self, X: Any) -> FeatureTable:
        """Learn names and categories."""
        self.describe(X)
        self.extend(read_columns(X))
        return self

    def describe(self, X: Any) -> None:
        """Learn names, and which columns are categories; these are still to come."""
        columns, frame = read_columns(X), is_frame(X)
        self.names = [str(name) for name in X.columns] if frame else []
        self.names = self.names or [f"x{j}" for j in range(len(columns))]
        chosen = self._chosen(columns, category_columns(X))
        self.categories = [[] if j in chosen else None for j in range(len(columns))]

    def extend(self, columns: Sequence[np.ndarray]) -> None:
        """Add the categories of more rows."""
        for j, (column, known) in enumerate(zip(columns, self.categories, strict=True)):
            if known is not None:
                self.categories[j] = _sorted_categories(column, known, self.names[j])

    def transform(self, X: Any) -> np.ndarray:
        """Codes and numbers, (n_samples, n_features) in float64."""
        encoded = []
        for j, (column, known) in enumerate(zip(read_columns(X), self.categories, strict=True)):
            if known is None:
                encoded.append(_numbers(column, self.names[j]))
                continue
            code = {_key(category): float(k) for k, category in enumerate(known)}
            values = column.tolist()
            codes = np.array([code.get(_key(v), np.nan) for v in values])
            unknown = [i for i in np.flatnonzero(np.isnan(codes)) if not is_missing(values[i])]
            if unknown:
                self._warn_of_unknown(j, len(unknown) / len(values), values[unknown[0]])
            encoded.append(codes)
        return np.stack(encoded, axis=1).astype(np.float64)

    def _warn_of_unknown(self, j: int, share: float, value: Any) -> None:
        known = self.categories[j] or []
        shown = ", ".join(map(repr, known[:5])) + (", ..." if len(known) > 5 else "")
        warn_caller(
            f"X has unknown categories in {100 * share:.3g} % of the rows of feature "
            f"{self.names[j]!r}, such as {value!r}, which count as missing; fit saw {shown}. "
            "Convert them to the same type and spelling.",
            UnknownCategoryWarning,
        )

    def _chosen(self, columns: list[np.ndarray], by_dtype: list[bool]) -> set[int]:
        if self.spec is None:
            return set()
        if isinstance(self.spec, str):
            return {j for j, is_category in enumerate(by_dtype) if is_category}
        chosen = set()
        for entry in self.spec:
            if isinstance(entry, str):
                if entry not in self.names:
                    raise ValueError(
                        f"categorical_features names {entry!r}, which is not a column of X; they "
                        f"are {', '.join(self.names)}."
                    )
                chosen.add(self.names.index(entry))
            elif not 0 <= entry < len(columns):
                raise ValueError(
                    f"categorical_features has the column {entry}, but X has {len(columns)} "
                    "columns."
                )
            else:
                chosen.add(int(entry))
        return chosen


def check_categorical_features(spec: Any) -> None:
    """Raise unless `spec` is "from_dtype", None, or a sequence of column numbers or names."""
    if spec is None or (isinstance(spec, str) and spec == "from_dtype"):
        return
    accepted = "'from_dtype', None, or a sequence of column numbers or names"
    if not is_sequence(spec):
        raise TypeError(f"categorical_features must be {accepted}; got {spec!r}.")
    for entry in spec:
        is_number = isinstance(entry, Integral) and not isinstance(entry, (bool, np.bool_))
        if not (is_number or isinstance(entry, str)):
            raise TypeError(f"categorical_features must be {accepted}; got {entry!r} in it.")


def is_sequence(value: Any) -> bool:
    """Whether `value` is a sequence of entries: no text, and no array without axes."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def checked(values: Any, name: str, **options: Any) -> np.ndarray:
    """Array of float64 that scikit-learn has checked, whatever it is told to assume."""
    with config_context(assume_finite=False):
        return check_array(values, dtype=np.float64, input_name=name, **options)


def holds_dates(column: np.ndarray) -> bool:
    """Whether an array has dates or durations, of numpy or, in its first value, of others."""
    if column.dtype != object:
        return column.dtype.kind in "mM"
    first = next((value for value in column.flat if not is_missing(value)), None)
    return isinstance(first, (datetime.date, datetime.time, datetime.timedelta, np.datetime64))


def refuse_dates(values: Any, name: str = "X") -> None:
    """Raise for an array of dates or durations, which numpy would take for numbers."""
    if isinstance(values, np.ndarray) and holds_dates(values):
        raise ValueError(
            f"{name} has dates or durations; convert them to numbers, such as days since the first "
            "one."
        )


def needs_table(X: Any, spec: Any) -> bool:
    """Whether X has to be read column by column: it has, or may have, more than numbers."""
    if spec is not None and not isinstance(spec, str):
        return True
    return is_frame(X) and (any(category_columns(X)) or any(map(_is_strange, frame_columns(X))))


def _is_strange(column: np.ndarray) -> bool:
    """Whether a column holds something else than numbers, in its first value."""
    if column.dtype != object:
        return column.dtype.kind not in "iufb"
    first = next((value for value in column.flat if not is_missing(value)), 0.0)
    return not isinstance(first, (Number, Decimal))


def is_series(values: Any) -> bool:
    """Whether `values` is a column of pandas or polars."""
    return hasattr(values, "dtype") and hasattr(values, "to_numpy") and not is_frame(values)


def frame_columns(X: Any) -> list[np.ndarray]:
    """Columns of a frame."""
    if isinstance(X, Frame):
        return [X.iloc[:, j] for j in range(X.shape[1])]
    return [column_values(column) for column in _series(X)]


def column_values(series: Any) -> np.ndarray:
    """Values of a column of pandas or polars; categories as themselves, not as their codes."""
    if not hasattr(series, "cat") or not hasattr(series.dtype, "ordered"):
        return np.asarray(series) if hasattr(series, "iloc") else series.to_numpy()
    values = np.asarray(series.array.astype(object), dtype=object)
    if any(map(is_missing, values)):
        return np.array([None if is_missing(value) else value for value in values], dtype=object)
    kinds = {type(value) for value in values}
    return np.array(values.tolist()) if len(kinds) == 1 and kinds <= {int, float} else values


def category_columns(X: Any) -> list[bool]:
    """Which columns of a frame are categories, by their type or by what they hold."""
    if isinstance(X, Frame):
        columns = zip(X.columns, frame_columns(X), strict=True)
        return [name in X.categories or _is_category(column) for name, column in columns]
    if not is_frame(X):
        return []
    return [
        has_category_type(column) or _is_category(column_values(column)) for column in _series(X)
    ]


def has_category_type(values: Any) -> bool:
    """Whether the type of a column says category: that of pandas, polars or Arrow."""
    known = "category", "Categorical", "Enum", "dictionary<"
    return is_series(values) and str(values.dtype).startswith(known)


def _series(X: Any) -> list[Any]:
    if hasattr(X, "iloc"):
        return [X.iloc[:, j] for j in range(X.shape[1])]
    return [X.get_column(name) for name in X.columns]


def read_columns(X: Any) -> list[np.ndarray]:
    """Columns of a frame or of a two-dimensional array; lists of columns are taken as they are."""
    if isinstance(X, list) and all(isinstance(column, np.ndarray) for column in X):
        return X
    if is_frame(X):
        return frame_columns(X)
    array = np.asarray(X)
    if array.ndim != 2:
        raise ValueError(f"X must have two dimensions, got {array.ndim}.")
    return list(array.T)


def _is_category(column: np.ndarray) -> bool:
    """Whether a column of a frame holds text, booleans or categories of these."""
    if column.dtype.kind in "USbT":
        return True
    text = str, bytes, bool, np.bool_
    return column.dtype == object and any(isinstance(value, text) for value in column)


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, nan, or pandas' own."""
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, float) and value != value


def _key(value: Any) -> Any:
    """What a category is looked up by: bytes as text; missing values have none."""
    if isinstance(value, bytes):
        return value.decode()
    return None if is_missing(value) else value


def _sorted_categories(column: np.ndarray, known: list[Any], name: str) -> list[Any]:
    """Categories of a column, and those known before."""
    try:
        values = {_key(value) for value in column.tolist() if not is_missing(value)}
        values.update(known)
        return sorted(values, key=lambda value: (type(value).__name__, value))
    except TypeError as error:
        raise ValueError(
            f"X has values in feature {name!r} that cannot be categories ({error}); convert them "
            "to text or numbers."
        ) from None


def _numbers(column: np.ndarray, name: str) -> np.ndarray:
    if holds_dates(column):
        raise ValueError(
            f"X has dates or durations in feature {name!r}; convert them to numbers, such as days "
            "since the first one."
        )
    try:
        if column.dtype == object:
            column = np.array([np.nan if is_missing(value) else value for value in column])
        if column.ndim != 1:
            raise TypeError("lists in a column")
        return np.asarray(
            check_array(
                column,
                ensure_2d=False,
                dtype=np.float64,
                ensure_all_finite=False,
                ensure_min_samples=0,
            )
        )
    except (TypeError, ValueError):
        raise ValueError(
            f"X has something else than numbers in feature {name!r}; name it in "
            "categorical_features, or convert it."
        ) from None
