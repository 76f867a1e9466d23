"""The families of the outputs: which ones the kernels know, and the kernels of each.

A network whose outputs are all `GAUSSIANS` has kernels of its own, which do not contain the others;
for the rest, `log_prob`, `draw` and `moments` here take the place of those of `mixtures`.
"""

from __future__ import annotations

from . import interval, mixtures
from .jit import kernel

#: Numbers of the families in a plan; limits are told apart by ``Plan.bounded``.
GAUSSIANS, LOGISTICS, HISTOGRAM, INTERPOLATED_HISTOGRAM = range(4)


@kernel
def log_prob(family, raw, y, low, high, bounded, log_floor, out, gradient, by_y, with_gradient):
    """Log density `out` (n,), its gradient by `raw` (n, n_params), its derivative `by_y` (n,)."""
    if family == GAUSSIANS:
        mixtures.log_prob(raw, y, low, high, bounded, log_floor, out, gradient, by_y, with_gradient)
    elif family == LOGISTICS:
        mixtures.logistic_log_prob(
            raw, y, low, high, bounded, log_floor, out, gradient, by_y, with_gradient
        )
    else:
        interval.log_prob(
            raw, y, low, high, family == INTERPOLATED_HISTOGRAM, out, gradient, by_y, with_gradient
        )


@kernel
def draw(
    family, raw, hidden, across, bias, noise_first, noise_last, bounded, floor, low, high, out
):  # fmt: skip
    """Draws `out` (n,) with raw parameters (n, n_params), from one or two uniform numbers each.

    Those of mixtures can be of their logits alone, as in `mixtures.draw`.
    """
    if family == GAUSSIANS:
        mixtures.draw(
            raw, hidden, across, bias, noise_first, noise_last, bounded, floor, low, high, out
        )
    elif family == LOGISTICS:
        mixtures.logistic_draw(
            raw, hidden, across, bias, noise_first, noise_last, bounded, floor, low, high, out
        )
    else:
        interval.draw(raw, noise_first, family == INTERPOLATED_HISTOGRAM, low, high, out)


@kernel
def moments(family, raw, bounded, floor, low, high, drawn, mean, variance):
    """Mean and variance (n,); those of `drawn` alone where the family's own are not cheap."""
    if family == GAUSSIANS:
        mixtures.moments(raw, bounded, floor, low, high, mean, variance)
    elif family == LOGISTICS and bounded:
        mean[:] = drawn
        variance[:] = 0.0
    elif family == LOGISTICS:
        mixtures.logistic_mixture_moments(raw, bounded, floor, low, high, mean, variance)
    else:
        interval.moments(raw, family == INTERPOLATED_HISTOGRAM, low, high, mean, variance)
