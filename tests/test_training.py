"""The training loop: schedule, weights, recovery, interruption, best weights."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SINGLE, small
from torch import nn

from sklearn_san._optimizer import Weights
from sklearn_san._training import (
    MAX_RECOVERIES,
    TURNED_RATE,
    Objective,
    Recipe,
    Rows,
    _OneCycle,
    auto_batch_size,
    auto_epochs,
    train,
    train_in_processes,
    turns,
)
from sklearn_san.compiled.engine import CompiledObjective
from sklearn_san.exceptions import ConvergenceWarning, TrainingInterruptedWarning


class Gaussian(nn.Module):
    """p(y | x) of each member with a free mean and unit variance; the last one fails on request."""

    def __init__(self, n_members=1):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros((n_members, 1)))
        self.calls = 0
        self.nan_at = ()
        self.interrupt_at = None

    def log_prob(self, x, y):
        if self.training:
            self.calls += 1
            if self.calls == self.interrupt_at:
                raise KeyboardInterrupt
        log_prob = -0.5 * (y - self.mean) ** 2 - 0.5 * math.log(2 * math.pi)
        if self.training and self.calls in self.nan_at:
            log_prob[-1] *= float("nan")
        return log_prob

    def of_members(self, members):
        part = Gaussian()
        part.mean = nn.Parameter(self.mean[members].detach())
        return part


def rows_of(values, weight=None, offset=0.0, index=None):
    y = torch.tensor(values)
    index = torch.arange(len(y)).unsqueeze(0) if index is None else torch.tensor(index)
    weight = None if weight is None else torch.tensor(weight)
    offsets = torch.full((len(index),), offset, dtype=torch.float64)
    columns = (torch.zeros_like(y), y) if weight is None else (torch.zeros_like(y), y, weight)
    return Rows(columns, index, offsets, weighted=weight is not None)


def with_validation(rows, values, index=None):
    """The rows, and validation rows of the given values, in one table."""
    n = len(rows.columns[1])
    y = torch.cat([rows.columns[1], torch.tensor(values)])
    index = [list(range(len(values)))] if index is None else index
    columns = (torch.zeros_like(y), y)
    return replace(rows, columns=columns), replace(
        rows, columns=columns, index=torch.tensor(index) + n
    )


def recipe(**changes):
    defaults = {
        "epochs": 40,
        "batch_size": 8,
        "learning_rate": 0.4,
        "weight_decay": 0.0,
        "n_iter_no_change": None,
    }
    return Recipe(**(defaults | changes))


DATA = rows_of([2.0, 4.0] * 8)
# Two members: the first sees the twos only, the second the fours
SPLIT = rows_of([2.0, 4.0] * 8, index=[list(range(0, 16, 2)), list(range(1, 16, 2))])


def run(module=None, rows=DATA, validation=None, **changes):
    module = Gaussian() if module is None else module
    seeds = list(range(len(rows.index)))
    return module, train(module, rows, validation, recipe(**changes), seeds)


def mean_loss(module, rows, batch_size):
    weights = Weights(module, weight_decay=0.0, max_grad_norm=5.0, turned=False)
    loss = Objective(module, weights, rows).mean(rows, batch_size)
    weights.release()
    return loss


def test_finds_the_maximum_likelihood_estimate():
    module, history = run()
    assert module.mean.item() == pytest.approx(3.0, abs=0.05)
    assert len(history.train) == history.best_epoch == 40
    assert history.validation == []


def test_weights_count_as_repetitions():
    module, _ = run(rows=rows_of([0.0, 3.0] * 8, [1.0, 2.0] * 8))
    assert module.mean.item() == pytest.approx(2.0, abs=0.05)
    rows = rows_of([0.0, 3.0], [1.0, 2.0])
    twice = rows_of([0.0, 3.0, 3.0])
    assert mean_loss(module, rows, 10).item() == pytest.approx(mean_loss(module, twice, 2).item())


def test_keeps_the_weights_that_are_best_on_validation_rows_and_stops():
    rows, validation = with_validation(DATA, [1.0, 1.0])  # passed on the way to 3
    module, history = run(rows=rows, validation=validation, n_iter_no_change=4, epochs=60)
    assert module.mean.item() == pytest.approx(1.0, abs=0.5)
    assert len(history.train) == len(history.validation) == history.best_epoch + 4
    best = min(history.validation)
    assert mean_loss(module, validation, 10).item() == pytest.approx(best)
    assert history.validation[history.best_epoch - 1] == best


def test_curves_carry_the_offset():
    offset = rows_of([2.0, 4.0] * 8, offset=10.0)
    _, plain = run(validation=DATA)
    _, shifted = run(rows=offset, validation=offset)
    np.testing.assert_allclose(np.subtract(shifted.train, plain.train), 10.0, rtol=1e-6)
    np.testing.assert_allclose(np.subtract(shifted.validation, plain.validation), 10.0, rtol=1e-6)


def test_recovers_from_a_non_finite_loss():
    module = Gaussian()
    module.nan_at = (5, 6, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module, history = run(module)
    assert module.mean.item() == pytest.approx(3.0, abs=0.25)
    assert np.isfinite(history.train).all()
    assert len(history.train) == 40 - 2  # two epochs were undone


def test_warns_when_it_cannot_recover():
    module = Gaussian()
    module.nan_at = range(10, 10_000)
    with pytest.warns(ConvergenceWarning, match=r"Lower learning_rate \(got 0.4\) or look for"):
        module, history = run(module)
    assert math.isfinite(module.mean.item())
    assert len(history.train) == 4
    assert module.calls == 8 + 2 * MAX_RECOVERIES


def test_members_learn_from_their_own_rows_only():
    module, history = run(Gaussian(2), SPLIT, epochs=150)
    torch.testing.assert_close(module.mean[:, 0], torch.tensor([2.0, 4.0]), atol=0.05, rtol=0.0)
    alone, _ = run(Gaussian(1), SPLIT.of_members(slice(0, 1)), epochs=150)
    torch.testing.assert_close(alone.mean[0], module.mean[0])
    assert history.best_epochs == [150, 150]


def test_a_member_that_fails_does_not_hold_up_the_others():
    module = Gaussian(2)
    module.nan_at = range(10, 10_000)  # never recovers
    with pytest.warns(ConvergenceWarning):
        module, history = run(module, SPLIT, validation=SPLIT)
    assert module.mean.isfinite().all()
    assert module.calls == 9 + MAX_RECOVERIES
    assert len(history.train) == 9 + MAX_RECOVERIES - 1  # the first one went on
    assert np.isfinite(history.train).all()


def test_each_member_keeps_its_own_best_weights():
    # The first passes its best on the way
    rows, validation = with_validation(SPLIT, [1.0, 4.0], index=[[0], [1]])
    module, history = run(Gaussian(2), rows, validation, epochs=150)
    assert module.mean[0].item() == pytest.approx(1.0, abs=0.5)
    assert module.mean[1].item() == pytest.approx(4.0, abs=0.05)
    assert history.best_epochs[0] < history.best_epochs[1]


def test_processes_give_what_one_gives():
    together, history = run(Gaussian(2), SPLIT, SPLIT)
    apart = Gaussian(2)
    other = train_in_processes(apart, SPLIT, SPLIT, recipe(), [0, 1], 2)
    torch.testing.assert_close(apart.mean, together.mean, rtol=SINGLE, atol=SINGLE)
    np.testing.assert_allclose(other.train, history.train, rtol=SINGLE)
    np.testing.assert_allclose(other.validation, history.validation, rtol=SINGLE)
    assert other.best_epochs == history.best_epochs


def test_interruption_keeps_the_best_weights():
    module = Gaussian()
    module.interrupt_at = 50
    with pytest.warns(TrainingInterruptedWarning, match="interrupted in epoch 25 of 40"):
        module, history = run(module, validation=DATA)
    assert history.interrupted
    assert mean_loss(module, DATA, 16).item() == pytest.approx(min(history.validation))


def test_a_hook_can_stop():
    seen = []

    def hook(epoch, history):
        seen.append((epoch, len(history.train)))
        return epoch == 3

    train(Gaussian(), DATA, None, recipe(), [0], hook)
    assert seen == [(1, 1), (2, 2), (3, 3)]


def test_one_cycle_rises_then_falls_to_zero():
    schedule = _OneCycle(1.0, 100)
    rates = np.array([schedule.next() for _ in range(100)])
    assert rates.argmax() == 9
    assert rates.max() == 1.0
    assert (np.diff(rates[:10]) > 0).all()
    assert (np.diff(rates[9:]) < 0).all()
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def test_steps_in_eigenbases_have_a_smaller_rate():
    moved = [run(epochs=1, batch_size=16, turned=turned)[0].mean.item() for turned in (False, True)]
    assert moved == pytest.approx([0.4, 0.4 * TURNED_RATE], rel=1e-4)


def test_automatic_sizes():
    assert [auto_batch_size(n) for n in (2, 300, 18_000, 10**6)] == [32, 32, 128, 256]
    plain = [auto_epochs(n, turned=False) for n in (2, 1000, 2000, 20_000, 80_000, 10**7)]
    turned = [auto_epochs(n, turned=True) for n in (2, 8000, 20_000, 80_000, 10**7)]
    assert plain == [150, 150, 75, 75, 50, 10]
    assert turned == [150, 37, 30, 21, 5]
    assert auto_epochs(100_000, turned=True) == 20
    assert auto_epochs(400_000, turned=True) == 10
    drawn = [auto_epochs(n, turned=True, n_drawn=1000) for n in (8000, 20_000, 80_000)]
    assert drawn == [37, 30, 15]
    assert [turns(size, 64) for size in (32, 63, 64, 256)] == [False, False, True, True]
    assert [turns(128, width) for width in (128, 129)] == [True, False]


def test_an_interrupted_fit_leaves_a_fitted_estimator(bimodal, monkeypatch):
    X, y, _ = bimodal
    steps, calls = CompiledObjective.steps, []

    def interrupted_steps(*args):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return steps(*args)

    monkeypatch.setattr(CompiledObjective, "steps", interrupted_steps)
    est = small(epochs=50)
    with (
        pytest.raises(KeyboardInterrupt),  # whoever runs several fits has to stop as well
        pytest.warns(TrainingInterruptedWarning, match="weights so far are kept") as caught,
    ):
        est.fit(X, y)
    assert caught[0].filename == __file__
    assert est.n_iter_ == len(est.loss_curve_) == 5
    plain = small(epochs=50, learning_rate=1e-9).fit(X, y)
    assert est.score(X, y) > plain.score(X, y) + 0.1


def test_an_exploding_learning_rate_is_survived(bimodal):
    X, y, _ = bimodal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est = small(learning_rate=1e6, epochs=30).fit(X, y)
    start = small(learning_rate=1e-9, epochs=1).fit(X, y)
    assert est.score(X, y) > start.score(X, y) - 0.1
    assert np.isfinite(est.sample(X, 3, random_state=0)).all()


def test_an_explosion_without_validation_rows_is_told_and_undone():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(30, 2)), random.normal(size=(30, 2))
    start = small(learning_rate=1e-9, early_stopping=False, epochs=1).fit(X, y)
    est = small(learning_rate=2e9, early_stopping=False, epochs=5)
    with pytest.warns(ConvergenceWarning, match="far above the first one, in 4 of 5") as caught:
        est.fit(X, y)
    assert caught[0].filename == __file__
    assert est.score(X, y) > start.score(X, y) - 0.1
