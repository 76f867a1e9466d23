"""Simulations batch by batch, from draws of any origin; what failed is found out.

==============  ======================================================================
`Job`           how simulations are made; its `batches` are what comes out
`Batch`         consecutive simulations
`from_prior`    draws of a prior
`seed_of`       a whole number from scikit-learn's `random_state`
==============  ======================================================================

Batch b has random numbers of its own, those of the seed and (stream, b), so that the result does
not depend on the number of workers, nor on where a run was killed and went on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from .._validation import check_boolean, check_integer, check_n_jobs
from .keeping import Folder, told
from .priors import Prior

#: Draws of parameters: a function of their number, a generator, and that of the first one.
Draw = Callable[[int, np.random.Generator, int], np.ndarray]

#: Simulations that must all have failed before a run is given up.
N_HOPELESS = 100
#: Streams of random numbers of one seed.
TRAINING, VALIDATION = 0, 1


@dataclass(frozen=True)
class Batch:
    """Consecutive simulations.

    Parameters
    ----------
    theta : ndarray of shape (n, n_parameters)
    x : dict of str to ndarray of shape (n, ...)
        Simulated data, under "" if they are no dict; without meaning where failed.
    failed : ndarray of shape (n,)
        Which simulations failed.
    message : str
        Why the first one did; "" if none.
    """

    theta: np.ndarray
    x: dict[str, np.ndarray]
    failed: np.ndarray
    message: str = ""

    def good(self) -> tuple[Any, np.ndarray]:
        """Simulated data as the simulator returned them, and theta, of those that succeeded."""
        rows = ~self.failed
        x = {name: np.asarray(one)[rows] for name, one in self.x.items()}
        return (x[""] if list(x) == [""] else x), np.asarray(self.theta)[rows]


def from_prior(prior: Prior) -> Draw:
    """Draws of a prior, batch by batch."""
    return lambda n, random, start: prior.sample(n, random)


@dataclass(frozen=True)
class Job:
    """How simulations are made.

    Parameters
    ----------
    simulate : callable
    batch_size : int
    n_jobs : int or None
    seed : int
    allow_missing : bool
    """

    simulate: Callable[[np.ndarray, np.random.Generator], Any]
    batch_size: int
    n_jobs: int | None
    seed: int
    allow_missing: bool

    @classmethod
    def make(
        cls,
        simulate: Any,
        batch_size: int,
        n_jobs: int | None,
        random_state: Any,
        *,
        allow_missing: bool,
    ) -> Job:
        """A job, after a check of what the user gave."""
        if not callable(simulate):
            raise TypeError(f"simulate must be a function of theta and random_state: {simulate!r}.")
        check_integer("batch_size", batch_size, 1)
        check_n_jobs("n_jobs", n_jobs)
        check_boolean("allow_missing", allow_missing)
        return cls(simulate, batch_size, n_jobs, seed_of(random_state), allow_missing)

    def facts(self, prior: Prior, region: str = "") -> dict[str, Any]:
        """What the result depends on, but for the number of simulations.

        `region` tells on what the region depends to which the prior was truncated.
        """
        return {
            "prior": prior.fingerprint(),
            "simulate": told(self.simulate),
            "batch_size": int(self.batch_size),
            "allow_missing": bool(self.allow_missing),
            "seed": int(self.seed),
            "region": region,
        }

    def batches(self, draw: Draw, n: int, stream: int, folder: Folder | None) -> Iterator[Batch]:
        """`n` simulations with parameters from `draw`, in order.

        Raises
        ------
        ValueError
            If none of the first ones succeeds.
        """
        sizes = [
            min(self.batch_size, n - start) for start in range(0, n, self.batch_size)
        ]  # fmt: skip
        kept = [_read(folder, i, size) for i, size in enumerate(sizes)]
        missing = [i for i, one in enumerate(kept) if one is None]
        made = self._made(draw, [(i, sizes[i]) for i in missing], stream)
        first, n_seen, n_good = None, 0, 0
        for number, known in enumerate(kept):
            batch = next(made) if known is None else known
            first = first or batch
            check_alike(first, batch)
            n_seen, n_good = n_seen + len(batch.failed), n_good + int((~batch.failed).sum())
            if not n_good and n_seen >= min(N_HOPELESS, n):
                raise ValueError(
                    f"All of the first {n_seen} simulations failed, the first one with "
                    f"{first.message}; it is called as simulate(theta, random_state), with theta "
                    f"of shape {first.theta.shape}."
                )
            if folder is not None and known is None:
                folder.write(number, batch.theta, batch.x, batch.failed, batch.message)
                batch = _read(folder, number, sizes[number]) or batch
            yield batch

    def _made(self, draw: Draw, tasks: list[tuple[int, int]], stream: int) -> Iterator[Batch]:
        """Batches of the given numbers and sizes, in order; at most some of them ahead."""

        def arguments() -> Iterator[tuple[Any, ...]]:
            for i, size in tasks:
                key = np.random.SeedSequence(self.seed, spawn_key=(stream, i))
                yield draw, self.simulate, size, i * self.batch_size, key, self.allow_missing

        if self.n_jobs in (None, 1):
            yield from (_simulated(*one) for one in arguments())
        elif tasks:
            parallel = Parallel(self.n_jobs, return_as="generator")
            yield from parallel(delayed(_simulated)(*one) for one in arguments())


def _read(folder: Folder | None, number: int, size: int) -> Batch | None:
    """A batch that was kept, if there is one."""
    arrays = None if folder is None else folder.read(number, size)
    return None if arrays is None else Batch(*arrays)


def _simulated(
    draw: Draw,
    simulate: Callable[[np.ndarray, np.random.Generator], Any],
    n: int,
    start: int,
    key: np.random.SeedSequence,
    allow_missing: bool,
) -> Batch:
    """One batch; where it raises, row by row."""
    of_theta, of_x = map(np.random.default_rng, key.spawn(2))
    theta = draw(n, of_theta, start)
    try:
        x = _leaves(simulate(theta.copy(), of_x), n)
    except _WrongShape as error:
        raise ValueError(str(error)) from None
    except Exception:
        return _row_by_row(theta, simulate, key.spawn(n), allow_missing=allow_missing)
    return _with_failures(theta, x, allow_missing=allow_missing)


def _row_by_row(
    theta: np.ndarray,
    simulate: Callable[[np.ndarray, np.random.Generator], Any],
    seeds: list[np.random.SeedSequence],
    *,
    allow_missing: bool,
) -> Batch:
    """The rows of a batch that raised, of which only those fail that raise on their own."""
    raised, rows, message = np.zeros(len(theta), dtype=bool), [], ""
    for i, seed in enumerate(seeds):
        try:
            rows.append(_leaves(simulate(theta[i : i + 1].copy(), np.random.default_rng(seed)), 1))
        except _WrongShape as error:
            raise ValueError(str(error)) from None
        except Exception as error:
            raised[i], message = True, message or _of_row(theta[i], repr(error))
    if not rows:
        return Batch(theta, {}, raised, message)
    x = {}
    for name, one in rows[0].items():
        x[name] = np.zeros((len(theta), *one.shape[1:]), one.dtype)
        x[name][~raised] = np.concatenate([row[name] for row in rows])
    batch = _with_failures(theta, x, allow_missing=allow_missing)
    return replace(batch, failed=batch.failed | raised, message=message or batch.message)


class _WrongShape(ValueError):
    """The simulator returned something that is no data."""


def _leaves(x: Any, n: int) -> dict[str, np.ndarray]:
    """Arrays by name, under "" if the simulator returned one."""
    leaves = leaves_of(x)
    for name, one in leaves.items():
        if one.ndim < 2 or len(one) != n or one.dtype == object:
            what = f"simulate returned {name!r}" if name else "simulate returned an array"
            raise _WrongShape(
                f"{what} of shape {one.shape} and dtype {one.dtype} for {n} rows of theta; it must "
                f"have {n} rows of numbers, ({n}, n_features) or more dimensions."
            )
    return leaves


def _with_failures(theta: np.ndarray, x: dict[str, np.ndarray], *, allow_missing: bool) -> Batch:
    """A batch in which rows that are not finite have failed."""
    n = len(theta)
    numbers = {k: v.reshape(n, -1) for k, v in x.items() if v.dtype.kind in "fc"}
    failed = np.zeros(n, dtype=bool)
    if allow_missing:
        if len(numbers) == len(x):
            failed = np.all([np.isnan(one).all(axis=1) for one in numbers.values()], axis=0)
    else:
        for one in numbers.values():
            failed |= ~np.isfinite(one).all(axis=1)
    message = _of_row(theta[failed.argmax()], "values that are not finite") if failed.any() else ""
    return Batch(theta, x, failed, message)


def _of_row(theta: np.ndarray, what: str) -> str:
    return f"{what} at theta = [{', '.join(f'{value:.6g}' for value in theta)}]"


def leaves_of(x: Any) -> dict[str, np.ndarray]:
    """Arrays by name; under "" if there is but one, without a name."""
    return {k: np.asarray(v) for k, v in (x if isinstance(x, dict) else {"": x}).items()}


def joined(parts: list[dict[str, np.ndarray]]) -> Any:
    """Rows of several dicts of arrays, as the simulator returned them."""
    joined = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    return joined[""] if list(joined) == [""] else joined


def check_alike(first: Batch, batch: Batch) -> None:
    """Raise unless two batches have arrays of the same names and shapes."""
    if not first.x or not batch.x:  # nothing succeeded
        return
    shapes = [{k: v.shape[1:] for k, v in one.x.items()} for one in (first, batch)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"simulate returned rows of shape {_shown(shapes[1])}, but {_shown(shapes[0])} in the "
            "first batch; all must be alike."
        )


def _shown(shapes: dict[str, tuple[int, ...]]) -> str:
    return str(shapes[""] if list(shapes) == [""] else shapes)


def seed_of(random_state: Any) -> int:
    """A whole number; None draws fresh entropy and leaves the global state alone."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    check_integer("random_state", random_state, 0)
    return int(random_state)
