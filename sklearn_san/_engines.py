"""The one place that chooses between torch and the compiled kernels.

==================  ========================================================================
`engine_for`        density and draws of a trained network
`objective_for`     loss, gradient and optimiser step of one that is being trained
`load_kernels`      has the kernels at hand that a network needs
`engine_report`     which engine a network gets, and why
`without_kernels`   a context in which everything is done in torch, for comparisons
==================  ========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ._engine import Engine
from ._network import SAN
from ._optimizer import Weights
from ._training import Objective, Rows

#: Engines of networks, each with the state of the weights for which it was made, and where the
#: modules of a network have their parameters.
_kept: WeakKeyDictionary[SAN, dict[torch.device, tuple[Any, Engine]]] = WeakKeyDictionary()
_homes: WeakKeyDictionary[SAN, list[dict[str, Any]]] = WeakKeyDictionary()
_torch_only = False


@contextmanager
def without_kernels() -> Iterator[None]:
    """Have everything done in torch, in this process and within this context."""
    global _torch_only
    before, _torch_only = _torch_only, True
    try:
        yield
    finally:
        _torch_only = before


def engine_for(network: SAN, device: torch.device) -> Engine:
    """Engine of a network as it is now; made anew when weights have changed."""
    engines = _kept.setdefault(network, {})
    homes = _homes.get(network)
    if homes is None:  # walking through the modules takes longer than many a call
        homes = _homes[network] = [module._parameters for module in network.modules()]
    parameters = [p for home in homes for p in home.values() if p is not None]
    # Tensors that were copied in torch's inference mode have no version
    versions = (-1 if p.is_inference() else p._version for p in parameters)
    state = _torch_only, *versions, *(p.data_ptr() for p in parameters)
    before = engines.get(device)
    if before is None or before[0] != state:
        engines[device] = state, _make_engine(network, device)
    return engines[device][1]


def _make_engine(network: SAN, device: torch.device) -> Engine:
    network = network.of_members(slice(None))  # the same weights; engines must not keep their key
    reason = _why_not_compiled(network, next(network.parameters()).dtype, device)
    if reason is not None:
        return Engine(network, device, reason)
    from .compiled.engine import CompiledEngine

    return CompiledEngine(network, device)


def engine_report(network: SAN, device: torch.device) -> str:
    """Which engine a network gets: "compiled", or "torch: " and why it is not that."""
    engine = engine_for(network, device)
    return engine.name if engine.reason is None else f"{engine.name}: {engine.reason}"


def objective_for(module: Any, weights: Weights, rows: Rows) -> Objective:
    """Objective of a network, or of a module that trains one in another way."""
    values = weights.values
    if not isinstance(module, SAN) or _why_not_compiled(module, values.dtype, values.device):
        return Objective(module, weights, rows)
    from .compiled.engine import CompiledObjective

    return CompiledObjective(module, weights, rows)


def load_kernels(
    network: SAN, tell: Callable[[str], None] | None = None, *, for_training: bool = False
) -> None:
    """Have the kernels of a network ready, if it has any.

    Those for training are compiled if they are not kept on disk; others are read if they are kept,
    and otherwise compiled when they are first needed.

    Parameters
    ----------
    network : SAN
        Where it is to be evaluated.
    tell : callable, default=None
        Told when something has to be compiled.
    for_training : bool, default=False
    """
    first = next(network.parameters())
    if _why_not_compiled(network, first.dtype, first.device) is not None:
        return
    from .compiled.engine import load_kernels as load

    load(network, tell, for_training=for_training)


def _why_not_compiled(network: SAN, dtype: torch.dtype, device: torch.device) -> str | None:
    if _torch_only:
        return "kernels are switched off"
    try:
        from .compiled.engine import why_not
    except ImportError as error:
        return f"numba cannot be imported ({error})"
    return why_not(network, dtype, device)
