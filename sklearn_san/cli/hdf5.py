"""Tables in HDF5 files, by h5py: a group of equally long datasets, one for each column.

That is the layout of tables_io and of RAIL, whose group is often called "photometry". Both ways go
piece by piece. Attributes of a dataset hold its units, those of the file the facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .formats import (
    NOTHING,
    About,
    Columns,
    Request,
    Table,
    as_table,
    as_text,
    check_columns,
    check_shape,
    foreign,
    listing,
)

#: Rows that are read at once, and bytes of a chunk of the file.
N_ROWS, N_BYTES = 2**16, 2**18


def read_hdf5(path: str, request: Request) -> Table:
    """Read some columns of the only group that has all of them, or of the one asked for."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        foreign(path, "HDF5 file", error)
    with file:
        table = file[_group(path, file, request)]
        data = {name: table[name] for name in request.names}
        for name, column in data.items():
            check_shape(path, name, column.shape)
        if len({len(column) for column in data.values()}) > 1:
            lengths = listing([f"{name} {len(column)}" for name, column in data.items()])
            raise ValueError(f"{path!r} has columns of several lengths: {lengths}.")
        columns = {name: _read(column) for name, column in data.items()}
        units = {name: unit for name, column in data.items() if (unit := _unit(column))}
    return as_table(path, columns, request, units)


def _group(path: str, file: Any, request: Request) -> str:
    """Name of the group with the columns that are asked for; the root is "/"."""
    import h5py

    columns: dict[str, list[str]] = {}

    def remember(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape:
            group, _, column = name.rpartition("/")
            columns.setdefault(group or "/", []).append(column)

    file.visititems(remember)
    if not columns:
        raise ValueError(f"{path!r} holds no table: none of its groups has a column.")
    if request.group is not None:
        group = request.group.strip("/") or "/"
        if group not in columns:
            raise ValueError(
                f"{path!r} has no table {group!r}; its tables are {listing(list(columns))}."
            )
        check_columns(path, request.names, columns[group])
        return group
    found = [group for group, names in columns.items() if set(request.names) <= set(names)]
    if len(found) > 1:
        raise ValueError(
            f"{path!r} has these columns in the groups {listing(found)}; choose one with --group."
        )
    if not found:
        most = max(columns.values(), key=lambda names: len(set(names) & set(request.names)))
        check_columns(path, request.names, most)
    return found[0]


def _read(dataset: Any) -> np.ndarray:
    """Whole column in the byte order of this machine; empty text is missing."""
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.array([cell or None for cell in dataset.asstr()[()]], dtype=object)
    values = np.empty(len(dataset), dataset.dtype.newbyteorder("="))
    for start in range(0, len(values), N_ROWS):
        values[start : start + N_ROWS] = dataset[start : start + N_ROWS]
    return values


def _unit(dataset: Any) -> str:
    unit = dataset.attrs.get("units", dataset.attrs.get("unit", ""))
    return unit.decode() if isinstance(unit, bytes) else str(unit)


def write_hdf5(path: str, pieces: Iterable[Columns], about: About = NOTHING) -> None:
    """Write a new file."""
    import h5py

    with h5py.File(path, "x") as file:
        file.attrs.update(about.facts)
        group = file.require_group(about.group or "/")
        for columns in pieces:
            for name, column in columns.items():
                if name in group:
                    _append(group[name], _plain(column))
                else:
                    _create(group, name, _plain(column)).attrs.update(about.columns.get(name, {}))


def _plain(column: np.ndarray) -> np.ndarray:
    """What h5py can write: numbers as they are, text as objects."""
    return column if column.dtype.kind in "iufb" else np.array(as_text(column), dtype=object)


def _create(group: Any, name: str, values: np.ndarray) -> Any:
    """Dataset that can grow, with the first values."""
    import h5py

    if "/" in name or name in (".", ""):
        raise ValueError(f"Column {name!r} cannot be a dataset of HDF5; rename it.")
    n_rows = max(1, N_BYTES // max(1, values[:1].nbytes))
    return group.create_dataset(
        name,
        data=values,
        dtype=h5py.string_dtype() if values.dtype == object else values.dtype,
        maxshape=(None, *values.shape[1:]),
        chunks=(min(n_rows, max(1, len(values))), *values.shape[1:]),
    )


def _append(dataset: Any, values: np.ndarray) -> None:
    n_before = len(dataset)
    dataset.resize(n_before + len(values), axis=0)
    dataset[n_before:] = values
