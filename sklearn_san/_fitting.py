"""From checked rows to a trained network: split, scalers, starting point, training.

===================  =======================================================================
`Problem`            what is to be fitted, apart from the rows
`split`              rows to train on and to validate on, for each member
`build`              scalers, linear base and untrained network
`rows_of`            rows of a table for training and validation
`run_training`       the training of a network, in place
===================  =======================================================================

`options` is an estimator with its constructor parameters; y is in autoregressive order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs

from . import _validation as validation
from ._engines import load_kernels, objective_for
from ._inputs import InputEncoder
from ._likelihood import Likelihood
from ._linear_base import fit_linear_base, match_marginals
from ._network import SAN, FreeRunning
from ._scaling import OutputScaler
from ._training import (
    Checkpoint,
    EpochHook,
    History,
    Recipe,
    Refresh,
    Rows,
    auto_batch_size,
    auto_epochs,
    auto_members,
    train,
    train_in_processes,
)

#: Learning rate of `partial_fit` as a share of the largest one of `fit`.
INCREMENT_RATE = 0.1


@dataclass(frozen=True)
class Problem:
    """What is to be fitted, in autoregressive order.

    Parameters
    ----------
    families : list of Likelihood
        Unresolved.
    classes : list of ndarray or None
        Labels of each output.
    limits : ndarray of shape (n_outputs, 2)
        In the units of y.
    n_categories : list of int or None
        Of each feature; None for numbers.
    feature_names : list of str
    """

    families: list[Likelihood]
    classes: list[np.ndarray | None]
    limits: np.ndarray
    n_categories: list[int | None]
    feature_names: list[str]


def n_members(options: Any, n_rows: int) -> int:
    """Members of the ensemble."""
    return auto_members(n_rows) if options.n_members == "auto" else int(options.n_members)


def n_validation(options: Any, n_rows: int) -> int:
    """Rows that are held out for validation."""
    wanted = n_rows >= 100 if options.early_stopping == "auto" else options.early_stopping
    if not wanted:
        return 0
    n = max(1, round(options.validation_fraction * n_rows))
    if n_rows - n < 2:
        raise ValueError(
            f"validation_fraction={options.validation_fraction} of {n_rows} rows leaves fewer than "
            "2 to train on; lower it or set early_stopping=False."
        )
    return n


def split(
    n_rows: int, n_validation: int, n_members: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and to validate on for each member, (n_members, ...) each.

    Members validate on different rows, so that together they learn from all.
    """
    permutation = torch.randperm(n_rows, generator=generator).numpy()
    rolled = np.stack([np.roll(permutation, -m * n_validation) for m in range(n_members)])
    return rolled[:, n_validation:], rolled[:, :n_validation]


def build(
    options: Any,
    problem: Problem,
    X: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    X_err: np.ndarray | None,
    n_members: int,
    generator: torch.Generator,
    scalers: tuple[Any, OutputScaler] | None = None,
) -> tuple[InputEncoder, OutputScaler, SAN]:
    """Fit the scalers and the linear base on the training part; build the network.

    `scalers` of X and y that are fitted already, on more rows than these, are taken as they are.
    """
    encoder = InputEncoder(
        options.x_scaler,
        problem.n_categories,
        missing_rate=options.missing_rate,
        nondetection=options.nondetection is not None,
        use_errors=options.use_errors,
        names=problem.feature_names,
    ).fit(X, sample_weight, X_err, scaler=None if scalers is None else scalers[0])
    if scalers is not None:
        y_scaler = scalers[1]
    else:
        y_scaler = OutputScaler(options.y_scaler, [one.scaling for one in problem.families])
        y_scaler.fit(y, sample_weight)
    z = y_scaler.transform(y)
    scaled_limits = y_scaler.transform_limits(problem.limits)
    families = validation.check_range(
        problem.families, scaled_limits, options.likelihood, options.likelihood_params
    )
    x = encoder.transform(X, X_err)
    base, residual = fit_linear_base(x, z, sample_weight, options.linear_base, families)
    units, origins = y_scaler.unit(y) * base.scale.numpy(), y_scaler.origin()
    resolved = [
        family.resolve(
            K=options.K,
            unit=units[d],
            origin=origins[d],
            n_classes=None if labels is None else len(labels),
        )
        for d, (family, labels) in enumerate(zip(families, problem.classes, strict=True))
    ]
    network = SAN(
        encoder.n_inputs,
        resolved,
        match_marginals(resolved, scaled_limits, base, z, residual, sample_weight),
        scaled_limits,
        base,
        n_members=n_members,
        first_module_shape=options.first_module_shape or options.module_shape,
        module_shape=options.module_shape,
        encoder_shape=options.encoder_shape or (),
        sequence_features=options.sequence_features,
        activation=options.activation,
        layer_norm=options.layer_norm,
        generator=generator,
    )
    return encoder, y_scaler, network


def mean_jacobian(
    network: SAN,
    encoder: InputEncoder,
    y_scaler: OutputScaler,
    X: np.ndarray,
    y: np.ndarray,
    X_err: np.ndarray | None,
) -> np.ndarray:
    """Log-Jacobian of each row, which brings its loss back to the units of y; (n_rows,)."""
    x, z = encoder.transform(X, X_err), y_scaler.transform(y)
    mass = network.double().is_mass(torch.from_numpy(x), torch.from_numpy(z)).numpy()
    return np.where(mass | np.isnan(y), 0.0, y_scaler.log_jacobian(y)).sum(axis=1)


def rows_of(
    columns: tuple[torch.Tensor, ...],
    index: np.ndarray,
    jacobian: np.ndarray,
    sample_weight: np.ndarray | None,
    shift: int = 0,
) -> Rows | None:
    """Rows of a table that may hold them again from row `shift` on; None if there are none.

    Parameters
    ----------
    columns : tuple of Tensor
    index : ndarray of shape (n_members, n)
        Numbers of the rows.
    jacobian, sample_weight : ndarray of shape (n_rows,)
    shift : int, default=0
    """
    if not index.size:
        return None
    share = None if sample_weight is None else sample_weight[index]
    offset = -np.average(jacobian[index], axis=1, weights=share)
    weight = None
    if sample_weight is not None:
        repeated = np.tile(sample_weight, len(columns[0]) // len(sample_weight))
        weight = torch.as_tensor(repeated, dtype=columns[0].dtype, device=columns[0].device)
    device = columns[0].device
    return Rows(
        columns,
        torch.from_numpy(index + shift).to(device),
        weight,
        torch.from_numpy(offset).to(device),
    )


@dataclass(frozen=True)
class Plan:
    """Resolved sizes of a training.

    Parameters
    ----------
    recipe : Recipe
    epochs, batch_size : int
        As they are reported; the recipe counts pools instead of epochs.
    """

    recipe: Recipe
    epochs: int
    batch_size: int


def make_plan(
    options: Any, n_rows: int, validates: bool, n_pools: int = 1, *, increment: bool = False
) -> Plan:
    """Plan for `n_rows` rows, read in so many pools per epoch; `increment` is one pass."""
    automatic = options.batch_size == "auto"
    batch_size = auto_batch_size(n_rows) if automatic else int(options.batch_size)
    epochs = auto_epochs(n_rows) if options.epochs == "auto" else int(options.epochs)
    patience = options.n_iter_no_change
    if increment:
        rate = INCREMENT_RATE * options.learning_rate
        recipe = Recipe(1, batch_size, rate, options.weight_decay, None, constant=True)
        return Plan(recipe, 1, batch_size)
    recipe = Recipe(
        epochs=epochs * n_pools,
        batch_size=batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        n_iter_no_change=patience * n_pools if validates and patience is not None else None,
    )
    return Plan(recipe, epochs, batch_size)


def run_training(
    options: Any,
    network: SAN,
    training: Rows,
    holdout: Rows | None,
    recipe: Recipe,
    generator: torch.Generator,
    on_epoch: EpochHook,
    refresh: Refresh | None = None,
    checkpoint: Checkpoint | None = None,
) -> History:
    """Train `network` in place on the device of the rows, and bring it back to the CPU."""
    network.to(training.index.device, validation.DTYPES[options.dtype])
    seeds, other_seeds = _seeds(network.n_members, generator)
    objective: SAN | FreeRunning = network
    if not options.teacher_forcing:
        objective = FreeRunning(network, options.train_rsample, other_seeds)
    n_jobs = min(effective_n_jobs(options.n_jobs), network.n_members)
    network.requires_grad_(True)
    load_kernels(network, for_training=True)
    try:
        if n_jobs == 1:
            return train(
                objective, training, holdout, recipe, seeds, on_epoch, refresh, checkpoint,
                objective_for,
            )  # fmt: skip
        if checkpoint is not None:
            raise ValueError(
                f"checkpoint_dir needs n_jobs=None, got n_jobs={options.n_jobs}: processes keep no "
                "checkpoints."
            )
        history = train_in_processes(
            objective, training, holdout, recipe, seeds, n_jobs, refresh, objective_for
        )
        on_epoch(len(history.train), history)
        return history
    finally:
        network.zero_grad(set_to_none=True)
        network.to("cpu").requires_grad_(False).eval()
        load_kernels(network)


def _seeds(n_members: int, generator: torch.Generator) -> Sequence[list[int]]:
    return torch.randint(2**62, (2, n_members), generator=generator).tolist()
