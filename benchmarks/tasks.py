"""The tasks of the benchmarks: rows to fit, rows to test on, and what is known of the truth.

Tasks marked * need the benchmark files; set SAN_BENCH_DATA to their folder. Those of
simulators.py have 1,000, 10,000 or 100,000 rows and the posteriors of references.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from references import reference
from scipy.stats import norm
from simulators import SIMULATORS
from sklearn.preprocessing import PowerTransformer

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


def simulator(name: str, n: int) -> Task:
    """Parameters given data that were simulated with them."""
    random = np.random.default_rng(0)
    known = SIMULATORS[name]()
    theta = known.prior.sample(n + 5000, random)
    x = known.simulate(theta, random)
    exact = None
    if hasattr(known, "log_posterior"):
        exact = -known.log_posterior(theta[n:], x[n:]).mean()
    return Task(x[:n], theta[:n], x[n:], theta[n:], known.prior.limits, exact, reference(name))


def is_simulator(task_name: str) -> bool:
    """Whether a task has posteriors that references.py knows or can find."""
    return task_name.rpartition("-")[0] in SIMULATORS


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


def log_normal(
    n: int, limits: np.ndarray | None = None, parameters: tuple[tuple[str, Any], ...] = ()
) -> Task:
    """One positive output, whose logarithm is linear in five features with errors of 0.5."""
    random = np.random.default_rng(0)
    X = random.normal(size=(n + 20_000, 5))
    loc = X @ random.normal(scale=0.5, size=5)
    y = np.exp(random.normal(loc, 0.5))[:, None]
    log_density = norm.logpdf(np.log(y[:, 0]), loc, 0.5) - np.log(y[:, 0])
    exact = -log_density[n:].mean()
    return Task(X[:n], y[:n], X[n:], y[n:], limits, exact, parameters=parameters)


def box_cox() -> Task:
    """With the scaler under which log-normals are Gaussian."""
    scaler = PowerTransformer("box-cox")
    return log_normal(2000, parameters=(("y_scaler", scaler),))


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
        "log-normal": partial(log_normal, 2000),
        "log-normal-limits": partial(log_normal, 2000, np.array([[0.0, np.inf]])),
        "log-normal-power": partial(log_normal, 2000, None, (("y_scaler", "power"),)),
        "log-normal-box-cox": box_cox,
    }.items()
}
TASKS |= {
    f"{name}-{n // 1000}k": partial(only, partial(simulator, name, n))
    for name in SIMULATORS
    for n in (1000, 10_000, 100_000)
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
