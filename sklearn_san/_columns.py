"""Features between the user's table and one matrix of numbers: names, categories, missing values.

`FeatureTable` turns a pandas or polars frame, or an array, into float columns. Categories become
codes 0, 1, ... in sorted order; missing values and categories that were not there in `fit` become
nan.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array


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
        chosen = self._chosen(columns, frame)
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
            code = {category: float(k) for k, category in enumerate(known)}
            encoded.append(np.array([code.get(_key(v), np.nan) for v in column.tolist()]))
        return np.stack(encoded, axis=1).astype(np.float64)

    def _chosen(self, columns: list[np.ndarray], frame: bool) -> set[int]:
        if self.spec is None:
            return set()
        if isinstance(self.spec, str):
            return {j for j, c in enumerate(columns) if frame and _is_category(c)}
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


def without_mask(values: Any) -> Any:
    """Masked values as nan, or None; numpy and scikit-learn show what is under the mask."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if values.dtype.kind in "iuf":
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.ma.filled(values.astype(object), None)


def refuse_dates(values: Any, name: str = "X") -> None:
    """Raise for an array of dates or durations, which numpy would take for numbers."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
        raise ValueError(
            f"{name} has dates or durations; convert them to numbers, such as days since the first "
            "one."
        )


def needs_table(X: Any, spec: Any) -> bool:
    """Whether X has to be read column by column: it has, or may have, more than numbers."""
    if spec is not None and not isinstance(spec, str):
        return True
    return is_frame(X) and any(
        _is_category(column) or column.dtype.kind in "mM" for column in read_columns(X)
    )


def is_frame(X: Any) -> bool:
    """Whether X is a frame of pandas or polars, or behaves like one."""
    return hasattr(X, "columns") and (hasattr(X, "iloc") or hasattr(X, "get_column"))


def frame_columns(X: Any) -> list[np.ndarray]:
    """Columns of a frame."""
    if hasattr(X, "iloc"):
        return [np.asarray(X.iloc[:, j]) for j in range(X.shape[1])]
    return [X.get_column(name).to_numpy() for name in X.columns]


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
    return column.dtype == object and any(isinstance(v, (str, bool, np.bool_)) for v in column)


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, nan, or pandas' own."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value


def _key(value: Any) -> Any:
    """What a category is looked up by; missing values have none."""
    return None if is_missing(value) else value


def _sorted_categories(column: np.ndarray, known: list[Any], name: str) -> list[Any]:
    """Categories of a column, and those known before."""
    try:
        values = {value for value in column.tolist() if not is_missing(value)}
        values.update(known)
        return sorted(values, key=lambda value: (type(value).__name__, value))
    except TypeError as error:
        raise ValueError(
            f"X has values in feature {name!r} that cannot be categories ({error}); convert them "
            "to text or numbers."
        ) from None


def _numbers(column: np.ndarray, name: str) -> np.ndarray:
    if column.dtype.kind in "mM":
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
