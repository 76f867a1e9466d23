"""One training loop for ensembles of networks that share nothing but the rows they learn from.

A module has ``log_prob(*columns)``. The first axis of its parameters, of the columns of a batch and
of what it returns is that of the members; each member has its own rows, order of rows, gradient
clipping and best weights. The learning rate follows a one-cycle schedule: a short linear warm-up,
then a cosine down to zero at the last epoch. The weights with the best validation loss are kept. A
loss that is not finite or, without validation rows, far above the first one restores the last good
weights of that member and halves the learning rate.

Where several processes train together (`_distributed`), each differentiates its part of every
batch; gradients and losses are added before anything is decided by them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, zip_longest
from typing import Any, Protocol

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Generator, Tensor, nn

from ._constants import LONGEST_TURNED
from ._distributed import ALONE, Ranks
from ._optimizer import Weights
from .exceptions import ConvergenceWarning, TrainingInterruptedWarning

#: Share of all steps during which the learning rate rises.
WARM_UP = 0.1
#: Share of the learning rate that steps in eigenbases take, which go the same way for longer.
TURNED_RATE = 0.6
#: Rows per batch from which on steps are in eigenbases.
FEWEST_TURNED = 64
#: Rows from which on more of them are each learned from so much less that all steps together
#: grow with their root.
MOST_LEARNED = 100_000
#: Epochs with a non-finite loss after which training gives up.
MAX_RECOVERIES = 8
#: Nats by which the loss of some training rows may lie above that of the first weights.
EXPLODED, LOOKED_AT = 10.0, 1024


@dataclass(frozen=True)
class Rows:
    """Rows of a table, and which of them belong to each member.

    Parameters
    ----------
    columns : tuple of Tensor
        Arguments of ``log_prob``, each with one entry per row of the table, and behind them the
        weights of the rows if they are `weighted`. Instead of tensors that are large, objects
        which give them for the numbers of rows, such as a `PartColumn`.
    index : Tensor of shape (n_members, n_rows)
        Row numbers of each member.
    offset : Tensor of shape (n_members,)
        Added to the mean loss of these rows when it is reported, so that curves are in the
        user's units.
    weighted : bool
    ranks : Ranks
        Processes that share out the rows of each batch.
    own : slice, default=None
        Rows of the table that this rank has, and that it computes: its columns begin with these.
        None if it has all; then each rank computes a part of every batch.
    """

    columns: tuple[Any, ...]
    index: Tensor
    offset: Tensor
    weighted: bool = False
    ranks: Ranks = ALONE
    own: slice | None = None

    @property
    def inputs(self) -> tuple[Any, ...]:
        """Columns without the weights."""
        return self.columns[:-1] if self.weighted else self.columns

    def __len__(self) -> int:
        """Rows of each member."""
        return self.index.shape[1]

    def to(self, device: torch.device) -> Rows:
        """Rows on a device."""
        return replace(
            self,
            columns=tuple(column.to(device) for column in self.columns),
            index=self.index.to(device),
            offset=self.offset.to(device),
        )

    def of_members(self, members: slice) -> Rows:
        """Rows of some of the members."""
        return replace(self, index=self.index[members], offset=self.offset[members])

    def batches(self, size: int, generators: Sequence[Generator] = ()) -> Iterator[Tensor]:
        """Row numbers (n_members, size); the last batch may be smaller.

        Shuffled by the members' generators, if there are any.
        """
        index = self.index
        if generators:
            shuffled = [torch.randperm(len(self), generator=one) for one in generators]
            index = index.gather(1, torch.stack(shuffled).to(index.device))
        yield from index.split(size, 1)

    def shares(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What this rank computes of a batch.

        Parameters
        ----------
        chosen : Tensor of shape (n_members, n)
            Row numbers of the batch.

        Returns
        -------
        own : Tensor of shape (n_members, n_own)
            Row numbers in the columns. Where a rank has no rows, or members have fewer than
            others, there are some that do not count.
        share : Tensor of shape (n_members, n_own)
            Weight of each in the mean over the batch.
        total : Tensor of shape (n_members,)
            Weight of the whole batch.
        """
        if self.own is not None:
            return self._shares_of_own(chosen, self.own)
        weight = self._weight(chosen)
        total = weight.sum(1)
        share, part = weight / total.unsqueeze(1), self.ranks.part(chosen.shape[1])
        if part.start == part.stop:
            return chosen[:, :1], torch.zeros_like(share[:, :1]), total
        return chosen[:, part], share[:, part], total

    def _shares_of_own(self, chosen: Tensor, own: slice) -> tuple[Tensor, Tensor, Tensor]:
        mine = (chosen >= own.start) & (chosen < own.stop)
        n_most = max(1, int(mine.sum(1).max()))
        place = mine.byte().argsort(dim=1, descending=True, stable=True)[:, :n_most]
        mine = mine.gather(1, place)
        rows = torch.where(mine, chosen.gather(1, place) - own.start, 0)
        weight = torch.where(mine, self._weight(rows), 0.0)
        total = weight.new_full((len(chosen),), chosen.shape[1])
        if self.weighted:
            total = self.ranks.add(weight.sum(1))
        return rows, weight / total.unsqueeze(1), total

    def _weight(self, chosen: Tensor) -> Tensor:
        if self.weighted:
            return self.columns[-1][chosen]
        return torch.ones(chosen.shape, dtype=self.columns[0].dtype, device=chosen.device)


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
    #: Whether the learning rate stays what it is
    constant: bool = False
    #: Whether matrices of weights are moved in the eigenbases of their gradients
    turned: bool = False
    #: Whether all members keep the weights of one epoch, that of the best mean validation loss:
    #: rows of one member are too few to choose by
    joint_epoch: bool = False
    #: Nats by which the first weights must be improved on
    handicap: float = 0.0
    #: Rows of each member that are evaluated at once where nothing is learned
    evaluated: int = 4096


def auto_batch_size(n_rows: int) -> int:
    """Power of two near a 128th of the rows, between 32 and 256."""
    return 2 ** min(max(round(math.log2(n_rows / 128)), 5), 8)


def auto_epochs(n_rows: int, *, turned: bool, n_drawn: int = 0) -> int:
    """For 20,000 rows 30 epochs in eigenbases, else 100; inversely with the root of the rows.

    In eigenbases inversely with the fourth root of fewer rows, and of more, up to `MOST_LEARNED`,
    if none are drawn from a model. Not more than 150, and from 2,000 rows on, where more only
    overfit, not more than 75.
    """
    ratio = 20_000 / n_rows
    if not turned:
        epochs = 100 * math.sqrt(ratio)
    elif n_drawn and ratio < 1:
        epochs = 30 * math.sqrt(ratio)
    else:
        epochs = 30 * ratio**0.25 * min(MOST_LEARNED / n_rows, 1.0) ** 0.25
    return int(min(max(epochs, 5 if turned else 10), min(max(150_000 / n_rows, 75), 150)))


def turns(batch_size: int, widest: int) -> bool:
    """Whether eigenbases are worth their time.

    That of matrices of 64 by 64 is the time of the gradient of some 90 rows, and goes with the
    width; in return half of the epochs or fewer are enough.
    """
    return batch_size >= FEWEST_TURNED and widest <= LONGEST_TURNED


def auto_members(n_rows: int) -> int:
    """4 members for 20,000 rows; inversely with the root of the rows, between 2 and 8."""
    return round(min(max(4.0 * math.sqrt(20_000 / n_rows), 2.0), 8.0))


@dataclass
class History:
    """What happened, in nats per row and the user's units; means over the members."""

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    #: Of each member, counted from 1; 0 means the initial weights
    best_epochs: list[int] = field(default_factory=list)
    interrupted: bool = False

    @property
    def best_epoch(self) -> int:
        """The latest epoch whose weights are kept by a member."""
        return max(self.best_epochs, default=0)


#: Called after each epoch with its number (from 1) and the history; True stops the training.
EpochHook = Callable[[int, History], bool]
#: Gives the columns of the table for an epoch, where they change from one to the next.
Refresh = Callable[[int], tuple[Any, ...]]


class Checkpoint(Protocol):
    """Keeps the state of a training that may be killed."""

    def load(self, like: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """State that was kept, if any, checked to be one of a training like this."""

    def save(self, state: Mapping[str, Any], *, final: bool) -> None:
        """Keep this state instead of an earlier one."""


def train(
    module: nn.Module,
    rows: Rows,
    validation: Rows | None,
    recipe: Recipe,
    seeds: Sequence[int],
    on_epoch: EpochHook = lambda epoch, history: False,
    refresh: Refresh | None = None,
    checkpoint: Checkpoint | None = None,
    make_objective: MakeObjective | None = None,
) -> History:
    """Minimise the mean negative log density of `rows`; leaves the best weights in `module`.

    Parameters
    ----------
    module : Module
        Has ``log_prob(*columns)``; trained in place.
    rows, validation : Rows
        Of one table, on the module's device, in its dtype.
    recipe : Recipe
    seeds : sequence of int
        Of the generators that shuffle the rows, one per member.
    on_epoch : callable
    refresh : callable, default=None
        Gives the columns of the table for each epoch, with the validation rows unchanged.
    checkpoint : Checkpoint, default=None
        Asked for the state to go on from, and given the state after each epoch.
    make_objective : callable, default=None
        Of the `Objective`, which is that class if none is given.

    Returns
    -------
    History

    Warns
    -----
    ConvergenceWarning
        If the loss stayed non-finite in spite of smaller learning rates.
    TrainingInterruptedWarning
        On KeyboardInterrupt; the best weights so far are kept, and the history says so.
    """
    history = History()
    generators = [Generator().manual_seed(seed) for seed in seeds]
    weights = Weights(module, recipe.weight_decay, recipe.max_grad_norm, turned=recipe.turned)
    objective = (make_objective or Objective)(module, weights, rows)
    best = _Best(objective, weights, validation, recipe)
    run = _Run(objective, recipe, generators, history, best, checkpoint)
    run.resume()
    try:
        run.epochs(on_epoch, refresh)
    except KeyboardInterrupt:
        history.interrupted = True
        warnings.warn(
            f"Training was interrupted in epoch {len(history.train) + 1} of {recipe.epochs}; "
            "the best weights so far are kept.",
            TrainingInterruptedWarning,
            stacklevel=7,  # the caller of `fit`
        )
    finally:
        for name, kept in best.kept.items():
            weights.kept()[name].copy_(kept)
        weights.release()
        history.best_epochs = best.epoch.tolist()
    return history


def train_in_processes(
    module: Any,
    rows: Rows,
    validation: Rows | None,
    recipe: Recipe,
    seeds: Sequence[int],
    n_jobs: int,
    refresh: Refresh | None = None,
    make_objective: MakeObjective | None = None,
) -> History:
    """`train`, with the members shared out between processes; `module` has ``of_members``."""
    bounds = np.linspace(0, len(seeds), n_jobs + 1).round().astype(int)
    parts = [slice(*pair) for pair in pairwise(bounds.tolist())]
    trained = Parallel(n_jobs=n_jobs)(
        delayed(_train_part)(
            module.of_members(part),
            rows.of_members(part),
            None if validation is None else validation.of_members(part),
            recipe,
            seeds[part],
            refresh,
            make_objective,
        )
        for part in parts
    )
    weights, histories, caught = zip(*trained, strict=True)
    for message, category in dict.fromkeys(one for part in caught for one in part):
        warnings.warn(message, category, stacklevel=7)  # the caller of `fit`
    for tensor, pieces in zip(_by_member(module), zip(*weights, strict=True), strict=True):
        tensor.data = torch.cat(pieces)
    return _merge(histories)


def _train_part(
    module: nn.Module,
    rows: Rows,
    validation: Rows | None,
    recipe: Recipe,
    seeds: Sequence[int],
    refresh: Refresh | None,
    make_objective: MakeObjective | None,
) -> tuple[list[Tensor], History, list[tuple[str, type[Warning]]]]:
    """Weights and history of some members, and what their training warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = train(
            module, rows, validation, recipe, seeds, refresh=refresh, make_objective=make_objective
        )
    told = [(str(one.message), one.category) for one in caught]
    return [tensor.detach() for tensor in _by_member(module)], history, told


def _by_member(module: nn.Module) -> list[Tensor]:
    """All tensors of a module that have the members on their first axis."""
    return [*module.parameters(), *getattr(module, "member_buffers", {}).values()]


def _merge(histories: Sequence[History]) -> History:
    """Mean curves, over the members of parts that still ran in an epoch."""
    n_members = [len(history.best_epochs) for history in histories]

    def mean(curves: list[list[float]]) -> list[float]:
        epochs = np.array(list(zip_longest(*curves, fillvalue=math.nan)))  # (n_epochs, n_parts)
        masked = np.ma.masked_invalid(epochs)
        return np.ma.average(masked, axis=1, weights=n_members).tolist() if len(epochs) else []

    return History(
        mean([history.train for history in histories]),
        mean([history.validation for history in histories]),
        [epoch for history in histories for epoch in history.best_epochs],
        any(history.interrupted for history in histories),
    )


class Objective:
    """Mean negative log density of each member's rows in a batch, with its gradient.

    By automatic differentiation. Subclasses may do the same in another way.
    """

    def __init__(self, module: Any, weights: Weights, rows: Rows):
        self.module, self.weights, self.rows = module, weights, rows
        self.use(rows.columns)

    def use(self, columns: tuple[Any, ...]) -> None:
        """Take other columns for the same rows."""
        self.rows = replace(self.rows, columns=columns)

    def differentiate(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each member, and its total weight; leaves the gradient in `weights`.

        Loss and gradient are what this rank adds to those of the batch.
        """
        own, share, total = self.rows.shares(chosen)
        loss = self.loss(own, share)
        self.weights.differentiate(loss.sum())  # no weight has a share in two members
        return loss.detach().double(), total

    def step(self, rate: float) -> None:
        """One step down the gradient."""
        self.weights.step(rate)

    def steps(self, batches: Sequence[Tensor], rates: Sequence[float]) -> Tensor:
        """One step with each batch; each member's mean loss before the steps, without offset."""
        loss = weight = torch.zeros(1, dtype=torch.float64, device=self.rows.offset.device)
        for chosen, rate in zip(batches, rates, strict=True):
            batch_loss, total = self.differentiate(chosen)
            self.rows.ranks.add(self.weights.gradient)
            self.step(rate)
            loss = loss + batch_loss * total
            weight = weight + total
        return self.rows.ranks.add(loss) / weight

    @torch.no_grad()
    def mean(self, rows: Rows, batch_size: int) -> Tensor:
        """Mean loss of each member's `rows`, in the user's units."""
        self.module.eval()
        rows = replace(rows, columns=self.rows.columns)
        loss = weight = torch.zeros(1, dtype=torch.float64, device=rows.offset.device)
        for chosen in rows.batches(batch_size):
            own, share, total = rows.shares(chosen)
            loss = loss + self.loss(own, share).double() * total
            weight = weight + total
        return rows.ranks.add(loss) / weight + rows.offset

    def loss(self, chosen: Tensor, share: Tensor) -> Tensor:
        """Sum of the rows' negative log densities by their shares, (n_members,)."""
        columns = (column[chosen] for column in self.rows.inputs)
        return -(self.module.log_prob(*columns) * share).sum(1)


#: Makes the objective of a module from it, its weights and its rows.
MakeObjective = Callable[[Any, Weights, Rows], Objective]


class _Best:
    """Each member's weights of lowest validation loss; without validation rows the latest."""

    def __init__(
        self,
        objective: Objective,
        weights: Weights,
        validation: Rows | None,
        recipe: Recipe,
    ):
        self.objective, self.weights, self.validation = objective, weights, validation
        self.batch_size, self.joint = recipe.evaluated, recipe.joint_epoch
        self.kept = {name: value.clone() for name, value in weights.kept().items()}
        self.loss = torch.full((len(weights.values),), math.inf, dtype=torch.float64)
        if validation is not None:  # a table too small to learn from is best left alone
            loss = self._validation_loss(validation)
            self.loss = torch.where(loss.isfinite(), loss, self.loss.to(loss)) - recipe.handicap
        else:
            self.start = self._training_loss()
        self.loss = self.loss.to(weights.values.device)
        self.epoch = torch.zeros_like(self.loss, dtype=torch.int64)

    def _validation_loss(self, rows: Rows) -> Tensor:
        loss = self.objective.mean(rows, self.batch_size)
        return loss.mean().expand_as(loss) if self.joint else loss

    def _training_loss(self) -> Tensor:
        rows = self.objective.rows
        some = replace(rows, index=rows.index[:, : min(self.batch_size, LOOKED_AT)])
        return self.objective.mean(some, self.batch_size)

    def update(self, epoch: int, usable: Tensor, history: History) -> Tensor:
        """Look at the weights after `epoch` of `usable` members; which of these still are."""
        if self.validation is None:
            usable = usable & (self._training_loss() < self.start + EXPLODED)
            loss = torch.full_like(self.loss, -math.inf)
            better = usable
        else:
            loss = self._validation_loss(self.validation)
            usable = usable & loss.isfinite()
            better = usable & (loss < self.loss)
            if bool(usable.any()):
                history.validation.append(loss[usable].mean().item())
        if self.weights.shared:  # one that has diverged has taken all others along
            usable = usable.all().expand_as(usable)
            better = better & usable
        for name, value in self.weights.kept().items():
            self.kept[name][better] = value[better]
        self.loss[better] = loss[better]
        self.epoch[better] = epoch
        return usable


class _Run:
    """The loop over the epochs, and its state between them."""

    def __init__(
        self,
        objective: Objective,
        recipe: Recipe,
        generators: list[Generator],
        history: History,
        best: _Best,
        checkpoint: Checkpoint | None,
    ):
        self.objective, self.weights = objective, objective.weights
        self.recipe, self.generators = recipe, generators
        self.history, self.best, self.checkpoint = history, best, checkpoint
        self.ranks = objective.rows.ranks
        n_steps = recipe.epochs * math.ceil(len(objective.rows) / recipe.batch_size)
        peak = recipe.learning_rate * (TURNED_RATE if recipe.turned else 1.0)
        self.schedule = _OneCycle(peak, n_steps, recipe.constant)
        self.done = self.recoveries = 0

    def epochs(self, on_epoch: EpochHook, refresh: Refresh | None) -> None:
        """Run until the last epoch, or until there is no improvement."""
        ended = self.done >= self.recipe.epochs
        while not ended:
            if refresh is not None:
                self.objective.use(refresh(self.done + 1))
            self.done += 1
            ended = self._epoch(on_epoch) or self.done == self.recipe.epochs
            if self.checkpoint is not None:
                if ended:
                    self.done = self.recipe.epochs
                self.checkpoint.save(self._state(), final=ended)
        if self.recoveries >= min(MAX_RECOVERIES, 0.5 * self.recipe.epochs):
            _warn_diverged(self.recoveries, self.recipe)

    def _epoch(self, on_epoch: EpochHook) -> bool:
        """Run one epoch; True if it is to be the last."""
        epoch, weights = self.done, self.weights
        safe = {name: array.clone() for name, array in weights.arrays().items()}
        loss = _run_epoch(self.objective, self.schedule, self.recipe, self.generators)
        self.ranks.follow(*weights.arrays().values())
        usable = self.best.update(epoch, loss.isfinite(), self.history)
        if not bool(usable.all()):
            self.recoveries += 1
            weights.reset(safe, ~usable)
            self.schedule.peak *= 0.5
            if self.recoveries == MAX_RECOVERIES:
                return True
            if not bool(usable.any()):
                return False
        self.history.train.append(loss[usable].mean().item())
        if self.ranks.any(on_epoch(epoch, self.history)):
            return True
        patience = self.recipe.n_iter_no_change
        return patience is not None and epoch - self.best.epoch.max().item() >= patience

    def _tensors(self) -> dict[str, Tensor]:
        best = self.best
        kept = {f"best_{name}": value for name, value in best.kept.items()}
        return self.weights.arrays() | kept | {"best_loss": best.loss, "best_epoch": best.epoch}

    def _all_generators(self) -> list[Generator]:
        return [*self.generators, *getattr(self.objective.module, "generators", ())]

    def _state(self) -> dict[str, Any]:
        return {
            "tensors": {name: value.cpu() for name, value in self._tensors().items()},
            "generators": [one.get_state() for one in self._all_generators()],
            "counts": [self.done, self.recoveries, self.weights.n_steps, self.schedule.step],
            "peak": self.schedule.peak,
            "train": self.history.train,
            "validation": self.history.validation,
        }

    def resume(self) -> None:
        """Go on from the state in the checkpoint, if there is one."""
        state = None if self.checkpoint is None else self.checkpoint.load(self._state())
        if state is None:
            return
        for name, value in self._tensors().items():
            value.copy_(state["tensors"][name])
        # Those of the module, behind the others, are not the same on all ranks
        own = self.generators if self.ranks.rank else self._all_generators()
        for one, saved in zip(own, state["generators"], strict=False):
            one.set_state(saved)
        self.done, self.recoveries, self.weights.n_steps, self.schedule.step = state["counts"]
        self.schedule.peak = state["peak"]
        self.history.train.extend(state["train"])
        self.history.validation.extend(state["validation"])


def _warn_diverged(n_epochs: int, recipe: Recipe) -> None:
    warnings.warn(
        "Training diverged: the loss was not finite, or far above the first one, in "
        f"{n_epochs} of {recipe.epochs} epochs, although the learning rate was halved each time. "
        f"The best weights are kept. Lower learning_rate (got {recipe.learning_rate:g}) or look "
        "for outliers in X and y.",
        ConvergenceWarning,
        stacklevel=9,  # the caller of `fit`
    )


def _run_epoch(
    objective: Objective, schedule: _OneCycle, recipe: Recipe, generators: list[Generator]
) -> Tensor:
    """One pass over the rows; each member's mean loss before each step, which may be non-finite."""
    objective.module.train()
    rows = objective.rows
    batches = list(rows.batches(recipe.batch_size, generators))
    return objective.steps(batches, [schedule.next() for _ in batches]) + rows.offset


class _OneCycle:
    """Learning rate of each step: linear warm-up to `peak`, then a cosine to zero."""

    def __init__(self, peak: float, n_steps: int, constant: bool = False):
        self.peak = peak
        self.constant = constant
        self.n_steps = n_steps
        self.n_rising = max(1, round(WARM_UP * n_steps))
        self.step = 0

    def next(self) -> float:
        self.step += 1
        if self.constant:
            return self.peak
        if self.step <= self.n_rising:
            return self.peak * self.step / self.n_rising
        falling = (self.step - self.n_rising) / max(1, self.n_steps - self.n_rising)
        return self.peak * 0.5 * (1.0 + math.cos(math.pi * min(falling, 1.0)))
