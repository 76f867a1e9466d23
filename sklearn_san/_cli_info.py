"""What is in a model file, for people and as JSON; the command ``info``."""

from __future__ import annotations

import json
import math
import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import SANConditionalDensityEstimator
from ._cli_rows import categories


def info(options: Namespace) -> None:
    estimator = SANConditionalDensityEstimator.load(options.model)
    description = describe(options.model, estimator)
    print_json(description) if options.json else _print_description(description)


def describe(path: str, estimator: Any) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["sklearn_san"])
    n_features = estimator.n_features_in_
    names = getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(n_features)])
    place = np.argsort(estimator.order_)
    validation = estimator.validation_curve_
    return {
        "file": path,
        "bytes": os.path.getsize(path),
        "features": [
            {"name": name, "labels": known}
            for name, known in zip(names, categories(estimator), strict=True)
        ],
        "targets": [
            {
                "name": name,
                "limits": estimator.limits_[j],
                "family": short(estimator.families_[place[j]]),
                "labels": estimator.codec_.classes[j],
                "position": int(place[j]),
            }
            for j, name in enumerate(estimator.output_names_)
        ],
        "networks": estimator.n_members_,
        "weights": sum(weight.numel() for weight in estimator.network_.parameters()),
        "epochs": estimator.n_iter_,
        "best_epoch": estimator.best_epoch_,
        "training_nll": estimator.loss_curve_[-1],
        "validation_nll": min(validation) if validation else None,
        "parameters": estimator.get_params()
        | {name: getattr(estimator, f"{name}_") for name in ("n_members", "epochs", "batch_size")},
        "versions": header["versions"],
    }


def _print_description(description: dict[str, Any]) -> None:
    described = dict(description)
    features, targets = described.pop("features"), described.pop("targets")
    parameters, versions = described.pop("parameters"), described.pop("versions")
    lines = {name.replace("_", " "): str(plain(value)) for name, value in described.items()}
    lines["features"] = ", ".join(_with_labels(one) for one in features)
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


def print_lines(lines: Mapping[str, str]) -> None:
    width = max(map(len, lines)) + 2
    for name, text in lines.items():
        print(f"{name:<{width}}{text}")


def print_json(value: Any) -> None:
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """What JSON can hold; null for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else short(value)


def short(value: Any) -> str:
    return " ".join(repr(value).split())
