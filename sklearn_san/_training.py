"""One training loop for any module with a ``log_prob(*columns)`` that returns one value per row.

The steps are ``train -> _run_epoch -> _step``. The learning rate follows a one-cycle schedule: a
short linear warm-up, then a cosine down to zero at the last epoch. The weights with the best
validation loss are kept. A non-finite loss restores the last good weights and halves the
learning rate.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from .exceptions import ConvergenceWarning, TrainingInterruptedWarning

#: Share of all steps during which the learning rate rises.
WARM_UP = 0.1
#: Epochs with a non-finite loss after which training gives up.
MAX_RECOVERIES = 8


@dataclass(frozen=True)
class Rows:
    """Columns that are batched together, and the weight of each row.

    Parameters
    ----------
    columns : tuple of Tensor
        Arguments of ``log_prob``, each with one entry per row.
    weight : Tensor of shape (n_rows,) or None
    offset : float
        Added to the mean loss of these rows when it is reported, so that curves are in the
        user's units.
    """

    columns: tuple[Tensor, ...]
    weight: Tensor | None = None
    offset: float = 0.0

    def __len__(self) -> int:
        return len(self.columns[0])

    def batches(self, size: int, permutation: Tensor | None = None) -> Iterator[Rows]:
        """Batches of `size` rows in the order of `permutation`; the last may be smaller."""
        for start in range(0, len(self), size):
            if permutation is None:
                yield self._take(slice(start, start + size))
            else:
                yield self._take(permutation[start : start + size])

    def _take(self, index: slice | Tensor) -> Rows:
        weight = None if self.weight is None else self.weight[index]
        return Rows(tuple(column[index] for column in self.columns), weight)


@dataclass(frozen=True)
class Recipe:
    """How to train; the parameters are those of the estimator, resolved.

    `n_iter_no_change` of None means that the validation loss, if there is one, only chooses the
    weights that are kept.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    n_iter_no_change: int | None
    max_grad_norm: float = 5.0


def auto_batch_size(n_rows: int) -> int:
    """Power of two near a 64th of the rows, between 16 and 512."""
    return 2 ** min(max(round(math.log2(n_rows / 64)), 4), 9)


def auto_epochs(n_rows: int) -> int:
    """60 epochs for 20,000 rows; inversely with the root of the rows, between 8 and 150."""
    return int(min(max(60 * math.sqrt(20_000 / n_rows), 8), 150))


@dataclass
class History:
    """What happened, in nats per row and the user's units."""

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int = 0  # counted from 1; 0 means the initial weights
    interrupted: bool = False


#: Called after each epoch with its number (from 1) and the history; True stops the training.
EpochHook = Callable[[int, History], bool]


def train(
    module: nn.Module,
    rows: Rows,
    validation: Rows | None,
    recipe: Recipe,
    generator: Generator,
    on_epoch: EpochHook = lambda epoch, history: False,
) -> History:
    """Minimise the mean negative log density of `rows`; leaves the best weights in `module`.

    Parameters
    ----------
    module : Module
        Has ``log_prob(*columns)``; trained in place.
    rows, validation : Rows
        On the module's device, in its dtype.
    recipe : Recipe
    generator : Generator
        Shuffles the rows.
    on_epoch : callable

    Returns
    -------
    History

    Warns
    -----
    ConvergenceWarning
        If the loss stayed non-finite in spite of smaller learning rates.
    TrainingInterruptedWarning
        On KeyboardInterrupt; the best weights so far are kept.
    """
    history = History()
    best = _Best(module, validation, recipe.batch_size)
    try:
        _run_epochs(module, rows, recipe, generator, on_epoch, history, best)
    except KeyboardInterrupt:
        history.interrupted = True
        warnings.warn(
            f"Training was interrupted in epoch {len(history.train) + 1} of {recipe.epochs}; "
            "the best weights so far are kept.",
            TrainingInterruptedWarning,
            stacklevel=6,  # the caller of `fit`
        )
    history.best_epoch = best.restore(module)
    return history


class _Best:
    """Keeps the weights with the lowest validation loss, or the latest without validation rows."""

    def __init__(self, module: nn.Module, validation: Rows | None, batch_size: int):
        self.validation = validation
        self.batch_size = batch_size
        self.loss = math.inf
        self.epoch = 0
        self.state = copy.deepcopy(module.state_dict())

    def update(self, module: nn.Module, epoch: int, history: History) -> bool:
        """Look at the weights after `epoch`; False if their validation loss is not finite."""
        loss = -math.inf
        if self.validation is not None:
            loss = mean_loss(module, self.validation, max(self.batch_size, 4096))
            if not math.isfinite(loss):
                return False
            history.validation.append(loss)
        if loss < self.loss or self.validation is None:
            self.loss, self.epoch = loss, epoch
            self.state = copy.deepcopy(module.state_dict())
        return True

    def restore(self, module: nn.Module) -> int:
        module.load_state_dict(self.state)
        return self.epoch


def _run_epochs(
    module: nn.Module,
    rows: Rows,
    recipe: Recipe,
    generator: Generator,
    on_epoch: EpochHook,
    history: History,
    best: _Best,
) -> None:
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    steps_per_epoch = math.ceil(len(rows) / recipe.batch_size)
    schedule = _OneCycle(recipe.learning_rate, recipe.epochs * steps_per_epoch)
    recoveries = 0
    for epoch in range(1, recipe.epochs + 1):
        safe = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
        loss = _run_epoch(module, optimizer, schedule, rows, recipe, generator)
        if not math.isfinite(loss) or not best.update(module, epoch, history):
            recoveries += 1
            module.load_state_dict(safe[0])
            optimizer.load_state_dict(safe[1])
            schedule.peak *= 0.5
            if recoveries == MAX_RECOVERIES:
                _warn_diverged(epoch, recipe.learning_rate)
                return
            continue
        history.train.append(loss)
        if on_epoch(epoch, history):
            return
        patience = recipe.n_iter_no_change
        if patience is not None and epoch - best.epoch >= patience:
            return


def _warn_diverged(epoch: int, learning_rate: float) -> None:
    warnings.warn(
        f"Training diverged: the loss was not finite in {MAX_RECOVERIES} epochs, the last of "
        f"them epoch {epoch}, although the learning rate was halved each time. The best weights "
        f"so far are kept. Lower learning_rate (got {learning_rate:g}) or look for outliers in "
        "X and y.",
        ConvergenceWarning,
        stacklevel=8,  # the caller of `fit`
    )


def _run_epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: _OneCycle,
    rows: Rows,
    recipe: Recipe,
    generator: Generator,
) -> float:
    """One pass over the rows; the mean loss before each step, which may be non-finite."""
    module.train()
    device = rows.columns[0].device
    permutation = torch.randperm(len(rows), generator=generator).to(device)
    total = torch.zeros((), dtype=torch.float64, device=device)
    total_weight = torch.zeros((), dtype=torch.float64, device=device)
    for batch in rows.batches(recipe.batch_size, permutation):
        for group in optimizer.param_groups:
            group["lr"] = schedule.next()
        loss, weight = _step(module, optimizer, batch, recipe.max_grad_norm)
        total += loss * weight
        total_weight += weight
    return (total / total_weight).item() + rows.offset


def _step(
    module: nn.Module, optimizer: torch.optim.Optimizer, batch: Rows, max_grad_norm: float
) -> tuple[Tensor, Tensor]:
    """Loss of the batch before the step, and its total weight."""
    loss, weight = _weighted_loss(module, batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), max_grad_norm)
    optimizer.step()
    return loss.detach(), weight


def _weighted_loss(module: Any, batch: Rows) -> tuple[Tensor, Tensor]:
    """Mean negative log density of the batch, and its total weight."""
    log_prob = module.log_prob(*batch.columns)  # (batch,)
    if batch.weight is None:
        return -log_prob.mean(), log_prob.new_tensor(float(len(log_prob)))
    total = batch.weight.sum()
    return -(log_prob * batch.weight).sum() / total, total


@torch.no_grad()
def mean_loss(module: nn.Module, rows: Rows, batch_size: int) -> float:
    """Weighted mean negative log density of all rows, in nats per row and the user's units."""
    module.eval()
    total = weight = 0.0
    for batch in rows.batches(batch_size):
        batch_loss, batch_weight = _weighted_loss(module, batch)
        total += batch_loss.double().item() * batch_weight.item()
        weight += batch_weight.item()
    return total / weight + rows.offset


class _OneCycle:
    """Learning rate of each step: linear warm-up to `peak`, then a cosine to zero."""

    def __init__(self, peak: float, n_steps: int):
        self.peak = peak
        self.n_steps = n_steps
        self.n_rising = max(1, round(WARM_UP * n_steps))
        self.step = 0

    def next(self) -> float:
        self.step += 1
        if self.step <= self.n_rising:
            return self.peak * self.step / self.n_rising
        falling = (self.step - self.n_rising) / max(1, self.n_steps - self.n_rising)
        return self.peak * 0.5 * (1.0 + math.cos(math.pi * min(falling, 1.0)))
