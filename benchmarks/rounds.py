"""One round against several, at equal numbers of simulations, by the classifier test.

Usage: python benchmarks/rounds.py [--names NAME ...] [--simulations N] [--rounds N]
           [--observations N] [--draws N] [--warm] [--set NAME=VALUE ...]

Prints for each simulator and observation the classifier test (0.5: not to be told from the exact
posterior), the log density at exact draws in nats, seconds, and the table of the rounds; writes it
to benchmarks/results/rounds.md. Simulators without a posterior in closed form need
`python benchmarks/references.py`, or are drawn from on the spot.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from ast import literal_eval
from pathlib import Path

import numpy as np
from references import COMPONENTS, observations, reference, sample_posterior
from scores import c2st
from simulators import SIMULATORS, LogNormalPrior, Simulator

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.simulation import Posterior, Prior, fit_simulator, infer

RESULTS = Path(__file__).parent / "results"


def prior_of(simulator: Simulator) -> Prior:
    """Prior of a simulator, with its density."""
    known = simulator.prior
    return Prior(known.sample, log_prob=known.log_prob, limits=known.limits)


def exact_draws(name: str, n: int, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations (n, n_data) and draws (n, n_draws, n_parameters) of their posteriors."""
    found = reference(name)
    if found is not None:
        return found[0][:n], found[1][:n, :n_draws]
    simulator, random = SIMULATORS[name](), np.random.default_rng(2023)
    x = observations(simulator)[1][:n]
    draws = [sample_posterior(simulator, one, n_draws, COMPONENTS[name], random)[0] for one in x]
    return x, np.array(draws)


def line(name: str, i: int, method: str, posterior: Posterior, exact: np.ndarray, t: float) -> str:
    """Scores of one posterior."""
    found = posterior.sample(len(exact), random_state=0)
    log_density = posterior.log_prob(exact).mean()
    return f"| {name} | {i} | {method} | {c2st(found, exact):.3f} | {log_density:.3f} | {t:.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = ["two_moons", "slcp", "lotka_volterra"]
    parser.add_argument("--names", nargs="+", default=names, choices=list(SIMULATORS))
    parser.add_argument("--simulations", type=int, default=10_000, help="of all rounds together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--observations", type=int, default=2)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--warm", action="store_true", help="warm starts between rounds as well")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    changes = {k: literal_eval(v) for k, v in (one.split("=") for one in arguments.set)}
    lines = [
        "| simulator | observation | method | C2ST | log density | seconds |",
        "|---" * 6 + "|",
    ]
    print("\n".join(lines))
    warnings.simplefilter("ignore")
    for name in arguments.names:
        simulator = SIMULATORS[name]()
        prior = prior_of(simulator)
        parameters = {"random_state": 0, **changes}
        if isinstance(simulator.prior, LogNormalPrior):
            parameters["y_scaler"] = "box-cox"
        estimator = SANConditionalDensityEstimator(**parameters)
        x, draws = exact_draws(name, arguments.observations, arguments.draws)

        start = time.perf_counter()
        one_round = fit_simulator(
            estimator, prior, simulator.simulate, arguments.simulations, random_state=0
        )
        seconds = time.perf_counter() - start
        for i in range(len(x)):
            posterior = Posterior(one_round, x[i], prior)
            lines.append(line(name, i, "one round", posterior, draws[i], seconds))
            print(lines[-1], flush=True)
        for i in range(len(x)):
            for warm in (False, True)[: 1 + arguments.warm]:
                start = time.perf_counter()
                posterior = infer(
                    x[i],
                    SANConditionalDensityEstimator(**parameters, warm_start=warm),
                    prior,
                    simulator.simulate,
                    n_simulations_per_round=arguments.simulations // arguments.rounds,
                    rounds=arguments.rounds,
                    tol=1e-9,
                    random_state=0,
                )
                seconds = time.perf_counter() - start
                method = f"rounds{', warm' * warm}"
                lines.append(line(name, i, method, posterior, draws[i], seconds))
                print(lines[-1], posterior.rounds, sep="\n", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rounds.md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
