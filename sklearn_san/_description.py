"""What a fitted estimator is, in some lines of text."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Outputs that have a line of their own; more are counted.
MAX_OUTPUTS = 12


def describe(estimator: Any) -> str:
    """What was learned from, what "auto" became, how the training went, and what evaluates it."""
    validation = estimator.validation_curve_
    encoders = estimator.encoders_
    weights = [*estimator.network_.parameters(), *(encoders.weights if encoders else ())]
    lines = {
        "features": _features(estimator),
        "outputs": _outputs(estimator),
        "members": str(estimator.n_members_),
        "weights": f"{sum(p.numel() for p in weights):,}",
        "batch size": str(estimator.batch_size_),
        "epochs": f"{estimator.n_iter_} of {estimator.epochs_}, kept: {estimator.best_epoch_}",
        "training NLL": f"{estimator.loss_curve_[-1]:.4g} nats per row",
        "validation NLL": (
            f"{min(validation):.4g} nats per row" if len(validation) else "no rows for validation"
        ),
        "engine": estimator.engine_,
    }
    width = max(map(len, lines)) + 2
    return "\n".join([type(estimator).__name__, *(f"  {k:<{width}}{v}" for k, v in lines.items())])


def _features(estimator: Any) -> str:
    """Plain columns and what was added to them, and the parts of X that go through encoders."""
    used, parts = estimator.input_encoder_, estimator.part_shapes_
    added = [
        name
        for name, is_used in [
            ("a piecewise-linear encoding", used.encoding is not None),
            ("predictions of trees", used.trees is not None),
            ("spread of trees", used.forest is not None),
            ("similar rows", used.neighbours is not None),
        ]
        if is_used
    ]
    texts = [" and ".join([str(estimator.n_features_in_), *added])]
    for name, shape in parts.items():
        texts.append(f"{name} ({' x '.join(map(str, shape))}) through an encoder")
    return ", ".join(texts)


def _outputs(estimator: Any) -> str:
    """Outputs in the order of the network, with family and limits."""
    texts = []
    for j, family in zip(estimator.order_, estimator.families_, strict=True):
        low, high = estimator.limits_[j]
        limits = f" in [{low:g}, {high:g}]" if np.isfinite([low, high]).any() else ""
        texts.append(f"{estimator.output_names_[j]} ({type(family).__name__}{limits})")
    more = [f"and {len(texts) - MAX_OUTPUTS} more"] if len(texts) > MAX_OUTPUTS else []
    return ", ".join([*texts[:MAX_OUTPUTS], *more])
