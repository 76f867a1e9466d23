"""How fast the estimator is, next to its own bare matrix products and to the peers.

Usage: python benchmarks/speed.py [--outputs N ...] [--module-shape N ...] [--repeats N]
           [--avx2] [--peers] [--sbi] [--growth] [--catalogue] [--catalogue-rows N]
           [--pareto] [--task NAME] [--rows N] [--epochs N] [--budget SECONDS] [--shapes SHAPE ...]
           [--no-speed] [--no-first-call] [--first-call] [--no-import-time]

Prints Markdown tables of medians and ratios of one run and writes them to
benchmarks/results/speed.md. What is compared in a table runs in turn, so that a slow minute of the
machine slows all of it. Where torch finds a GPU, the tables of speed and of `--pareto` have it as
well. OMP_NUM_THREADS sets the number of threads.

--outputs         numbers of outputs of the tables of speed, default 9: those of `make_galaxies`,
                  repeated where there are more; the other sections use the first of them
--module-shape    hidden widths, default 64 64 64
--repeats         timed calls behind each median, default 15; fewer of what takes 10 s in all
--no-speed        leaves out the tables of speed: draws, log density, summaries and training, each
                  next to its products
--avx2            repeats them as on a CPU with AVX2 alone, in a process of its own
--peers           adds zuko's flows, untrained: a spline flow of 3 transforms and a masked flow of
                  5, with two hidden layers of 128
--sbi             adds sbi's posterior: NPE with its default flow, no prior, trained for an epoch or
                  two on few rows; on the CPU only
--no-first-call   leaves out the first calls in fresh processes
--first-call      these alone: cold and warm starts of a fit and of the command line, first draws
--no-import-time  leaves out the time of the import in fresh interpreters
--growth          how time grows with rows, draws, outputs, K and width
--catalogue       draws of many rows written to a file, and `log_prob` and `predict` of ten times
                  as many, each in a fresh process, with the peak of the memory that the call added
--catalogue-rows  number of rows of that, default 20000
--pareto          test NLL against draws per second for several sizes of network and the flows of
                  peers.py (see pareto.py); benchmarks/results/pareto.png is the picture
--task            of tasks.py; default galaxies-20k*, or make_galaxies where there are no files
--rows, --epochs  to make it short: training rows, and epochs of ours
--budget          seconds that each flow may train, default 900
--shapes          module shapes such as 64,64 96,96,96

Bare products are those of the layers, at the rate of one large product in the same run: of one
member for draws, of all members side by side for densities. For draws, what sees x alone is counted
once per row; a step of training is the forward product and two backward ones per layer.
Other than ours, a peer is one network; our epochs train all members.
"""

from __future__ import annotations

import argparse
import ast
import math
import os
import platform
import runpy
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import joblib
import numpy as np
import torch
from measuring import added_memory, fresh, seconds, temporary_folder
from pareto import SHAPES, default_task, draw_picture, measure_points

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._constants import LONGEST_TURNED
from sklearn_san._training import turns
from sklearn_san.datasets import GALAXY_LIMITS, make_galaxies
from sklearn_san.density import N_SUMMARY_POINTS

RESULTS = Path(__file__).parent / "results"
#: Seconds after which a function is not called again for its median.
LONG = 10.0
#: Rows of a bare product at most; more are several products.
CHUNK = 10_000
#: Rows to fit, and the members that they get.
N_ROWS, N_MEMBERS = 20_000, 4

# What the tables of speed measure, with the number of draws or rows behind each
ONE_ROW, MANY_ROWS = "10,000 draws of one row", "100 draws of 1,000 rows"
LOG_PROB, CDF = "`log_prob` of 10,000 rows", "`cdf` of 1,000 rows"
MEAN, SUMMARIES = "mean of 1,000 rows", "mean, std and five quantiles of 1,000 rows"
MODE, GRID = "mode of 200 rows", "density of the first output on 301 points, 1,000 rows"
EPOCH = "epoch of 20,000 rows"
SIZES = {
    ONE_ROW: 10_000, MANY_ROWS: 100_000, LOG_PROB: 10_000, CDF: 1000, MEAN: 1000,
    SUMMARIES: 1000, MODE: 200, GRID: 1000, EPOCH: N_ROWS,
}  # fmt: skip
LEVELS = (0.025, 0.16, 0.5, 0.84, 0.975)
#: Short fits come before the epochs, and would be counted among them.
WITHOUT_PILOTS = {"order": None, "feature_encoding": None, "tree_features": False}

#: A name of `SIZES` and how to do that; what returns a float has measured its own seconds.
Functions = dict[str, Callable[[], Any]]


# Tables


class Report:
    """Markdown that is printed as it comes, and kept in a file."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(exist_ok=True)
        path.write_text("")

    def write(self, text: str) -> None:
        print(text, flush=True)
        with self.path.open("a") as file:
            file.write(text + "\n")

    def table(self, title: str, columns: list[str], rows: list[list[Any]], note: str = "") -> None:
        """A table under a title; cells are texts, numbers, or None for an empty one."""
        lines = [as_line(columns), "|---" * len(columns) + "|", *map(as_line, rows)]
        text = "\n".join(lines)
        self.write(f"\n## {title}\n\n{text}" + (f"\n\n{note}" if note else ""))


def as_line(row: list[Any]) -> str:
    return "| " + " | ".join(as_cell(value) for value in row) + " |"


def as_cell(value: Any) -> str:
    """Numbers with three digits or more."""
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def progress(what: str) -> None:
    """Say on standard error what runs now."""
    print(f"({what})", file=sys.stderr, flush=True)


def machine() -> str:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].split(":")[1].strip() if names else processor
    parts = [
        processor,
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads",
        f"Python {platform.python_version()}, torch {torch.__version__}",
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return "; ".join(parts)


# Timing


def medians(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of functions that run in turn.

    Each timed call follows one of the same function that does not count: threads of other
    libraries wait for work by spinning for a while, which would slow down whoever comes next.
    """
    times = {name: [seconds(function)] for name, function in functions.items()}
    for _ in range(repeats):
        for name, function in functions.items():
            if sum(times[name]) < LONG:
                function()
                times[name].append(seconds(function))
    return {name: float(np.median(taken[1:] or taken)) for name, taken in times.items()}


# Ours


def galaxies(n_outputs: int, n_rows: int = N_ROWS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, targets and limits: the first outputs, or all and then some of them again."""
    X, y = make_galaxies(n_rows, random_state=0)
    columns = np.arange(n_outputs) % y.shape[1]
    return X, y[:, columns], GALAXY_LIMITS[columns]


def fit(
    X: np.ndarray, y: np.ndarray, limits: np.ndarray, **parameters: Any
) -> SANConditionalDensityEstimator:
    """Our estimator after an epoch; its kernels are then in the cache of compiled code."""
    defaults = {"epochs": 1, "early_stopping": False, "random_state": 0, "device": "cpu"}
    est = SANConditionalDensityEstimator(
        limits=limits, **{**defaults, **WITHOUT_PILOTS, **parameters}
    )
    est.fit(X, y)
    est.sample(X[:1], 10, random_state=0)
    est.predict(X[:2], output_type=("mean", "std", "quantiles", "mode"))
    return est


def our_functions(est: SANConditionalDensityEstimator, X: np.ndarray, y: np.ndarray) -> Functions:
    grid = np.linspace(*est.limits_[0], 301)
    return {
        ONE_ROW: lambda: est.sample(X[:1], 10_000, random_state=0),
        MANY_ROWS: lambda: est.sample(X[:1000], 100, random_state=0),
        LOG_PROB: lambda: est.log_prob(X[:10_000], y[:10_000]),
        CDF: lambda: est.predict_density(X[:1000]).cdf(y[:1000]),
        MEAN: lambda: est.predict(X[:1000]),
        SUMMARIES: lambda: est.predict(
            X[:1000], output_type=("mean", "std", "quantiles"), quantiles=LEVELS
        ),
        MODE: lambda: est.predict(X[:200], output_type="mode"),
        GRID: lambda: est.predict_density(X[:1000]).pdf_grid(0, grid),
        EPOCH: lambda: seconds_of_epoch(est, X, y),
    }


def seconds_of_epoch(est: SANConditionalDensityEstimator, X: np.ndarray, y: np.ndarray) -> float:
    """Of all members, without what comes before and after the epochs."""
    parameters = est.get_params()
    short, long = (
        seconds(lambda n=n: SANConditionalDensityEstimator(**{**parameters, "epochs": n}).fit(X, y))
        for n in (1, 9)
    )
    return (long - short) / 8


# The bare products


class Product(NamedTuple):
    """``(members, rows, n_in) @ (members, n_in, n_out)``."""

    members: int
    rows: int
    n_in: int
    n_out: int


#: Sizes in and out of a layer.
Size = tuple[int, int]


def layers(est: SANConditionalDensityEstimator) -> tuple[list[Size], list[list[Size]]]:
    """Sizes of the layers of the encoder of x, and of those of every block."""
    network = est.network_
    encoder, *blocks = (
        [(layer.weight.shape[1], layer.weight.shape[2]) for layer in own]
        for own in (network.encoder, *([*block.hidden, block.heads] for block in network.blocks))
    )
    return encoder, blocks


def forward(est: SANConditionalDensityEstimator, n_rows: int) -> list[Product]:
    """A density of all members."""
    encoder, blocks = layers(est)
    return [Product(est.n_members_, n_rows, *size) for part in (encoder, *blocks) for size in part]


def backward(
    est: SANConditionalDensityEstimator, n_rows: int, *, by_weights: bool = True
) -> list[Product]:
    """Its gradient by all layers' inputs and, if wanted, weights."""
    products, n_members = [], est.n_members_
    encoder, blocks = layers(est)
    n_encoded = encoder[-1][1] if encoder else 0
    for d, part in enumerate((encoder, *blocks)):
        for k, (n_in, n_out) in enumerate(part):
            # Of a block's inputs, what encodes x and the sequence features alone; none of x itself
            before = 0 if d == 0 else n_encoded + (est.sequence_features if d > 1 else 0)
            wanted = n_in if k > 0 else before
            if by_weights:
                products.append(Product(n_members, n_in, n_rows, n_out))
            if wanted:
                products.append(Product(n_members, n_rows, n_out, wanted))
    return products


def turning(est: SANConditionalDensityEstimator) -> list[Product]:
    """Gradients of all weights to the eigenbases, and steps back."""
    if not turns(est.batch_size_, max(est.module_shape)):
        return []
    products, n_members = [], est.n_members_
    encoder, blocks = layers(est)
    for part in (encoder, *blocks):
        for k, (n_in, n_out) in enumerate(part):
            is_head = part is not encoder and k == len(part) - 1  # whose outputs are unlike
            if n_in <= LONGEST_TURNED:
                products += 2 * [Product(n_members, n_in, n_in, n_out)]
            if not is_head and n_out <= LONGEST_TURNED:
                products += 2 * [Product(n_members, n_in, n_out, n_out)]
    return products


def drawing(est: SANConditionalDensityEstimator, n_rows: int, n_draws: int) -> list[Product]:
    """Draws, each from one member."""
    encoder, blocks = layers(est)
    products = [Product(1, n_rows, *size) for size in encoder]
    n_context = blocks[0][0][0]  # what the first block sees: x, and what encodes it
    for d, block in enumerate(blocks):
        for k, (n_in, n_out) in enumerate(block):
            if d > 0 and k == 0:
                products.append(Product(1, n_rows, n_context, n_out))
                products.append(Product(1, n_rows * n_draws, n_in - n_context, n_out))
            else:  # the first block sees x alone
                products.append(Product(1, n_rows * (n_draws if d else 1), n_in, n_out))
    return products


def floating_point_operations(products: list[Product]) -> float:
    """Multiplications and additions of some products."""
    return 2.0 * sum(p.members * p.rows * p.n_in * p.n_out for p in products)


#: The yardstick: what the machine makes of one large product of the default's width.
LARGE = Product(1, 10_000, 64, 64)


def large_product(device: str, count: int = 20) -> Callable[[], None]:
    """Does the large product `count` times, with torch's threads."""
    h = torch.randn(LARGE.rows, LARGE.n_in, device=device)
    weight = torch.randn(LARGE.n_in, LARGE.n_out, device=device)
    out = h @ weight

    def run() -> None:
        for _ in range(count):
            torch.mm(h, weight, out=out)

    return run


def products_of(est: SANConditionalDensityEstimator) -> dict[str, list[Product]]:
    """The products of the layers behind `our_functions`, where that is what there is to do."""
    batch = est.batch_size_
    steps = math.ceil(N_ROWS / batch)
    return {
        ONE_ROW: drawing(est, 1, 10_000),
        MANY_ROWS: drawing(est, 1000, 100),
        LOG_PROB: forward(est, 10_000),
        CDF: forward(est, 1000),
        MEAN: drawing(est, 1000, N_SUMMARY_POINTS),
        SUMMARIES: drawing(est, 1000, N_SUMMARY_POINTS),
        EPOCH: steps * [*forward(est, batch), *backward(est, batch)],
    }


# The peers


def zuko_functions(kind: str, X: np.ndarray, y: np.ndarray, device: str) -> Functions:
    """A flow of zuko without training."""
    import zuko

    make, transforms = {"NSF": (zuko.flows.NSF, 3), "MAF": (zuko.flows.MAF, 5)}[kind]
    flow = make(y.shape[1], X.shape[1], transforms=transforms, hidden_features=(128, 128))
    flow = flow.to(device)
    x, z = (
        torch.as_tensor((a - a.mean(0)) / a.std(0), dtype=torch.float32, device=device)
        for a in (X, y)
    )
    optimizer = torch.optim.AdamW(flow.parameters())

    def step(rows: torch.Tensor) -> None:
        optimizer.zero_grad()
        (-flow(x[rows]).log_prob(z[rows]).mean()).backward()
        optimizer.step()

    def epoch() -> float:
        batches = torch.randperm(len(x)).split(256)
        return seconds(lambda: [step(rows) for rows in batches[:8]]) * len(batches) / 8

    functions = {
        ONE_ROW: lambda: flow(x[:1]).sample((10_000,)),
        MANY_ROWS: lambda: flow(x[:1000]).sample((100,)),
        LOG_PROB: lambda: flow(x[:10_000]).log_prob(z[:10_000]),
    }
    return {name: torch.no_grad()(function) for name, function in functions.items()} | {
        EPOCH: epoch
    }


def sbi_functions(X: np.ndarray, y: np.ndarray, n_train: int = 2000) -> Functions:
    """The posterior that sbi's NPE gives."""
    x, theta = torch.as_tensor(X).float(), torch.as_tensor(y).float()
    for message in (".*max_num_epochs", "Capping max_sampling_batch_size"):
        warnings.filterwarnings("ignore", message)
    with temporary_folder():  # where the logs of training go
        from sbi.inference import NPE

        inference = NPE(show_progress_bars=False)
        inference.append_simulations(theta[:n_train], x[:n_train]).train(max_num_epochs=1)
        posterior = inference.build_posterior()
    epoch = float(np.median(inference.summary["epoch_durations_sec"])) * len(X) / n_train
    quiet = {"show_progress_bars": False}
    return {
        ONE_ROW: lambda: posterior.sample((10_000,), x=x[:1], **quiet),
        MANY_ROWS: lambda: posterior.sample_batched((100,), x=x[:1000], **quiet),
        LOG_PROB: lambda: posterior.log_prob_batched(
            theta[None, :10_000], x[:10_000], norm_posterior=False
        ),
        EPOCH: lambda: epoch,
    }


# The sections


def devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def report_speed(
    report: Report,
    n_outputs: int,
    module_shape: tuple[int, ...],
    device: str,
    peers: list[str],
    repeats: int,
) -> None:
    """Tables of the estimator next to its products, of an epoch's parts, and of the peers."""
    X, y, limits = galaxies(n_outputs)
    est = fit(X, y, limits, module_shape=module_shape, device=device)
    product = large_product(device)
    contenders: dict[str, Functions] = {
        "ours": our_functions(est, X, y),
        "product": dict.fromkeys(SIZES, product),
    }
    for peer in peers:
        if peer != "sbi":
            contenders[peer] = zuko_functions(peer.removeprefix("zuko "), X, y, device)
        elif device == "cpu":
            contenders[peer] = sbi_functions(X, y)
    products, taken = products_of(est), {}
    for what in SIZES:
        progress(f"{n_outputs} outputs, {device}: {what}")
        functions = {name: does[what] for name, does in contenders.items() if what in does}
        taken[what] = medians(functions, repeats)
    where = f"{n_outputs} outputs, modules {module_shape}, {est.n_members_} members, {device}"
    columns = ["what", "ms", "draws or rows per s", "product, GFLOP/s", "bare, ms", "ratio"]
    rows: list[list[Any]] = []
    for what, t in taken.items():
        rate = 20 * floating_point_operations([LARGE]) / t["product"]
        row = [what, 1e3 * t["ours"], SIZES[what] / t["ours"], 1e-9 * rate, None, None]
        if what in products:
            least = floating_point_operations(products[what]) / rate
            row[4:] = [1e3 * least, t["ours"] / least]
        rows.append(row)
    note = (
        "The product is ({0.rows:,} x {0.n_in}) @ ({0.n_in} x {0.n_out}) by torch, in turn with "
        "each line; bare is what the products of the network's layers would take at that rate."
    )
    report.table(f"Speed: {where}", columns, rows, note.format(LARGE))
    rows, columns = [], ["what", "ours, per s"]
    rivals = [name for name in contenders if name not in ("ours", "product")]
    for what in (ONE_ROW, MANY_ROWS, LOG_PROB, EPOCH):
        t = taken[what]
        pairs = [(SIZES[what] / t[rival], t[rival] / t["ours"]) for rival in rivals]
        rows.append([what, SIZES[what] / t["ours"], *(value for pair in pairs for value in pair)])
    for rival in rivals:
        columns += [f"{rival}, per s", "ours / it"]
    if rivals:
        report.table(f"Peers: {where}", columns, rows)


def report_as_on_avx2(report: Report, arguments: list[str]) -> None:
    """The tables of speed from a process whose libraries take the CPU for one with AVX2 alone."""
    portable = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "portable.py"))
    settings = portable["KINDS"]["AVX2 without AVX-512"]
    text = report.path.read_text()
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, *arguments, "--no-first-call", "--no-import-time"]
        own = {**os.environ, **settings, "NUMBA_CACHE_DIR": cache}
        printed = subprocess.run(command, env=own, stdout=subprocess.PIPE, text=True, check=True)
    report.path.write_text(text)
    report.write("\n## As on a CPU with AVX2 alone, on the same machine\n")
    report.write(printed.stdout.replace("\n## ", "\n### ").split("\n", 2)[2])


def report_growth(
    report: Report, n_outputs: int, module_shape: tuple[int, ...], repeats: int
) -> None:
    """How time grows with one size at a time, as the exponent between one line and the next."""
    X, y, limits = galaxies(n_outputs)
    est = fit(X[:2000], y[:2000], limits, module_shape=module_shape, n_members=N_MEMBERS)
    functions: dict[tuple[str, int], tuple[Callable[[], Any], Callable[[], Any]]] = {}
    for n in (1, 10, 100, 1000, 10_000):
        functions["rows, 10 draws each", n] = (
            lambda n=n: est.sample(X[:n], 10, random_state=0),
            lambda n=n: est.log_prob(X[:n], y[:n]),
        )
    density = est.predict_density(X[:1])
    for n in (1, 10, 100, 1000, 10_000, 100_000):
        points = np.resize(y, (1, n, n_outputs))
        functions["draws or points, one row", n] = (
            lambda n=n: density.sample(n, random_state=0),
            lambda points=points: density.log_prob(points),
        )
    for what, n, changed, data in variants(n_outputs, module_shape):
        functions[what, n] = (
            lambda changed=changed, data=data: changed.sample(data[0][:1], 10_000, random_state=0),
            lambda changed=changed, data=data: changed.log_prob(data[0][:2000], data[1][:2000]),
        )
    rows: list[list[Any]] = []
    for (what, n), (draw, score) in functions.items():
        taken = medians({"draw": draw, "score": score}, repeats)
        line = [what, n, 1e3 * taken["draw"], None, 1e3 * taken["score"], None]
        if rows and rows[-1][0] == what:
            ratio = math.log(n / rows[-1][1])
            line[3], line[5] = (math.log(line[c] / rows[-1][c]) / ratio for c in (2, 4))
        rows.append(line)
    columns = ["size", "of", "draws, ms", "exponent", "`log_prob`, ms", "exponent"]
    note = "With outputs, K and width: 10,000 draws of one row, `log_prob` of 2,000 rows."
    title = f"Growth: {n_outputs} outputs, modules {module_shape}, {N_MEMBERS} members"
    report.table(title, columns, rows, note)


def variants(
    n_outputs: int, module_shape: tuple[int, ...]
) -> Iterator[tuple[str, int, SANConditionalDensityEstimator, tuple[np.ndarray, ...]]]:
    """Estimators that differ in one size, with their rows."""
    usual = {"module_shape": module_shape, "n_members": N_MEMBERS}
    for n in (2, 9, 30):
        data = galaxies(n, 2000)
        yield "outputs", n, fit(*data, **usual), data
    data = galaxies(n_outputs, 2000)
    for n in (5, 10, 20):
        yield "K", n, fit(*data, **usual, K=n), data
    for n in (32, 64, 128):
        yield "width", n, fit(*data, **{**usual, "module_shape": (n,) * len(module_shape)}), data


def report_catalogue(
    report: Report, n_outputs: int, module_shape: tuple[int, ...], n_rows: int
) -> None:
    """Time and memory of many rows."""
    n_draws, million, rows = 100, 1_000_000, []
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, n_outputs, module_shape)
        for n in (n_rows // 4, n_rows // 2, n_rows):
            taken, added = fresh(run_catalogue, folder, f"sample {n_draws}", n)
            size = 4e-6 * n * n_draws * n_outputs
            rows.append([f"{n_draws} draws to a file", n, taken, 1e6 * taken / n, added, size])
        for what in ("log_prob", "predict"):
            taken, added = fresh(run_catalogue, folder, what, 10 * n_rows)
            size = 8e-6 * 10 * n_rows * (n_outputs if what == "predict" else 1)
            rows.append([f"`{what}`", 10 * n_rows, taken, 1e5 * taken / n_rows, added, size])
    longest = rows[2]
    rows.append([
        f"projected: {n_draws} draws to a file", million, longest[3], longest[3], longest[4],
        longest[5] * million / n_rows,
    ])  # fmt: skip
    columns = ["what", "rows", "s", "s per million rows", "peak of added memory, MB", "result, MB"]
    note = "Memory counts the result of `log_prob` and `predict`, but not the pages of the file."
    report.table(f"Catalogue: {n_outputs} outputs, float32", columns, rows, note)


def save_model(folder: str, n_outputs: int, module_shape: tuple[int, ...]) -> None:
    """Write rows and an estimator, in both formats."""
    X, y, limits = galaxies(n_outputs)
    est = fit(X, y, limits, module_shape=module_shape)
    shape = np.array(module_shape)
    np.savez(Path(folder, "rows.npz"), X=X, y=y, limits=limits, module_shape=shape)
    est.save(Path(folder, "model.safetensors"))
    joblib.dump(est, Path(folder, "model.joblib"))


def load_model(folder: str) -> tuple[SANConditionalDensityEstimator, np.ndarray, np.ndarray]:
    with np.load(Path(folder, "rows.npz")) as rows:
        X, y = rows["X"], rows["y"]
    return SANConditionalDensityEstimator.load(Path(folder, "model.safetensors")), X, y


def run_catalogue(folder: str, what: str, n_rows: int) -> tuple[float, float]:
    """Seconds and added memory of one call; `what` is a method, with the draws for `sample`."""
    est, X, y = load_model(folder)
    X, y = np.resize(X, (n_rows, X.shape[1])), np.resize(y, (n_rows, y.shape[1]))
    method, *n_draws = what.split()
    if method == "log_prob":
        est.log_prob(X[:10], y[:10])
        return added_memory(lambda: est.log_prob(X, y))
    if method == "predict":
        est.predict(X[:10])
        return added_memory(lambda: est.predict(X))
    est.sample(X[:10], 10)
    shape = (n_rows, int(n_draws[0]), y.shape[1])
    path = Path(folder, "draws.dat")
    out = np.memmap(path, np.float32, "w+", shape=shape)
    result = added_memory(lambda: est.sample(X, shape[1], random_state=0, out=out))
    path.unlink()
    return result


def report_first_calls(
    report: Report, n_outputs: int, module_shape: tuple[int, ...], repeats: int
) -> None:
    """What the first draws cost more than the next ones."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, n_outputs, module_shape)
        for start in ("load", "joblib", "fit"):
            runs = [fresh(run_first_calls, folder, start) for _ in range(min(repeats, 5))]
            rows.append([start, *np.median(runs, axis=0).tolist()])
        cache = {"NUMBA_CACHE_DIR": str(Path(folder, "cache"))}
        with mock.patch.dict(os.environ, cache):
            rows.append(["load, nothing compiled", *fresh(run_first_calls, folder, "load")])
    for row in rows:
        row[2:] = [*(1e3 * taken for taken in row[2:]), row[2] / row[3]]
    columns = ["start", "that takes, s", "first, ms", "second, ms", "third, ms", "first / second"]
    title = f"First calls: 10,000 draws of one row in a fresh process, {n_outputs} outputs"
    note = (
        "In the last line nothing was compiled before, as after an installation; it stays on disk."
    )
    report.table(title, columns, rows, note)


def report_cold_starts(report: Report, repeats: int) -> None:
    """Fresh processes, with and without kernels that are kept on disk."""
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        X, y, limits = galaxies(9, 1000)
        np.savez(Path(folder, "rows.npz"), X=X, y=y, limits=limits)
        model = Path(folder, "model.safetensors")
        fit(X, y, limits, n_members=2).save(model)
        kept = [fresh(run_small_fit, folder) for _ in range(min(repeats, 3))]
        rows.append(["fit of 1,000 rows, one epoch", *np.median(kept, axis=0).tolist()])
        with mock.patch.dict(os.environ, {"NUMBA_CACHE_DIR": str(Path(folder, "cache"))}):
            rows.append(["the same, nothing compiled", *fresh(run_small_fit, folder)])
            rows.append(["the same, training kernels kept", *fresh(run_small_fit, folder)])
        for title, arguments in {
            "`sklearn-san info`": ["info", str(model)],
            "`sklearn-san --help`": ["--help"],
            "`sklearn-san`, a wrong option": ["fit", "--wrong"],
        }.items():
            taken = [command_line(arguments) for _ in range(min(repeats, 5))]
            rows.append([title, *np.median(taken, axis=0).tolist(), None])
    columns = ["fresh process", "s", "s of CPU", "first draws, s"]
    report.table("Cold and warm starts", columns, rows)


def run_small_fit(folder: str) -> list[float]:
    """Seconds and CPU seconds of a fit, and seconds of the first draws."""
    with np.load(Path(folder, "rows.npz")) as rows:
        X, y, limits = rows["X"], rows["y"], rows["limits"]
    start, cpu = time.perf_counter(), time.process_time()
    est = SANConditionalDensityEstimator(limits=limits, epochs=1, n_members=2, device="cpu")
    est.fit(X, y)
    taken = time.perf_counter() - start, time.process_time() - cpu
    return [*taken, seconds(lambda: est.sample(X[:1], 10))]


def command_line(arguments: list[str]) -> tuple[float, float]:
    """Seconds and CPU seconds of a call of the command line."""
    before, start = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "sklearn_san", *arguments]
    subprocess.run(command, capture_output=True, check=False)
    taken, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system
    return taken, cpu - before.children_user - before.children_system


def run_first_calls(folder: str, start: str) -> list[float]:
    """Seconds to get a fitted estimator and of its first three calls of `sample`."""
    with np.load(Path(folder, "rows.npz")) as rows:
        X, y, limits = rows["X"], rows["y"], rows["limits"]
        module_shape = tuple(rows["module_shape"].tolist())
    begin = time.perf_counter()
    if start == "load":
        est = SANConditionalDensityEstimator.load(Path(folder, "model.safetensors"))
    elif start == "joblib":
        est = joblib.load(Path(folder, "model.joblib"))
    else:
        est = SANConditionalDensityEstimator(
            module_shape=module_shape, limits=limits, epochs=1, device="cpu"
        ).fit(X, y)
    made = time.perf_counter() - begin
    return [made, *(seconds(lambda: est.sample(X[:1], 10_000)) for _ in range(3))]


#: Imports modules; prints the seconds, and the modules that are there then with their files.
IMPORT = """
import sys, time
from importlib import import_module
start = time.perf_counter()
for name in sys.argv[1:]:
    import_module(name)
print(time.perf_counter() - start)
for name, module in sys.modules.items():
    print(name, getattr(module, "__file__", None), sep="\t")
"""
EXTRAS = ("matplotlib", "numba", "pandas", "pyarrow", "safetensors", "scipy.stats", "sympy")


def import_in_fresh(names: list[str]) -> tuple[float, dict[str, str]]:
    """Seconds of the import, and the modules that are loaded then with their files."""
    command = [sys.executable, "-c", IMPORT, *names]
    first, *modules = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return float(first), dict(line.split("\t") for line in modules)


def dependencies(loaded: dict[str, str]) -> list[str]:
    """Modules of others that the loaded ones of the package name in an import."""
    names: dict[str, None] = {}
    for module, file in loaded.items():
        if module.split(".")[0] != "sklearn_san":
            continue
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.Import):
                names |= dict.fromkeys(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names |= dict.fromkeys([node.module])
                names |= dict.fromkeys(f"{node.module}.{alias.name}" for alias in node.names)
    own = ("sklearn_san", "__future__")
    return [name for name in names if name in loaded and name.split(".")[0] not in own]


def report_import_time(report: Report, repeats: int) -> None:
    """What the import of the package adds to that of what it needs."""
    _, loaded = import_in_fresh(["sklearn_san"])
    needed = dependencies(loaded)
    cases = {
        "torch": ["torch"],
        "torch, scikit-learn's base classes": ["torch", "sklearn.base", "sklearn.utils.validation"],
        "all that `sklearn_san` names": ["torch", *needed],
        "the same and `sklearn_san`": ["torch", *needed, "sklearn_san"],
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(min(repeats, 7)):
        for name, modules in cases.items():
            times[name].append(import_in_fresh(modules)[0])
    taken = {name: float(np.median(values)) for name, values in times.items()}
    most = list(taken.values())[-1]
    rows = [[name, value, value / most] for name, value in taken.items()]
    without = import_in_fresh(["torch", "sklearn.base", "sklearn.utils.validation"])[1]
    found = [f"{name} (also without it)" if name in without else name for name in EXTRAS
             if name in loaded]  # fmt: skip
    absent = [name for name in EXTRAS if name not in loaded]
    note = f"`import sklearn_san` loads of the extras: {', '.join(found) or 'none'}."
    note += f" It does not load: {', '.join(absent) or 'none'}."
    report.table("Import in a fresh interpreter", ["import", "s", "ratio to all"], rows, note)


def report_pareto(report: Report, arguments: argparse.Namespace) -> None:
    """Test NLL against draws per second."""
    points, rows = [], []
    for point in measure_points(
        arguments.task, arguments.shapes, arguments.rows, arguments.epochs, arguments.budget
    ):
        points.append(point)
        rows.append([
            point.model, point.kind, f"{point.nll:.3f}", f"{point.nll_error:.3f}",
            point.draws_per_second, point.fit_seconds,
        ])  # fmt: skip
        progress(f"{point.model}, {point.kind}: done")
    draw_picture(points, arguments.task, RESULTS / "pareto.png")
    columns = ["model", "how", "test NLL", "± error", "draws of one row per s", "fit s"]
    note = f"Picture: {RESULTS.name}/pareto.png. A flow may train for {arguments.budget:g} s."
    report.table(f"Test NLL against speed on {arguments.task}", columns, rows, note)


def as_shape(text: str) -> tuple[int, ...]:
    return tuple(int(width) for width in text.split(","))


def parse_arguments() -> argparse.Namespace:
    """Options; the docstring of the module explains them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--outputs", type=int, nargs="+", default=[9])
    add("--module-shape", type=int, nargs="+", default=[64, 64, 64])
    add("--repeats", type=int, default=15)
    add("--device", choices=devices(), nargs="+", default=devices(), help="to compute on")
    for name in ("speed", "first-call", "import-time"):
        add(f"--no-{name}", action="store_true")
    for name in ("avx2", "first-call", "peers", "sbi", "growth", "catalogue", "pareto"):
        add(f"--{name}", action="store_true")
    add("--catalogue-rows", type=int, default=20_000)
    add("--task", default=default_task())
    add("--rows", type=int)
    add("--epochs", type=int)
    add("--budget", type=float, default=900.0)
    add("--shapes", type=as_shape, nargs="+", default=SHAPES)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.first_call:
        arguments.no_speed = arguments.no_import_time = True
    report = Report(RESULTS / "speed.md")
    report.write(f"# Speed\n\n{machine()}")
    shape, n_outputs = tuple(arguments.module_shape), arguments.outputs[0]
    repeats = arguments.repeats
    peers = ["zuko NSF", "zuko MAF"] * arguments.peers + ["sbi"] * arguments.sbi
    if not arguments.no_speed:
        for device in arguments.device:
            for n in arguments.outputs:
                report_speed(report, n, shape, device, peers, repeats)
    if arguments.avx2:
        own = ["--outputs", *map(str, arguments.outputs), "--repeats", str(repeats)]
        report_as_on_avx2(report, [*own, "--module-shape", *map(str, shape)])
    if not arguments.no_first_call:
        report_first_calls(report, n_outputs, shape, repeats)
        report_cold_starts(report, repeats)
    if not arguments.no_import_time:
        report_import_time(report, repeats)
    if arguments.growth:
        report_growth(report, n_outputs, shape, repeats)
    if arguments.catalogue:
        report_catalogue(report, n_outputs, shape, arguments.catalogue_rows)
    if arguments.pareto:
        report_pareto(report, arguments)


if __name__ == "__main__":
    main()
