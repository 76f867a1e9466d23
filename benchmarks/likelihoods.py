"""Time of each likelihood family, and how near it comes to densities that suit it.

Usage: python benchmarks/likelihoods.py [--speed] [--toys]

--speed prints milliseconds per million values of `log_prob` (with its gradient) and `sample`, next
to the same mixture in torch.distributions, in one run. --toys fits each family to problems of known
conditional density and prints how far its test NLL lies above the exact one, in nats.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import distributions

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.likelihoods import LIKELIHOODS, Softmax, Support, make_likelihood

N_VALUES, K = 100_000, 10
INF = float("inf")


def milliseconds(function: Callable[[], object], repeats: int = 7) -> float:
    """Median time of a call, scaled to a million values."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times)) * 1e6 / N_VALUES


def peer(name: str, raw: torch.Tensor) -> distributions.Distribution | None:
    """The same distribution in torch, if it has it."""
    if name in ("gaussian", "laplace"):
        law = distributions.Normal if name == "gaussian" else distributions.Laplace
        return law(raw[:, 0], raw[:, 1].exp(), validate_args=False)
    if name == "categorical":
        return distributions.Categorical(logits=raw, validate_args=False)
    if name not in ("mog", "most", "mob"):
        return None
    logits, loc, raw_scale = raw[:, : 3 * K].split(K, -1)
    scale = raw_scale.exp()
    components = {
        "mog": lambda: distributions.Normal(loc, scale, validate_args=False),
        "most": lambda: distributions.StudentT(
            1 + raw[:, 3 * K :].exp(), loc, scale, validate_args=False
        ),
        "mob": lambda: distributions.Beta(1 + loc.exp(), 1 + scale, validate_args=False),
    }[name]()
    mixture = distributions.Categorical(logits=logits, validate_args=False)
    return distributions.MixtureSameFamily(mixture, components, validate_args=False)


def speed() -> None:
    generator = torch.Generator().manual_seed(0)
    print("| family | log_prob + gradient | torch | sample | torch |")
    print("|---|---|---|---|---|")
    for name in LIKELIHOODS:
        family = make_likelihood(name).resolve(K=K, unit=1.0, n_classes=10)
        raw = torch.randn((N_VALUES, family.n_params), generator=generator)
        raw.requires_grad_(True)
        y = torch.rand(N_VALUES, generator=generator)
        if name in ("categorical", "ordinal"):
            y = torch.floor(10 * y)
        noise = torch.rand((N_VALUES, family.n_noise), generator=generator).clamp(1e-6, 1 - 1e-6)
        high = 10.0 if name == "ordinal" else 1.0
        support = Support(torch.tensor(0.0), torch.tensor(high)) if family.bounded else None

        def ours(family=family, raw=raw, y=y, support=support) -> None:
            family.log_prob(raw, y, support).sum().backward()

        def theirs(name=name, raw=raw, y=y) -> None:
            peer(name, raw).log_prob(
                y.clamp(1e-6, 1 - 1e-6) if name == "mob" else y
            ).sum().backward()

        def draw(family=family, raw=raw, noise=noise, support=support) -> None:
            with torch.no_grad():
                family.sample(raw, noise, support)

        def their_draw(name=name, raw=raw) -> None:
            with torch.no_grad():
                peer(name, raw).sample()

        has_peer = peer(name, raw) is not None
        cells = [ours, theirs if has_peer else None, draw, their_draw if has_peer else None]
        times = ["" if cell is None else f"{milliseconds(cell):.0f}" for cell in cells]
        print(f"| `{name}` | " + " | ".join(times) + " |", flush=True)


def toys() -> dict[str, tuple]:
    """Name: X, y, exact log density, limits, the family that suits."""
    random = np.random.default_rng(0)
    n = 30_000
    x = random.uniform(-1.0, 1.0, n)
    X, inf = x[:, None], [-INF, INF]
    heavy = stats.t(1.1, np.sin(2 * x), 0.5 * np.exp(0.5 * x))
    waiting = stats.expon(0.0, np.exp(x))
    beta = stats.beta(1.2 + 0.2 * x, 3.0 - x)
    uniform = stats.uniform(x - 0.5, 1.0)
    poisson = stats.poisson(np.exp(1.0 + 0.7 * x))
    steps = np.array([0.18, 0.01, 0.12, 0.02, 0.15, 0.01, 0.1, 0.02, 0.16, 0.01, 0.2, 0.02])
    stepwise = random.choice(12, n, p=steps) + random.uniform(size=n)
    problems = {
        "heavy tails, Student's t with 1.1 df": (heavy, "most", inf),
        "bounded, exponential": (waiting, "truncated_mog", [0.0, INF]),
        "beta on [0, 1]": (beta, "mob", [0.0, 1.0]),
        "sharp edges, moving uniform": (uniform, "spline", inf),
        "counts, Poisson": (poisson, "ordinal", [0.0, INF]),
    }
    tasks = {}
    for name, (law, family, limits) in problems.items():
        y = law.rvs(random_state=1)
        exact = law.logpmf(y) if family == "ordinal" else law.logpdf(y)
        tasks[name] = (X, y.astype(float), exact, limits, family)
    exact = np.log(steps[np.floor(stepwise).astype(int)])
    tasks["steps, histogram of 12 bins"] = (X, stepwise, exact, [0.0, 12.0], Softmax(atoms=12))
    return tasks


def score(est: SANConditionalDensityEstimator, X: np.ndarray, y: np.ndarray, whole: bool) -> float:
    """Mean log-likelihood; for whole numbers that of their cells, if the family has a density."""
    if not whole or est.families_[0].discrete:
        return est.score(X, y)
    x = torch.as_tensor(est.input_encoder_.transform(X))
    below, above = (
        torch.as_tensor(est.y_scaler_.transform(y[:, None] + shift)) for shift in (-0.5, 0.5)
    )
    network = est.network_.double()
    return float((network.cdf(x, above) - network.cdf(x, below)).clamp_min(1e-300).log().mean())


def toy_table() -> None:
    print("| problem | family | its NLL above exact | 10 Gaussians | 3 Gaussians |")
    print("|---|---|---|---|---|")
    for name, (X, y, exact, limits, family) in toys().items():
        whole, above = name.startswith("counts"), []
        # On whole numbers a mixture needs a floor, lest it becomes a row of spikes
        floor = {"min_scale": 0.3} if whole else None
        candidates = [(family, limits, None, 10), ("mog", None, floor, 10), ("mog", None, floor, 3)]
        for likelihood, bounds, params, n_components in candidates:
            est = SANConditionalDensityEstimator(
                K=n_components,
                likelihood=likelihood,
                likelihood_params=params,
                limits=bounds,
                module_shape=(32, 32),
                random_state=0,
            ).fit(X[:20_000], y[:20_000])
            above.append(exact[20_000:].mean() - score(est, X[20_000:], y[20_000:], whole))
        label = family if isinstance(family, str) else repr(family)
        cells = " | ".join(f"{value:.3f}" for value in above)
        print(f"| {name} | `{label}` | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--toys", action="store_true")
    arguments = parser.parse_args()
    if arguments.speed or not arguments.toys:
        speed()
    if arguments.toys or not arguments.speed:
        toy_table()


if __name__ == "__main__":
    main()
