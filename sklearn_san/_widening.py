"""What a network makes too narrow is widened by what rows tell that it did not learn from.

Of each output, one number is added to the raw log scales of all components: that which makes the
rows most likely that each member validates on, with a weak pull towards 0. It becomes part of the
weights. One member needs all of it. Networks that are mixed err independently, so that the variance
of their mean, from which the need comes, goes with the inverse of their number; so does what each
is given.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from ._network import SAN, Block, Conditional
from ._training import Rows

#: Values that are tried, and the standard deviation of the pull.
STEPS, PULL = np.linspace(-0.2, 0.5, 15), 0.1
#: Rows of each member that are looked at.
MOST_ROWS = 2000


@torch.no_grad()
def widen(network: SAN, rows: Rows) -> None:
    """Change the scales of `network`, which is on the CPU, as `rows` for validation tell."""
    rows = rows.to(torch.device("cpu"))
    step = _best_steps(network, rows) / network.n_members
    for d, block in enumerate(network.blocks):
        head = cast(Block, block).heads
        head.bias[:, _scales_of(network, d, cast(Block, block).n_sequence)] += float(step[d])


def _scales_of(network: SAN, d: int, start: int = 0) -> slice:
    """Where the raw log scales of output d are, behind `start` numbers."""
    own = network.families[d].log_scales
    return slice(start + own.start, start + own.stop)


def _best_steps(network: SAN, rows: Rows) -> np.ndarray:
    """What one member needs, (n_outputs,)."""
    index = rows.index[:, :MOST_ROWS]
    x, y = (column[index] for column in rows.inputs)  # (n_members, n_rows, ...)
    weight = (rows.columns[-1][index] if rows.weighted else torch.ones(index.shape)).double()
    known = ~y.isnan()
    y = y.nan_to_num()
    location = network.base.location(x, y)
    best = np.zeros(network.n_outputs)
    for d, raw in enumerate(network.raw_parameters(x, y)):
        family, support = network.families[d], network._support(d, location[..., d])
        scales = _scales_of(network, d)
        if scales.stop == scales.start:
            continue
        totals = []
        for step in STEPS:
            wider = raw.clone()
            wider[..., scales] += float(step)
            one = Conditional(d, family, wider, support, location[..., d], network.base.scale[d])
            log_prob = one.at(y[..., d])[1].double()
            totals.append(torch.where(known[..., d], weight * log_prob, 0.0).sum().item())
        best[d] = _maximum(np.array(totals) - 0.5 * (STEPS / PULL) ** 2)
    return best


def _maximum(values: np.ndarray) -> float:
    """Step of the largest value, by a parabola through it and its neighbours."""
    if not np.isfinite(values).all():
        return 0.0
    k = int(np.clip(np.argmax(values), 1, len(values) - 2))
    before, here, after = values[k - 1 : k + 2]
    bend = before - 2.0 * here + after
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return float(STEPS[k] + np.clip(shift, -1.0, 1.0) * (STEPS[1] - STEPS[0]))
