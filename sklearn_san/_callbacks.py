"""What is told to the outside while a model is fitted: by progress bars, lines, and callbacks.

Callbacks are those of scikit-learn. Bars are for terminals and notebooks; elsewhere, as in a log
file, there is a line now and then.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm

from ._training import History

try:  # scikit-learn 1.9 and newer
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Add the frame that scikit-learn's adds, which `stacklevel` of warnings counts."""

        @functools.wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            return method(*args, **options)

        return call


__all__ = ["CallbackSupportMixin", "FitMonitor", "with_callbacks"]


#: Seconds between two lines about a fit where there is no bar, at least.
INTERVAL = 30.0


class FitMonitor:
    """Shows epoch, losses and time left, and drives the callbacks of an estimator.

    Parameters
    ----------
    estimator : estimator
        Being fitted; its callbacks, if it has any, see one task per epoch.
    data : dict
        ``X`` and ``y`` for the callbacks.
    epochs : int
        Largest number of epochs.
    verbose : bool
        Whether to show anything, on standard error.
    fitted_attributes : callable
        Returns the attributes that make a copy of the estimator usable as if the fit ended now.
    """

    def __init__(
        self,
        estimator: Any,
        data: dict[str, Any],
        epochs: int,
        verbose: bool,
        fitted_attributes: Callable[[], dict[str, Any]],
    ):
        self.estimator = estimator
        self.data = data
        self.fitted_attributes = fitted_attributes
        self.name = type(estimator).__name__
        self.verbose = verbose
        has_bar = verbose and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        self.bar = tqdm(total=epochs, desc=self.name, unit="epoch", disable=not has_bar)
        self.start = self.last_line = time.monotonic()
        self.fit_task: Any = None
        self.epoch_task: Any = None
        if hasattr(estimator, "_skl_callbacks"):
            self.fit_task = estimator._init_callback_context(max_subtasks=epochs)
            self.fit_task.call_on_fit_task_begin(estimator=estimator, **data)
            self._begin_epoch()

    def tell(self, text: str) -> None:
        """Say something, beside the bar if there is one."""
        if self.verbose:
            self.bar.write(f"{self.name}: {text}", file=sys.stderr)

    def end_epoch(self, epoch: int, history: History) -> bool:
        """Report one epoch; True if a callback asks to stop."""
        self._show(epoch, _losses(history))
        stop = self._end_task(self.epoch_task)
        if self.fit_task is not None and not stop and epoch < self.bar.total:
            self._begin_epoch()
        else:
            self.epoch_task = None
        return stop

    def close(self) -> None:
        """End whatever is still open."""
        self._end_task(self.epoch_task)
        self._end_task(self.fit_task)
        self.bar.close()

    def _show(self, epoch: int, losses: str) -> None:
        if not self.bar.disable:
            self.bar.set_postfix_str(losses, refresh=False)
            self.bar.update(epoch - self.bar.n)
            return
        now = time.monotonic()
        if now - self.last_line >= INTERVAL:
            left = (now - self.start) * (self.bar.total / epoch - 1.0)
            self.tell(f"epoch {epoch} of {self.bar.total}, {losses}, at most {left:.0f} s left")
            self.last_line = now

    def _begin_epoch(self) -> None:
        self.epoch_task = self.fit_task.subcontext(task_name="epoch")
        self.epoch_task.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def _end_task(self, task: Any) -> bool:
        if task is None:
            return False
        return task.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=self.fitted_attributes,
            **self.data,
        )


def _losses(history: History) -> str:
    """Latest train and validation NLL in nats per row."""
    if not history.train:
        return "no finite loss"
    text = f"train NLL {history.train[-1]:.3f}"
    if history.validation:
        text += f", validation NLL {history.validation[-1]:.3f}"
    return text
