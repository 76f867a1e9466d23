"""Tables of astronomy, by astropy: FITS and VOTable, the first table of a file, with units.

Masked values, and null of whole numbers, are missing; units are spelled as astropy does,
whatever the file says. Both are written with all rows at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    whole_numbers,
)

#: Keywords of a column in a FITS table, before its number.
_KEYWORDS = {"units": "TUNIT", "description": "TCOMM", "grid": "TGRID"}


def read_fits(path: str, request: Request) -> Table:
    """Read some columns of the first table in the file."""
    from astropy.io import fits
    from astropy.units import Unit

    try:
        with fits.open(path) as file:
            tables = [unit for unit in file if isinstance(unit, (fits.BinTableHDU, fits.TableHDU))]
            if not tables:
                raise ValueError(f"{path!r} holds no table, only images.")
            table = tables[0]
            check_columns(path, request.names, table.columns.names)
            columns = {name: _from_fits(path, table, name) for name in request.names}
            texts = {name: text for name in columns if (text := table.columns[name].unit)}
    except OSError as error:
        foreign(path, "FITS file", error)
    units = {name: str(Unit(text, parse_strict="silent")) for name, text in texts.items()}
    return as_table(path, columns, request, units)


def _from_fits(path: str, table: Any, name: str) -> np.ndarray:
    """Copy of a column, in the byte order of this machine."""
    values = np.asarray(table.data[name])
    check_shape(path, name, values.shape)
    if values.dtype.kind in "US":
        return _text(values)
    values = values.astype(values.dtype.newbyteorder("="))
    null = table.columns[name].null
    if null is None or values.dtype.kind not in "iu":
        return values
    return whole_numbers(values[values != null], values == null)


def _text(values: np.ndarray) -> np.ndarray:
    cells = (str(cell).rstrip() for cell in values)
    return np.array([cell or None for cell in cells], dtype=object)


def _joined(pieces: Iterable[Columns]) -> Columns:
    parts = list(pieces)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_fits(
    path: str, pieces: Iterable[Columns], about: About = NOTHING, opener: Any = open
) -> None:
    """Write a new file."""
    from astropy.io import fits

    columns = {name: _to_fits(name, column) for name, column in _joined(pieces).items()}
    dtype = [(name, column.dtype, column.shape[1:]) for name, column in columns.items()]
    records = np.rec.fromarrays(list(columns.values()), dtype=np.dtype(dtype))
    table = fits.BinTableHDU(records)
    table.header.update({key.upper(): _ascii(value) for key, value in about.facts.items()})
    for i, name in enumerate(columns, start=1):
        for kind, text in about.columns.get(name, {}).items():
            table.header[f"{_KEYWORDS[kind]}{i}"] = _ascii(text)
    with opener(path, "wb") as file:  # astropy knows no "xb"
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(file)


def _to_fits(name: str, column: np.ndarray) -> np.ndarray:
    if column.dtype.kind in "iufb":
        return column
    cells = as_text(column)
    if not all(cell.isascii() for cell in cells):
        raise ValueError(
            f"Column {name!r} has text that is not ASCII, which no FITS table holds; write CSV or "
            "Parquet."
        )
    return np.array(cells)


def _ascii(value: str | int) -> str | int:
    """What a header may hold."""
    if isinstance(value, int):
        return value
    return value.encode("ascii", "backslashreplace").decode()


def read_votable(path: str, request: Request) -> Table:
    """Read some columns of the first table in the file."""
    from astropy.io.votable import parse

    try:
        with _tolerant():
            table = parse(path).get_first_table()
    except (OSError, ValueError, IndexError, EOFError) as error:
        foreign(path, "VOTable", error)
    check_columns(path, request.names, [one.name for one in table.fields])
    fields = {one.name: one for one in table.fields if one.name in request.names}
    columns = {name: _from_votable(path, table, fields[name]) for name in request.names}
    units = {name: str(one.unit) for name, one in fields.items() if one.unit is not None}
    return as_table(path, columns, request, units)


def _from_votable(path: str, table: Any, field: Any) -> np.ndarray:
    column = table.array[field.ID]
    check_shape(path, field.name, column.shape)
    values, mask = np.asarray(column.data), np.ma.getmaskarray(column)
    if values.dtype.kind in "OUS":
        text = _text(values)
        text[mask] = None
        return text
    if values.dtype.kind in "iu":
        return whole_numbers(values[~mask], mask)
    return np.where(mask, np.nan, values) if mask.any() else values


def write_votable(path: str, pieces: Iterable[Columns], about: About = NOTHING) -> None:
    """Write a new file, of binary numbers between tags of XML."""
    from astropy.io.votable import from_table, writeto
    from astropy.io.votable.tree import Info
    from astropy.table import Column, Table
    from astropy.units import Unit

    table, facts = Table(), {key: str(value) for key, value in about.facts.items()}
    for name, column in _joined(pieces).items():
        notes = about.columns.get(name, {})
        table[name] = Column(
            column if column.dtype.kind in "iufb" else np.array(as_text(column), dtype=object),
            unit=Unit(notes["units"], parse_strict="silent") if "units" in notes else None,
            description=notes.get("description"),
        )
        if "grid" in notes:
            facts[f"{name}_grid"] = notes["grid"]
    with _tolerant():
        file = from_table(table)
        file.resources[0].infos.extend(Info(name=key, value=one) for key, one in facts.items())
        with open(path, "wb") as stream:
            writeto(file, stream, tabledata_format="binary2")


@contextmanager
def _tolerant() -> Iterator[None]:
    """Without warnings of what the standard does not know, above all units."""
    from astropy.io.votable.exceptions import VOWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VOWarning)
        yield
