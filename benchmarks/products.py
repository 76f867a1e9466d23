"""Rates of the kernels' own products, next to BLAS in compiled code and to one large product.

Usage: python benchmarks/products.py

One thread. Prints GFLOP/s of what a tile of 64 rows needs: forward, the gradient by the weights and
by the inputs (of ours with the transposition of the weights). `tests/portable.py` tells with which
settings of the environment the libraries take this CPU for an older one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit

from sklearn_san.compiled.products import LANES, add_product, multiply, transpose

N_ROWS, N_CALLS, REPEATS = 64, 300, 30
SHAPES = [(33, 64), (64, 64), (64, 46), (128, 128), (256, 256)]


@njit(nogil=True)
def own(h, weight, g, across, out, by_weight, by_h, n, what):
    for _ in range(n):
        if what == 0:
            multiply(h, weight, out)
        elif what == 1:
            add_product(h.T, g, by_weight)
        else:
            transpose(weight, across)
            multiply(g, across, by_h)


@njit(nogil=True)
def blas(h, weight, g, across, out, by_weight, by_h, n, what):
    for _ in range(n):
        if what == 0:
            np.dot(h, weight, out)
        elif what == 1:
            np.dot(h.T, g, across)
            by_weight += across
        else:
            np.dot(g, weight.T, by_h)


def rate(run: Callable[[], Any], operations: float) -> float:
    """GFLOP/s of the fastest of several calls."""
    run()
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return 1e-9 * operations / min(taken)


def main() -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    large, square = torch.randn(10_000, 64), torch.randn(64, 64)
    result = large @ square
    yardstick = rate(lambda: torch.mm(large, square, out=result), 2.0 * large.numel() * 64)
    print(f"{LANES} lanes; (10,000 x 64) @ (64 x 64) by torch: {yardstick:.0f} GFLOP/s\n")
    print("| layer | forward | by weights | by inputs | BLAS: forward | by weights | by inputs |")
    print("|---|---|---|---|---|---|---|")
    for n_in, n_out in SHAPES:
        h, weight, g, across, out, by_weight, by_h = (
            random.standard_normal(shape).astype(np.float32)
            for shape in (
                (N_ROWS, n_in), (n_in, n_out), (N_ROWS, n_out), (n_out, n_in), (N_ROWS, n_out),
                (n_in, n_out), (N_ROWS, n_in),
            )
        )  # fmt: skip
        work, cells = 2.0 * N_ROWS * n_in * n_out * N_CALLS, []
        for kernel in (own, blas):
            # What is transposed: the weights of ours, the gradient that BLAS leaves to be added
            other = across if kernel is own else by_weight.copy()
            arrays = (h, weight, g, other, out, by_weight, by_h)
            cells += [rate(partial(kernel, *arrays, N_CALLS, what), work) for what in range(3)]
        print(f"| {n_in} x {n_out} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
