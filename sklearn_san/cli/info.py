"""What is in a model file, for people and as JSON; the command ``info``.

The file is read as plain data, so that neither torch nor scikit-learn is imported.
"""

from __future__ import annotations

import math
import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._container import MODEL, REQUESTS, read_plain, rebuilding
from .._plain_trees import Record
from .printing import plain, print_json, print_lines, short


def info(options: Namespace) -> None:
    """Print what is in a model file."""
    description = describe(options.model)
    print_json(description) if options.json else _print_description(description)


def describe(path: str) -> dict[str, Any]:
    """What is in a model file, under the names that are printed."""
    state, versions = read_plain(path, content=MODEL)
    with rebuilding(repr(path)):
        state.pop(REQUESTS, None)
        validation = state["validation_curve_"]
        return {
            "file": path,
            "bytes": os.path.getsize(path),
            "features": _features(state),
            "parts": _parts(state),
            "targets": _targets(state),
            "networks": state["n_members_"],
            "weights": _count_weights(state["network_"])
            + sum(weight.size for weight in (state.get("encoders_") or {}).get("weights", [])),
            "epochs": state["n_iter_"],
            "best_epoch": state["best_epoch_"],
            "training_nll": state["loss_curve_"][-1],
            "validation_nll": min(validation) if validation else None,
            "parameters": _parameters(state)
            | {name: state[f"{name}_"] for name in ("n_members", "epochs", "batch_size")},
            "versions": versions,
        }


def _features(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    n_features, table = state["n_features_in_"], state["feature_table_"]
    names = state.get("feature_names_in_", [f"x{j}" for j in range(n_features)])
    labels = [None] * n_features if table is None else table.state["categories"]
    return [{"name": n, "labels": known} for n, known in zip(names, labels, strict=True)]


def _parts(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parts of X that go through encoders, and what makes these."""
    layout, encoders = state.get("layout_"), state.get("encoders_")
    if layout is None or encoders is None:
        return []
    shapes = layout.state["shapes"].items()
    return [
        {"name": name, "shape": shape, "encoder": one["path"], "parameters": one["parameters"]}
        for (name, shape), one in zip(shapes, encoders["sources"], strict=True)
    ]


def _targets(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    place = np.argsort(state["order_"])
    return [
        {
            "name": name,
            "limits": state["limits_"][j],
            "family": short(state["families_"][place[j]]),
            "labels": state["codec_"].state["classes"][j],
            "position": int(place[j]),
        }
        for j, name in enumerate(state["output_names_"])
    ]


def _count_weights(module: Record) -> int:
    """Trained numbers in a module and all modules inside."""
    parts = [part for part in module.state.values() if isinstance(part, Record)]
    return sum(
        part.state["data"].size if part.name == "Parameter" else _count_weights(part)
        for part in parts
    )


def _parameters(state: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of an estimator, with those of the instances among them after two underscores."""
    found: dict[str, Any] = {}
    for name, value in Record("", state).parameters.items():
        if isinstance(value, Record):
            found |= {f"{name}__{key}": one for key, one in _parameters(value.state).items()}
        found[name] = value
    return found


def _print_description(description: dict[str, Any]) -> None:
    described = dict(description)
    features, parts = described.pop("features"), described.pop("parts")
    targets = described.pop("targets")
    parameters, versions = described.pop("parameters"), described.pop("versions")
    lines = {name.replace("_", " "): str(plain(value)) for name, value in described.items()}
    lines["features"] = ", ".join(_with_labels(one) for one in features)
    for one in parts:
        made = ", ".join(f"{name}={short(v)}" for name, v in (one["parameters"] or {}).items())
        lines[f"part {one['name']}"] = f"{one['shape']} through {one['encoder']}({made})"
    for one in targets:
        low, high = one["limits"]
        limits = "" if math.isinf(low) and math.isinf(high) else f" in [{low:g}, {high:g}]"
        lines[f"target {one['name']}"] = f"{one['family']}{limits}"
    lines |= {f"parameter {name}": short(value) for name, value in parameters.items()}
    lines |= {f"version of {name}": text for name, text in versions.items()}
    print_lines(lines)


def _with_labels(feature: dict[str, Any]) -> str:
    labels = feature["labels"]
    return feature["name"] if labels is None else f"{feature['name']} ({len(labels)} labels)"
