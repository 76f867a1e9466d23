"""What missing bands and measurement errors cost, and whether posteriors stay honest.

Usage: python benchmarks/real_tables.py [--rows N] [--epochs N] [--parts bands errors]

On `make_galaxies`. "bands": every magnitude is missing with probability 0.2. "errors": magnitudes
are measured with errors of 0.1 mag, and of 0.5 mag for every other row. Prints two Markdown tables:
test NLL in nats per row, and the p-value of `calibration.rosenblatt_test` on 1,000 test rows.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.calibration import rosenblatt_test
from sklearn_san.datasets import GALAXY_LIMITS, make_galaxies

N_TEST, N_PIT = 4000, 1000


def honest(density: Any, y: np.ndarray) -> str:
    """P-values of the Rosenblatt coordinates."""
    test = rosenblatt_test(density[:N_PIT].cdf(y[:N_PIT]))
    return f"{test.pvalue:.3g}"


def estimator(epochs: Any, **parameters: Any) -> SANConditionalDensityEstimator:
    return SANConditionalDensityEstimator(
        limits=GALAXY_LIMITS, epochs=epochs, random_state=0, **parameters
    )


def row(*cells: Any) -> None:
    texts = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
    print("| " + " | ".join(texts) + " |", flush=True)


def missing_bands(n: int, epochs: Any) -> None:
    X, y = make_galaxies(n + N_TEST, random_state=0)
    holes = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
    X_test, y_test, holes_test = X[n:], y[n:], holes[n:]
    some = np.isnan(holes_test).any(axis=1)
    mean = X[:n].mean(axis=0)

    def imputed(values: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(values), mean, values)

    def add(name: str, est: SANConditionalDensityEstimator, incomplete: Any) -> None:
        nll = -est.score(X_test, y_test), -incomplete.log_prob(y_test[some]).mean()
        tests = honest(est.predict_density(X_test), y_test), honest(incomplete, y_test[some])
        row(name, *nll, *tests)

    print("\n| trained on | complete rows | incomplete rows | p, complete | p, incomplete |")
    print("|---|---|---|---|---|")
    complete = estimator(epochs).fit(X[:n], y[:n])
    filled = complete.predict_density(imputed(holes_test[some]))
    add("complete rows; means for missing values", complete, filled)
    on_means = estimator(epochs).fit(imputed(holes[:n]), y[:n])
    filled = on_means.predict_density(imputed(holes_test[some]))
    add("means for missing values", on_means, filled)
    for name, rows, rate in (
        ("incomplete rows", holes[:n], "auto"),
        ("incomplete rows, `missing_rate=0`", holes[:n], 0.0),
        ("incomplete rows, `missing_rate=0.2`", holes[:n], 0.2),
        ("complete rows, `missing_rate=0.2`", X[:n], 0.2),
    ):
        est = estimator(epochs, missing_rate=rate).fit(rows, y[:n])
        add(name, est, est.predict_density(holes_test[some]))


def measurement_errors(n: int, epochs: Any) -> None:
    true, y = make_galaxies(n + N_TEST, random_state=0)
    X_err = np.full(true.shape, 0.1)
    X_err[::2] = 0.5
    X = true + X_err * np.random.default_rng(1).normal(size=true.shape)
    test = slice(n, None)

    print("\n| model | test NLL | p-value |")
    print("|---|---|---|")
    ignoring = estimator(epochs).fit(true[:n], y[:n])
    for name, errors in (("errors ignored", None), ("averaged over at predict time", X_err[test])):
        density = ignoring.predict_density(X[test], X_err=errors)
        small = density[:N_PIT]
        row(name, -small.log_prob(y[test][:N_PIT]).mean(), honest(small, y[test]))
    est = estimator(epochs, use_errors=True).fit(true[:n], y[:n], X_err=X_err[:n])
    density = est.predict_density(X[test], X_err=X_err[test])[:N_PIT]
    row("errors in training, `use_errors=True`", -density.log_prob(y[test][:N_PIT]).mean(),
        honest(density, y[test]))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--parts", nargs="+", default=["bands", "errors"])
    arguments = parser.parse_args()
    epochs = arguments.epochs or "auto"
    if "bands" in arguments.parts:
        missing_bands(arguments.rows, epochs)
    if "errors" in arguments.parts:
        measurement_errors(arguments.rows, epochs)


if __name__ == "__main__":
    main()
