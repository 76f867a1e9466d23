"""How often each calibration diagnostic rejects models that are wrong in known ways.

Usage: python benchmarks/calibration.py [--rows N] [--repetitions N] [--draws N] [--outputs N]

The truth is Gaussian, with a mean and a width that depend on two features and the same strong
correlation of all outputs for every x. Prints a Markdown table of the share of repetitions with a
p-value of at most 0.05; for the exact posterior that is the rate of false alarms. "report" is the
smallest p-value of all diagnostics, adjusted for their number.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from sklearn_san.calibration import DIAGNOSTICS, calibration_report

CORRELATION = 0.6


class GaussianDensity:
    """Gaussian density of each row, as an estimator's `predict_density` returns it.

    Parameters
    ----------
    mean : ndarray of shape (n_rows, n_outputs)
    factor : ndarray of shape (n_rows, n_outputs, n_outputs)
        Lower triangular factor of the covariance.
    """

    def __init__(self, mean: np.ndarray, factor: np.ndarray):
        self.mean, self.factor = mean, factor
        self.output_names = [f"y{j}" for j in range(mean.shape[1])]

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, rows: slice) -> GaussianDensity:
        return GaussianDensity(self.mean[rows], self.factor[rows])

    def sample(self, n_draws: int, *, random_state: np.random.RandomState) -> np.ndarray:
        noise = random_state.standard_normal((len(self), n_draws, self.mean.shape[1]))
        return self.mean[:, None] + noise @ self.factor.swapaxes(1, 2)

    def log_prob(self, y: np.ndarray) -> np.ndarray:
        points = y if y.ndim == 3 else y[:, None]
        white = self._whiten(points)
        log_scale = np.log(np.einsum("nii->ni", self.factor)).sum(axis=1)
        log_prob = -0.5 * (white**2 + np.log(2.0 * np.pi)).sum(axis=2) - log_scale[:, None]
        return log_prob if y.ndim == 3 else log_prob[:, 0]

    def cdf(self, y: np.ndarray, *, random_state: object = None) -> np.ndarray:
        return ndtr(self._whiten(y[:, None])[:, 0])

    def _whiten(self, points: np.ndarray) -> np.ndarray:
        return (points - self.mean[:, None]) @ np.linalg.inv(self.factor).swapaxes(1, 2)


class Model:
    """Estimator whose density is the truth, changed by a function of the features."""

    def __init__(self, change: Callable, n_outputs: int):
        self.change, self.n_outputs = change, n_outputs

    def predict_density(self, X: np.ndarray) -> GaussianDensity:
        mean, factor = truth(X, self.n_outputs)
        return GaussianDensity(*self.change(X, mean, factor))


def truth(X: np.ndarray, n_outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n_rows, n_outputs) and factor of the covariance, (n_rows, n_outputs, n_outputs)."""
    a, b = X.T
    frequency = 1.0 + np.arange(n_outputs)
    mean = np.sin(frequency * a[:, None]) + 0.5 * b[:, None]
    correlation = np.full((n_outputs, n_outputs), CORRELATION)
    np.fill_diagonal(correlation, 1.0)
    width = 0.5 * np.exp(0.5 * a)
    return mean, width[:, None, None] * np.linalg.cholesky(correlation)


def deviations(factor: np.ndarray) -> np.ndarray:
    """Standard deviation of each output, (n_rows, n_outputs)."""
    return np.sqrt((factor**2).sum(axis=2))


def without_dependence(X: np.ndarray, mean: np.ndarray, factor: np.ndarray) -> tuple:
    return mean, deviations(factor)[:, :, None] * np.eye(mean.shape[1])


def locally_biased(X: np.ndarray, mean: np.ndarray, factor: np.ndarray) -> tuple:
    return mean + 0.3 * deviations(factor) * np.sign(X[:, :1]), factor


def locally_wide(X: np.ndarray, mean: np.ndarray, factor: np.ndarray) -> tuple:
    return mean, factor * np.where(X[:, :1] * X[:, 1:] > 0, 1.25, 0.8)[..., None]


MODELS = {
    "exact": lambda X, mean, factor: (mean, factor),
    "over-confident (scale 0.8)": lambda X, mean, factor: (mean, 0.8 * factor),
    "over-confident (scale 0.9)": lambda X, mean, factor: (mean, 0.9 * factor),
    "biased (0.2 sd)": lambda X, mean, factor: (mean + 0.2 * deviations(factor), factor),
    "biased (0.1 sd)": lambda X, mean, factor: (mean + 0.1 * deviations(factor), factor),
    "no dependence": without_dependence,
    "biased by ±0.3 sd, by the sign of x0": locally_biased,
    "scale 1.25 or 0.8, by the sign of x0 x1": locally_wide,
}


def power(change: Callable, n_rows: int, n_repetitions: int, n_draws: int, n_outputs: int) -> list:
    """Share of repetitions in which each diagnostic, and the report, rejects."""
    pvalues = []
    for seed in range(n_repetitions):
        random = np.random.RandomState(seed)
        X = random.uniform(-1.0, 1.0, size=(n_rows, 2))
        y = GaussianDensity(*truth(X, n_outputs)).sample(1, random_state=random)[:, 0]
        model = Model(change, n_outputs)
        report = calibration_report(model, X, y, n_draws=n_draws, random_state=random)
        pvalues.append([*report.pvalues.values(), report.pvalue])
    return (np.array(pvalues) <= 0.05).mean(axis=0).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--outputs", type=int, default=3)
    options = parser.parse_args()
    print("| model |", " | ".join((*DIAGNOSTICS, "report")), "|")
    print("|---" * (len(DIAGNOSTICS) + 2) + "|")
    for name, change in MODELS.items():
        shares = power(change, options.rows, options.repetitions, options.draws, options.outputs)
        print(f"| {name} |", " | ".join(f"{share:.2f}" for share in shares), "|", flush=True)


if __name__ == "__main__":
    main()
