"""How tables are kept in files: what all formats share, CSV and Parquet.

==========================  =================================================================
`Table`, `Request`          columns that were read, and which ones to read
`About`                     what a file tells beside its columns: units, model, seed
`read_csv`, `write_csv`     cells of text, in pandas where it is there and rows are regular
`read_parquet`, ...         columns with types of their own, by pyarrow
`count_rows`                rows of a Parquet file
==========================  =================================================================

Only the columns that are asked for are held. Missing cells are nan among numbers and None among
text. Writers take an iterable of pieces, one below the other, and hold one at a time, but for FITS
and VOTable. A piece is a dict of columns, (n_rows,) or, but for CSV, (n_rows, n_values).
"""

from __future__ import annotations

import csv
import difflib
import gzip
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, NoReturn

import numpy as np

Columns = dict[str, np.ndarray]

#: Cells of CSV files that hold nothing.
MISSING = frozenset(
    ("", "--", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "Null", "null", "None", "none", "masked")
)
#: Rows of a CSV file that are converted at once without pandas.
N_ROWS = 20_000
#: Whole numbers up to this size are exact as floats.
_EXACT = 2**53
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Table:
    """Columns that were read from a file.

    Parameters
    ----------
    path : str
    n_rows : int
    numbers : dict of str to ndarray of shape (n_rows,)
        Float64, nan where a cell is missing.
    values : dict of str to ndarray of shape (n_rows,)
        Whole numbers, floats or booleans if all cells are; else, with dtype object, text and None.
    verbatim : dict of str to ndarray of shape (n_rows,)
        Cells of a CSV file as their text; of other files the same as `values`.
    units : dict of str to str
        Of the columns that have one.
    """

    path: str
    n_rows: int
    numbers: Columns = field(default_factory=dict)
    values: Columns = field(default_factory=dict)
    verbatim: Columns = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)


class Request(NamedTuple):
    """Names of the columns to be read, by what becomes of them; see `Table`.

    `group` is that of an HDF5 file, None for the one that has the columns.
    """

    numbers: Sequence[str] = ()
    values: Sequence[str] = ()
    verbatim: Sequence[str] = ()
    group: str | None = None

    @property
    def names(self) -> list[str]:
        """All names, each once."""
        return list(dict.fromkeys((*self.numbers, *self.values, *self.verbatim)))


@dataclass(frozen=True)
class About:
    """What a file tells beside its columns, where its format has a place for it.

    Parameters
    ----------
    facts : dict of str to str or int
        Of the whole file, such as ``{"seed": 0}``; names of eight letters at most.
    columns : dict of str to dict of str to str
        Of a column, any of "units", "description" and "grid", the arguments of
        ``numpy.linspace`` for the values at which a density was taken.
    group : str, default=None
        Of the table in an HDF5 file; None is the root.
    """

    facts: Mapping[str, str | int] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    group: str | None = None


NOTHING = About()


def check_columns(path: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise unless each of `names` is a column of the file once."""
    counts = Counter(known)
    for name in names:
        if counts[name] == 0:
            raise ValueError(
                f"{path!r} has no column {name!r}{suggestion(name, known)}; its columns are "
                f"{listing(known)}."
            )
        if counts[name] > 1:
            raise ValueError(f"{path!r} has {counts[name]} columns {name!r}; rename them.")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Question that names what may have been meant, or nothing."""
    spelled = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.7)
    return f" (did you mean {spelled[close[0]]!r}?)" if close else ""


def listing(names: Sequence[str], most: int = 20) -> str:
    """Names for a message, not too many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def has_pandas() -> bool:
    """Whether pandas is installed; all works without, CSV files are read ten times slower."""
    return importlib.util.find_spec("pandas") is not None


# CSV


def read_csv(path: str, request: Request) -> Table:
    """Read some columns; the delimiter is what stands most often in the header."""
    try:
        with _open_text(path) as file:
            first = file.readline()
            delimiter = max(",;\t|", key=first.count)
            names = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
        check_columns(path, request.names, names)
        read = _read_with_pandas if _is_regular(path, delimiter, len(names)) else _read_row_by_row
        columns, cells = read(path, request, names, delimiter)
    except UnicodeDecodeError:
        raise ValueError(f"{path!r} is no text in UTF-8; convert it, or mend its ending.") from None
    except (csv.Error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path!r} cannot be read: {error}.") from None
    n_rows = max(map(len, columns.values()), default=0) or max(map(len, cells.values()), default=0)
    values = {name: _typed([_or_none(cell) for cell in cells[name]]) for name in request.values}
    verbatim = {name: np.array(cells[name], dtype=object) for name in request.verbatim}
    return Table(path, n_rows, columns, values, verbatim)


def _open_text(path: str, mode: str = "rt") -> Any:
    opener: Any = gzip.open if path.endswith(".gz") else open
    if "b" in mode:
        return opener(path, mode)
    return opener(path, mode, encoding="utf-8-sig" if "r" in mode else "utf-8", newline="")


def _is_regular(path: str, delimiter: str, n_columns: int) -> bool:
    """Whether pandas is there and takes no row for another: it pads and cuts those that are."""
    if not has_pandas():
        return False
    mark, n = delimiter.encode(), n_columns - 1
    with _open_text(path, "rb") as file:
        return all(line.count(mark) == n and b'"' not in line for line in file if line.strip())


def _read_with_pandas(
    path: str, request: Request, names: list[str], delimiter: str
) -> tuple[Columns, dict[str, list[str]]]:
    """Same as `_read_row_by_row`, and much faster."""
    import pandas as pd

    text = list(dict.fromkeys((*request.values, *request.verbatim)))
    numbers = [name for name in request.numbers if name not in text]
    try:
        frame = pd.read_csv(
            path,
            sep=delimiter,
            usecols=[names.index(name) for name in request.names],
            index_col=False,
            skipinitialspace=True,
            encoding="utf-8-sig",
            dtype={name: np.float64 if name in numbers else str for name in request.names},
            keep_default_na=False,
            na_values={name: sorted(MISSING) for name in numbers},
        )
    except ValueError:  # found again with its row, or read after all
        return _read_row_by_row(path, request, names, delimiter)
    cells = {name: frame[name].tolist() for name in text}
    columns = {name: frame[name].to_numpy() for name in numbers}
    for name in request.numbers:
        if name in cells:
            columns[name] = _parsed(cells[name], path, name, delimiter, 0)
    return columns, cells


def _read_row_by_row(
    path: str, request: Request, names: list[str], delimiter: str
) -> tuple[Columns, dict[str, list[str]]]:
    """Columns of numbers, and the text in the cells of the others."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in request.numbers}
    cells: dict[str, list[str]] = {name: [] for name in (*request.values, *request.verbatim)}
    place = {name: names.index(name) for name in request.names}
    n_read = 0
    with _open_text(path) as file:
        rows = filter(None, csv.reader(file, delimiter=delimiter, skipinitialspace=True))
        next(rows)
        while some := list(islice(rows, N_ROWS)):
            for i, row in enumerate(some):
                if len(row) != len(names):
                    raise ValueError(
                        f"Line {_line(path, delimiter, n_read + i)} of {path!r} has {len(row)} "
                        f"cells, but there are {len(names)} columns; mend or remove it."
                    )
            columns = list(zip(*some, strict=True))
            for name, done in parts.items():
                done.append(_parsed(columns[place[name]], path, name, delimiter, n_read))
            for name, texts in cells.items():
                texts.extend(columns[place[name]])
            n_read += len(some)
    whole = {n: np.concatenate(done) if done else np.empty(0) for n, done in parts.items()}
    return whole, cells


def _parsed(
    cells: Sequence[str], path: str, name: str, delimiter: str, first_row: int
) -> np.ndarray:
    """Numbers in cells of text; what stands where is for messages."""
    with suppress(ValueError):
        return np.array(list(map(float, cells)))
    numbers = np.empty(len(cells))
    for i, cell in enumerate(cells):
        word = cell.strip()
        try:
            numbers[i] = np.nan if word in MISSING else _BOOLEANS.get(word.lower(), word)
        except ValueError:
            raise ValueError(
                f"Column {name!r} of {path!r} has {cell!r} in line "
                f"{_line(path, delimiter, first_row + i)}, which is no number; leave missing "
                "values blank, and give `fit` labels as --categorical."
            ) from None
    return numbers


def _line(path: str, delimiter: str, row: int) -> int:
    """Line of a file, counted from 1, in which a row ends, counted from 0 after the header."""
    with _open_text(path) as file:
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        next(islice(filter(None, reader), row + 1, None))
        return reader.line_num


def _or_none(cell: str) -> str | None:
    word = cell.strip()
    return None if word in MISSING else word


def _typed(cells: Sequence[str | None]) -> np.ndarray:
    """Whole numbers, floats or booleans where all cells are, else text; None is missing."""
    present = [cell for cell in cells if cell is not None]
    complete = len(present) == len(cells)
    if present and all(map(_WHOLE.fullmatch, present)):
        with suppress(OverflowError):
            whole = np.array(list(map(int, present)), dtype=np.int64)
            return whole_numbers(whole, [cell is None for cell in cells])
        return np.array(cells, dtype=object)
    with suppress(ValueError):
        return np.array([np.nan if cell is None else float(cell) for cell in cells])
    if complete and all(cell.lower() in _BOOLEANS for cell in present):
        return np.array([_BOOLEANS[cell.lower()] for cell in present])
    return np.array(cells, dtype=object)


def whole_numbers(present: np.ndarray, missing: Sequence[bool] | np.ndarray) -> np.ndarray:
    """Whole numbers with gaps, as floats if these are exact, else as text."""
    gaps = np.asarray(missing, dtype=bool)
    if not gaps.any():
        return present
    exact = np.abs(present).max(initial=0) <= _EXACT
    column = np.full(len(gaps), np.nan if exact else None, dtype=np.float64 if exact else object)
    column[~gaps] = present if exact else present.astype(str)
    return column


def write_csv(
    path: str, pieces: Iterable[Columns], about: About = NOTHING, opener: Any = open
) -> None:
    """Write a new file, which tells nothing beside its columns."""
    with opener(path, "xt", encoding="utf-8", newline="") as file:
        write_rows(file, pieces)


def write_rows(file: Any, pieces: Iterable[Columns]) -> None:
    """Write a header and rows to a file that is open."""
    writer = csv.writer(file, lineterminator="\n")
    for i, columns in enumerate(pieces):
        if i == 0:
            writer.writerow(columns)
        writer.writerows(zip(*map(cells_of, columns.values()), strict=True))


def cells_of(column: np.ndarray) -> list[Any]:
    """Values of Python, dates as text: floats come back to the last bit."""
    return (column.astype(str) if column.dtype.kind in "mM" else column).tolist()


# Parquet


def read_parquet(path: str, request: Request) -> Table:
    """Read some columns."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            check_columns(path, request.names, file.schema_arrow.names)
            data = file.read(columns=request.names)
    except pyarrow.ArrowException as error:
        foreign(path, "Parquet file", error)
    columns = {name: _from_arrow(data[name].combine_chunks()) for name in request.names}
    notes = {name: data.schema.field(name).metadata or {} for name in request.names}
    units = {name: note[b"units"].decode() for name, note in notes.items() if b"units" in note}
    return as_table(path, columns, request, units)


def count_rows(path: str) -> int:
    """Rows of a Parquet file, of which only the end is read."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        return parquet.read_metadata(path).num_rows
    except pyarrow.ArrowException as error:
        foreign(path, "Parquet file", error)


def _from_arrow(column: Any) -> np.ndarray:
    import pyarrow.types as kinds

    if kinds.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if kinds.is_decimal(column.type):
        column = column.cast("float64")
    if kinds.is_integer(column.type):
        present = column.drop_null().to_numpy(zero_copy_only=False)
        return whole_numbers(present, column.is_null().to_numpy(zero_copy_only=False))
    if kinds.is_floating(column.type) or kinds.is_temporal(column.type):
        return column.to_numpy(zero_copy_only=False)
    if kinds.is_boolean(column.type) and column.null_count == 0:
        return column.to_numpy(zero_copy_only=False)
    return np.array(column.to_pylist(), dtype=object)


def write_parquet(path: str, pieces: Iterable[Columns], about: About = NOTHING) -> None:
    """Write a new file, with a group of rows for each piece."""
    import pyarrow
    import pyarrow.parquet as parquet

    writer = None
    try:
        for columns in pieces:
            arrays = {name: _to_arrow(column) for name, column in columns.items()}
            if writer is None:
                fields = [
                    pyarrow.field(name, array.type, metadata=about.columns.get(name))
                    for name, array in arrays.items()
                ]
                facts = {key: str(value) for key, value in about.facts.items()}
                writer = parquet.ParquetWriter(path, pyarrow.schema(fields, facts))
            writer.write_table(pyarrow.table(arrays, schema=writer.schema))
    finally:
        if writer is not None:
            writer.close()


def _to_arrow(column: np.ndarray) -> Any:
    import pyarrow

    if column.ndim > 1:
        return pyarrow.FixedSizeListArray.from_arrays(column.ravel(), column.shape[1])
    is_text = column.dtype.kind in "OUS"
    return pyarrow.array(column.tolist(), pyarrow.string()) if is_text else pyarrow.array(column)


# Files that know the types of their columns


def as_table(path: str, columns: Columns, request: Request, units: dict[str, str]) -> Table:
    """Table from columns of such a file."""
    n_rows = len(next(iter(columns.values())))
    for name in request.numbers:
        if columns[name].dtype.kind not in "iufb":
            raise ValueError(
                f"Column {name!r} of {path!r} holds no numbers; give `fit` labels as --categorical."
            )
    return Table(
        path,
        n_rows,
        {name: columns[name].astype(np.float64, copy=False) for name in request.numbers},
        {name: columns[name] for name in request.values},
        {name: columns[name] for name in request.verbatim},
        units,
    )


def check_shape(path: str, name: str, shape: tuple[int, ...]) -> None:
    """Raise unless a column has one value in each row."""
    if len(shape) != 1:
        raise ValueError(
            f"Column {name!r} of {path!r} has {shape[1:]} numbers in each row; write them as "
            "columns of their own."
        )


def as_text(column: np.ndarray) -> list[str]:
    """Cells of a column that is text or dates, empty where they are missing."""
    return ["" if cell is None else str(cell) for cell in cells_of(column)]


def foreign(path: str, what: str, error: Exception) -> NoReturn:
    """Raise for a file that is not what its ending says."""
    raise ValueError(f"{path!r} is no {what}, or is damaged ({error}).") from error
