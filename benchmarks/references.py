"""Draws of the exact posteriors of the simulators, for ten observations each.

Usage: python benchmarks/references.py [--names NAME ...] [--check N]

Writes benchmarks/results/references/NAME.npz for the simulators whose posterior has no closed
form, in minutes. Their draws are resampled by importance from a mixture of Student's t that is
adapted to the tempered likelihood: from the prior at temperature 0 to the posterior at 1, each
temperature as high as leaves a tenth of the points effective. Prints per observation the
effective share of the points, the share of draws that repeat another one and the normal scores of
the true parameters among the draws, whose squares are 1 on average; and for the first N
observations the classifier test between two independent runs (0.5 if they agree).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, logsumexp
from scipy.stats import norm
from scores import c2st
from simulators import SIMULATORS, Simulator

FOLDER = Path(__file__).parent / "results" / "references"
N_OBSERVATIONS = 10
N_DRAWS = 10_000
EFFECTIVE_SHARE = 0.1  # of the points, at each temperature
#: Components of the mixtures.
COMPONENTS = {"slcp": 30, "sir": 3, "lotka_volterra": 5, "bernoulli_glm": 2}


class StudentMixture:
    """A mixture of Gaussians fitted to points, with the tails of Student's t."""

    degrees = 8.0

    def __init__(self, points: np.ndarray, n_components: int, seed: int):
        from sklearn.mixture import GaussianMixture

        self.unit = points.std(axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that goes on would change little
            fit = GaussianMixture(n_components, reg_covar=1e-4, max_iter=30, random_state=seed)
            fit.fit(points / self.unit)
        self.weights, self.means = fit.weights_, fit.means_
        self.factors = np.linalg.cholesky(fit.covariances_)

    def sample(self, n: int, random: np.random.Generator) -> np.ndarray:
        kind = random.choice(len(self.weights), p=self.weights / self.weights.sum(), size=n)
        noise = random.standard_normal((n, self.means.shape[1]))
        noise /= np.sqrt(random.chisquare(self.degrees, size=(n, 1)) / self.degrees)
        return self.unit * (self.means[kind] + np.einsum("nij,nj->ni", self.factors[kind], noise))

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        n_dims, nu = z.shape[1], self.degrees
        constant = gammaln((nu + n_dims) / 2) - gammaln(nu / 2) - n_dims / 2 * np.log(nu * np.pi)
        terms = []
        for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True):
            white = np.linalg.solve(factor, (z / self.unit - mean).T)
            log_volume = np.log(np.diag(factor)).sum()
            tail = (nu + n_dims) / 2 * np.log1p((white**2).sum(axis=0) / nu)
            terms.append(np.log(weight) + constant - log_volume - tail)
        return logsumexp(terms, axis=0) - np.log(self.unit).sum()


def effective_share(log_weight: np.ndarray) -> float:
    """Effective number of points by their number."""
    return float(np.exp(2 * logsumexp(log_weight) - logsumexp(2 * log_weight))) / len(log_weight)


def next_temperature(
    temperature: float, prior_weight: np.ndarray, log_likelihood: np.ndarray
) -> float:
    """The highest one, up to 1, that leaves enough of the points effective; none below the last."""

    def excess(temperature: float) -> float:
        return effective_share(prior_weight + temperature * log_likelihood) - EFFECTIVE_SHARE

    if excess(1.0) >= 0.0:
        return 1.0
    low = max(temperature, 1e-8)
    return brentq(excess, low, 1.0, rtol=1e-3) if excess(low) > 0.0 else low


def resample(log_weight: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """`n` indices in proportion to the weights, by systematic resampling, in random order."""
    total = np.cumsum(np.exp(log_weight - logsumexp(log_weight)))
    position = (np.arange(n) + random.uniform()) / n * total[-1]
    return random.permutation(np.searchsorted(total, position))


def sample_posterior(
    simulator: Simulator,
    x: np.ndarray,
    n: int,
    n_components: int,
    random: np.random.Generator,
    n_points: int = 10_000,
    n_refinements: int = 3,
    points_per_draw: int = 10,
) -> tuple[np.ndarray, float, float]:
    """Draws ``(n, n_parameters)``, the effective share of the points, and that of repeated draws.

    Parameters
    ----------
    simulator : Simulator
    x : ndarray of shape (n_data,)
    n, n_components : int
    random : Generator
    n_points : int
        Points at each temperature.
    n_refinements : int
        Mixtures fitted at temperature 1.
    points_per_draw : int
        Points of the last mixture for each draw.
    """

    def weigh(z: np.ndarray, log_proposal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_likelihood = simulator.log_likelihood(simulator.parameters(z, random), x)
        log_prior = simulator.prior.log_prob_free(z)
        return log_prior - log_proposal, np.nan_to_num(log_likelihood, nan=-np.inf)

    z = simulator.coordinates(simulator.prior.sample(n_points, random))
    prior_weight, log_likelihood = weigh(z, simulator.prior.log_prob_free(z))
    temperature, refinements = 0.0, 0
    while refinements < n_refinements:
        temperature = next_temperature(temperature, prior_weight, log_likelihood)
        refinements += temperature == 1.0
        log_weight = prior_weight + temperature * log_likelihood
        chosen = z[resample(log_weight, n_points, random)]
        mixture = StudentMixture(chosen, n_components, int(random.integers(2**31)))
        z = mixture.sample(n_points if refinements < n_refinements else points_per_draw * n, random)
        prior_weight, log_likelihood = weigh(z, mixture.log_prob(z))
    log_weight = prior_weight + log_likelihood
    indices = resample(log_weight, n, random)
    repeated = 1.0 - len(np.unique(indices)) / n
    return simulator.parameters(z[indices], random), effective_share(log_weight), repeated


def observations(simulator: Simulator) -> tuple[np.ndarray, np.ndarray]:
    """True parameters ``(10, n_parameters)`` from the prior and their data ``(10, n_data)``."""
    random = np.random.default_rng(2021)
    theta = simulator.prior.sample(N_OBSERVATIONS, random)
    return theta, simulator.simulate(theta, random)


def reference(name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Observations and 10,000 draws for each; None if the file is yet to be written."""
    simulator = SIMULATORS[name]()
    _, x = observations(simulator)
    if hasattr(simulator, "sample_posterior"):
        random = np.random.default_rng(2022)
        return x, np.stack([simulator.sample_posterior(row, N_DRAWS, random) for row in x])
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return arrays["x"], arrays["draws"]


def normal_scores(theta: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Of the ranks of the true parameters ``(n_parameters,)`` among the draws."""
    return norm.ppf(((draws < theta).sum(axis=0) + 0.5) / (len(draws) + 1))


def write(name: str, n_check: int) -> None:
    """Draw, check and write the references of one simulator."""
    start = time.process_time()
    simulator = SIMULATORS[name]()
    theta, x = observations(simulator)
    print(
        f"\n## {name}\n\n| observation | effective share | repeated | mean squared score | C2ST |"
    )
    print("|---" * 5 + "|")
    kept, scores = [], []
    for i, row in enumerate(x):
        random = np.random.default_rng([2023, i])
        draws, share, repeated = sample_posterior(simulator, row, N_DRAWS, COMPONENTS[name], random)
        kept.append(draws)
        scores.append(normal_scores(theta[i], draws))
        line = f"| {i} | {share:.3f} | {repeated:.4f} | {np.mean(scores[-1] ** 2):.2f} | "
        if i < n_check:
            random = np.random.default_rng([2024, i])
            again, *_ = sample_posterior(simulator, row, N_DRAWS, COMPONENTS[name], random)
            line += f"{c2st(again, draws):.3f} "
        print(line + "|", flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez(FOLDER / f"{name}.npz", x=x, draws=np.stack(kept).astype(np.float32))
    mean, error = np.mean(np.square(scores)), np.sqrt(2.0 / np.size(scores))
    print(f"\nMean squared score {mean:.2f} (1 +- {error:.2f}), ", end="")
    print(f"{time.process_time() - start:.0f} s of CPU")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--names", nargs="+", default=list(COMPONENTS), choices=list(COMPONENTS))
    parser.add_argument("--check", type=int, default=2, help="observations that are drawn twice")
    arguments = parser.parse_args()
    for name in arguments.names:
        write(name, arguments.check)
    return 0


if __name__ == "__main__":
    sys.exit(main())
