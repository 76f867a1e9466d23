"""Files that at any time are either the old one or the whole new one.

====================  ========================================================================
`check_writable`      whether a file may be written
`write_atomically`    bytes to a file
`replacing`           a temporary file to write to, which takes the place of another
====================  ========================================================================
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise unless a file may be written or replaced.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    PermissionError
        If the file or the folder may not be written to.
    ValueError
        If `path` is a folder or a device.
    """
    shown, target = os.fspath(path), os.path.realpath(path)
    folder, exists = os.path.dirname(target), os.path.exists(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"The folder of {shown!r} does not exist; create it first.")
    if exists and not os.path.isfile(target):
        raise ValueError(f"{shown!r} is no file but a folder or device; give the name of a file.")
    if not os.access(folder, os.W_OK) or (exists and not os.access(target, os.W_OK)):
        raise PermissionError(f"{shown!r} may not be written to; choose another folder or name.")


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file.

    The data goes to a temporary file in the same folder, to the disk, and then takes the place
    of `path` in one step. A symbolic link is followed; an existing file keeps its permissions.

    Parameters
    ----------
    path : str or path-like
    data : bytes

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
        See `check_writable`.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(os.path.join(folder, "a"), b"text")
    ...     os.listdir(folder)
    ['a']
    """
    check_writable(path)
    target = os.path.realpath(path)
    with replacing(target) as temporary, open(temporary, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _flush_folder(os.path.dirname(target))


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Name of a temporary file that takes the place of `path` in one step if all goes well.

    If anything is raised, it is removed, and `path` stays as it was.
    """
    target = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        if os.path.exists(target):
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def _flush_folder(folder: str) -> None:
    """Bring the new name in a folder to the disk, where systems know how to."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
