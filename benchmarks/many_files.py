"""A catalogue in many files: rows per second and memory by workers, and a command that is killed.

Usage: python benchmarks/many_files.py --rows 2000000 --files 40 [--workers 1 2] [--dask]

Galaxies of `make_galaxies`, with one draw and the id of each row, from ``sklearn-san sample`` of a
folder. The last command is killed when half of its parts are there, and started again; its parts
are compared, row by row, with what one process makes of one file of all rows.

Rows per second count from the time when each worker has finished a part, so that they are free of
the start of processes and of the first compilation; the CPU time has both.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.cli.formats import write_parquet
from sklearn_san.datasets import GALAXY_BANDS, GALAXY_PARAMETERS, make_galaxies

TICKS = os.sysconf("SC_CLK_TCK")
DRAWN = ["draw", *GALAXY_PARAMETERS]


def write_catalogue(folder: Path, n_rows: int, n_files: int) -> None:
    """Files of about the same size, and `whole.parquet` with the rows of all."""
    (folder / "sky").mkdir()
    bounds = np.linspace(0, n_rows, n_files + 1).astype(int)
    names = [str(folder / "sky" / f"part-{i:04d}.parquet") for i in range(n_files)]
    for i, name in enumerate(names):
        X, _ = make_galaxies(bounds[i + 1] - bounds[i], random_state=1000 + i)
        ids = {"id": np.arange(bounds[i], bounds[i + 1])}
        write_parquet(name, [ids | dict(zip(GALAXY_BANDS, X.T, strict=True))])
    with parquet.ParquetWriter(folder / "whole.parquet", parquet.read_schema(names[0])) as file:
        for name in names:
            file.write_table(parquet.read_table(name))


def fit_model(path: Path, n_rows: int, epochs: int) -> None:
    X, y = make_galaxies(n_rows, random_state=0)
    X, y = pd.DataFrame(X, columns=GALAXY_BANDS), pd.DataFrame(y, columns=GALAXY_PARAMETERS)
    SANConditionalDensityEstimator(n_members=2, epochs=epochs, random_state=0).fit(X, y).save(path)


def command(folder: Path, table: str, out: str, *more: str) -> list[str]:
    paths = [str(folder / table), "--model", str(folder / "m.san"), "--out", str(folder / out)]
    given = ["-n", "1", "--seed", "0", "--row-id", "id", "--keep", "id", "--quiet"]
    return [sys.executable, "-m", "sklearn_san", "sample", *paths, *given, *more]


def parts_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def usage(pid: int) -> dict[int, tuple[float, float]]:
    """Peak memory in MB and CPU seconds so far of all processes below one."""
    found = {}
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            try:
                status = Path(f"/proc/{child}/status").read_text().split()
                times = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13]
                peak = float(status[status.index("VmHWM:") + 1]) / 1024
                found |= {child: (peak, sum(map(int, times)) / TICKS), **usage(child)}
            except (OSError, ValueError):  # it has ended
                continue
    return found


def watch(
    process: subprocess.Popen, out: Path, until: int | None = None
) -> dict[int, tuple[float, float]]:
    """`usage` until a command ends, or so many parts are there."""
    found: dict[int, tuple[float, float]] = {}
    while process.poll() is None and (until is None or len(parts_in(out)) < until):
        found |= usage(os.getpid())
        time.sleep(0.02)
    return found


def measure(folder: Path, workers: int, more: list[str], label: str) -> None:
    out = folder / f"out-{label}".replace(" ", "-")
    before, start = usage(os.getpid()), time.perf_counter()
    process = subprocess.Popen(command(folder, "sky", out.name, *more))
    used = watch(process, out)
    if process.wait():
        raise SystemExit(f"{label} failed")
    seconds = time.perf_counter() - start
    cpu = sum(own - before.get(pid, (0.0, 0.0))[1] for pid, (_, own) in used.items())
    done = sorted((path.stat().st_mtime, rows_of(path)) for path in parts_in(out))
    counted = sum(n for _, n in done[workers:])
    rate = counted / (done[-1][0] - done[workers - 1][0]) if counted else float("nan")
    memory = ", ".join(f"{peak:.0f}" for peak, _ in sorted(used.values())[-workers:])
    print(f"| {label} | {rate:,.0f} | {seconds:.1f} | {cpu:.1f} | {memory} |", flush=True)


def rows_of(path: Path) -> int:
    return parquet.read_metadata(path).num_rows


def kill_and_resume(folder: Path, workers: int) -> None:
    out, n_files = folder / "resumed", len(parts_in(folder / "sky"))
    run = command(folder, "sky", out.name, "--workers", str(workers))
    process = subprocess.Popen(run)
    watch(process, out, until=max(1, n_files // 2))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = {path: path.stat().st_mtime_ns for path in parts_in(out)}
    half = len(list(out.glob(".*.tmp")))
    subprocess.run(run, check=True)
    twice = sum(path.stat().st_mtime_ns != stamp for path, stamp in there.items())
    left = len(list(out.glob(".*.tmp")))
    print(
        f"killed with {len(there)} of {n_files} parts and {half} begun; resumed: "
        f"{len(parts_in(out))} parts, {twice} of them made twice, {left} temporary files left"
    )
    subprocess.run(command(folder, "whole.parquet", "whole-out.parquet"), check=True)
    compare(out, folder / "whole-out.parquet")


def compare(out: Path, whole: Path) -> None:
    """Print how far the draws of the parts are from those of one table."""
    expected = pd.read_parquet(whole)
    found = pd.concat([pd.read_parquet(path) for path in parts_in(out)], ignore_index=True)
    same_rows = len(found) == len(expected) and (found["id"] == expected["id"]).all()
    spread = expected[DRAWN[1:]].std()
    distance = ((found[DRAWN[1:]] - expected[DRAWN[1:]]).abs() / spread).max(axis=1)
    print(
        f"{len(found)} rows in the order of one table: {bool(same_rows)}; largest difference "
        f"{distance.max():.1e} of the spread of an output, equal bit by bit "
        f"{(distance == 0).mean():.2%} of rows"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--train", type=int, default=5000, help="rows to fit the model to")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--dask", action="store_true", help="the same on a cluster of Dask")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit_model(folder / "m.san", options.train, options.epochs)
        write_catalogue(folder, options.rows, options.files)
        print("| workers | rows per second | seconds in all | CPU seconds | peak MB of each |")
        print("|---|---|---|---|---|")
        for n in options.workers:
            measure(folder, n, ["--workers", str(n)], f"{n} processes")
        if options.dask:
            for n in options.workers:
                with dask_cluster(n) as address:
                    measure(folder, n, ["--scheduler", address], f"{n} of Dask")
        kill_and_resume(folder, max(options.workers))


@contextmanager
def dask_cluster(n_workers: int) -> Iterator[str]:
    from distributed import LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with LocalCluster(n_workers=n_workers, **options) as cluster:
        yield cluster.scheduler_address


if __name__ == "__main__":
    main()
