"""Marginal densities of one or two outputs on a grid, without kernel estimates.

With S draws of the outputs before d (Rao-Blackwellisation [1]_),

    p(y_d | x) ~ 1/S sum_s p(y_d | y_<d^(s), x)

and for two outputs d < e, with the outputs in between drawn anew for each y_d,

    p(y_d, y_e | x) ~ 1/S sum_s p(y_d | y_<d^(s), x) p(y_e | y_<e^(s), x)

References
----------
.. [1] Gelfand and Smith (1990), Sampling-based approaches to calculating marginal densities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._engine import to_numpy
from ._likelihood import Support
from ._model import FittedModel, quasi_random_noise
from ._network import SAN, Conditional

#: Densities that are evaluated at once.
SIZE = 1_000_000


@dataclass(frozen=True)
class Marginal:
    """Marginal density of one output, or joint density of two, on a grid.

    Parameters
    ----------
    outputs : list of str
        Their names.
    grid : list of ndarray of shape (n_points,)
        Values of each output.
    density : ndarray of shape (n_rows, n_points) or (n_rows, n_points, n_points)
        Per unit of each output; probabilities for whole-numbered outputs.
    """

    outputs: list[str]
    grid: list[np.ndarray]
    density: np.ndarray

    def __repr__(self) -> str:
        return f"Marginal(outputs={self.outputs}, density of shape {self.density.shape})"


def marginal_density(
    model: FittedModel,
    contexts: np.ndarray,
    columns: list[int],
    grids: list[np.ndarray],
    n_draws: int,
) -> np.ndarray:
    """Density on the grid of one or two of the user's columns.

    Parameters
    ----------
    model : FittedModel
    contexts : ndarray of shape (n_rows, n_contexts, n_inputs)
        What the network sees; the density is the mean over the contexts of a row.
    columns : list of int
    grids : list of ndarray
    n_draws : int
        Of the outputs before them.

    Returns
    -------
    ndarray of shape (n_rows, n_points) or (n_rows, n_points, n_points)
    """
    network = model.on_device()
    positions = [model.order.tolist().index(j) for j in columns]
    scaled = [_on_grid(model, j, grid) for j, grid in zip(columns, grids, strict=True)]
    z = {d: model.tensor(values, network) for d, (values, _) in zip(positions, scaled, strict=True)}
    n_points = -(-n_draws // network.n_members) if max(positions) else 1
    noise = quasi_random_noise(network, n_points).to(z[positions[0]])
    size = [len(grid) for grid in grids]
    density = np.zeros((len(contexts), *size))
    swap = len(columns) == 2 and positions[0] > positions[1]
    first, last = min(positions), max(positions)
    n_last = len(z[last])
    step = max(1, SIZE // (network.n_members * n_points * n_last))
    for i, context in np.ndindex(contexts.shape[:2]):
        x = model.tensor(contexts[i, context], network)
        with torch.no_grad():
            if first == last:
                density[i] += _evaluate(network, x, noise, {}, last, z[last])[0]
                continue
            parts = [
                _evaluate(network, x, noise, {first: part}, last, z[last])
                for part in z[first].split(step)
            ]
            joint = np.concatenate(parts)  # (n_first, n_last)
            density[i] += joint.T if swap else joint
    density /= contexts.shape[1]
    for c, (_, factor) in enumerate(scaled):
        density *= factor.reshape(-1, *(1,) * (len(columns) - 1 - c))
    return density


def _on_grid(model: FittedModel, j: int, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scaled values of column j on its grid, and the factor to a density per unit of y."""
    low, high = model.limits[j]
    y = np.tile(model.restore(np.zeros((1, model.n_outputs))), (len(grid), 1))
    y[:, j] = np.clip(grid, low, high)
    d = model.order.tolist().index(j)
    factor = np.ones(len(grid)) if model.families[d].discrete else None
    if factor is None:
        factor = np.exp(model.log_jacobian(y)[:, d])
    return model.scale(y)[:, d], np.where((grid >= low) & (grid <= high), factor, 0.0)


def _evaluate(
    network: SAN, x: Tensor, noise: Tensor, fixed: dict[int, Tensor], last: int, grid: Tensor
) -> np.ndarray:
    """Mean over members and draws of the density at `fixed` values and on the grid of `last`.

    Shapes: x (n_inputs,), noise (n_members, 1, n_points, n_outputs, n_noise); the result has one
    row for each value of the fixed output, or one row.
    """
    noise = noise.unsqueeze(3)  # (n_members, 1, n_points, 1, n_outputs, n_noise)
    log_density = torch.zeros((), dtype=x.dtype, device=x.device)

    def choose(one: Conditional) -> Tensor:
        nonlocal log_density
        if one.output in fixed:
            r, log_prob = one.at(fixed[one.output][None, None, None])  # (1, 1, 1, n_fixed)
            log_density = log_density + log_prob
            return r
        if one.output == last:
            log_density = log_density.unsqueeze(-1) + _spread(one).at(grid)[1]
        return one.sample(noise)

    # Axes: member, row, draw of the earlier outputs, value of the fixed output
    network.ancestral(x[None, None, None, None], choose, last + 1)
    return to_numpy(log_density.exp().mean((0, 1, 2)))


def _spread(one: Conditional) -> Conditional:
    """The same density with an axis appended for values on a grid."""
    support = one.support
    if support is not None:
        support = Support(support.low.unsqueeze(-1), support.high.unsqueeze(-1))
    return one._replace(
        raw=one.raw.unsqueeze(-2), support=support, location=one.location.unsqueeze(-1)
    )
