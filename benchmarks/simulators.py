"""Eight simulators of the benchmark of simulation-based inference, written from their definitions.

Each has a prior, `simulate`, `log_likelihood`, and `sample_posterior` with `log_posterior` where
the posterior is known in closed form; `references.py` draws from the others. The definitions are
those of Lueckmann, Boelts, Greenberg, Goncalves and Macke (2021), "Benchmarking simulation-based
inference", AISTATS, appendix T, except that `BernoulliGLM` gives sums over spikes where they
divide them by the number of spikes, which may be none.

Parameters are ``theta (n, n_parameters)``, data ``x (n, n_data)``; in `log_likelihood` either
may be one row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit, logsumexp, ndtr, ndtri, xlog1py, xlogy
from scipy.stats import binom, norm, truncnorm

ROWS = 2000  # rows that are integrated at a time: they stay in the cache
LOG_TWO_PI = np.log(2.0 * np.pi)


class BoxPrior:
    """Uniform between `low` and `high`; its free coordinates are standard normal."""

    def __init__(self, low: npt.ArrayLike, high: npt.ArrayLike, n_parameters: int):
        self.low, self.high = np.full(n_parameters, low, float), np.full(n_parameters, high, float)
        self.limits = np.stack([self.low, self.high], axis=1)

    def sample(self, n: int, random: np.random.Generator) -> np.ndarray:
        return random.uniform(self.low, self.high, size=(n, len(self.low)))

    def log_prob(self, theta: np.ndarray) -> np.ndarray:
        inside = ((theta >= self.low) & (theta <= self.high)).all(axis=-1)
        return np.where(inside, -np.log(self.high - self.low).sum(), -np.inf)

    def to_free(self, theta: np.ndarray) -> np.ndarray:
        return ndtri((theta - self.low) / (self.high - self.low))

    def from_free(self, z: np.ndarray) -> np.ndarray:
        return self.low + (self.high - self.low) * ndtr(z)

    def log_prob_free(self, z: np.ndarray) -> np.ndarray:
        return norm.logpdf(z).sum(axis=-1)


class GaussianPrior:
    """Zero mean and a covariance; its free coordinates are the parameters."""

    limits = None

    def __init__(self, covariance: np.ndarray):
        self.factor = np.linalg.cholesky(covariance)

    def sample(self, n: int, random: np.random.Generator) -> np.ndarray:
        return random.standard_normal((n, len(self.factor))) @ self.factor.T

    def log_prob(self, theta: np.ndarray) -> np.ndarray:
        white = np.linalg.solve(self.factor, theta.T)
        return norm.logpdf(white).sum(axis=0) - np.log(np.diag(self.factor)).sum()

    def to_free(self, theta: np.ndarray) -> np.ndarray:
        return theta

    def from_free(self, z: np.ndarray) -> np.ndarray:
        return z

    log_prob_free = log_prob


class LogNormalPrior:
    """Independent log-normals; the free coordinates are the logarithms."""

    def __init__(self, loc: list[float], scale: list[float]):
        self.loc, self.scale = np.array(loc), np.array(scale)
        self.limits = np.tile([0.0, np.inf], (len(loc), 1))

    def sample(self, n: int, random: np.random.Generator) -> np.ndarray:
        return np.exp(random.normal(self.loc, self.scale, size=(n, len(self.loc))))

    def log_prob(self, theta: np.ndarray) -> np.ndarray:
        z = np.log(theta)
        return self.log_prob_free(z) - z.sum(axis=-1)

    def to_free(self, theta: np.ndarray) -> np.ndarray:
        return np.log(theta)

    def from_free(self, z: np.ndarray) -> np.ndarray:
        return np.exp(z)

    def log_prob_free(self, z: np.ndarray) -> np.ndarray:
        return norm.logpdf(z, self.loc, self.scale).sum(axis=-1)


class Simulator:
    """Prior and likelihood.

    `coordinates` are those in which posteriors are sampled: the prior's free ones, or those of
    one of several parts that symmetries of the likelihood map to each other.
    """

    prior: BoxPrior | GaussianPrior | LogNormalPrior

    def simulate(self, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Up to a constant that does not depend on theta in `BernoulliGLM`."""
        raise NotImplementedError

    def coordinates(self, theta: np.ndarray) -> np.ndarray:
        return self.prior.to_free(theta)

    def parameters(self, z: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return self.prior.from_free(z)


def accepted(
    draw: Callable[[int], np.ndarray], prior: BoxPrior, n: int, batch: int = 10_000
) -> np.ndarray:
    """The first `n` draws inside the box."""
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < n:
        theta = draw(batch)
        kept.append(theta[np.isfinite(prior.log_prob(theta))])
    return np.concatenate(kept)[:n]


class GaussianLinear(Simulator):
    """Ten means of variance 0.1 under a Gaussian prior of variance 0.1."""

    def __init__(self) -> None:
        self.variance = 0.1
        self.prior = GaussianPrior(0.1 * np.eye(10))

    def simulate(self, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return random.normal(theta, np.sqrt(self.variance))

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        return norm.logpdf(x, theta, np.sqrt(self.variance)).sum(axis=-1)

    def sample_posterior(self, x: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
        return random.normal(x / 2, np.sqrt(self.variance / 2), size=(n, len(x)))

    def log_posterior(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        return norm.logpdf(theta, x / 2, np.sqrt(self.variance / 2)).sum(axis=-1)


class GaussianLinearUniform(GaussianLinear):
    """The same under a uniform prior on [-1, 1]."""

    def __init__(self) -> None:
        self.variance = 0.1
        self.prior = BoxPrior(-1.0, 1.0, 10)

    def _posterior(self, x: np.ndarray) -> truncnorm:
        scale = np.sqrt(self.variance)
        return truncnorm((-1.0 - x) / scale, (1.0 - x) / scale, x, scale)

    def sample_posterior(self, x: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
        return self._posterior(x).rvs((n, len(x)), random_state=random)

    def log_posterior(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._posterior(x).logpdf(theta).sum(axis=-1)


class GaussianMixture(Simulator):
    """Two Gaussians of the same mean, one ten times as wide as the other."""

    scales = np.array([1.0, 0.1])

    def __init__(self) -> None:
        self.prior = BoxPrior(-10.0, 10.0, 2)

    def simulate(self, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return random.normal(theta, random.choice(self.scales, size=(len(theta), 1)))

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        terms = norm.logpdf((x - theta)[..., None, :], 0.0, self.scales[:, None]).sum(axis=-1)
        return logsumexp(terms, axis=-1) - np.log(2.0)

    def sample_posterior(self, x: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
        def draw(n: int) -> np.ndarray:
            return random.normal(x, random.choice(self.scales, size=(n, 1)), size=(n, 2))

        return accepted(draw, self.prior, n)

    def log_posterior(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        x = np.atleast_2d(x)
        low, high = ((limit - x[:, None]) / self.scales[:, None] for limit in self.prior.limits[0])
        mass = (ndtr(high) - ndtr(low)).prod(axis=-1).mean(axis=-1)  # of both Gaussians, in the box
        return self.log_likelihood(theta, x) - np.log(mass)


class TwoMoons(Simulator):
    """A crescent of noise, moved by the parameters in a way that leaves two modes."""

    radius, width, shift = 0.1, 0.01, 0.25

    def __init__(self) -> None:
        self.prior = BoxPrior(-1.0, 1.0, 2)

    def simulate(self, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return self._crescent(len(theta), random) - self._displacement(theta)

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        across, along = np.moveaxis(x + self._displacement(theta), -1, 0)
        across = across - self.shift
        radius = np.hypot(across, along)
        with np.errstate(divide="ignore"):
            log_prob = norm.logpdf(radius, self.radius, self.width) - np.log(np.pi * radius)
        return np.where(across > 0.0, log_prob, -np.inf)

    def sample_posterior(self, x: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
        def draw(n: int) -> np.ndarray:
            noise = self._crescent(n, random)
            side = random.choice([-1.0, 1.0], size=n)
            return self._invert(noise - x, side)

        return accepted(draw, self.prior, n)

    def log_posterior(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        x = np.broadcast_to(x, theta.shape)
        density = np.exp(self.log_likelihood(theta, x))
        mass = np.array([self._mass(row) for row in x])
        return np.log(density) - np.log(mass)

    def _displacement(self, theta: np.ndarray) -> np.ndarray:
        """What is taken from the noise, ``(n, 2)``."""
        first, second = np.moveaxis(theta, -1, 0)
        return np.stack([abs(first + second), first - second], axis=-1) / np.sqrt(2.0)

    def _invert(self, displacement: np.ndarray, side: np.ndarray | float) -> np.ndarray:
        """Parameters of a displacement, nan if it is negative; `side` is the sign of their sum."""
        with np.errstate(invalid="ignore"):
            size = np.where(displacement[:, 0] >= 0.0, displacement[:, 0], np.nan)
        total, difference = side * size, displacement[:, 1]
        return np.stack([total + difference, total - difference], axis=1) / np.sqrt(2.0)

    def _crescent(self, n: int, random: np.random.Generator) -> np.ndarray:
        angle = random.uniform(-np.pi / 2, np.pi / 2, size=n)
        return self._points(random.normal(self.radius, self.width, size=n), angle)

    def _points(self, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
        return np.stack([radius * np.cos(angle) + self.shift, radius * np.sin(angle)], axis=1)

    def _mass(self, x: np.ndarray, n_radii: int = 10, n_angles: int = 200) -> float:
        """Integral of the likelihood over the box, by points of equal mass in the crescent."""
        radii = norm.ppf((np.arange(n_radii) + 0.5) / n_radii, self.radius, self.width)
        angles = np.pi * ((np.arange(n_angles) + 0.5) / n_angles - 0.5)
        noise = self._points(*(part.ravel() for part in np.meshgrid(radii, angles)))
        inside = [
            np.isfinite(self.prior.log_prob(self._invert(noise - x, side))) for side in (-1.0, 1.0)
        ]
        if not np.any(inside) and n_angles < 20_000:  # hardly any of it is in the box
            return self._mass(x, 10 * n_radii, 10 * n_angles)
        return float(np.sum(inside) / len(noise))


class SLCP(Simulator):
    """Simple likelihood, complex posterior: four points of a Gaussian with five parameters.

    The signs of the third and the fourth parameter do not matter, which makes four modes; the
    coordinates are those of the mode where both are positive.
    """

    def __init__(self) -> None:
        self.prior = BoxPrior(-3.0, 3.0, 5)
        self.part = BoxPrior([-3.0, -3.0, 0.0, 0.0, -3.0], 3.0, 5)  # one of the modes

    def simulate(self, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
        noise = random.standard_normal((len(theta), 4, 2))
        scale, slope = theta[:, None, 2:4] ** 2, np.tanh(theta[:, None, 4])
        noise[..., 1] = slope * noise[..., 0] + np.sqrt(1.0 - slope**2) * noise[..., 1]
        return (theta[:, None, :2] + scale * noise).reshape(len(theta), 8)

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        points = x.reshape(*x.shape[:-1], 4, 2)
        scale, slope = theta[..., 2:4] ** 2, np.tanh(theta[..., 4])
        log_rest = -2.0 * np.log(np.cosh(theta[..., 4]))  # of 1 - slope^2
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            white = (points - theta[..., None, :2]) / scale[..., None, :]
            first, second = white[..., 0], white[..., 1]
            cross = first**2 - 2.0 * slope[..., None] * first * second + second**2
            square = cross.sum(axis=-1) * np.exp(-log_rest)
            log_determinant = np.log(scale).sum(axis=-1) + 0.5 * log_rest
            return -0.5 * square - 4.0 * (log_determinant + LOG_TWO_PI)

    def coordinates(self, theta: np.ndarray) -> np.ndarray:
        positive = theta.copy()
        positive[:, 2:4] = abs(positive[:, 2:4])
        return self.part.to_free(positive)

    def parameters(self, z: np.ndarray, random: np.random.Generator) -> np.ndarray:
        theta = self.part.from_free(z)
        theta[:, 2:4] *= random.choice([-1.0, 1.0], size=(len(z), 2))
        return theta


def integrate(
    derivative: Callable[[np.ndarray, np.ndarray], np.ndarray],
    start: np.ndarray,
    theta: np.ndarray,
    interval: float,
    n_times: int,
    n_steps: int,
    tolerance: float = 1e-4,
) -> np.ndarray:
    """Runge-Kutta of fourth order from `start (k,)`; ``(n, n_times, k)`` at equal intervals.

    Each row is integrated with twice the steps until no value changes by more than `tolerance`;
    the error is then about a fifteenth of it.
    """
    result = np.empty((len(theta), n_times, len(start)))
    for first in range(0, len(theta), ROWS):
        rows = np.arange(first, min(first + ROWS, len(theta)))
        steps = n_steps
        before = _runge_kutta(derivative, start, theta[rows], interval, n_times, steps)
        while len(rows) and steps < 1000 * n_steps:
            steps *= 2
            result[rows] = _runge_kutta(derivative, start, theta[rows], interval, n_times, steps)
            change = abs(result[rows] - before).max(axis=(1, 2))
            rough = ~(change <= tolerance)  # nan too
            rows, before = rows[rough], result[rows[rough]]
    return result


def _runge_kutta(
    derivative: Callable[[np.ndarray, np.ndarray], np.ndarray],
    start: np.ndarray,
    theta: np.ndarray,
    interval: float,
    n_times: int,
    n_steps: int,
) -> np.ndarray:
    """With `n_steps` steps an interval."""
    columns = np.ascontiguousarray(theta.T)  # (n_parameters, n)
    state = np.repeat(start[:, None], len(theta), axis=1)  # (k, n)
    step = interval / n_steps
    path = [state]
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(n_times - 1):
            for _ in range(n_steps):
                a = derivative(state, columns)
                b = derivative(state + 0.5 * step * a, columns)
                c = derivative(state + 0.5 * step * b, columns)
                d = derivative(state + step * c, columns)
                state = state + step / 6.0 * (a + 2.0 * (b + c) + d)
            path.append(state)
    return np.array(path).transpose(2, 0, 1)


class SIR(Simulator):
    """An epidemic: rates of infection and recovery, infected people in samples of 1,000.

    Ten samples, 17 days apart from the first day on, of a population of a million.
    """

    population, sample_size = 1_000_000, 1000

    def __init__(self) -> None:
        self.prior = LogNormalPrior([np.log(0.4), np.log(0.125)], [0.5, 0.2])

    def solve(self, theta: np.ndarray) -> np.ndarray:
        """Shares that are susceptible, infected and recovered, ``(n, 10, 3)``."""

        def derivative(state: np.ndarray, theta: np.ndarray) -> np.ndarray:
            susceptible, infected = np.exp(state[:2])
            infection, recovery = theta
            return np.stack([
                -infection * infected, infection * susceptible - recovery, recovery * infected
            ])  # fmt: skip

        one = 1.0 / self.population
        start = np.array([np.log1p(-one), np.log(one), 0.0])
        states = integrate(derivative, start, theta, 17.0, 10, n_steps=20)
        return np.concatenate([np.exp(states[..., :2]), states[..., 2:]], axis=-1)

    def simulate(self, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
        share = np.clip(self.solve(theta)[..., 1], 0.0, 1.0)
        return random.binomial(self.sample_size, share).astype(float)

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        share = np.clip(self.solve(theta)[..., 1], 0.0, 1.0)
        constant = binom.logpmf(x, self.sample_size, 0.5) + self.sample_size * np.log(2.0)
        return (constant + xlogy(x, share) + xlog1py(self.sample_size - x, -share)).sum(axis=-1)


class LotkaVolterra(Simulator):
    """Prey and predators: ten counts of each, with errors of a tenth, 2.1 days apart."""

    noise = 0.1

    def __init__(self) -> None:
        self.prior = LogNormalPrior([-0.125, -3.0, -0.125, -3.0], [0.5] * 4)

    def solve(self, theta: np.ndarray) -> np.ndarray:
        """Logarithms of prey and predators, ``(n, 10, 2)``."""

        def derivative(state: np.ndarray, theta: np.ndarray) -> np.ndarray:
            prey, predators = np.exp(state)
            birth, eaten, death, fed = theta
            return np.stack([birth - eaten * predators, fed * prey - death])

        return integrate(derivative, np.log([30.0, 1.0]), theta, 2.1, 10, n_steps=50)

    def simulate(self, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
        log_counts = self.solve(theta).swapaxes(1, 2).reshape(len(theta), 20)
        return np.exp(random.normal(log_counts, self.noise))

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        log_counts = self.solve(theta).swapaxes(1, 2).reshape(len(theta), 20)
        log_x = np.log(x)
        return (norm.logpdf(log_x, log_counts, self.noise) - log_x).sum(axis=-1)


class BernoulliGLM(Simulator):
    """Spikes of a neuron in 100 bins: an offset and a filter of nine bins over white noise.

    Data are the number of spikes and the sums of the input before spikes, ``(n, 10)``.
    """

    n_bins, n_lags = 100, 9

    def __init__(self) -> None:
        lags = np.arange(self.n_lags)
        smooth = np.diag(1.0 + np.sqrt(lags / 9.0))
        smooth += np.diag(np.full(self.n_lags - 1, -2.0), -1)
        smooth += np.diag(np.ones(self.n_lags - 2), -2)
        covariance = np.zeros((10, 10))
        covariance[0, 0] = 2.0
        covariance[1:, 1:] = np.linalg.inv(smooth.T @ smooth)
        self.prior = GaussianPrior(covariance)
        noise = np.random.default_rng(0).standard_normal(self.n_bins)
        padded = np.concatenate([np.zeros(self.n_lags - 1), noise])
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.n_lags)
        self.design = np.hstack([np.ones((self.n_bins, 1)), windows])  # (n_bins, 10)

    def simulate(self, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
        rate = expit(theta @ self.design.T)
        return (random.uniform(size=rate.shape) < rate) @ self.design

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        silence = log_expit(-(theta @ self.design.T)).sum(axis=-1)
        return (theta * x).sum(axis=-1) + silence


SIMULATORS: dict[str, Callable[[], Simulator]] = {
    "gaussian_linear": GaussianLinear,
    "gaussian_linear_uniform": GaussianLinearUniform,
    "gaussian_mixture": GaussianMixture,
    "two_moons": TwoMoons,
    "slcp": SLCP,
    "sir": SIR,
    "lotka_volterra": LotkaVolterra,
    "bernoulli_glm": BernoulliGLM,
}
