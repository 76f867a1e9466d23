"""Where training rows come from: memory, with what is drawn anew in each epoch, or a stream.

=====================  =====================================================================
`Table`                rows in memory; hides values and adds measurement noise in each epoch
`ArrayStream`          arrays or memory maps that are larger than memory
`BatchStream`          batches from an iterable that can be read again and again
`Pools`                training rows of a stream, one pool in memory after the other
=====================  =====================================================================

Whatever changes from epoch to epoch is a function of a seed and the number of the epoch, so that a
training that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

#: Rows of a stream that are in memory at once for training, and per chunk of a pass over it.
POOL, CHUNK = 131_072, 65_536
#: Consecutive rows that are read at once from an array.
BLOCK = 1024
#: Rows drawn from a stream to start from, of which at most so many are for validation.
RESERVOIR, MAX_VALIDATION = 100_000, 10_000


class Table:
    """Rows in memory as the columns x and z of the network.

    Parameters
    ----------
    encoder : InputEncoder
    X : ndarray of shape (n_rows, n_features)
    z : ndarray of shape (n_rows, n_outputs)
        Scaled targets in autoregressive order.
    X_err : ndarray of shape (n_rows, n_features) or None
    seed : int
    dtype : torch.dtype
    device : torch.device
    """

    def __init__(
        self,
        encoder: Any,
        X: np.ndarray,
        z: np.ndarray,
        X_err: np.ndarray | None,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.encoder, self.X, self.X_err, self.seed = encoder, X, X_err, seed
        self.dtype, self.device = dtype, device
        self.changes = X_err is not None or encoder.missing_rate > 0
        self.z = torch.as_tensor(z, dtype=dtype, device=device)
        self.fixed = self._inputs(0)

    @property
    def offset(self) -> int:
        """Row number from which on the rows stand again, unchanging, for validation."""
        return len(self.X) if self.changes else 0

    def columns(self, epoch: int = 1) -> tuple[Tensor, Tensor]:
        """Columns for an epoch: rows for training, then those for validation."""
        if not self.changes:
            return self.fixed, self.z
        return torch.cat([self._inputs(epoch), self.fixed]), torch.cat([self.z, self.z])

    def _inputs(self, epoch: int) -> Tensor:
        random = np.random.default_rng((self.seed, epoch))
        X = self.X
        if self.changes:
            normal = random.normal(size=X.shape)
            X = self.encoder.hide(self.encoder.jitter(X, self.X_err, normal), random)
        x = self.encoder.transform(X, self.X_err)
        return torch.as_tensor(x, dtype=self.dtype, device=self.device)


class Stream(Protocol):
    """Rows that are read in pieces."""

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All rows in order, X and y in pieces of any size."""

    def pool(self, number: int, size: int, left_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pool `number` of `size` rows; those with sorted numbers `left_out` do not occur."""


class ArrayStream:
    """X (n_rows, n_features) and y (n_rows, ...), such as memory maps; never read at once.

    Parameters
    ----------
    X, y : array
    seed : int
        Pools are random blocks of consecutive rows.
    """

    def __init__(self, X: Any, y: Any, seed: int):
        self.X, self.y, self.seed = X, y, seed

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All rows in order."""
        for start in range(0, len(self.X), CHUNK):
            rows = slice(start, start + CHUNK)
            yield np.asarray(self.X[rows]), np.asarray(self.y[rows])

    def pool(self, number: int, size: int, left_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Random blocks; over many pools all rows occur equally often."""
        n_blocks = -(-len(self.X) // BLOCK)
        parts, found, tries = [], 0, 0
        while found < size:
            random = np.random.default_rng((self.seed, number, tries))
            tries += 1
            shift = random.integers(len(self.X))  # or the ends of blocks would be seen less often
            for block in random.permutation(n_blocks):
                rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self.X)))
                rows = (rows + shift) % len(self.X)
                parts.append(rows[~_is_in(rows, left_out)])
                found += len(parts[-1])
                if found >= size:
                    break
        rows = np.concatenate(parts)[:size]
        order = np.argsort(rows, kind="stable")  # read forwards, then shuffled by the training
        return np.asarray(self.X[rows[order]]), np.asarray(self.y[rows[order]])


class BatchStream:
    """Batches ``(X, y)`` from an iterable that can be read more than once.

    Parameters
    ----------
    batches : iterable, or callable without arguments that returns one
    """

    def __init__(self, batches: Iterable | Callable[[], Iterable]):
        self.batches = batches
        self._next = -1
        self._rows: Iterator[tuple[np.ndarray, np.ndarray]] = iter(())
        self._rest: list[tuple[np.ndarray, np.ndarray]] = []

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All batches in order."""
        for X, y in self.batches() if callable(self.batches) else self.batches:
            yield np.asarray(X), np.asarray(y)

    def pool(self, number: int, size: int, left_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Consecutive rows; after the last batch come the first ones again."""
        if number != self._next:
            self._rows, self._rest = self._endless(left_out), []
            for _ in range(number):
                self._take(size)
        self._next = number + 1
        return self._take(size)

    def _take(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        while sum(len(X) for X, _ in self._rest) < size:
            self._rest.append(next(self._rows))
        X, y = (np.concatenate(parts) for parts in zip(*self._rest, strict=True))
        self._rest = [(X[size:], y[size:])]
        return X[:size], y[:size]

    def _endless(self, left_out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            start = 0
            for X, y in self.chunks():
                kept = ~_is_in(np.arange(start, start + len(X)), left_out)
                start += len(X)
                yield X[kept], y[kept]


class Pools:
    """Training rows of a stream, pool after pool, in front of fixed rows for validation.

    Parameters
    ----------
    stream : Stream
    size : int
        Rows of a pool.
    left_out : ndarray of int
        Sorted numbers of the rows for validation.
    prepare : callable
        Checks and encodes X and y of a pool; returns the columns x and z.
    validation : tuple of Tensor
        Columns of the rows for validation.
    """

    def __init__(
        self,
        stream: Stream,
        size: int,
        left_out: np.ndarray,
        prepare: Callable[[np.ndarray, np.ndarray], tuple[Tensor, Tensor]],
        validation: tuple[Tensor, Tensor],
    ):
        self.stream, self.size, self.left_out = stream, size, left_out
        self.prepare, self.validation = prepare, validation

    def columns(self, epoch: int = 1) -> tuple[Tensor, ...]:
        """Columns of pool `epoch`, counted from 1."""
        own = self.prepare(*self.stream.pool(epoch - 1, self.size, self.left_out))
        return tuple(torch.cat(pair) for pair in zip(own, self.validation, strict=True))


def draw_reservoir(
    chunks: Iterable[tuple[np.ndarray, np.ndarray]], size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Random rows in one pass [1]_: X, y, their numbers, and how many rows there are in all.

    References
    ----------
    .. [1] Efraimidis and Spirakis (2006), Weighted random sampling with a reservoir.
    """
    random = np.random.default_rng(seed)
    key, number = np.empty(0), np.empty(0, dtype=np.int64)
    kept: tuple[np.ndarray, np.ndarray] | None = None
    n_rows = 0
    for X, y in chunks:
        key = np.concatenate([key, random.random(len(X))])
        number = np.concatenate([number, np.arange(n_rows, n_rows + len(X))])
        n_rows += len(X)
        if kept is not None:
            X, y = np.concatenate([kept[0], X]), np.concatenate([kept[1], y])
        if len(key) > size:
            best = np.sort(np.argpartition(key, size)[:size])
            key, number, X, y = key[best], number[best], X[best], y[best]
        kept = X, y
    if kept is None or n_rows < 2:
        raise ValueError(f"The batches hold {n_rows} rows; at least 2 are needed.")
    return kept[0], kept[1], number, n_rows


def as_stream(X: Any, y: Any, seed: int, threshold: int) -> ArrayStream | BatchStream | None:
    """Stream for batches, or for memory maps of more than `threshold` bytes; None otherwise."""
    if y is None:
        is_batches = callable(X) or (
            not hasattr(X, "shape") and hasattr(X, "__iter__") and not isinstance(X, (str, bytes))
        )
        if not is_batches or (isinstance(X, (list, tuple)) and not _holds_pairs(X)):
            return None
        if not callable(X) and iter(X) is X:
            raise TypeError(
                "fit reads the batches more than once, but a generator can be read only once; pass "
                "a function that returns a fresh one."
            )
        return BatchStream(X)
    if isinstance(X, np.memmap) and X.ndim == 2 and X.nbytes > threshold:
        return ArrayStream(X, y, seed)
    return None


def _holds_pairs(batches: Any) -> bool:
    return all(isinstance(pair, tuple) and len(pair) == 2 for pair in islice(batches, 3))


def _is_in(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Whether `rows` occur among sorted `numbers`."""
    if not len(numbers):
        return np.zeros(len(rows), dtype=bool)
    place = np.minimum(np.searchsorted(numbers, rows), len(numbers) - 1)
    return numbers[place] == rows
