"""What X is made of where it is more than columns: spectra, images, sets, beside plain columns.

==================  ========================================================================
`Layout`            names and shapes of the parts, as `fit` saw them
`Part`              rows of one part, read when they are needed
`split_parts`       plain columns and parts of what the user passed as X
`is_parts`          whether X is a dict of parts
`n_rows_of`         rows of such an X
`take_rows`         some of these
==================  ========================================================================

A part goes through an encoder. For each there is a column beside the plain ones that says what is
known of it in a row, its *state*: 0 if the part is there, nan if it is missing, which is nan
throughout, -inf if some of its values are nan, and inf if some are infinite. What becomes of
columns that lack values, in training and later, thereby holds for parts as well.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._tables import as_table, is_frame, without_mask

#: Name of the part where all of X goes through one encoder.
WHOLE = "X"
#: Numbers that are read at once.
READ = 2**22


@dataclass(frozen=True)
class Layout:
    """What X was made of in `fit`.

    Parameters
    ----------
    kind : {"array", "dict", "list"}
        How X was given.
    shapes : dict of str to tuple of int
        Shape of one row of each part that has an encoder.
    plain : dict of str to int
        Columns of the other parts, in the order in which they stand side by side.
    accepts : dict of str to bool
        Parts whose encoder says whether it accepts nan inside of a row.
    """

    kind: str
    shapes: dict[str, tuple[int, ...]]
    plain: dict[str, int]
    accepts: dict[str, bool] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of all parts."""
        return [*self.shapes, *self.plain]

    def states(self, parts: Sequence[Part], *, tolerant: bool = False) -> np.ndarray:
        """State of each part in each row, (n_rows, n_parts).

        Rows that are known to be of no use raise an error, or have a state that is infinite.
        """
        columns = []
        for name, part in zip(self.shapes, parts, strict=True):
            state = part.state
            if self.accepts.get(name):
                state = np.where(state == -np.inf, 0.0, state)
            wrong = np.isinf(state) if name in self.accepts else state == np.inf
            if wrong.any() and not tolerant:
                i = int(wrong.argmax())
                what = "infinite values" if state[i] > 0 else "some values that are nan"
                remedy = "" if state[i] > 0 else ", which its encoder does not accept"
                raise ValueError(
                    f"Input X has {what} in row {i} of the part {name!r}{remedy}; make the row nan "
                    "throughout if the part is missing there, or drop it."
                )
            columns.append(state)
        return np.stack(columns, axis=1)


class Part:
    """Rows of one part of X.

    Parameters
    ----------
    values : array of shape (n_all, ...)
        In memory or in a file.
    rows : ndarray of int of shape (n_rows,), default=None
        Which of them; None means all.
    state : ndarray of shape (n_rows,), default=None
        Of each row; None finds it out.
    """

    def __init__(self, values: Any, rows: Any = None, state: Any = None):
        self.values = values
        self.rows = np.arange(len(values)) if rows is None else rows
        self.state: np.ndarray = self._look() if state is None else state

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""
        return tuple(self.values.shape[1:])

    def __getitem__(self, rows: Any) -> Part:
        return Part(self.values, self.rows[rows], self.state[rows])

    def read(self, rows: Any) -> np.ndarray:
        """Values (n, ...) of some rows in float32."""
        with np.errstate(over="ignore"):  # what single precision does not have is infinite
            return np.asarray(self.values[self.rows[rows]]).astype(np.float32, copy=False)

    def chunks(self) -> Iterator[np.ndarray]:
        """Numbers of all rows, as many at once as are to be in memory."""
        size = max(1, READ // max(1, math.prod(self.shape)))
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))

    def _look(self) -> np.ndarray:
        state = np.zeros(len(self))
        for rows in self.chunks():
            flat = self.read(rows).reshape(len(rows), -1)
            missing = np.isnan(flat)
            some = np.where(missing.all(axis=1), np.nan, -np.inf)
            own = np.where(missing.any(axis=1), some, 0.0)
            state[rows] = np.where(np.isinf(flat).any(axis=1), np.inf, own)
        return state

    def keys(self) -> np.ndarray:
        """A number from 0 to 1 for each row, equal for equal rows."""
        keys = np.empty(len(self))
        for rows in self.chunks():
            for i, values in zip(rows, self.read(rows) + np.float32(0.0), strict=True):
                digest = hashlib.blake2b(values.tobytes(), digest_size=8).digest()
                keys[i] = (int.from_bytes(digest, "little") >> 11) / 2.0**53
        return keys

    def joined(self, others: Sequence[Part]) -> Part:
        """These rows and those of others behind them."""
        state = np.concatenate([self.state, *(one.state for one in others)])
        if all(one.values is self.values for one in others):
            rows = np.concatenate([self.rows, *(one.rows for one in others)])
            return Part(self.values, rows, state)
        return Part(np.concatenate([one.read(slice(None)) for one in (self, *others)]), None, state)


class PartColumn:
    """Rows of a part as a column of tensors, of which those that are asked for are in memory.

    Parameters
    ----------
    part : Part
    dtype : torch.dtype
    device : torch.device
    once : bool, default=False
        Whether all members ask for the same rows, of which those of the first are enough.
    """

    def __init__(self, part: Part, dtype: torch.dtype, device: torch.device, *, once: bool = False):
        self.part, self.dtype, self.device, self.once = part, dtype, device, once

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Values (n_members or 1, n, ...) of rows (n_members, n) by their numbers."""
        rows = rows[:1] if self.once else rows
        own = self.part.read(rows.flatten().cpu().numpy())
        tensor = torch.as_tensor(own, dtype=self.dtype, device=self.device)
        return tensor.reshape(*rows.shape, *self.part.shape)

    def to(self, device: torch.device) -> PartColumn:
        """The same on a device."""
        return PartColumn(self.part, self.dtype, device, once=self.once)

    def joined(self, other: PartColumn) -> PartColumn:
        """These rows and those of another column behind them."""
        part = self.part.joined([other.part])
        return PartColumn(part, self.dtype, self.device, once=self.once)


class SplitParts(NamedTuple):
    """X in pieces."""

    layout: Layout
    table: Any  # plain columns as the user gave them; None if there are none or all are missing
    parts: tuple[Part, ...]  # in the order of the layout
    n_rows: int


def split_parts(X: Any, encoder: Any, layout: Layout | None) -> SplitParts:
    """Plain columns, and the parts that go through an encoder.

    Parameters
    ----------
    X : array-like, or dict or sequence of these
    encoder : object
        The parameter of the estimator.
    layout : Layout or None
        That of `fit`; None makes one, as goes with `encoder`.
    """
    known = layout if layout is not None else _layout_of(X, encoder)
    values = _values_by_name(X, known, is_new=layout is None)
    given = {name: value for name, value in values.items() if value is not None}
    n_rows = _n_rows(given)
    shapes = dict(known.shapes)
    parts = []
    for name, shape in known.shapes.items():
        value = values[name]
        if value is None:
            nothing = np.broadcast_to(np.float32(np.nan), (1, *shape))
            rows = np.zeros(n_rows, dtype=int)
            parts.append(Part(nothing, rows, np.full(n_rows, np.nan)))
            continue
        array = _array_of(name, value)
        if layout is None:
            shapes[name] = array.shape[1:]
        elif array.shape[1:] != shape:
            raise ValueError(_other_shape(name, array.shape, shape))
        parts.append(Part(array))
    table, widths = _plain_table(values, known, n_rows, is_new=layout is None)
    return SplitParts(replace(known, shapes=shapes, plain=widths), table, tuple(parts), n_rows)


def encoders_by_part(encoder: Any, layout: Layout) -> dict[str, Any]:
    """Encoder of each part that has one."""
    several = {WHOLE: encoder} if layout.kind == "array" else encoders_by_name(encoder)
    return {name: one for name, one in several.items() if one is not None}


def encoders_by_name(encoder: Any) -> dict[str, Any]:
    """What the user gave for each part, None where that is nothing; empty if it is one for all."""
    if isinstance(encoder, Mapping):
        return {str(name): one for name, one in encoder.items()}
    if isinstance(encoder, (tuple, list)):
        return {str(i): one for i, one in enumerate(encoder)}
    return {}


def is_parts(X: Any) -> bool:
    """Whether X is a dict of parts."""
    return isinstance(X, Mapping) and not hasattr(X, "shape")  # unlike a sparse matrix


def n_rows_of(X: Any) -> int:
    """Rows of X, which may be a dict or a sequence of parts."""
    if is_parts(X):
        return n_rows_of(next(one for one in X.values() if one is not None))
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def take_rows(X: Any, rows: np.ndarray, layout: Layout) -> Any:
    """Some rows of X, which is made of parts."""
    if layout.kind == "array":
        return _rows(X, rows)
    if layout.kind == "dict":
        return {name: None if one is None else _rows(one, rows) for name, one in X.items()}
    return [None if one is None else _rows(one, rows) for one in X]


def _rows(values: Any, rows: np.ndarray) -> Any:
    values = as_table(values)
    return values.iloc[rows] if hasattr(values, "iloc") else np.asarray(values)[rows]


def _layout_of(X: Any, encoder: Any) -> Layout:
    """How X is given, which must go with how encoders are."""
    named = is_parts(X)
    own = encoders_by_name(encoder)
    if isinstance(encoder, Mapping):
        if not named:
            raise TypeError(
                f"encoder is a dict, so that X must be one of parts with the same names, got "
                f"{type(X).__name__}."
            )
        names = [str(name) for name in X]
        if unknown := sorted(own.keys() - set(names)):
            raise ValueError(
                f"encoder names the part {unknown[0]!r}, but X has {', '.join(map(repr, names))}."
            )
        kind = "dict"
    elif isinstance(encoder, (tuple, list)):
        if not isinstance(X, (tuple, list)) or len(X) != len(encoder):
            found = f"{len(X)}" if isinstance(X, (tuple, list)) else type(X).__name__
            raise ValueError(
                f"encoder has {len(encoder)} entries, so that X must be a tuple or list of as many "
                f"parts, got {found}."
            )
        names, kind = list(own), "list"
    else:
        if named:
            raise TypeError(
                "encoder is one for all of X, which is a dict of parts; give a dict of encoders by "
                "the names of parts."
            )
        return Layout("array", {WHOLE: ()}, {})
    encoded = [name for name in names if own.get(name) is not None]
    return Layout(
        kind, dict.fromkeys(encoded, ()), {name: 0 for name in names if name not in encoded}
    )


def _values_by_name(X: Any, layout: Layout, *, is_new: bool) -> dict[str, Any]:
    """What X has of each part, None for nothing."""
    if layout.kind == "array":
        if is_parts(X):
            raise TypeError("X is a dict of parts, but was one array in fit.")
        return {WHOLE: X}
    if layout.kind == "list":
        names = sorted(layout.names, key=int)
        if not isinstance(X, (tuple, list)) or len(X) != len(names):
            raise ValueError(
                f"X must be a tuple or list of {len(names)} parts as in fit, with None for one "
                f"that is missing, got {type(X).__name__}."
            )
        values = dict(zip(names, X, strict=True))
    else:
        if not is_parts(X):
            raise TypeError(f"X must be a dict of parts as in fit, got {type(X).__name__}.")
        own = {str(name): value for name, value in X.items()}
        if unknown := [name for name in own if name not in layout.names]:
            raise ValueError(
                f"X has the part {unknown[0]!r}, which fit did not see; it saw "
                f"{', '.join(map(repr, layout.names))}."
            )
        values = {name: own.get(name) for name in layout.names}
    if is_new and (absent := [name for name in layout.names if values[name] is None]):
        raise ValueError(f"X has no values of the part {absent[0]!r}, which fit must see.")
    if all(value is None for value in values.values()):
        raise ValueError("X has no part at all, so that nobody knows how many rows it has.")
    return values


def _n_rows(given: Mapping[str, Any]) -> int:
    """Rows of all parts, which must be as many."""
    counts = {name: n_rows_of(value) for name, value in given.items()}
    first = next(iter(counts))
    for name, count in counts.items():
        if count != counts[first]:
            raise ValueError(
                f"X has {count} rows in the part {name!r}, but {counts[first]} in {first!r}; they "
                "must match."
            )
    return counts[first]


def _array_of(name: str, value: Any) -> np.ndarray:
    """Numbers of a part, in memory or in a file."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    array = without_mask(value)
    try:
        array = array if isinstance(array, np.ndarray) else np.asarray(array)
    except ValueError as error:
        raise ValueError(
            f"X has rows of different shapes in the part {name!r}; pad them with nan."
        ) from error
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"X must be numbers in the part {name!r}, which goes through an encoder, got "
            f"{array.dtype}."
        )
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise ValueError(
            f"X must have two dimensions or more in the part {name!r}, rows first, got the shape "
            f"{array.shape}."
        )
    return array


def _other_shape(name: str, found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    text = ", ".join(map(str, shape))
    message = (
        f"X must have the shape (n_samples, {text}) in the part {name!r} as in fit, got {found}"
    )
    if found == shape:
        return f"{message}; one observation x_o goes in as x_o[None]."
    return f"{message}."


def _plain_table(
    values: Mapping[str, Any], layout: Layout, n_rows: int, *, is_new: bool
) -> tuple[Any, dict[str, int]]:
    """Plain columns side by side, and how many there are of each part."""
    tables = {name: as_table(values[name]) for name in layout.plain}
    if not is_new and all(table is None for table in tables.values()):
        return None, layout.plain
    if len(tables) == 1:
        ((name, table),) = tables.items()
        shape = np.shape(table)
        return table, {name: shape[1] if len(shape) > 1 else 0}
    arrays, widths = [], {}
    for name, table in tables.items():
        if is_frame(table):
            raise TypeError(
                f"X has {len(tables)} parts of plain columns, of which {name!r} is a frame; join "
                "their columns in one frame."
            )
        shape = np.shape(table)
        if table is None:
            array = np.full((n_rows, layout.plain[name]), np.nan)
        elif len(shape) != 2:
            raise ValueError(
                f"X must have two dimensions in the part {name!r}, which has no encoder, got the "
                f"shape {shape}."
            )
        else:
            array = np.asarray(table)
        widths[name] = array.shape[1]
        if not is_new and widths[name] != layout.plain[name]:
            raise ValueError(
                f"X has {widths[name]} columns in the part {name!r}, but fit saw "
                f"{layout.plain[name]}."
            )
        arrays.append(array)
    return (np.concatenate(arrays, axis=1) if arrays else None), widths
