"""What a table is: features and their categories, outputs with labels, families, limits and order.

==================  ========================================================================
`Schema`            one object for all of that; turns the user's columns into numbers
`Raw`               rows as the user gave them, column by column
`Block`             the same rows as numbers, y in autoregressive order
`Reader`            reads rows, and learns the schema from those of `fit`
==================  ========================================================================

A schema is made in `fit` from the first rows, grows while others are read, and is asked at every
later call. Its parts are public attributes of the estimator, and saved with it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

from . import _validation as validation
from ._columns import (
    FeatureTable,
    is_series,
    needs_table,
    read_columns,
    refuse_dates,
)
from ._distributed import ALONE, Ranks
from ._parts import Layout, Part, split_parts
from ._tables import Frame, as_table, check_units, is_frame, units_of
from ._targets import (
    TargetCodec,
    category_targets,
    check_missing_targets,
    has_labels,
    matching_columns,
    numbers_of,
    split_columns,
)
from .likelihoods import Likelihood, Ordinal

Columns = np.ndarray | list[np.ndarray]


class Raw(NamedTuple):
    """Rows as the user gave them: numbers as a matrix, other tables as a list of columns."""

    X: Columns  # (n_rows, n_features)
    y: list[np.ndarray]  # (n_rows,) each, in the user's order
    weight: np.ndarray | None  # (n_rows,), positive
    X_err: np.ndarray | None  # (n_rows, n_features)
    parts: tuple[Part, ...] = ()  # those of X that go through encoders

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.y[0])

    def take(self, rows: Any) -> Raw:
        """Some of the rows."""
        return Raw(*(_take(part, rows) for part in self))


class Block(NamedTuple):
    """Rows as float64 numbers and codes."""

    X: np.ndarray  # (n_rows, n_features + n_parts); nan where there is no value
    y: np.ndarray  # (n_rows, n_outputs), in autoregressive order
    weight: np.ndarray | None  # (n_rows,)
    X_err: np.ndarray | None  # (n_rows, n_features)
    parts: tuple[Part, ...] = ()

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.X)

    def take(self, rows: Any) -> Block:
        """Some of the rows."""
        return Block(*(_take(part, rows) for part in self))

    @property
    def identity(self) -> np.ndarray:
        """Columns (n_rows, n) that are equal in rows of equal X."""
        if not self.parts:
            return self.X
        return np.column_stack([self.X, *(part.keys() for part in self.parts)])


def _take(part: Any, rows: Any) -> Any:
    if isinstance(part, list):
        return [column[rows] for column in part]
    if isinstance(part, tuple):
        return tuple(one[rows] for one in part)
    return None if part is None else part[rows]


def concatenate(raws: Sequence[Raw]) -> Raw:
    """All rows of several."""

    def join(parts: Sequence[Any]) -> Any:
        if parts[0] is None:
            return None
        if isinstance(parts[0], list):
            return [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        if isinstance(parts[0], tuple):
            return tuple(first.joined(others) for first, *others in zip(*parts, strict=True))
        return np.concatenate(parts)

    return Raw(*(join(parts) for parts in zip(*raws, strict=True)))


@dataclass
class Schema:
    """What a table is.

    Parameters
    ----------
    table : FeatureTable or None
        Categories of the features, if there are any.
    feature_names : list of str
        For messages.
    names : list of str
        Of the outputs, in the user's order, as are `limits` and `codec`.
    one_dimensional : bool
        Whether y was one-dimensional.
    limits : ndarray of shape (n_outputs, 2)
        In the units of y.
    order : ndarray of shape (n_outputs,)
        ``order[d]`` is the user's column that comes d-th in the network.
    families : list of Likelihood
        Unresolved, in autoregressive order.
    codec : TargetCodec
        Labels of the outputs.
    units : dict of str to str
        Of the features that had one in `fit`.
    layout : Layout, default=None
        Parts of X that go through encoders; None if there are none.
    """

    table: FeatureTable | None
    feature_names: list[str]
    names: list[str]
    one_dimensional: bool
    limits: np.ndarray
    order: np.ndarray
    families: list[Likelihood]
    codec: TargetCodec
    units: dict[str, str]
    layout: Layout | None = None

    @classmethod
    def of(cls, estimator: Any) -> Schema:
        """Schema of a fitted estimator."""
        return cls(
            estimator.feature_table_,
            _feature_names(estimator),
            estimator.output_names_,
            estimator._one_dimensional,
            estimator.limits_,
            estimator.order_,
            estimator.families_,
            estimator.codec_,
            getattr(estimator, "feature_units_", {}),
            getattr(estimator, "layout_", None),
        )

    def attributes(self) -> dict[str, Any]:
        """The same as attributes of an estimator."""
        return {
            "feature_table_": self.table,
            "output_names_": self.names,
            "n_outputs_": len(self.names),
            "_one_dimensional": self.one_dimensional,
            "limits_": self.limits,
            "order_": self.order,
            "families_": self.families,
            "codec_": self.codec,
            "feature_units_": self.units,
            "layout_": self.layout,
        }

    @property
    def n_categories(self) -> list[int | None]:
        """Of each column of a `Block`: None for numbers, 0 for the state of a part."""
        states = [0] * len(self.part_names)
        if self.table is None:
            return [None] * len(self.feature_names) + states
        return [None if one is None else len(one) for one in self.table.categories] + states

    @property
    def part_names(self) -> list[str]:
        """Of the parts of X that go through encoders."""
        return [] if self.layout is None else list(self.layout.shapes)

    @property
    def column_names(self) -> list[str]:
        """Of the columns of a `Block`."""
        return [*self.feature_names, *self.part_names]

    @property
    def classes(self) -> list[np.ndarray | None]:
        """Labels of each output, in autoregressive order."""
        return [self.codec.classes[j] for j in self.order]

    def extend(self, raw: Raw) -> None:
        """Learn categories and labels that were not there before."""
        if self.table is not None:
            self.table.extend(read_columns(raw.X))
        self.codec.extend(raw.y)

    def encode(self, raw: Raw, *, may_have_gaps: bool = False) -> Block:
        """Rows as numbers, checked against the families and, unless they may have any, for gaps."""
        y = self.codec.encode(raw.y, self.limits)
        for d, family in zip(self.order, self.families, strict=True):
            observed = y[~np.isnan(y[:, d]), d]
            family.check_values(observed, f"output {d} ({self.names[d]})")
        if not may_have_gaps:
            check_missing_targets(y, self.order, self.names)
        X = self.encode_features(raw.X, raw.parts)
        return Block(X, y[:, self.order], raw.weight, raw.X_err, raw.parts)

    def encode_features(
        self, X: Columns, parts: Sequence[Part] = (), *, tolerant: bool = False
    ) -> np.ndarray:
        """Features as numbers and codes, float64, with nan where there is no value.

        Behind them the state of each part; see `_parts`.
        """
        codes = np.asarray(X, dtype=np.float64) if self.table is None else self.table.transform(X)
        if self.layout is None:
            return codes
        return np.concatenate([codes, self.layout.states(parts, tolerant=tolerant)], axis=1)


class Features(NamedTuple):
    """What was read of X."""

    columns: Columns
    table: FeatureTable | None
    layout: Layout | None
    parts: tuple[Part, ...]
    index: Any  # of its frame, if it is one
    units: dict[str, str]  # of the columns of that


def read_inputs(
    estimator: Any,
    X: Any,
    schema: Schema | None,
    *,
    min_rows: int = 0,
    may_be_infinite: bool = False,
) -> Features:
    """Plain columns and parts of the user's X; without a schema they are new."""
    layout = None if schema is None else schema.layout
    if layout is None and (schema is not None or estimator.encoder is None):
        X = as_table(X)
        if getattr(X, "ndim", 0) > 2:
            raise ValueError(
                f"Found array with dim {X.ndim}, of shape {tuple(X.shape)}; rows that are more "
                "than columns, such as images, need an encoder in `fit`."
            )
        columns, table = read_features(
            estimator, X, schema, min_rows=min_rows, may_be_infinite=may_be_infinite
        )
        return Features(columns, table, None, (), validation.row_names(X), units_of(X))
    split = split_parts(X, estimator.encoder, layout)
    n_rows = split.n_rows
    if n_rows < min_rows:
        raise ValueError(f"X has {n_rows} rows; at least {min_rows} are needed.")
    if split.table is None:
        if schema is None:  # of which earlier fits may have known some
            estimator.n_features_in_ = 0
            vars(estimator).pop("feature_names_in_", None)
            estimator.feature_labels_ = []
        nothing: Columns = np.full((n_rows, estimator.n_features_in_), np.nan)
        table = None if schema is None else schema.table
        if table is not None:
            nothing = list(np.transpose(nothing))
        return Features(nothing, table, split.layout, split.parts, None, {})
    columns, table = read_features(
        estimator, split.table, schema, min_rows=min_rows, may_be_infinite=may_be_infinite
    )
    X = as_table(split.table)
    index, units = validation.row_names(X), units_of(X)
    return Features(columns, table, split.layout, split.parts, index, units)


def read_features(
    estimator: Any,
    X: Any,
    schema: Schema | None,
    *,
    min_rows: int = 0,
    may_be_infinite: bool = False,
) -> tuple[Columns, FeatureTable | None]:
    """Features of the user's table, and which are categories; without a schema they are new."""
    reset = schema is None
    X = as_table(X)
    refuse_dates(X)
    if schema is None:
        by_column = needs_table(X, estimator.categorical_features)
        table = FeatureTable(estimator.categorical_features) if by_column else None
    else:
        table = schema.table
        check_units(units_of(X), schema.units, "X")
        if getattr(X, "shape", None) == (estimator.n_features_in_,):
            raise ValueError(
                f"Expected 2D array, got the shape {X.shape}. Reshape your data: one observation "
                "x_o goes in as x_o[None] or x_o.reshape(1, -1), a row of a frame as "
                "frame.iloc[[row]]."
            )
    _check_labels(estimator, X, reset=reset)
    if table is None:
        dtypes = np.float64 if reset else [np.float64, np.float32]
        options = {"dtype": dtypes, "ensure_min_samples": min_rows, "ensure_all_finite": False}
        if isinstance(X, Frame):
            _check_names(estimator, X, reset=reset)
            checked = check_array(X, **options)
        else:
            checked = validate_data(estimator, X, reset=reset, **options)
        if not (estimator.nondetection or may_be_infinite):
            validation.refuse_infinities(checked, _feature_names(estimator))
        return checked, None
    if not is_frame(X):
        X = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_samples=min_rows)
    if isinstance(X, Frame):
        _check_names(estimator, X, reset=reset)
    else:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    check_array(np.zeros(X.shape), ensure_min_samples=min_rows)
    if reset:
        table.describe(X)
    return read_columns(X), table


def _check_names(estimator: Any, X: Frame, *, reset: bool) -> None:
    """Learn, or check, the names of a table that scikit-learn does not know."""
    if reset:
        estimator.n_features_in_ = len(X.columns)
        estimator.feature_names_in_ = np.array(X.columns, dtype=object)
        return
    names = _feature_names(estimator)
    is_named = hasattr(estimator, "feature_names_in_")
    if len(X.columns) != len(names) or (is_named and X.columns != names):
        raise ValueError(
            f"X has the columns {', '.join(X.columns)}, but fit saw {', '.join(names)}; choose "
            "these, in this order."
        )


def _check_labels(estimator: Any, X: Any, *, reset: bool) -> None:
    """Learn, or check, the order of columns whose names are no text, which scikit-learn ignores."""
    labels = list(X.columns) if is_frame(X) else []
    labels = [] if any(isinstance(label, str) for label in labels) else list(map(str, labels))
    if reset:
        estimator.feature_labels_ = labels
        return
    known = getattr(estimator, "feature_labels_", [])
    if labels != known and sorted(labels) == sorted(known):
        raise ValueError(
            f"X has the columns {', '.join(labels)}, but fit saw {', '.join(known)}; choose these, "
            "in this order."
        )


def read_errors(estimator: Any, schema: Schema, X_err: Any, X: Columns) -> np.ndarray | None:
    """Measurement errors of features, if there are any; those of a frame are found by name."""
    if X_err is None:
        if estimator.use_errors:
            raise ValueError("use_errors=True needs the errors of X; pass X_err.")
        return None
    n_rows = len(X[0]) if isinstance(X, list) else len(X)
    numbers = np.array([j for j, n in enumerate(schema.n_categories) if n is None])
    names = schema.feature_names
    X_err = as_table(X_err, "X_err")
    check_units(units_of(X_err), schema.units, "X_err")
    if is_frame(X_err):
        labels = getattr(estimator, "feature_labels_", []) or names
        unnamed = labels is names and not hasattr(estimator, "feature_names_in_")
        matched = matching_columns(X_err, labels, "X has", what="X_err", unnamed=unnamed)
        X_err = np.stack([numbers_of(column, "X_err") for column in matched], axis=1)
    return validation.check_errors(X_err, (n_rows, len(names)), numbers, names)


def _feature_names(estimator: Any) -> list[str]:
    names = getattr(estimator, "feature_names_in_", None)
    return [f"x{j}" for j in range(estimator.n_features_in_)] if names is None else list(names)


class Reader:
    """Reads rows of `fit`, and learns from them what the table is.

    Parameters
    ----------
    estimator : estimator
        With parameters; what it knows of features is set from the first rows.
    schema : Schema, default=None
        Known already, and not to be extended.
    min_rows : int, default=0
        Of each call.
    ranks : Ranks
        Processes that read the same rows.

    Attributes
    ----------
    n_rows : int
        Read so far, those of weight 0 left out.
    missing, infinite : ndarray of bool of shape (n_features,)
        Features that lacked a value, or had an infinite one, in any row.
    x_range : ndarray of shape (2, n_features)
        Smallest and largest finite value of each.
    n_settled : int
        Outputs whose place in the order is known; that of the others is provisional.
    n_missing : ndarray of shape (n_outputs,)
        Missing values of each output, in the order of the schema.
    gaps : ndarray of bool of shape (n_outputs, n_outputs)
        Whether some row lacks the one output and has the other.
    """

    def __init__(
        self,
        estimator: Any,
        schema: Schema | None = None,
        *,
        min_rows: int = 0,
        ranks: Ranks = ALONE,
    ):
        self.estimator, self.min_rows, self.ranks = estimator, min_rows, ranks
        self._schema, self._known = schema, schema is not None
        self.n_rows, self.weight_sum = 0, 0.0
        self.n_outside = np.zeros(0, dtype=int)
        self.missing = self.infinite = np.zeros(0, dtype=bool)
        self.x_range = self.y_range = np.zeros((2, 0))
        self.n_settled = len(schema.names) if schema is not None else 0
        self.n_missing, self.gaps = np.zeros(0, dtype=int), np.zeros((0, 0), dtype=bool)

    @property
    def schema(self) -> Schema:
        """What is known by now."""
        if self._schema is None:
            raise ValueError("No rows have been read yet.")
        return self._schema

    def read(self, X: Any, y: Any, sample_weight: Any = None, X_err: Any = None) -> Raw:
        """Check rows against those before, and drop those of weight 0."""
        if y is None:
            raise ValueError(
                f"This {type(self.estimator).__name__} estimator requires y to be passed, but the "
                "target y is None."
            )
        first = self._schema is None
        found = read_inputs(self.estimator, X, self._schema, min_rows=self.min_rows)
        features = found.columns
        validation.warn_of_misaligned(found.index, y=y, sample_weight=sample_weight, X_err=X_err)
        y = as_table(y, "y")
        units, y = units_of(y), _checked_targets(y)
        columns, names, one_dimensional = split_columns(y)
        check_consistent_length(features[0] if isinstance(features, list) else features, columns[0])
        if first:
            are_own = is_frame(y) or (is_series(y) and names != ["y0"])
            given = self.estimator.output_names
            names = validation.check_output_names(given, names, are_own=are_own)
            self._begin(found.table, columns, names, one_dimensional, category_targets(y))
            self.schema.layout = found.layout
            self.schema.units.update(found.units)
            if units:
                self.schema.codec.units = units
        else:
            check_units(units, self.schema.codec.units, "y")
            before = "the fit that is gone on with had" if self._known else "those before had"
            columns = matching_columns(y, self.schema.names, before)
        errors = read_errors(self.estimator, self.schema, X_err, features)
        if sample_weight is None:
            return Raw(features, columns, None, errors, found.parts)
        weight = validation.check_weight(
            sample_weight, len(columns[0]), may_be_zero=self.min_rows == 0
        )
        return Raw(features, columns, weight, errors, found.parts).take(weight > 0)

    def learn(self, raw: Raw) -> Block:
        """Extend the schema by rows and remember their extremes; the rows as they are known now."""
        if not self._known:
            self.schema.extend(raw)
        block = self.encode(raw)
        finite = np.where(np.isfinite(block.X), block.X, np.nan)
        limits = self.schema.limits[self.schema.order]
        outside = ((block.y < limits[:, 0]) | (block.y > limits[:, 1])).sum(axis=0)
        missing, infinite = np.isnan(block.X).any(axis=0), np.isinf(block.X).any(axis=0)
        ranges = _range(finite), _range(block.y)
        lacking = np.isnan(block.y).astype(np.float64)
        n_missing, gaps = lacking.sum(axis=0).astype(int), lacking.T @ (1.0 - lacking) > 0.0
        if self.n_rows:
            n_missing, gaps = n_missing + self.n_missing, gaps | self.gaps
            outside, missing = outside + self.n_outside, missing | self.missing
            infinite = infinite | self.infinite
            ranges = _joint(ranges[0], self.x_range), _joint(ranges[1], self.y_range)
        self.n_outside, self.missing, self.infinite = outside, missing, infinite
        self.x_range, self.y_range = ranges
        self.n_missing, self.gaps = n_missing, gaps
        self.n_rows += block.n_rows
        self.weight_sum += float(block.n_rows if raw.weight is None else raw.weight.sum())
        return block

    def encode(self, raw: Raw) -> Block:
        """Rows as they are known now."""
        is_settled = self.n_settled == len(self.schema.names)
        return self.schema.encode(raw, may_have_gaps=not is_settled)

    def settle(self, place: np.ndarray) -> None:
        """Put the outputs in their final order; `place` (n_outputs,) counts in that so far."""
        schema = self.schema
        schema.order = schema.order[place]
        schema.families = [schema.families[d] for d in place]
        self.n_outside, self.y_range = self.n_outside[place], self.y_range[:, place]
        self.n_missing, self.gaps = self.n_missing[place], self.gaps[np.ix_(place, place)]
        self.n_settled = len(place)

    def in_order(self, place: np.ndarray) -> Reader:
        """A copy with another order, for a trial."""
        other = copy.copy(self)
        other._schema = copy.copy(self.schema)
        other.settle(place)
        return other

    def check(self, sample: Block) -> None:
        """Raise for targets that cannot be fitted; warn of ties and functions in a sample."""
        schema, back = self.schema, np.argsort(self.schema.order)
        validation.check_targets(
            self.y_range[:, back], self.n_outside[back], schema.limits, schema.names
        )
        families = [schema.families[d] for d in back]
        validation.warn_of_ties(families, sample.y[:, back], schema.names)
        ranges = self.y_range[:, back].T
        validation.warn_of_power(
            self.estimator.y_scaler, families, ranges, schema.limits, schema.names
        )
        n = len(schema.feature_names)
        validation.warn_of_large_errors(sample.X[:, :n], sample.X_err, schema.feature_names)
        numbers = [j for j, n in enumerate(schema.n_categories) if n is None]
        X, features = sample.X[:, numbers], [schema.feature_names[j] for j in numbers]
        if not self._known:
            validation.warn_of_extremes(X, features, "Feature")
            validation.warn_of_extremes(sample.y[:, back], schema.names, "Output")
        validation.warn_of_functions(families, sample.y[:, back], schema.names, X, features)

    def with_mean_weight_one(self, block: Block) -> Block:
        """Rows whose weights are divided by the mean over all rows."""
        if block.weight is None:
            return block
        return block._replace(weight=block.weight * (self.n_rows / self.weight_sum))

    def _begin(
        self,
        table: FeatureTable | None,
        columns: list[np.ndarray],
        names: list[str],
        one_dimensional: bool,
        are_categories: list[bool],
    ) -> None:
        """Resolve what the parameters say of the outputs."""
        est = self.estimator
        validation.check_names(names)
        limits = validation.check_limits(est.limits, names)
        order, self.n_settled = validation.check_order(est.order, names)
        labels = [has_labels(column) for column in columns]
        families = validation.check_likelihoods(
            est.likelihood, est.likelihood_params, limits, labels, names, are_categories
        )
        codec = TargetCodec(
            names,
            [family.scaling == "none" for family in families],
            [isinstance(family, Ordinal) and family.spacing == 1.0 for family in families],
        )
        self._schema = Schema(
            table,
            _feature_names(est),
            names,
            one_dimensional,
            limits,
            order,
            [families[j] for j in order],
            codec,
            {},
        )


def _range(values: np.ndarray) -> np.ndarray:
    """Smallest and largest of each column, (2, n_columns); nan where there is none."""
    if not len(values):
        return np.full((2, values.shape[1]), np.nan)
    return np.stack([np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)])


def _joint(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Range that holds two others."""
    return np.stack([np.fmin(one[0], other[0]), np.fmax(one[1], other[1])])


def _checked_targets(y: Any) -> Any:
    """Targets that scikit-learn's own checks have seen, if they are numbers throughout."""
    numeric = {column.dtype.kind for column in split_columns(y)[0]} <= set("iufc")
    if not numeric or hasattr(y, "columns") or is_series(y):
        return y
    return check_array(
        y,
        ensure_2d=False,
        dtype="numeric",
        ensure_all_finite="allow-nan",
        ensure_min_samples=0,
        input_name="y",
    )
