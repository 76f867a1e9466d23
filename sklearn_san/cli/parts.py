"""Many files in one command: a folder or a pattern of Parquet files to a folder of results.

Each file is one part: it is read, answered and written by one process, to a file of the same name.
A part is written under another name and renamed, so that what is there is complete. A run that was
stopped goes on when it is started again: the file `MANIFEST` in the folder of results tells the
model, options, seed and inputs, and what differs from them is refused.

Rows without names of their own are numbered through all files in their order, so that the parts
hold what one command on one table of all rows would write.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import json
import os
import threading
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._container import check_path
from .._files import check_writable, write_atomically
from .formats import count_rows
from .printing import note, plain, progress_bar
from .tables import UsageError, check_input

#: Files beside the results; readers of folders pass over names that begin so.
MANIFEST, LOCK = "_sklearn_san.json", "_sklearn_san.lock"
#: Options that are set anew for each part, and those without an effect on what is in it.
_OF_A_PART = ("table", "out", "model", "quiet", "seed", "first_row")
_WITHOUT_EFFECT = (*_OF_A_PART, "command", "parser", "debug", "overwrite", "workers", "scheduler")
Command = Callable[[Namespace], None]
Caught = list[tuple[str, type[Warning]]]


def in_parts(command: Command) -> Command:
    """Command that takes a folder or a pattern of files as its table as well."""

    @wraps(command)
    def run(options: Namespace) -> None:
        table = options.table
        if os.path.isdir(table) or (glob.escape(table) != table and not os.path.exists(table)):
            _run(command, options)
        elif options.workers is not None or options.scheduler is not None:
            raise UsageError(
                f"--workers and --scheduler share out files, and {table!r} is one; give a folder "
                "or a pattern such as 'sky/*.parquet'."
            )
        else:
            command(options)

    return run


def _run(command: Command, options: Namespace) -> None:
    if options.out == "-" or getattr(options, "format", None) == "npy":
        raise UsageError("Many files are written to a folder of Parquet files: --out FOLDER.")
    if options.scheduler is not None and importlib.util.find_spec("distributed") is None:
        raise ImportError(
            "--scheduler needs distributed, which is not installed; run: pip install "
            '"sklearn-san[dask]"'
        )
    check_path(options.model)
    paths = _input_paths(options.table, options.out)
    counts = {name: count_rows(path) for name, path in paths.items()}
    _make_folder(options.out)
    with _claimed(options.out):
        seed = _begin(command.__name__, options, paths, counts)
        tasks = _tasks(options, paths, counts, seed)
        with progress_bar(options, command.__name__, sum(n for *_, n in tasks)) as bar:
            for n_rows, caught in _answers(command, options, tasks):
                for text, category in caught:
                    warnings.warn(text, category, stacklevel=2)
                bar.update(n_rows)
    n_kept, n_rows = len(paths) - len(tasks), sum(counts.values())
    kept = f", {n_kept} of which were there" if n_kept else ""
    note(options, f"wrote {options.out!r}: {len(paths)} parts{kept}, {n_rows} rows")


def _input_paths(table: str, out: str) -> dict[str, str]:
    """Paths of the files by their names in the folder of results, in their order."""
    if os.path.isdir(table):
        root, pattern = table, os.path.join(glob.escape(table), "**", "*.parquet")
    else:
        fixed = table[: min(table.find(sign) for sign in "*?[" if sign in table)]
        root, pattern = os.path.dirname(fixed) or ".", table
    found = sorted(filter(os.path.isfile, glob.iglob(pattern, recursive=True)))
    paths = {os.path.relpath(path, root): path for path in found}
    paths = {n: path for n, path in paths.items() if not any(p[0] == "_" for p in Path(n).parts)}
    if not paths:
        raise FileNotFoundError(f"There are no Parquet files in {table!r}; check the name.")
    for path in paths.values():
        if not path.lower().endswith(".parquet"):
            raise UsageError(f"{path!r} must end in .parquet, as all files of {table!r}.")
    check_input(next(iter(paths.values())))
    target, source = Path(out).resolve(), Path(root).resolve()
    if source == target or ("**" in pattern and source in target.parents):
        raise ValueError(f"{out!r} is inside {root!r}, which is read; write to another folder.")
    return paths


def _make_folder(folder: str) -> None:
    """Make the folder of results if it is not there, and raise unless it can be one."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"{folder!r} is a file; many files are written to a folder.")
    if not os.path.isdir(folder):
        check_writable(folder)
        os.mkdir(folder)
    elif os.listdir(folder) and not os.path.exists(os.path.join(folder, MANIFEST)):
        raise FileExistsError(
            f"{folder!r} holds files that are not of a command like this one; write to another "
            "folder."
        )


@contextmanager
def _claimed(folder: str) -> Iterator[None]:
    """Hold a folder, which ends with the process, where the system knows how to."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(os.path.join(folder, LOCK), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{folder!r} is being written to by another command.") from None
        yield


def _begin(
    command: str, options: Namespace, paths: dict[str, str], counts: dict[str, int]
) -> int | None:
    """Compare with what was begun before, write the manifest, and return the seed."""
    manifest = os.path.join(options.out, MANIFEST)
    before: dict[str, Any] = {}
    if os.path.exists(manifest):
        with open(manifest, "rb") as file:
            before = json.load(file)
    seed = getattr(options, "seed", None)
    if seed is None and command == "sample":
        fresh = int(np.random.SeedSequence().generate_state(1)[0])
        seed = fresh if options.overwrite else before.get("seed", fresh)
    model = hashlib.sha256(Path(options.model).read_bytes()).hexdigest()
    given = {name: value for name, value in vars(options).items() if name not in _WITHOUT_EFFECT}
    wanted = {
        "command": command,
        "version": __version__,
        "model": model,
        "seed": seed,
        "options": plain(given),
        "parts": {name: [counts[name], os.path.getsize(path)] for name, path in paths.items()},
    }
    if before and options.overwrite:
        for name in before["parts"]:
            with suppress(FileNotFoundError):
                os.remove(os.path.join(options.out, name))
    elif before and before != wanted:
        raise ValueError(
            f"{options.out!r} holds parts of a command with {_difference(before, wanted)}; write "
            "to another folder, or add --overwrite to begin anew."
        )
    write_atomically(manifest, json.dumps(wanted, indent=1).encode())
    for leftover in Path(options.out).rglob(".*.tmp"):
        leftover.unlink()
    return seed


def _difference(before: dict[str, Any], wanted: dict[str, Any]) -> str:
    for name in ("command", "version", "seed"):
        if before[name] != wanted[name]:
            return f"{name} {before[name]!r} in place of {wanted[name]!r}"
    if before["model"] != wanted["model"]:
        return "another model"
    for name, value in wanted["options"].items():
        if before["options"].get(name) != value:
            shown = before["options"].get(name)
            return f"--{name.replace('_', '-')} {shown!r} in place of {value!r}"
    return "other files to read"


def _tasks(
    options: Namespace, paths: dict[str, str], counts: dict[str, int], seed: int | None
) -> list[tuple[Namespace, str, int]]:
    """Options, name and number of rows of each part that is not there."""
    tasks, first = [], 0
    left_out = (*_OF_A_PART, "command", "parser")
    own = {name: value for name, value in vars(options).items() if name not in left_out}
    own |= {"seed": seed, "model": os.path.abspath(options.model), "quiet": True}
    for name, path in paths.items():
        out = os.path.join(options.out, name)
        if not os.path.exists(out):
            files = {"table": os.path.abspath(path), "out": os.path.abspath(out)}
            tasks.append((Namespace(**own, **files, first_row=first), name, counts[name]))
        first += counts[name]
    return tasks


def _answers(
    command: Command, options: Namespace, tasks: list[tuple[Namespace, str, int]]
) -> Iterator[tuple[int, Caught]]:
    """What `_answer` returns for each part, as they are done."""
    if options.scheduler is not None:
        from distributed import Client, as_completed

        with Client(options.scheduler) as client:
            work = partial(_answer, command, None)
            for future in as_completed(client.map(work, tasks, pure=False)):
                yield future.result()
    elif (options.workers or 1) == 1:
        yield from (_answer(command, None, task, shares=False) for task in tasks)
    else:
        from joblib import Parallel, delayed

        parallel = Parallel(
            n_jobs=options.workers, backend="loky", batch_size=1, return_as="generator_unordered"
        )
        yield from parallel(delayed(_answer)(command, os.getpid(), task) for task in tasks)


@cache
def _end_with(parent: int) -> None:
    """End this process with its parent, whose death processes of joblib are not told of."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _answer(
    command: Command, parent: int | None, task: tuple[Namespace, str, int], *, shares: bool = True
) -> tuple[int, Caught]:
    """Write one part; its number of rows, and the warnings.

    Parameters
    ----------
    command : callable
    parent : int or None
        Process with which this one ends.
    task : tuple
        Options, name and number of rows.
    shares : bool, default=True
        Whether other parts are made on this machine, so that one thread is all there is to take.
    """
    from joblib import parallel_config
    from joblib.parallel import SequentialBackend

    options, name, n_rows = task
    if parent is not None:
        _end_with(parent)
    os.makedirs(os.path.dirname(options.out), exist_ok=True)
    one_thread = parallel_config(SequentialBackend(nesting_level=1)) if shares else nullcontext()
    with warnings.catch_warnings(record=True) as caught, one_thread:
        warnings.simplefilter("always")
        command(Namespace(**vars(options) | {"overwrite": True}))
    return n_rows, [(f"{one.message} ({name})", one.category) for one in caught]
