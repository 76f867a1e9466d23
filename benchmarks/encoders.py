"""How near networks with encoders come to the exact posterior of spectra, images and sets.

Usage: python benchmarks/encoders.py [problem ...] [--rows N] [--epochs N] [--members N] [--seeds N]

For each problem of known posterior: test NLL of the network above that of the exact posterior, in
nats per output, with its standard error over the test rows. `plain` has the same rows through a
multilayer perceptron, as what an encoder of the kind must beat. The goal is 0.05 at 20,000 rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import make_line_spectra, make_normal_sets, make_source_images
from sklearn_san.encoders import ImageEncoder, PlainEncoder, SetEncoder, SpectrumEncoder


class Problem(NamedTuple):
    """What makes rows with their exact log posterior, an encoder for them, and limits of y."""

    make: Callable[..., Any]
    encoder: Any
    limits: list[list[float]] | None


SOURCE_LIMITS = [[2.0, 13.0], [2.0, 13.0], [20.0, 60.0]]
PROBLEMS = {
    "line": Problem(make_line_spectra, SpectrumEncoder(), [[0.0, 63.0]]),
    "line, bad pixels": Problem(
        partial(make_line_spectra, bad_share=0.1), SpectrumEncoder(), [[0.0, 63.0]]
    ),
    "line, plain": Problem(make_line_spectra, PlainEncoder(), [[0.0, 63.0]]),
    "source": Problem(make_source_images, ImageEncoder(), SOURCE_LIMITS),
    "source, bad pixels": Problem(
        partial(make_source_images, bad_share=0.1), ImageEncoder(), SOURCE_LIMITS
    ),
    "source, plain": Problem(make_source_images, PlainEncoder(), SOURCE_LIMITS),
    "sets": Problem(make_normal_sets, SetEncoder(), None),
    "sets, plain": Problem(make_normal_sets, PlainEncoder(), None),
}
TEST_ROWS = 2000


class Gap(NamedTuple):
    """Nats per output above the exact posterior, their standard error, seconds of the fit."""

    mean: float
    error: float
    seconds: float


def measure(problem: Problem, n_rows: int, seed: int, **parameters: Any) -> Gap:
    X, y, _ = problem.make(n_rows, random_state=seed)
    X_test, y_test, log_density = problem.make(TEST_ROWS, random_state=1_000_000 + seed)
    estimator = SANConditionalDensityEstimator(
        encoder=problem.encoder, limits=problem.limits, random_state=seed, **parameters
    )
    start = time.perf_counter()
    estimator.fit(X, y)
    seconds = time.perf_counter() - start
    n_outputs = 1 if y.ndim == 1 else y.shape[1]
    gap = (log_density(X_test, y_test) - estimator.log_prob(X_test, y_test)) / n_outputs
    return Gap(gap.mean(), gap.std() / np.sqrt(len(gap)), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", help=f"of {', '.join(PROBLEMS)}; default: all")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=None, help="default: the estimator's")
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    if unknown := set(options.problems) - PROBLEMS.keys():
        parser.error(f"no problem {sorted(unknown)[0]!r}; there are {', '.join(PROBLEMS)}")
    parameters = {"n_members": options.members, "epochs": options.epochs or "auto"}
    print("| problem | encoder | rows | seed | nats per output above the exact | seconds |")
    print("|---|---|---|---|---|---|")
    for name in options.problems or PROBLEMS:
        problem = PROBLEMS[name]
        for seed in range(options.seeds):
            gap = measure(problem, options.rows, seed, **parameters)
            print(
                f"| {name} | {type(problem.encoder).__name__} | {options.rows} | {seed} | "
                f"{gap.mean:.3f} +- {gap.error:.3f} | {gap.seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
