"""A fit to a million simulated galaxies in bounded memory, killed on the way and resumed.

Usage: python benchmarks/million_simulations.py [--rows N] [--jobs N] [--set NAME=VALUE ...]

A process is killed (SIGKILL) when a third of the simulations are on disk, and another one when
training has begun; the third goes on from both and ends. Prints seconds, what each found on disk,
and the peak memory of the last one, beside that of a process that has imported the package and
fitted 2,000 rows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fresh_rows import PRIOR, simulate
from measuring import fresh, memory

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import make_galaxies
from sklearn_san.simulation import fit_simulator

BATCH = 10_000


def fit(folder: str, n_rows: int, n_jobs: int | None, changes: dict[str, Any]) -> tuple[Any, ...]:
    """Seconds, peak MB and test NLL of a fit that goes on from what is in a folder."""
    start = time.perf_counter()
    est = SANConditionalDensityEstimator(
        **{"random_state": 0, "checkpoint_dir": f"{folder}/training", **changes}
    )
    est = fit_simulator(
        est,
        PRIOR,
        simulate,
        n_rows,
        batch_size=BATCH,
        n_jobs=n_jobs,
        cache_dir=f"{folder}/simulations",
        random_state=1,
    )
    seconds, peak = time.perf_counter() - start, memory()["peak"]
    return seconds, peak, -est.score(*make_galaxies(5000, random_state=12345)), est.n_iter_


def run_until(there: Callable[[], bool], *arguments: Any) -> float:
    """Seconds until a process that fits is killed, once something is there."""
    start = time.perf_counter()
    process = multiprocessing.get_context("spawn").Process(target=fit, args=arguments)
    process.start()
    while not there() and process.is_alive():
        time.sleep(0.1)
    process.kill()
    process.join()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=None, help="processes that simulate")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    changes = {k: literal_eval(v) for k, v in (one.split("=") for one in arguments.set)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = (arguments.rows, arguments.jobs, changes)

        def n_batches() -> int:
            return len(list((folder / "whole" / "simulations").glob("batch-*[0-9].json")))

        def trains() -> bool:
            return bool(list((folder / "whole" / "training").glob("*.safetensors")))

        _, small, _, _ = fresh(fit, str(folder / "small"), 2000, None, changes)
        n_all = -(-arguments.rows // BATCH)
        seconds = run_until(lambda: 3 * n_batches() >= n_all, str(folder / "whole"), *given)
        print(f"killed after {seconds:.0f} s with {n_batches()} of {n_all} batches", flush=True)
        seconds = run_until(trains, str(folder / "whole"), *given)
        print(f"killed after {seconds:.0f} s with {n_batches()} batches, training", flush=True)
        seconds, peak, nll, n_epochs = fresh(fit, str(folder / "whole"), *given)
        print(
            f"ended after {seconds:.0f} s and {n_epochs} epochs: test NLL {nll:.3f}, peak "
            f"{peak:.0f} MB ({small:.0f} MB for 2,000 rows)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
