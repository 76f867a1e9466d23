"""Speed of draws, log densities and training, next to the bare matrix products of the same shapes.

Usage: python benchmarks/speed.py [--outputs N ...] [--module-shape N ...] [--peers] [--repeats N]

Prints medians and ratios from one run. The products are those of the layers alone, in float32, by
torch on all its threads: forward for draws and log densities, three times that for training.
`--peers` adds zuko's spline flow and masked flow, untrained, of 3 transforms of (128, 128).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import GALAXY_LIMITS, make_galaxies


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def problem(n_outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Galaxies with their first outputs, or with outputs repeated."""
    X, y = make_galaxies(20_000, random_state=0)
    columns = np.arange(n_outputs) % y.shape[1]
    return X, y[:, columns], GALAXY_LIMITS[columns]


def products(est: SANConditionalDensityEstimator, n: int, *, draws: bool) -> Callable[[], None]:
    """The matrix products of one member for n rows; for draws without those that see x alone."""
    layers = []
    for d, block in enumerate(est.network_.blocks):
        if draws and d == 0:
            continue  # once per row
        for k, layer in enumerate([*block.hidden, block.heads]):
            weight = layer.weight[0]
            if draws and k == 0:
                weight = weight[est.n_features_in_ :]
            layers.append((torch.randn(n, len(weight)), weight.clone()))
    outs = [torch.empty(n, weight.shape[1]) for _, weight in layers]

    def run() -> None:
        with torch.no_grad():
            for (h, weight), out in zip(layers, outs, strict=True):
                torch.mm(h, weight, out=out)

    return run


def peers(X: np.ndarray, n_outputs: int, repeats: int) -> list[tuple[str, float]]:
    import zuko

    rows = []
    context = torch.as_tensor(X[:1], dtype=torch.float32)
    for name, kind in (("NSF", zuko.flows.NSF), ("MAF", zuko.flows.MAF)):
        flow = kind(n_outputs, X.shape[1], transforms=3, hidden_features=(128, 128))
        with torch.no_grad():
            seconds = median_seconds(lambda f=flow: f(context).sample((10_000,)), repeats)
        rows.append((f"zuko {name}, 10,000 draws of one row", seconds))
    return rows


def measure(n_outputs: int, module_shape: tuple[int, ...], with_peers: bool, repeats: int) -> None:
    X, y, limits = problem(n_outputs)
    est = SANConditionalDensityEstimator(
        limits=limits, module_shape=module_shape, epochs=2, early_stopping=False, random_state=0
    )
    est.fit(X, y)
    n_members = est.n_members_

    rows: list[tuple[str, float, float | None]] = []
    one = median_seconds(lambda: est.sample(X[:1], 10_000, random_state=0), repeats)
    bare = median_seconds(products(est, 10_000, draws=True), repeats)
    rows.append(("10,000 draws of one row", one, bare))
    many = median_seconds(lambda: est.sample(X[:1000], 100, random_state=0), max(3, repeats // 3))
    rows.append(("100 draws of 1,000 rows", many, 10 * bare))
    score = median_seconds(lambda: est.log_prob(X[:10_000], y[:10_000]), repeats)
    forward = median_seconds(products(est, 10_000, draws=False), repeats)
    rows.append((f"log density of 10,000 rows, {n_members} members", score, n_members * forward))
    start = time.perf_counter()
    est.set_params(epochs=2).fit(X, y)
    short = time.perf_counter() - start
    start = time.perf_counter()
    est.set_params(epochs=6).fit(X, y)
    epoch = (time.perf_counter() - start - short) / 4
    rows.append((f"epoch of 20,000 rows, {n_members} members", epoch, 6 * n_members * forward))

    print(f"\n{n_outputs} outputs, modules {module_shape}, {torch.get_num_threads()} threads\n")
    print("| what | ms | bare products, ms | ratio |")
    print("|---|---|---|---|")
    for what, seconds, least in rows:
        print(f"| {what} | {1e3 * seconds:.1f} | {1e3 * least:.1f} | {seconds / least:.2f} |")
    if with_peers:
        for what, seconds in peers(X, n_outputs, max(3, repeats // 5)):
            print(f"| {what} | {1e3 * seconds:.1f} |  | {seconds / one:.0f} times ours |")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--outputs", type=int, nargs="+", default=[9])
    parser.add_argument("--module-shape", type=int, nargs="+", default=[64, 64, 64])
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    for n_outputs in arguments.outputs:
        measure(n_outputs, tuple(arguments.module_shape), arguments.peers, arguments.repeats)


if __name__ == "__main__":
    main()
