"""Rows that are fresh in every pass against fixed ones, of simulated galaxies.

Usage: python benchmarks/fresh_rows.py [--rows N] [--galaxies N] [--jobs N] [--set NAME=VALUE ...]

Fits once to N fixed rows and once with N fresh ones in every pass. Prints the negative
log-likelihood of 10,000 test rows, that of the rows that were learned from, how far above the exact
posterior it is (of --galaxies of them, see yardstick.py; minutes), seconds of CPU and on the wall.
The first line is a fit to few rows, which pays for the kernels.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from ast import literal_eval

import numpy as np
from yardstick import gap

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import GALAXY_LIMITS, GALAXY_PARAMETERS, galaxies, make_galaxies
from sklearn_san.simulation import Prior, fit_simulator


def draw(n: int, random_state: np.random.Generator) -> np.ndarray:
    """Parameters of `make_galaxies`, (n, 9)."""
    return galaxies.draw_parameters(n, np.random.RandomState(random_state.integers(2**31)))


def simulate(theta: np.ndarray, random_state: np.random.Generator) -> np.ndarray:
    """Asinh magnitudes with noise, (n, 8)."""
    flux = galaxies.fluxes(theta)
    flux = flux + galaxies.noise_scale(flux) * random_state.standard_normal(flux.shape)
    return galaxies.asinh_magnitudes(flux)


PRIOR = Prior(draw, limits=GALAXY_LIMITS, names=GALAXY_PARAMETERS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_001)
    parser.add_argument("--galaxies", type=int, default=0, help="for the distance from exact")
    parser.add_argument("--jobs", type=int, default=None, help="processes that simulate")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    changes = {k: literal_eval(v) for k, v in (one.split("=") for one in arguments.set)}
    X, y = make_galaxies(10_000, random_state=12345)
    print("| rows | test NLL | training NLL | CPU s | wall s | load |\n" + "|---" * 6 + "|")
    runs = [
        ("2,000", 2000, False),
        ("fixed", arguments.rows, False),
        ("fresh", arguments.rows, True),
    ]
    for name, n_rows, fresh in runs:
        cpu, wall = time.process_time(), time.perf_counter()
        est = fit_simulator(
            SANConditionalDensityEstimator(**{"random_state": 0, **changes}),
            PRIOR,
            simulate,
            n_rows,
            fresh=fresh,
            n_jobs=arguments.jobs,
            batch_size=10_000,
            random_state=1,
        )
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(
            f"| {name} | {-est.score(X, y):.3f} | {est.loss_curve_[-1]:.3f} | {cpu:.0f} "
            f"| {wall:.0f} | {os.getloadavg()[0]:.1f} |",
            flush=True,
        )
        if arguments.galaxies and n_rows == arguments.rows:
            gap(est, arguments.galaxies)
    return 0


if __name__ == "__main__":
    sys.exit(main())
