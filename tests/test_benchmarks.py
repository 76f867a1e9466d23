"""The benchmarks run and measure what they say; what the defaults reach on real tables (slow)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import make_bimodal, make_galaxies

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmark_modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def run(script, *arguments):
    command = [sys.executable, str(FOLDER / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_accuracy_prints_a_row_per_model():
    table = run(
        "accuracy.py", "--tasks", "linear-300", "--models", "san", "linear-gaussian",
        "--rows", "150", "--set", "epochs=2", "n_members=1", "--seeds", "2",
    ).splitlines()  # fmt: skip
    assert [line.split("|")[2].strip() for line in table[2:]] == ["san", "linear-gaussian"]
    cells = [cell.strip() for cell in table[3].split("|")]
    assert 3.5 < float(cells[3]) < 4.0  # the exact NLL is 3.59
    assert float(cells[5]) == 0.0  # no seed in least squares


def test_densities_of_the_flows_are_normalised():
    pytest.importorskip("zuko")
    import torch
    from peers import Flow

    X, y, _ = make_bimodal(300, random_state=0)
    y = np.clip(y[:, :1], -2.9, 2.9)
    grid = np.linspace(-2.99, 2.99, 4001)[:, None]
    with torch.random.fork_rng():  # zuko knows only the global generator
        for limits in (None, np.array([[-3.0, 3.0]])):
            flow = Flow("nsf", limits, 0, budget=1.0).fit(X, y)
            density = np.exp(flow.log_prob(np.tile(X[:1], (4001, 1)), grid))
            assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1.0, abs=0.03)
            draws = flow.sample(X[:5], 100, 0)
            assert draws.shape == (5, 100, 1)
            assert limits is None or np.abs(draws).max() <= 3.0


def test_the_energy_score_of_exact_draws_is_that_of_the_formula():
    from accuracy import energy_score
    from tasks import Task

    class Normal:
        def sample(self, X, n, random_state):
            return np.random.default_rng(0).normal(size=(len(X), n, 1))

    y = np.random.default_rng(1).normal(size=(500, 1))
    task = Task(np.zeros((500, 1)), y, np.zeros((500, 1)), y)
    # Mean CRPS of a standard normal forecast of standard normal values: 1 / sqrt(pi)
    assert energy_score(Normal(), task) == pytest.approx(1.0 / np.sqrt(np.pi), abs=0.06)


def test_the_yardstick_agrees_with_plain_monte_carlo():
    import yardstick

    from sklearn_san import _galaxies

    class Prior:
        """The worst proposal."""

        def sample(self, X, n, random_state):
            return _galaxies.draw_parameters(n, np.random.RandomState(random_state))[None]

        def log_prob(self, X, y):
            return yardstick.log_prior(y)

    y = _galaxies.draw_parameters(100_000, np.random.RandomState(0))
    uniform = np.random.default_rng(0).uniform(*yardstick.GALAXY_LIMITS.T, size=(200_000, 9))
    volume = np.log(yardstick.HIGH - yardstick.LOW).sum()
    mass = np.exp(yardstick.log_prior(uniform) + volume).mean()
    assert mass == pytest.approx(1.0, abs=0.03)  # five standard errors
    X, _ = make_galaxies(300, random_state=5)
    x = X[X.sum(axis=1).argmax()]  # the faintest: its likelihood is broad
    plain = logsumexp(yardstick.log_likelihood(y, x)) - np.log(len(y))
    random = np.random.default_rng(0)
    evidence, effective = yardstick.log_evidence(Prior(), x, random, n=1000, n_rounds=4)
    assert effective > 150
    assert evidence == pytest.approx(plain, abs=0.2)


@pytest.mark.slow
def test_magnitudes_given_redshift(benchmark_data):
    data = benchmark_data("dc2_galaxies.npz")
    X, y = data["redshift"][:, None], data["mags"]
    est = SANConditionalDensityEstimator(random_state=0).fit(X[:20_000], y[:20_000])
    assert -est.score(X[-5000:], y[-5000:]) <= -8.9
    draws = est.sample(X[-5000:], 1, random_state=0)[:, 0]
    assert np.abs(np.corrcoef(draws.T) - np.corrcoef(y[-5000:].T)).max() < 0.02


@pytest.mark.slow
def test_galaxies(benchmark_data):
    data = benchmark_data("galaxies.npz")
    X, y = data["x"], data["y"]
    nll = {}
    for n in (20_000, 100_000):
        est = SANConditionalDensityEstimator(limits=data["y_limits"], random_state=0)
        nll[n] = -est.fit(X[:n], y[:n]).score(X[-5000:], y[-5000:])
    assert nll[20_000] < 3.8
    assert nll[100_000] < nll[20_000] - 0.5
    draws = est.sample(X[-100:], 20_000, random_state=0)
    low, high = data["y_limits"].T
    assert ((draws >= low) & (draws <= high)).all()
