"""Test likelihood, fit time and sampling time of each model on each task.

Usage: python benchmarks/accuracy.py [--tasks NAME ...] [--models NAME ...] [--seeds N]
                                     [--set NAME=VALUE ...]

Prints a Markdown table and appends one JSON line per run to benchmarks/results/accuracy.jsonl.
Tasks marked * need the benchmark files; set SAN_BENCH_DATA to their folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from sklearn.linear_model import LinearRegression

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import (
    GALAXY_LIMITS,
    make_bimodal,
    make_galaxies,
    make_heteroscedastic_gaussian,
)

RESULTS = Path(__file__).parent / "results"


class Task(NamedTuple):
    """Rows to fit and to test on; the exact mean NLL of the test rows where it is known."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    limits: np.ndarray | None = None
    exact: float | None = None


def load(name: str) -> dict[str, np.ndarray]:
    folder = os.environ.get("SAN_BENCH_DATA")
    if folder is None:
        raise FileNotFoundError(f"{name}: set SAN_BENCH_DATA to the folder that holds it")
    path = Path(folder) / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    with np.load(path) as arrays:
        return dict(arrays)


def galaxies(n: int) -> Task:
    data = load("galaxies.npz")
    X, y = data["x"], data["y"]
    return Task(X[:n], y[:n], X[-5000:], y[-5000:], data["y_limits"])


def magnitudes() -> Task:
    data = load("dc2_galaxies.npz")
    X, y = data["redshift"][:, None], data["mags"]
    return Task(X[:20_000], y[:20_000], X[-5000:], y[-5000:])


def simulated() -> Task:
    X, y = make_galaxies(25_000, random_state=0)
    return Task(X[:20_000], y[:20_000], X[20_000:], y[20_000:], GALAXY_LIMITS)


def closed_form(make: Callable) -> Task:
    X, y, log_density = make(40_000, random_state=0)
    exact = -log_density(X[20_000:], y[20_000:]).mean()
    return Task(X[:20_000], y[:20_000], X[20_000:], y[20_000:], exact=exact)


TASKS: dict[str, Callable[[], Task]] = {
    "gaussian": lambda: closed_form(make_heteroscedastic_gaussian),
    "bimodal": lambda: closed_form(make_bimodal),
    "make_galaxies": simulated,
    "magnitudes*": magnitudes,
    "galaxies-20k*": lambda: galaxies(20_000),
    "galaxies-100k*": lambda: galaxies(100_000),
}


class LinearGaussian:
    """Linear regression with a Gaussian residual of full covariance."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> LinearGaussian:
        self.line = LinearRegression().fit(X, y)
        self.covariance = np.atleast_2d(np.cov((y - self.line.predict(X)).T))
        return self

    def log_prob(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        factor = np.linalg.cholesky(self.covariance)
        white = np.linalg.solve(factor, (y - self.line.predict(X)).T)
        return norm.logpdf(white).sum(0) - np.log(np.diag(factor)).sum()

    def sample(self, X: np.ndarray, n: int, random_state: int) -> np.ndarray:
        random = np.random.default_rng(random_state)
        noise = random.multivariate_normal(np.zeros(len(self.covariance)), self.covariance,
                                           (len(X), n))  # fmt: skip
        return self.line.predict(X)[:, None] + noise


MODELS: dict[str, Callable] = {
    "san": lambda task, seed, changes: SANConditionalDensityEstimator(
        limits=task.limits, random_state=seed, **changes
    ),
    "linear-gaussian": lambda task, seed, changes: LinearGaussian(),
}


def run(task_name: str, task: Task, model_name: str, seed: int, changes: dict) -> dict:
    model = MODELS[model_name](task, seed, changes)
    start = time.perf_counter()
    model.fit(task.X, task.y)
    fit_time = time.perf_counter() - start
    nll = -model.log_prob(task.X_test, task.y_test)
    model.sample(task.X_test[:1], 10, random_state=0)
    start = time.perf_counter()
    model.sample(task.X_test[:1], 10_000, random_state=0)
    sample_time = time.perf_counter() - start
    one_each = model.sample(task.X_test, 1, random_state=0)[:, 0]
    correlations = [np.corrcoef(values.T) for values in (one_each, task.y_test)]
    return {
        "task": task_name,
        "model": model_name,
        "seed": seed,
        "changes": {name: repr(value) for name, value in changes.items()},
        "nll": float(nll.mean()),
        "validation_nll": min(getattr(model, "validation_curve_", None) or [float("nan")]),
        "nll_error": float(nll.std() / np.sqrt(len(nll))),
        "above_exact": None if task.exact is None else float(nll.mean() - task.exact),
        "correlation_error": float(np.abs(np.subtract(*correlations)).max()),
        "fit_seconds": fit_time,
        "seconds_per_10000_draws": sample_time,
    }


def as_row(result: dict) -> str:
    above = result["above_exact"]
    cells = [
        result["task"],
        result["model"],
        str(result["seed"]),
        f"{result['nll']:.3f} ± {result['nll_error']:.3f}",
        f"{result['validation_nll']:.3f}",
        "" if above is None else f"{above:.3f}",
        f"{result['correlation_error']:.3f}",
        f"{result['fit_seconds']:.1f}",
        f"{1000 * result['seconds_per_10000_draws']:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="parameters of our estimator to change from their defaults",
    )
    arguments = parser.parse_args()
    changes = {name: literal_eval(value) for name, value in (p.split("=") for p in arguments.set)}
    RESULTS.mkdir(exist_ok=True)
    missing = []
    print(
        "| task | model | seed | test NLL | validation NLL | above exact | correlation error "
        "| fit s | ms / 10k |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.tasks:
        try:
            task = TASKS[name]()
        except FileNotFoundError as error:
            missing.append(str(error))
            continue
        for model in arguments.models:
            for seed in range(arguments.seeds):
                result = run(name, task, model, seed, changes)
                print(as_row(result), flush=True)
                with (RESULTS / "accuracy.jsonl").open("a") as file:
                    file.write(json.dumps(result) + "\n")
    for message in missing:
        print(f"left out: {message}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
