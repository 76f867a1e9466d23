"""Progress bar and scikit-learn's callbacks."""

import re
import sys
from itertools import count
from types import SimpleNamespace

import pytest
import sklearn
from conftest import small
from sklearn.utils.fixes import parse_version

from sklearn_san import SANConditionalDensityEstimator, _callbacks

needs_callbacks = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scikit-learn has callbacks from 1.9 on",
)


class Recorder:
    """A callback that keeps what it is told, and may ask to stop."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.events, self.scores = [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.events.append(f"end {context.task_name} {context.task_id}")
        if context.task_name == "epoch":
            self.scores.append(fitted_estimator.score(X, y))
            return context.task_id + 1 == self.stop_at
        return False

    def teardown(self, estimator, context):
        self.events.append("teardown")


def test_the_bar_shows_epoch_losses_and_time_left(bimodal, capsys, monkeypatch):
    X, y, _ = bimodal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    small(verbose=True, epochs=4).fit(X, y)
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "train NLL" in shown
    assert "validation NLL" in shown
    assert "SANConditionalDensityEstimator" in shown
    small(epochs=2).fit(X, y)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_there_are_lines_now_and_then(bimodal, capsys, monkeypatch):
    X, y, _ = bimodal
    small(verbose=True, epochs=4).fit(X, y)
    plan, features = capsys.readouterr().err.splitlines()
    name = "SANConditionalDensityEstimator"
    assert plan.startswith(
        f"{name}: 540 rows to learn from, 60 to validate on; 2 outputs; 1 members"
    )
    assert "; 4 epochs in batches of " in plan
    assert "; engine " in plan
    assert features == f"{name}: features: as they are"
    clock = count(0, 20)  # seconds
    monkeypatch.setattr(_callbacks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    small(verbose=True, epochs=4).fit(X, y)
    lines = capsys.readouterr().err.splitlines()[2:]
    number = r"-?\d+\.\d{3}"
    for epoch, line in zip((2, 4), lines, strict=True):  # at 40, and at 100, 40 after 60
        assert re.fullmatch(
            rf"SANConditionalDensityEstimator: epoch {epoch} of 4, train NLL {number}, "
            rf"validation NLL {number}, at most {20 * (4 - epoch)} s left",
            line,
        )
    small(epochs=2).fit(X, y)
    assert capsys.readouterr().err == ""


@needs_callbacks
def test_callbacks_see_every_epoch_and_a_usable_estimator(bimodal):
    X, y, _ = bimodal
    recorder = Recorder()
    est = small(epochs=3, n_iter_no_change=None)
    est.set_callbacks(recorder)
    est.fit(X, y)
    assert recorder.events == [
        "setup",
        "begin fit 0",
        *(f"{what} epoch {i}" for i in range(3) for what in ("begin", "end")),
        "end fit 0",
        "teardown",
    ]
    assert recorder.scores[-1] > recorder.scores[0]


@needs_callbacks
def test_a_callback_can_stop_the_fit(bimodal):
    X, y, _ = bimodal
    recorder = Recorder(stop_at=2)
    est = small(epochs=10)
    est.set_callbacks(recorder)
    assert est.fit(X, y).n_iter_ == 2
    assert recorder.events[-3:] == ["end epoch 1", "end fit 0", "teardown"]


@needs_callbacks
def test_a_failed_fit_tears_callbacks_down(bimodal):
    X, y, _ = bimodal
    recorder = Recorder()
    est = small(K=0)
    est.set_callbacks(recorder)
    with pytest.raises(ValueError, match="K must be"):
        est.fit(X, y)
    assert recorder.events == []  # it had not begun

    def broken(*_, **__):
        raise RuntimeError("broken")

    recorder.on_fit_task_end = broken
    with pytest.raises(RuntimeError, match="broken"):
        est.set_params(K=2).fit(X, y)
    assert recorder.events[0] == "setup"
    assert recorder.events[-1] == "teardown"
    del recorder.on_fit_task_end
    assert isinstance(est.fit(X, y), SANConditionalDensityEstimator)


@needs_callbacks
def test_scikit_learns_progress_bar(bimodal, capsys):
    from sklearn.callback import ProgressBar

    X, y, _ = bimodal
    est = small(epochs=2)
    est.set_callbacks(ProgressBar())
    assert est.fit(X, y).n_iter_ == 2
    assert "SANConditionalDensityEstimator" in capsys.readouterr().out
