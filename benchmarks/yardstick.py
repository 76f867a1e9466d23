"""The exact posterior density of simulated galaxies, by importance sampling of the evidence.

``p(y | x) = p(x | y) p(y) / p(x)``: the noise of `make_galaxies` is Gaussian in flux and its prior
is known, so only the evidence ``p(x)`` takes work. It is the mean of ``p(x | y) p(y) / q(y)`` over
draws from a proposal q: first the prior and the fitted model under test, then Gaussian mixtures
placed on the best of all draws so far, repeated, with the weights of the deterministic mixture of
all proposals (Owen and Zhou 2000; Cappe et al. 2004).

`python benchmarks/accuracy.py --tasks make_galaxies --yardstick 200` uses it;
`python benchmarks/yardstick.py` compares the evidence of ten galaxies with that of longer runs.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from sklearn_san.datasets import GALAXY_LIMITS, galaxies, make_galaxies

LOW, HIGH = GALAXY_LIMITS.T
#: Gaussian kernels of each adapted proposal.
N_CENTRES = 150


def log_prior(y: np.ndarray) -> np.ndarray:
    """Log density of `draw_parameters`; -inf outside."""
    z, age, inclination = y[:, 0], y[:, 3], np.radians(y[:, 8])
    grid = np.linspace(LOW[0], HIGH[0], 4000)
    norm = np.trapezoid(grid**2 * np.exp(-((grid / 0.9) ** 1.5)), grid)
    inside = ((y >= LOW) & (y <= HIGH)).all(axis=1)
    z = np.clip(z, LOW[0], HIGH[0])
    oldest = np.minimum(galaxies.universe_age(z), HIGH[3])
    uniform = [1, 2, 4, 5, 6, 7]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_density = (
            2.0 * np.log(z)
            - (z / 0.9) ** 1.5
            - np.log(norm)
            - np.log(oldest - LOW[3])
            + np.log(np.sin(np.clip(inclination, 0.0, np.pi / 2)))
            + np.log(np.pi / 180.0)
            - np.log((HIGH - LOW)[uniform]).sum()
        )
    return np.where(inside & (age <= oldest), log_density, -np.inf)


def log_likelihood(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Log density of the asinh magnitudes x (8,) given the parameters y (n, 9)."""
    flux = galaxies.fluxes(y)
    observed = 2.0 * galaxies.SKY_NOISE * np.sinh(
        -np.log(10.0) / 2.5 * x - np.log(galaxies.SKY_NOISE)
    )  # fmt: skip
    scale = galaxies.noise_scale(flux)
    jacobian = np.log(np.log(10.0) / 2.5) + 0.5 * np.log(
        observed**2 + (2.0 * galaxies.SKY_NOISE) ** 2
    )
    gauss = -0.5 * ((observed - flux) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2.0 * np.pi)
    return (gauss + jacobian).sum(axis=1)


def log_joint(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    prior = log_prior(y)
    result = np.full(len(y), -np.inf)
    inside = np.isfinite(prior)
    result[inside] = prior[inside] + log_likelihood(y[inside], x)
    return result


class KernelMixture:
    """Gaussian kernels on weighted centres, in units of the limits' width."""

    def __init__(self, centres: np.ndarray, weights: np.ndarray, shrink: float):
        self.centres = centres
        mean = weights @ centres
        covariance = (weights[:, None] * (centres - mean)).T @ (centres - mean)
        covariance = shrink**2 * (covariance + 1e-8 * np.eye(len(mean)))
        self.factor = np.linalg.cholesky(covariance)
        self.weights = weights

    def sample(self, n: int, random: np.random.Generator) -> np.ndarray:
        chosen = random.choice(len(self.centres), n, p=self.weights)
        noise = random.standard_normal((n, self.centres.shape[1]))
        return self.centres[chosen] + noise @ self.factor.T

    def log_density(self, u: np.ndarray) -> np.ndarray:
        def white(points: np.ndarray) -> np.ndarray:
            return np.linalg.solve(self.factor, points.T).T

        a, b = white(u), white(self.centres)
        square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2.0 * a @ b.T
        constant = np.log(np.diag(self.factor)).sum() + 0.5 * u.shape[1] * np.log(2.0 * np.pi)
        with np.errstate(divide="ignore"):
            return logsumexp(np.log(self.weights) - 0.5 * square, axis=1) - constant


def log_evidence(
    model, x: np.ndarray, random: np.random.Generator, n: int = 2000, n_rounds: int = 5
) -> tuple[float, float]:
    """Log evidence of one galaxy, and the effective sample size behind it.

    The proposals are adapted first; the estimate comes from fresh draws, because a kernel centred
    on a draw would lower that draw's own weight.
    """
    log_volume = np.log(HIGH - LOW).sum()
    kernels: list[KernelMixture] = []

    def propose() -> np.ndarray:
        """Draws from every proposal, twice as many from the model as from each other."""
        seeds = random.integers(2**31, size=2)
        parts = [
            galaxies.draw_parameters(n, np.random.RandomState(seeds[0])),
            model.sample(x[None], 2 * n, random_state=int(seeds[1]))[0],
        ]
        parts += [LOW + (HIGH - LOW) * kernel.sample(n, random) for kernel in kernels]
        return np.concatenate(parts)

    def log_weights(y: np.ndarray) -> np.ndarray:
        """Joint density over that of the mixture of all proposals, at possible values."""
        parts = [log_prior(y), model.log_prob(np.tile(x, (len(y), 1)), y)]
        unit = (y - LOW) / (HIGH - LOW)
        parts += [kernel.log_density(unit) - log_volume for kernel in kernels]
        share = np.array([1.0, 2.0] + [1.0] * len(kernels))
        log_share = np.log(share / share.sum())[:, None]
        return log_joint(y, x) - logsumexp(np.array(parts) + log_share, axis=0)

    def possible(y: np.ndarray) -> np.ndarray:
        return y[np.isfinite(log_prior(y))]

    for round_ in range(n_rounds):
        y = possible(propose())
        log_weight = log_weights(y)
        temper = 1.0
        while True:  # soften the weights until enough draws take part
            weight = np.exp(temper * (log_weight - log_weight.max()))
            weight /= weight.sum()
            if 1.0 / (weight**2).sum() > 100 or temper < 0.05:
                break
            temper *= 0.7
        unit = (y[random.choice(len(y), N_CENTRES, p=weight)] - LOW) / (HIGH - LOW)
        equal = np.full(N_CENTRES, 1.0 / N_CENTRES)
        kernels.append(KernelMixture(unit, equal, 0.5 if round_ < 3 else 0.35))
        del kernels[:-3]
    proposed = propose()
    log_weight = log_weights(possible(proposed))
    weight = np.exp(log_weight - log_weight.max())
    evidence = logsumexp(log_weight) - np.log(len(proposed))
    return float(evidence), float(weight.sum() ** 2 / (weight**2).sum())


def exact_log_density(
    model, X: np.ndarray, y: np.ndarray, seed: int = 0, **options
) -> tuple[np.ndarray, np.ndarray]:
    """Exact log posterior density of y at X, and the effective sample size, for every row."""
    random = np.random.default_rng(seed)
    exact, effective = np.empty((2, len(X)))
    for i, x in enumerate(X):
        evidence, effective[i] = log_evidence(model, x, random, **options)
        exact[i] = log_joint(y[i : i + 1], x)[0] - evidence
    return exact, effective


def gap(model, n_galaxies: int) -> float:
    """Mean of exact minus modelled log density over simulated galaxies: nats above exact."""
    X, y = make_galaxies(n_galaxies, random_state=123)
    exact, effective = exact_log_density(model, X, y)
    difference = exact - model.log_prob(X, y)
    error = difference.std() / np.sqrt(n_galaxies)
    print(
        f"yardstick: {difference.mean():.3f} ± {error:.3f} nats above exact; effective draws: "
        f"median {np.median(effective):.0f}, a tenth below {np.quantile(effective, 0.1):.0f}"
    )
    return float(difference.mean())


def main() -> None:
    from sklearn_san import SANConditionalDensityEstimator

    X, y = make_galaxies(5000, random_state=0)
    model = SANConditionalDensityEstimator(limits=GALAXY_LIMITS, random_state=0).fit(X, y)
    X, y = make_galaxies(10, random_state=123)
    for options in ({}, {"n": 6000, "n_rounds": 6}):
        exact, effective = exact_log_density(model, X, y, **options)
        print(options or "as in the benchmark")
        print("  exact log density:", np.round(exact, 3))
        print("  effective draws:  ", np.round(effective).astype(int))


if __name__ == "__main__":
    main()
