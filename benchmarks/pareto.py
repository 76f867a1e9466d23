"""Test NLL against draws per second, for `python benchmarks/speed.py --pareto`.

Ours with module shapes of several sizes at otherwise default parameters: with the compiled kernels,
without them (the same weights in torch), on the GPU where there is one, and at float64 for the
default shape. The flows are those of peers.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peers import applies, installed, make_model
from tasks import TASKS, Task

from sklearn_san._engines import without_kernels

SHAPES: tuple[tuple[int, ...], ...] = (
    (32, 32), (64, 64), (48, 48, 48), (64, 64, 64), (96, 96, 96), (128, 128),
)  # fmt: skip
DEFAULT_SHAPE = (64, 64, 64)
FLOWS = ("nsf", "nsf-logit", "maf", "maf-logit")
N_DRAWS = 10_000


class Point(NamedTuple):
    """One model, and how it draws: "compiled", "torch", "torch float64", "cuda" or "zuko"."""

    model: str
    kind: str
    nll: float
    nll_error: float
    draws_per_second: float
    fit_seconds: float


#: Colour, marker and height of the name of each kind.
STYLES = {
    "compiled": ("#0072B2", "o", 4),
    "torch": ("#56B4E9", "s", 4),
    "torch float64": ("#CC79A7", "D", -10),
    "cuda": ("#009E73", "^", 4),
    "zuko": ("#E69F00", "v", 4),
}


def default_task() -> str:
    return "galaxies-20k*" if os.environ.get("SAN_BENCH_DATA") else "make_galaxies"


def measure_points(
    task_name: str,
    shapes: Iterable[tuple[int, ...]],
    n_rows: int | None,
    epochs: int | None,
    budget: float,
) -> Iterator[Point]:
    """Fit and measure one model after the other."""
    task = next(TASKS[task_name]())
    task = task._replace(X=task.X[:n_rows], y=task.y[:n_rows])
    changes = {} if epochs is None else {"epochs": epochs}
    for shape in shapes:
        yield from points_of_shape(task, {**changes, "module_shape": shape})
    for name in FLOWS:
        if applies(name, task) and installed(name):
            model, taken = fitted(name, task, budget, {})
            yield point(model, task, name, "zuko", taken)


def points_of_shape(task: Task, changes: dict[str, Any]) -> Iterator[Point]:
    """The same fitted weights drawn from in every way."""
    name = str(changes["module_shape"])
    est, taken = fitted("san", task, 0.0, changes)
    est.set_params(device="cpu")
    yield point(est, task, name, "compiled", taken)
    with without_kernels():
        yield point(est, task, name, "torch", taken)
    if changes["module_shape"] == DEFAULT_SHAPE:
        est.network_.double()
        yield point(est, task, name, "torch float64", taken)
        est.network_.float()
    if torch.cuda.is_available():
        est.set_params(device="cuda")
        yield point(est, task, name, "cuda", taken)


def fitted(name: str, task: Task, budget: float, changes: dict[str, Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    model = make_model(name, task, 0, budget, changes).fit(task.X, task.y)
    return model, time.perf_counter() - start


def point(model: Any, task: Task, name: str, kind: str, fit_seconds: float) -> Point:
    nll = -model.log_prob(task.X_test, task.y_test)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        model.sample(task.X_test[:1], N_DRAWS, random_state=0)
        times.append(time.perf_counter() - start)
    rate = N_DRAWS / float(np.median(times[1:]))
    return Point(name, kind, nll.mean(), nll.std() / len(nll) ** 0.5, rate, fit_seconds)


def front(points: list[Point]) -> list[Point]:
    """Points that no faster one equals, the fastest first."""
    best: list[Point] = []
    for one in sorted(points, key=lambda p: -p.draws_per_second):
        if not best or one.nll < best[-1].nll - 1e-3:  # more than rounding of the same weights
            best.append(one)
    return best


def draw_picture(points: list[Point], task_name: str, path: Path) -> None:
    """Write the picture; low and to the right is best."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(8.0, 5.0), layout="constrained")).subplots()
    best = front(points)
    axes.plot(
        [p.draws_per_second for p in best], [p.nll for p in best],
        color="#666666", linewidth=1, linestyle="--", zorder=1, label="best at its speed",
    )  # fmt: skip
    for kind, (colour, marker, _) in STYLES.items():
        chosen = [p for p in points if p.kind == kind]
        if chosen:
            axes.errorbar(
                [p.draws_per_second for p in chosen], [p.nll for p in chosen],
                [p.nll_error for p in chosen],
                color=colour, marker=marker, linestyle="", elinewidth=1, label=kind,
            )  # fmt: skip
    for p in points:
        axes.annotate(
            p.model.strip("()").replace(", ", "-"), (p.draws_per_second, p.nll),
            xytext=(6, STYLES[p.kind][2]), textcoords="offset points", fontsize=7,
            color=STYLES[p.kind][0],
        )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel(f"Draws per second, {N_DRAWS:,} of one row")
    axes.set_ylabel("Test NLL [nats per row]")
    axes.set_title(f"Density and speed on {task_name.rstrip('*')}: low and to the right is best")
    axes.grid(color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150)
