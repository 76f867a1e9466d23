"""Tables in files: columns by name, files that are written whole or not at all.

==================  =========================================================================
`read_table`        columns as arrays: numbers, values of any kind, or cells as they stand
`check_input`       whether a table may be there to be read
`check_output`      whether a file may be written, before there is anything to write
`write_table`       pieces of columns to a table
`write_array`       pieces of an array to a .npy file
==================  =========================================================================

What a file is follows from its ending; see `FORMATS`.
"""

from __future__ import annotations

import gzip
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .._files import check_writable, replacing
from . import astronomy, formats, hdf5
from .formats import About, Columns, Request, Table


class UsageError(ValueError):
    """The command line or the configuration file asks for what makes no sense."""


def read_table(
    path: str,
    *,
    numbers: Sequence[str] = (),
    values: Sequence[str] = (),
    verbatim: Sequence[str] = (),
    may_be_empty: bool = False,
    group: str | None = None,
) -> Table:
    r"""Read some columns of a table.

    Parameters
    ----------
    path : str
    numbers, values, verbatim : sequence of str, default=()
        Names of columns; see `Table` for what becomes of them.
    may_be_empty : bool, default=False
        Whether there may be no rows.
    group : str, default=None
        Group of the table in an HDF5 file; None takes the only one that has the columns.

    Returns
    -------
    Table

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the package that reads files of this kind is not installed.
    UsageError
        If tables do not end so.
    ValueError
        If the file is of another kind than its ending says, has no such column or no rows, or
        holds something else than numbers where they are asked for.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "stars.csv")
    ...     _ = path.write_text("name,mag\nVega,0.03\nSirius,\n")
    ...     table = read_table(str(path), numbers=["mag"], values=["name"])
    >>> table.numbers["mag"].tolist(), table.values["name"].tolist()
    ([0.03, nan], ['Vega', 'Sirius'])
    """
    check_input(path, group)
    table = _format(path).read(path, Request(numbers, values, verbatim, group))
    if table.n_rows == 0 and not may_be_empty:
        raise ValueError(f"{path!r} has no rows.")
    return table


def check_input(path: str, group: str | None = None) -> None:
    """Raise unless there is a file whose ending is that of tables that can be read here."""
    _check_group(path, group, "--group")
    _format(path)
    check_file(path)


def check_file(path: str) -> None:
    """Raise unless there is such a file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file {path!r}; check its name.")


def check_output(path: str, *, overwrite: bool, inputs: Sequence[str] = ()) -> None:
    """Raise unless a file may be written.

    Parameters
    ----------
    path : str
    overwrite : bool
        Whether it may take the place of another file.
    inputs : sequence of str, default=()
        Files that it must not take the place of.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError, ValueError
        Tells what stands in the way.
    """
    check_writable(path)
    if not os.path.exists(path):
        return
    for other in inputs:
        if os.path.exists(other) and os.path.samefile(other, path):
            raise ValueError(f"{path!r} is read by this command; write to another file.")
    if not overwrite:
        raise FileExistsError(f"{path!r} exists; add --overwrite to replace it.")


def write_table(path: str, pieces: Iterable[Columns], about: About = formats.NOTHING) -> None:
    """Write pieces of columns, one below the other, to a table; "-" is CSV on standard output.

    Parameters
    ----------
    path : str
        An existing file is replaced.
    pieces : iterable of dict of str to ndarray
        All with the same names. Columns of vectors, (n_rows, n_values), go into all files but CSV.
    about : About, default=NOTHING
        Units and more, for formats that have a place for it.

    Examples
    --------
    >>> write_table("-", [{"row": np.arange(2), "z": np.array([0.5, np.nan])}])
    row,z
    0,0.5
    1,nan
    """
    if path == "-":
        formats.write_rows(sys.stdout, pieces)
        return
    writer = _format(path).write
    with replacing(path) as temporary:
        writer(temporary, pieces, about)


def write_array(
    path: str, shape: tuple[int, ...], dtype: str, pieces: Iterable[np.ndarray]
) -> None:
    """Write pieces of an array, in the order of its elements, to a .npy file.

    Parameters
    ----------
    path : str
        An existing file is replaced.
    shape : tuple of int
        Of the whole array.
    dtype : str
    pieces : iterable of ndarray

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "a.npy")
    ...     write_array(path, (2, 2), "float32", [np.zeros(2), np.ones(2)])
    ...     np.load(path).tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    # Written in order, not through a memory map: a full disk is then an error and no crash.
    with replacing(path) as temporary, open(temporary, "xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype=dtype).data)


def check_format(path: str, *, with_vectors: bool = False, group: str | None = None) -> None:
    """Raise if tables with this ending, or vectors or groups in them, cannot be written here."""
    _check_group(path, group, "--out-group")
    if with_vectors and has_text_cells(path):
        endings = ", ".join(end for end in FORMATS if not has_text_cells(end))
        raise UsageError(f"{path!r} must end in one of {endings}: CSV has no columns of vectors.")
    if path != "-":
        _format(path)


@dataclass(frozen=True)
class Format:
    """How files of one kind are read and written.

    Parameters
    ----------
    read, write : callable
    module, extra : str, default=""
        What is needed for it, and the extra of the package that installs it.
    """

    read: Callable[[str, Request], Table]
    write: Callable[[str, Iterable[Columns], About], None]
    module: str = ""
    extra: str = ""


_CSV = Format(formats.read_csv, formats.write_csv)
_PARQUET = Format(formats.read_parquet, formats.write_parquet, "pyarrow", "parquet")
_FITS = Format(astronomy.read_fits, astronomy.write_fits, "astropy", "fits")
_VOTABLE = Format(astronomy.read_votable, astronomy.write_votable, "astropy", "fits")
_HDF5 = Format(hdf5.read_hdf5, hdf5.write_hdf5, "h5py", "hdf5")
#: Formats by the ending of the file.
FORMATS = {
    ".csv": _CSV,
    ".csv.gz": replace(_CSV, write=partial(formats.write_csv, opener=gzip.open)),
    ".parquet": _PARQUET,
    ".fits": _FITS,
    ".fit": _FITS,
    ".fits.gz": replace(_FITS, write=partial(astronomy.write_fits, opener=gzip.open)),
    ".vot": _VOTABLE,
    ".votable": _VOTABLE,
    ".hdf5": _HDF5,
    ".h5": _HDF5,
}


def _check_group(path: str, group: str | None, option: str) -> None:
    if group is not None and not is_hdf5(path):
        raise UsageError(f"{option} goes with HDF5 files, not with {path!r}.")


def is_hdf5(path: str) -> bool:
    """Whether a file is HDF5 by its ending."""
    return path.lower().endswith((".hdf5", ".h5"))


def has_text_cells(path: str) -> bool:
    """Whether cells of a file have no type of their own; "-" is CSV."""
    return path == "-" or path.lower().endswith((".csv", ".csv.gz"))


def _format(path: str) -> Format:
    found = next((one for end, one in FORMATS.items() if path.lower().endswith(end)), None)
    if found is None:
        raise UsageError(f"{path!r} must end in one of {', '.join(FORMATS)}.")
    if found.module:
        try:
            importlib.import_module(found.module)
        except ImportError:
            raise ImportError(
                f"{path!r} needs {found.module}, which is not installed; run: pip install "
                f'"sklearn-san[{found.extra}]"'
            ) from None
    return found
