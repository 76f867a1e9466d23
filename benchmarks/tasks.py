"""The tasks of the benchmarks: rows to fit, rows to test on, and what is known of the truth.

Tasks marked * need the benchmark files; set SAN_BENCH_DATA to their folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sklearn_san.datasets import (
    GALAXY_LIMITS,
    make_bimodal,
    make_galaxies,
    make_heteroscedastic_gaussian,
)


class Task(NamedTuple):
    """Rows to fit and to test on.

    Parameters
    ----------
    X, y, X_test, y_test : ndarray
    limits : ndarray of shape (n_outputs, 2), or None
    exact : float or None
        Mean NLL of the test rows under the true density.
    references : tuple of ndarray or None
        Observations ``(n, n_features)`` and draws ``(n, n_draws, n_outputs)`` of their posterior.
    parameters : tuple of pairs
        What the task itself asks of our estimator, such as a family for a discrete target.
    """

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    limits: np.ndarray | None = None
    exact: float | None = None
    references: tuple[np.ndarray, np.ndarray] | None = None
    parameters: tuple[tuple[str, Any], ...] = ()


def load(name: str) -> dict[str, np.ndarray]:
    """Arrays of a benchmark file."""
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


def magnitudes(n: int) -> Task:
    data = load("dc2_galaxies.npz")
    X, y = data["redshift"][:, None], data["mags"]
    return Task(X[:n], y[:n], X[-5000:], y[-5000:])


def redshift() -> Task:
    data = load("dc2_galaxies.npz")
    X, y = data["mags"], data["redshift"][:, None]
    return Task(X[:20_000], y[:20_000], X[-5000:], y[-5000:])


def two_moons(n: int) -> Task:
    data = load("sbi/two_moons.npz")
    x, theta = data["x"], data["theta"]
    limits = np.array([[-1.0, 1.0]] * 2)
    reference = data["x_obs"], data["reference"]
    return Task(x[:n], theta[:n], x[-5000:], theta[-5000:], limits, None, reference)


def simulated(n: int) -> Task:
    X, y = make_galaxies(n + 5000, random_state=0)
    return Task(X[:n], y[:n], X[n:], y[n:], GALAXY_LIMITS)


def closed_form(make: Callable, n: int) -> Task:
    X, y, log_density = make(n + 20_000, random_state=0)
    exact = -log_density(X[n:], y[n:]).mean()
    return Task(X[:n], y[:n], X[n:], y[n:], exact=exact)


def linear_gaussian(n: int) -> Task:
    """Three correlated outputs that are linear in five features."""
    random = np.random.default_rng(0)
    slope, factor = random.normal(size=(5, 3)), random.normal(size=(3, 3))
    X = random.normal(size=(n + 20_000, 5))
    noise = random.normal(size=(n + 20_000, 3))
    y = X @ slope + noise @ factor.T
    log_density = -0.5 * (noise**2).sum(1) - np.linalg.slogdet(factor)[1] - 1.5 * np.log(2 * np.pi)
    return Task(X[:n], y[:n], X[n:], y[n:], exact=-log_density[n:].mean())


def uci(name: str, split: int, n: int | None = None) -> Task:
    """One of the standard splits; only `n` random training rows if that is given."""
    data = load(f"uci/{name}.npz")
    X, y = data["X"], data["Y"].reshape(len(data["X"]), -1)
    test = np.unpackbits(data["test_mask"][split], count=len(X)).astype(bool)
    rows = np.random.default_rng(split).permutation(np.flatnonzero(~test))[:n]
    return Task(X[rows], y[rows], X[test], y[test])


def uci_splits(name: str, n: int | None = None) -> Iterator[Task]:
    for split in range(len(load(f"uci/{name}.npz")["test_mask"])):
        yield uci(name, split, n)


def wine(**parameters: Any) -> Iterator[Task]:
    """Whole-numbered grades: as a density they need a floor on the scale."""
    for task in uci_splits("wine-quality-red"):
        yield task._replace(parameters=tuple(parameters.items()))


def only(make: Callable[[], Task]) -> Iterator[Task]:
    yield make()


#: Each gives one task per split.
TASKS: dict[str, Callable[[], Iterator[Task]]] = {
    name: partial(only, make)
    for name, make in {
        "linear-300": partial(linear_gaussian, 300),
        "gaussian": partial(closed_form, make_heteroscedastic_gaussian, 20_000),
        "bimodal": partial(closed_form, make_bimodal, 20_000),
        "make_galaxies": partial(simulated, 20_000),
        "make_galaxies-100k": partial(simulated, 100_000),
        "magnitudes*": partial(magnitudes, 20_000),
        "magnitudes-1k*": partial(magnitudes, 1000),
        "redshift*": redshift,
        "galaxies-300*": partial(galaxies, 300),
        "galaxies-20k*": partial(galaxies, 20_000),
        "galaxies-100k*": partial(galaxies, 100_000),
        "two_moons-1k*": partial(two_moons, 1000),
        "two_moons-10k*": partial(two_moons, 10_000),
        "two_moons-100k*": partial(two_moons, 100_000),
    }.items()
}
TASKS |= {
    "concrete*": partial(uci_splits, "concrete"),
    "energy*": partial(uci_splits, "energy"),
    "power-plant*": partial(uci_splits, "power-plant"),
    "protein*": partial(uci_splits, "protein-tertiary-structure"),
    "wine-ordinal*": partial(wine, likelihood="ordinal"),
    "wine-floor*": partial(wine, likelihood="mog", likelihood_params={"min_scale": 0.2}),
    "concrete-300*": partial(uci_splits, "concrete", 300),
    "protein-300*": partial(uci_splits, "protein-tertiary-structure", 300),
}
