"""Scores of each model on each task, with fit time, sampling time and peak memory.

Usage: python benchmarks/accuracy.py [--tasks NAME ...] [--models NAME ...] [--seeds N]
           [--splits N] [--rows N] [--budget SECONDS] [--set NAME=VALUE ...] [--c2st [N]]
           [--yardstick N]

Each run has a process of its own. Prints Markdown tables, of the scores and of the mean ranks over
the tasks, writes them to benchmarks/results/accuracy.md, and appends one JSON line per run to
benchmarks/results/accuracy.jsonl. See peers.py for the models, tasks.py for the tasks and
scores.py for the scores; `python benchmarks/references.py` makes the posteriors that the
classifier test of some tasks needs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from ast import literal_eval
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from measuring import added_memory, seconds
from peers import MODELS, applies, installed, make_model
from scores import c2st, cde_loss, energy_score, rank_table
from tasks import TASKS, Task, is_simulator

RESULTS = Path(__file__).parent / "results"
RANKED = {"nll": "rank by NLL", "energy_score": "rank by CRPS or energy score"}
COLUMNS = {
    "task": "task",
    "model": "model",
    "nll": "test NLL",
    "nll_error": "± error",
    "seeds_std": "std of seeds",
    "above_exact": "above exact",
    "energy_score": "CRPS or energy score",
    "cde_loss": "CDE loss",
    "fit_seconds": "fit s",
    "ms_per_10000_draws": "ms / 10k draws",
    "peak_memory_mb": "peak MB",
    "c2st": "C2ST",
}


def run(
    task: Task, model_name: str, seed: int, budget: float, changes: dict, extras: dict
) -> dict[str, Any]:
    """Fit one model and measure it."""
    model = make_model(model_name, task, seed, budget, changes)
    fit_time, peak = added_memory(lambda: model.fit(task.X, task.y))
    model.sample(task.X_test[:1], 10, random_state=0)
    times = [
        seconds(lambda: model.sample(task.X_test[:1], 10_000, random_state=0)) for _ in range(3)
    ]
    result = {
        "model": model_name,
        "seed": seed,
        "changes": {name: repr(value) for name, value in changes.items()},
        **scores(model, task),
        "fit_seconds": fit_time,
        "ms_per_10000_draws": 1000 * float(np.median(times)),
        "peak_memory_mb": peak,
    }
    if hasattr(model, "n_members_"):
        result["resolved"] = {
            name: getattr(model, name)
            for name in ("n_members_", "epochs_", "batch_size_", "n_iter_")
        }
    if extras["c2st"] and task.references is not None:
        observations, reference = (part[: extras["c2st"]] for part in task.references)
        draws = model.sample(observations, reference.shape[1], random_state=0)
        result["c2st"] = float(np.mean(list(map(c2st, draws, reference))))
    if extras["yardstick"]:
        from yardstick import gap

        result["above_exact"] = gap(model, extras["yardstick"])
    return result


def scores(model: Any, task: Task) -> dict[str, float]:
    """Those of the test rows; without those of densities if the model has only draws."""
    X, y = task.X_test, task.y_test
    unit = task.y.std(axis=0) if y.shape[1] > 1 else 1.0
    result = {"energy_score": energy_score(model, X, y, unit)}
    if not hasattr(model, "log_prob"):
        return result
    nll = -model.log_prob(X, y)
    result["nll"] = float(nll.mean())
    result["nll_error"] = float(nll.std() / np.sqrt(len(nll)))
    if task.exact is not None:
        result["above_exact"] = result["nll"] - task.exact
    if y.shape[1] == 1:
        result["cde_loss"] = cde_loss(model, X, y)
    return result


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the splits and seeds of one model on one task."""
    row: dict[str, Any] = {name: runs[0][name] for name in ("task", "model")}
    for name in COLUMNS:
        values = [one[name] for one in runs if isinstance(one.get(name), float)]
        if values:
            row[name] = float(np.mean(values))
    if "nll" not in row:
        return row
    nll = {seed: [one["nll"] for one in runs if one["seed"] == seed] for seed in seeds_of(runs)}
    if len(nll) > 1:
        row["seeds_std"] = float(np.std([np.mean(values) for values in nll.values()], ddof=1))
    per_split = next(iter(nll.values()))
    if len(per_split) > 1:
        row["nll_error"] = float(np.std(per_split, ddof=1) / np.sqrt(len(per_split)))
    return row


def seeds_of(runs: list[dict[str, Any]]) -> list[int]:
    return sorted({one["seed"] for one in runs})


def as_text(row: dict[str, Any]) -> str:
    digits = {"fit_seconds": 1, "ms_per_10000_draws": 0, "peak_memory_mb": 0}
    cells = [
        f"{row[name]:.{digits.get(name, 3)}f}" if isinstance(row.get(name), float)
        else str(row.get(name, ""))
        for name in COLUMNS
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def heading(names: Iterable[str]) -> list[str]:
    names = list(names)
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def rank_as_text(line: list[Any]) -> str:
    model, n_tasks, *ranks = line
    cells = [model, str(n_tasks), *("" if rank is None else f"{rank:.2f}" for rank in ranks)]
    return "| " + " | ".join(cells) + " |"


def _in_child(connection: Any, *arguments: Any) -> None:
    try:
        connection.send(run(*arguments))
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")


def in_process(*arguments: Any) -> dict[str, Any] | str:
    """`run` in a fresh process, so that memory and threads are its own; a text if it failed."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_in_child, args=(sender, *arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return "the process died"
    finally:
        process.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--splits", type=int, help="at most this many splits of a task")
    parser.add_argument("--rows", type=int, help="at most this many training rows")
    parser.add_argument("--budget", type=float, default=900.0, help="seconds a flow may train")
    parser.add_argument(
        "--c2st", type=int, nargs="?", const=10, default=0, metavar="N",
        help="classifier test for N observations, by default 10 (minutes per model)",
    )  # fmt: skip
    parser.add_argument(
        "--yardstick", type=int, default=0, metavar="N",
        help="distance from the exact posterior of N simulated galaxies (minutes per model)",
    )  # fmt: skip
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE",
        help="parameters of our estimator to change from their defaults",
    )  # fmt: skip
    arguments = parser.parse_args()
    changes = {name: literal_eval(value) for name, value in (p.split("=") for p in arguments.set)}
    RESULTS.mkdir(exist_ok=True)
    table = heading(COLUMNS.values())
    print("\n".join(table))
    rows = []
    notes = [f"{name} left out: not installed" for name in arguments.models if not installed(name)]
    for task_name in arguments.tasks:
        try:
            splits = list(islice(TASKS[task_name](), arguments.splits))
        except FileNotFoundError as error:
            notes.append(f"left out: {error}")
            continue
        if arguments.c2st and splits[0].references is None and is_simulator(task_name):
            notes.append(f"no classifier test of {task_name}: run benchmarks/references.py")
        for model in filter(installed, arguments.models):
            runs = []
            for split, task in enumerate(splits):
                if not applies(model, task):
                    continue
                task = task._replace(X=task.X[: arguments.rows], y=task.y[: arguments.rows])
                yardstick = arguments.yardstick if task_name.startswith("make_galaxies") else 0
                extras = {"c2st": arguments.c2st, "yardstick": yardstick}
                for seed in range(arguments.seeds):
                    result = in_process(task, model, seed, arguments.budget, changes, extras)
                    if isinstance(result, str):
                        notes.append(f"{task_name}, {model}: {result}")
                        continue
                    runs.append({"task": task_name, "split": split, **result})
                    with (RESULTS / "accuracy.jsonl").open("a") as file:
                        file.write(json.dumps(runs[-1]) + "\n")
            if runs:
                rows.append(summarise(runs))
                table.append(as_text(rows[-1]))
                print(table[-1], flush=True)
    ranks = rank_table(rows, RANKED)
    if ranks:
        lines = ["", *heading(["model", "tasks", *RANKED.values()]), *map(rank_as_text, ranks)]
        print("\n".join(lines))
        table += lines
    (RESULTS / "accuracy.md").write_text("\n".join(table) + "\n")
    for note in notes:
        print(note, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
