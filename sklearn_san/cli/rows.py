"""Rows of a table as the estimator takes them, for the command line."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from .._tables import Frame
from . import formats
from .formats import MISSING, Columns, listing
from .options import check_known
from .printing import note
from .tables import has_text_cells, read_table


def as_frame(columns: Columns, units: Mapping[str, str] | None = None) -> Any:
    """Columns under their names, for the estimator, with the units of those that have one."""
    units = {name: unit for name, unit in (units or {}).items() if name in columns}
    if units or not formats.has_pandas():
        return Frame(columns, units)
    import pandas as pd

    return pd.DataFrame(columns)


@dataclass(frozen=True)
class Rows:
    """What was read of a table.

    Parameters
    ----------
    features, targets : dict of str to ndarray
        By the names that the model has for them.
    errors : ndarray of shape (n_rows, n_features) or None
    weight : ndarray of shape (n_rows,) or None
    kept : dict of str to ndarray
        To be copied; the numbers of the rows if nothing else is.
    ids : ndarray of shape (n_rows,)
        Whole numbers or text: the numbers of the rows if they have no other names.
    units, kept_units : dict of str to str, default={}
        Of features and targets, and of what is kept, where the file tells them.
    """

    features: Columns
    targets: Columns
    errors: np.ndarray | None
    weight: np.ndarray | None
    kept: Columns
    ids: np.ndarray
    units: Mapping[str, str] = field(default_factory=dict)
    kept_units: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.kept.values())))

    def take(self, rows: Any) -> Rows:
        """Some of the rows."""

        def some(columns: Columns) -> Columns:
            return {name: column[rows] for name, column in columns.items()}

        return Rows(
            some(self.features),
            some(self.targets),
            None if self.errors is None else self.errors[rows],
            None if self.weight is None else self.weight[rows],
            some(self.kept),
            self.ids[rows],
            self.units,
            self.kept_units,
        )

    def fit_options(self) -> dict[str, Any]:
        """Keyword arguments of `fit`."""
        given = {"sample_weight": self.weight, "X_err": self.errors}
        return {name: value for name, value in given.items() if value is not None}

    def density(self, estimator: Any, on_bad_rows: str = "raise") -> Any:
        """Conditional density of each row."""
        named = hasattr(estimator, "feature_names_in_")
        X = (
            as_frame(self.features, self.units)
            if named
            else np.stack(list(self.features.values()), axis=1)
        )
        errors = {} if self.errors is None else {"X_err": self.errors}
        return estimator.predict_density(X, on_bad_rows=on_bad_rows, **errors)


def read_rows(
    options: Namespace,
    features: Mapping[str, str],
    targets: Mapping[str, str],
    labels: Mapping[str, Sequence[Any] | None],
    *,
    may_be_empty: bool = False,
) -> Rows:
    """Read a table.

    Parameters
    ----------
    options : Namespace
    features, targets : dict of str to str
        Column of each feature and target.
    labels : dict of str to sequence or None
        Features and targets that are labels, with those that the model knows; None takes any text.
    may_be_empty : bool, default=False
        Whether there may be no rows.
    """
    columns, errors = [*features.items(), *targets.items()], dict(options.errors or ())
    row_id = getattr(options, "row_id", None)
    ids = [] if row_id is None else [row_id]
    as_text = has_text_cells(options.out or "-")
    table = read_table(
        options.table,
        numbers=[column for name, column in columns if name not in labels]
        + list(errors.values())
        + ([options.weights] if options.weights else []),
        values=list(dict.fromkeys([*([] if as_text else options.keep), *ids])),
        verbatim=[column for name, column in columns if name in labels]
        + (options.keep if as_text else []),
        may_be_empty=may_be_empty,
        group=options.group,
    )

    _blank(table.numbers, [*features.values(), *targets.values(), *errors.values()], options)

    def named(part: Mapping[str, str]) -> Columns:
        return {
            name: _as_labels(table.verbatim[column], labels[name])
            if name in labels
            else table.numbers[column]
            for name, column in part.items()
        }

    kept = table.verbatim if as_text else table.values
    numbers = options.first_row + np.arange(table.n_rows)
    rows = Rows(
        named(features),
        named(targets),
        _error_matrix(table.numbers, list(features), errors, table.n_rows) if errors else None,
        table.numbers[options.weights] if options.weights else None,
        {name: kept[name] for name in options.keep} or {"row": numbers},
        numbers if row_id is None else table.values[row_id],
        {name: table.units[column] for name, column in columns if column in table.units},
        {name: table.units[name] for name in options.keep if name in table.units},
    )
    if options.drop_missing:
        rows = _with_targets(options, rows)
    _check_weights(options, rows)
    return rows


def _blank(numbers: Columns, names: Sequence[str], options: Namespace) -> None:
    """Set what means missing to nan; single precision in the file is precise enough."""
    for value in options.missing or ():
        for name in names:
            if name in numbers:
                column = numbers[name]
                is_value = np.isclose(column, value, rtol=1e-6, atol=0.0)
                numbers[name] = np.where(is_value, np.nan, column)


def _check_weights(options: Namespace, rows: Rows) -> None:
    if rows.weight is not None and not (rows.weight >= 0).all():
        raise ValueError(
            f"Column {options.weights!r} of {options.table!r} has weights that are missing or "
            "negative; set them to 0 where a row is not to count."
        )


def _as_labels(column: np.ndarray, known: Sequence[Any] | None) -> np.ndarray:
    """Labels of cells: text, or what the model knows under this text; None is missing."""
    own = {} if known is None else {str(label): label for label in known}
    labels = np.empty(len(column), dtype=object)
    for i, cell in enumerate(column.tolist()):
        text = "" if cell is None or cell != cell else str(cell).strip()
        labels[i] = None if text in MISSING else own.get(text, text)
    return labels


def _error_matrix(
    numbers: Columns, features: list[str], errors: Mapping[str, str], n_rows: int
) -> np.ndarray:
    """Measurement errors, (n_rows, n_features); zero for features that have none."""
    none = np.zeros(n_rows)
    columns = [numbers[errors[name]] if name in errors else none for name in features]
    return np.nan_to_num(np.stack(columns, axis=1))


def _with_targets(options: Namespace, rows: Rows) -> Rows:
    """Rows of which all targets, and the weight, are known."""
    columns = [*rows.targets.values(), *([] if rows.weight is None else [rows.weight])]
    complete = ~np.any([_is_missing(column) for column in columns], axis=0)
    if not complete.any():
        raise ValueError(f"{options.table!r} has no row with all targets.")
    if not complete.all():
        n_left_out = int((~complete).sum())
        note(options, f"left out {n_left_out} of {len(rows)} rows, which lack targets or weights")
    return rows.take(complete)


def _is_missing(column: np.ndarray) -> np.ndarray:
    if column.dtype == object:
        return np.array([value is None for value in column])
    return np.isnan(column)


def check_finite(options: Namespace, rows: Rows, estimator: Any) -> None:
    """Raise for infinite features that the estimator would refuse without their name."""
    tolerant = getattr(options, "on_bad_rows", "raise") == "nan"
    if tolerant or getattr(estimator, "nondetection", None) is not None:
        return
    for name, column in rows.features.items():
        if column.dtype != object and np.isinf(column).any():
            raise ValueError(
                f"Feature {name!r} of {options.table!r} has {np.isinf(column).sum()} infinite "
                "values; fit with --set nondetection=inf if they stand for what was looked for and "
                "not seen, or leave these cells blank where a value is missing."
            )


def load(options: Namespace, *, with_targets: bool = False) -> tuple[Any, Rows]:
    """Model, and the rows of the table that it is asked about."""
    from .._schema import Schema

    estimator = _model(options.model, os.stat(options.model).st_mtime_ns)
    if not hasattr(estimator, "feature_names_in_") and not options.features:
        raise ValueError(
            f"{options.model!r} was fitted without names of columns; name its "
            f"{estimator.n_features_in_} features in their order with --features."
        )
    schema = Schema.of(estimator)
    names, outputs = schema.feature_names, schema.names if with_targets else []
    features = _matched(names, options.features or names, "--features")
    targets = _matched(outputs, options.targets or outputs, "--targets")
    check_known(dict(options.errors or ()), names, "--errors", "feature")
    known = [] if schema.table is None else zip(names, schema.table.categories, strict=True)
    labels = {name: categories for name, categories in known if categories is not None}
    for name, classes in zip(outputs, schema.codec.classes, strict=False):
        if classes is not None:
            labels[name] = classes.tolist()
    rows = read_rows(options, features, targets, labels, may_be_empty=not with_targets)
    check_finite(options, rows, estimator)
    return estimator, rows


@lru_cache(maxsize=1)
def _model(path: str, changed: int) -> Any:
    """Model in a file, read once for all parts of a table."""
    from .._estimator import SANConditionalDensityEstimator

    return SANConditionalDensityEstimator.load(path)


def _matched(names: Sequence[str], columns: Sequence[str], option: str) -> dict[str, str]:
    if len(columns) != len(names):
        raise ValueError(
            f"{option} has {len(columns)} columns, but the model has {len(names)} of them: "
            f"{listing(names)}."
        )
    return dict(zip(names, columns, strict=True))
