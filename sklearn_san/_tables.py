"""Tables of other packages: what users pass, as an array or as a frame of named columns.

==================  =========================================================================
what it is          what becomes of it
==================  =========================================================================
pandas, polars      stays as it is, and is read column by column where it is more than numbers
astropy             `Frame`, with nan for what is masked, and the units of the columns
pyarrow             `Frame`
structured arrays   `Frame`, such as those of FITS and HDF5 files
xarray DataArray    `Frame` if its second dimension has names, else an array
masked arrays       array with nan, or None, for what is masked
==================  =========================================================================

All are told apart by their protocol; none of the packages is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Frame:
    """As much of a pandas frame as the estimator looks at.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n_rows,)
    units : mapping of str to str, default=None
        Of columns that have one.
    categories : sequence of str, default=()
        Columns whose type says that they are categories.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        units: Mapping[str, str] | None = None,
        categories: Sequence[str] = (),
    ):
        self._arrays = list(columns.values())
        self.columns = list(columns)
        self.units = dict(units or {})
        self.categories = list(categories)
        self.shape = (len(self._arrays[0]) if columns else 0, len(self._arrays))
        self.iloc = self

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            rows, j = key
            return self._arrays[j][rows]
        columns = dict(zip(self.columns, (array[key] for array in self._arrays), strict=True))
        return Frame(columns, self.units, self.categories)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        kinds = {array.dtype.kind in "iufb" for array in self._arrays}
        arrays = self._arrays if len(kinds) == 1 else [a.astype(object) for a in self._arrays]
        return np.stack(arrays, axis=1).astype(dtype)

    def select(self, columns: Sequence[str]) -> Frame:
        """Some of the columns."""
        chosen = {name: self._arrays[self.columns.index(name)] for name in columns}
        return Frame(chosen, self.units, self.categories)


def as_table(values: Any, name: str = "X") -> Any:
    """Array, or frame of named columns, of what users pass.

    Parameters
    ----------
    values : object
    name : str, default="X"
        For messages.

    Raises
    ------
    TypeError
        For tables whose rows no other tool could choose.
    """
    if hasattr(values, "colnames"):  # which has an iloc of its own kind
        return _of_astropy(values, name)
    if values is None or isinstance(values, Frame) or hasattr(values, "iloc"):
        return values
    if isinstance(values, Mapping) and not hasattr(values, "shape"):  # unlike a sparse matrix
        kind = "an xarray Dataset" if hasattr(values, "data_vars") else "a dict of columns"
        raise TypeError(f"{name} is {kind}; make it a frame, such as pandas.DataFrame({name}).")
    if type(values).__name__ == "LazyFrame":
        raise TypeError(f"{name} is a LazyFrame; pass {name}.collect().")
    if isinstance(values, (list, tuple)):
        return values
    if hasattr(values, "column_names") and hasattr(values, "to_pylist"):
        return _of_arrow(values)
    if getattr(getattr(values, "dtype", None), "names", None):
        names = values.dtype.names
        return Frame({n: _column(values[n], name, n) for n in names}, _units(values, names))
    if hasattr(values, "dims") and hasattr(values, "coords"):
        return _of_xarray(values)
    return without_mask(values)


def without_mask(values: Any) -> Any:
    """Masked values as nan, or None; numpy and scikit-learn show what is under the mask."""
    if hasattr(values, "unmasked"):  # of astropy
        values = np.ma.MaskedArray(np.asarray(values.unmasked), np.asarray(values.mask))
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if values.dtype.kind in "iuf":
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.ma.filled(values.astype(object), None)


def is_frame(X: Any) -> bool:
    """Whether X is a frame of pandas or polars, or behaves like one."""
    return hasattr(X, "columns") and (hasattr(X, "iloc") or hasattr(X, "get_column"))


def places_of(
    names: Sequence[str], own: Sequence[str], before: str, what: str, *, unnamed: bool
) -> list[int]:
    """Where the columns `names` stand in a frame with the columns `own`.

    Parameters
    ----------
    names, own : sequence of str
    before : str
        What knows `names`, for messages.
    what : str
        Name of the frame, for messages.
    unnamed : bool
        Whether `names` stand for none, so that columns are taken as they come.
    """
    if unnamed or list(own) == list(names):
        return list(range(len(own)))
    if sorted(own) != sorted(names) or len(set(own)) < len(own):
        raise ValueError(
            f"{what} has the columns {', '.join(own)}, but {before} {', '.join(names)}; rename or "
            "choose the columns."
        )
    return [list(own).index(name) for name in names]


def are_made_up(names: Sequence[str]) -> bool:
    """Whether names of outputs are those of columns that have none."""
    return list(names) == [f"y{d}" for d in range(len(names))]


def in_order(y: Any, names: Sequence[str], before: str = "the density has") -> Any:
    """Targets as `as_table` gives them; the columns of a frame in the order of `names`."""
    y = as_table(y, "y")
    if not is_frame(y):
        return y
    own = [str(name) for name in y.columns]
    places = places_of(names, own, before, "y", unnamed=are_made_up(names))
    if places == list(range(len(own))):
        return y
    if hasattr(y, "get_column") or isinstance(y, Frame):
        return y.select([y.columns[place] for place in places])
    return y.iloc[:, places]


def units_of(values: Any) -> dict[str, str]:
    """Units of the columns of a table, or of an array under the name ''."""
    if isinstance(values, Frame):
        return values.units
    unit = "" if hasattr(values, "iloc") else _unit(values)
    return {"": unit} if unit else {}


def check_units(units: Mapping[str, str], known: Mapping[str, str], name: str) -> None:
    """Raise for units other than those that were there before.

    Parameters
    ----------
    units, known : dict of str to str
        Now and in `fit`, as of `units_of`.
    name : str
        Of the table, for messages.
    """
    for column, unit in units.items():
        before = known.get(column, unit)
        if before != unit:
            what = f"column {column!r} of {name}" if column else name
            raise ValueError(
                f"{what} has the unit {unit}, but had {before} in fit; convert it to {before}."
            )


def _of_astropy(table: Any, name: str) -> Frame:
    units = {n: unit for n in table.colnames if (unit := _unit(table[n]))}
    return Frame({n: _column(table[n], name, n) for n in table.colnames}, units)


def _of_arrow(table: Any) -> Frame:
    columns, categories = {}, []
    for name in table.column_names:
        column = table.column(name)
        if str(column.type).startswith("dictionary"):
            categories.append(name)
            columns[name] = np.array(column.to_pylist(), dtype=object)
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return Frame(columns, categories=categories)


def _of_xarray(values: Any) -> Any:
    names = None
    if len(values.dims) == 2 and values.dims[1] in values.coords:
        names = np.asarray(values.coords[values.dims[1]])
    array = np.asarray(values)
    if names is None or names.dtype.kind not in "UOT":
        return array
    return Frame(dict(zip(map(str, names), array.T, strict=True)))


def _column(values: Any, name: str, column: str) -> np.ndarray:
    """Column of a table of the field: without mask and unit, text as such, native bytes."""
    if not isinstance(values, np.ndarray):
        raise TypeError(
            f"{name} has the column {column!r} of {type(values).__name__}; make it numbers."
        )
    array = np.asarray(without_mask(getattr(values, "value", values)))
    if array.ndim != 1:
        raise ValueError(
            f"{name} has the column {column!r} with {array.shape[1:]} values in each row; make "
            "them columns of their own."
        )
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype == object:
        return np.array([v.decode() if isinstance(v, bytes) else v for v in array], dtype=object)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _unit(values: Any) -> str:
    unit = getattr(values, "unit", None) if isinstance(values, np.ndarray) else None
    return "" if unit is None else str(unit)


def _units(values: Any, names: Sequence[str]) -> dict[str, str]:
    """Units of the columns of a table in a FITS file."""
    columns = getattr(values, "columns", None)
    units = getattr(columns, "units", None)
    return {} if units is None else {n: u for n, u in zip(names, units, strict=True) if u}
