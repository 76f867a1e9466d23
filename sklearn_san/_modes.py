"""Points of highest density, many rows at once: from the densest draws uphill.

Each draw has a log density under the member that it comes from, which costs next to nothing. The
densest draws of a row climb a few steps under their members alone, the better ones further; the
best of these go on under the mixture, and one of them to the end. All along, those that are chosen
lie apart, if it can be, so that they are of different modes.

=================  =========================================================================
`Starts`           the densest draws of each row
`densest_draws`    finds them
`find_modes`       climbs from them
`Ascent`           points on their way up
`climb`            steps of BFGS [1]_ inside limits, each point with a Hessian of its own
=================  =========================================================================

References
----------
.. [1] Nocedal and Wright (2006), Numerical optimization, chapter 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

#: Points of each row that climb under their own members, and for how many steps at most.
ALONE = ((6, 4), (3, 6))
#: The same under the mixture; the one that is left climbs to the end.
TOGETHER = ((2, 2), (1, 16))
#: Root mean square distance, in deviations of the draws, of points that may be of two modes.
APART = 0.5
#: Gain in nats that another step must promise.
TOLERANCE = 1e-6
#: Share of the draws' covariance that is taken for the inverse of minus the Hessian.
SHARE = 1.0 / 16.0
#: An inverse Hessian that is so much smaller than a step has shown is scaled as a whole.
TOO_SMALL = 100.0
#: Log densities of the kernels differ by so much from rounding, relative to their size.
NOISE = 4.0 * float(np.finfo(np.float32).eps)

#: Log density (n,) and slope (n, n_outputs) of the points `index` (n,) at z (n, n_outputs).
Slope = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Starts(NamedTuple):
    """The densest draws of each row that lie apart."""

    z: np.ndarray  # (n_rows, n_starts, n_outputs)
    member: np.ndarray  # (n_rows, n_starts)
    covariance: np.ndarray  # (n_rows, n_outputs, n_outputs), of all draws

    @classmethod
    def concatenate(cls, parts: Sequence[Starts]) -> Starts:
        """Of several chunks of rows."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def densest_draws(draws: np.ndarray, log_prob: np.ndarray, member: np.ndarray) -> Starts:
    """Starts from draws (n_rows, n_draws, n_outputs); the others are (n_rows, n_draws)."""
    n_rows, n_draws, _ = draws.shape
    centred = draws - draws.mean(axis=1, keepdims=True)
    covariance = centred.swapaxes(1, 2) @ centred / n_draws
    best = _best(log_prob, draws, _deviations(covariance), min(n_draws, ALONE[0][0]))
    rows = np.arange(n_rows)[:, None]
    return Starts(draws[rows, best], member[rows, best], covariance)


def find_modes(
    starts: Starts, of_points: Callable[..., Slope], limits: np.ndarray, *, alone: bool = True
) -> np.ndarray:
    """Point of highest density above the starts of each row, (n_rows, n_outputs).

    Parameters
    ----------
    starts : Starts
    of_points : callable
        From the rows (n,) of some points, and their members (n,) or None for the mixture, to their
        `Slope`.
    limits : ndarray of shape (2, n_rows, n_outputs)
        Equal where an output is held.
    alone : bool, default=True
        Whether points climb under their own members first.
    """
    n_rows, n_starts, n_outputs = starts.z.shape
    moves = (limits[1] > limits[0])[:, :, None]
    floor = 1e-8 * np.eye(n_outputs)  # where all draws lie on a limit
    inverse = np.where(moves & moves.swapaxes(1, 2), SHARE * starts.covariance + floor, 0.0)
    rows, member = np.repeat(np.arange(n_rows), n_starts), starts.member.ravel()
    z, inverse = starts.z.reshape(-1, n_outputs), inverse[rows]
    unit = _deviations(starts.covariance)
    for stages, is_alone in ((ALONE if alone else (), True), (TOGETHER, False)):
        if not stages:
            continue
        function = of_points(rows, member if is_alone else None)
        points = Ascent.begin(function, z, inverse)
        for n_kept, n_steps in stages:
            n = len(rows) // n_rows
            value, at = points.value.reshape(n_rows, n), points.z.reshape(n_rows, n, n_outputs)
            best = _best(value, at, unit, min(n, n_kept))
            kept = (n * np.arange(n_rows)[:, None] + best).ravel()
            points, rows, member = points.take(kept), rows[kept], member[kept]
            function = of_points(rows, member if is_alone else None)
            points = climb(function, points, limits[:, rows], n_steps)
        z, inverse = points.z, points.inverse
    return z


def _best(value: np.ndarray, z: np.ndarray, unit: np.ndarray, n: int) -> np.ndarray:
    """Columns (n_rows, n) of the largest values of each row, of points that are apart if it can be.

    `unit` (n_rows, n_outputs) are the deviations of the draws.
    """
    value, z = np.where(np.isnan(value), -np.inf, value), z / unit[:, None]
    rows, best = np.arange(len(z)), np.empty((len(z), n), dtype=np.intp)
    for i in range(n):
        best[:, i] = value.argmax(axis=1)
        distance = ((z - z[rows, best[:, i]][:, None]) ** 2).mean(axis=2)
        value[distance < APART**2] -= 1e6
        value[rows, best[:, i]] = -np.inf
    return best


def _deviations(covariance: np.ndarray) -> np.ndarray:
    """Standard deviations (n, n_outputs), no smaller than rounding makes them."""
    return np.sqrt(np.einsum("nii->ni", covariance).clip(1e-12))


@dataclass
class Ascent:
    """Points on their way up."""

    z: np.ndarray  # (n, n_outputs)
    value: np.ndarray  # (n,), log densities
    slope: np.ndarray  # (n, n_outputs)
    inverse: np.ndarray  # (n, n_outputs, n_outputs), of minus the Hessian
    length: np.ndarray  # (n,), of the next step, in units of a full one

    @classmethod
    def begin(cls, function: Slope, z: np.ndarray, inverse: np.ndarray) -> Ascent:
        """Points z, with inverse Hessians to start from."""
        return cls(z, *function(np.arange(len(z)), z), inverse, np.ones(len(z)))

    def take(self, index: np.ndarray) -> Ascent:
        """Some of the points."""
        return Ascent(*(array[index] for array in self._arrays()))

    def put(self, index: np.ndarray, points: Ascent) -> None:
        """Replace some of the points."""
        for array, own in zip(self._arrays(), points._arrays(), strict=True):
            array[index] = own

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.z, self.value, self.slope, self.inverse, self.length


def climb(function: Slope, points: Ascent, limits: np.ndarray, n_steps: int) -> Ascent:
    """Points after at most `n_steps` steps inside `limits` (2, n, n_outputs).

    A point stops as soon as a full step promises less than `TOLERANCE`.
    """
    points = points.take(np.arange(len(points.z)))
    active = np.arange(len(points.z))
    for _ in range(n_steps):
        own, (low, high) = points.take(active), limits[:, active]
        held = ((own.z <= low) & (own.slope < 0)) | ((own.z >= high) & (own.slope > 0))
        free = np.where(held, 0.0, own.slope)
        direction = np.where(held, 0.0, _product(own.inverse, free))
        goes_on = 0.5 * (direction * free).sum(axis=1) > TOLERANCE
        active, own = active[goes_on], own.take(goes_on)
        if not len(active):
            break
        step = own.length[:, None] * direction[goes_on]
        proposal = np.clip(own.z + step, low[goes_on], high[goes_on])
        value, slope = function(active, proposal)
        with np.errstate(invalid="ignore", over="ignore"):  # where a step left the possible
            points.put(active, _next(own, proposal, value, slope))
    return points


def _next(own: Ascent, proposal: np.ndarray, value: np.ndarray, slope: np.ndarray) -> Ascent:
    """Points after a step that is taken where it leads up, with updated Hessians in any case."""
    step, bend = proposal - own.z, own.slope - slope
    gain = value - own.value
    better = gain >= -NOISE * np.maximum(np.abs(own.value), 1.0)
    promised = (step * own.slope).sum(axis=1)
    # Top of the parabola through both values and the slope at the start
    shorter = np.clip(0.5 * promised / np.maximum(promised - gain, 1e-300), 0.1, 0.5)
    length = np.where(better, np.minimum(2.0 * own.length, 1.0), shorter * own.length)
    inverse = _updated(own.inverse, step, bend)
    taken = better[:, None]
    points = Ascent(
        np.where(taken, proposal, own.z),
        np.where(better, value, own.value),
        np.where(taken, slope, own.slope),
        inverse,
        length,
    )
    stuck = length < 1e-4  # the Hessian is wrong: start again with small steps
    size = np.linalg.norm(points.slope, axis=1).clip(1e-300)
    small = np.eye(step.shape[1]) * (1e-4 / size)[:, None, None]
    points.inverse[stuck], points.length[stuck] = small[stuck], 1.0
    return points


def _updated(inverse: np.ndarray, step: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """Inverse Hessians after steps (n, n_outputs) that changed the slopes by -`bend`."""
    curvature = (step * bend).sum(axis=1)
    size = np.linalg.norm(step, axis=1) * np.linalg.norm(bend, axis=1)
    curved = curvature > 1e-10 * size
    rho = np.where(curved, 1.0 / np.where(curved, curvature, 1.0), 0.0)[:, None, None]
    bend = np.where(curved[:, None], bend, 0.0)
    moved = _product(inverse, bend)
    expected = (moved * bend).sum(axis=1)
    tiny = curved & (curvature > TOO_SMALL * expected)  # the guess was no good: scale it
    scale = np.where(tiny, curvature / np.where(tiny, expected, 1.0).clip(1e-300), 1.0)
    inverse, moved = inverse * scale[:, None, None], moved * scale[:, None]
    column, row = step[:, :, None], step[:, None, :]
    cross = column * moved[:, None, :]
    factor = 1.0 + rho * (scale * expected)[:, None, None]
    return inverse - rho * (cross + cross.swapaxes(1, 2)) + rho * factor * column * row


def _product(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Products of (n, k, k) with (n, k)."""
    return np.einsum("nij,nj->ni", matrices, vectors)
