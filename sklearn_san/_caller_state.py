"""Results that do not depend on the state in which a caller has left torch and numpy.

A caller may have torch infer (`inference_mode`, `no_grad`), cast (`autocast`) or make its tensors
elsewhere (`set_default_device`), and numpy raise for an underflow (`np.errstate`). All that is of
the thread, and is put aside for as long as `own_state` lasts. The default dtype is of the process:
no tensor of the package is made without a dtype. What users choose for the speed or exactness of
products (threads, deterministic algorithms, TF32) is left to them.

==================  ========================================================================
`own_state`         the context
`OwnState`          for classes all of whose public methods run in it
`own_random`        a context for code of others that draws from torch's global generators
==================  ========================================================================
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

#: Frames between a public method of `OwnState` and its caller, for `stacklevel` of warnings.
N_FRAMES = 1


@contextmanager
def own_state() -> Iterator[None]:
    """Compute as if the caller had changed nothing: with gradients, on the CPU by default."""
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        raising = {kind for kind, way in np.geterr().items() if way == "raise"}
        if raising:
            ways: dict[str, Any] = dict.fromkeys(raising, "warn")
            ways.update(under="ignore")
            stack.enter_context(np.errstate(**ways))
        yield


class OwnState:
    """Base of classes all of whose public methods, and those of subclasses, run in `own_state`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, member in list(vars(cls).items()):
            if inspect.isfunction(member) and not name.startswith("_"):
                setattr(cls, name, _in_own_state(member))


def _in_own_state(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(*args: Any, **options: Any) -> Any:
        with own_state():
            return method(*args, **options)

    return run


@contextmanager
def own_random(seed: int, device: torch.device) -> Iterator[None]:
    """Have modules that draw from torch's global generators draw numbers of a seed."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
