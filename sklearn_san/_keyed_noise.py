"""Random numbers that are a function of a seed and the name of a row alone.

A generator with a state gives a row other numbers when the rows before it change, and the same ones
to the first rows of two parts of a table. Here the numbers of a row come from Philox4x32-10 [1]_, a
bijection of 128-bit counters for each 64-bit key: the key is the seed, the counter holds the id of
the row (64 bits), the draw, and the pair of numbers in it. So different rows, draws and numbers
never share a counter, and draws are the same whatever the partition, the order or the chunk.

==================  ========================================================================
`KeyedNoise`        numbers of given rows
`make_noise`        these or a generator of numpy, by `random_state` and `row_ids`
`block_uniform`     numbers of some rows and draws from either
`philox`            the bijection, for many counters at once
==================  ========================================================================

References
----------
.. [1] Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as 1, 2, 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ._model import chunks, make_random
from ._network import uniform

#: Counters that are worked on at once, so that they stay in the cache.
N_COUNTERS = 4096
#: The draw whose numbers belong to the whole row.
WHOLE_ROW = 2**32 - 1
_N_ROUNDS = 10
_FACTORS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEPS = 0x9E3779B9, 0xBB67AE85
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: np.ndarray, key: int) -> np.ndarray:
    """Philox4x32-10 of counters (4, n), 32 bits in each uint64; the same shape."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(_N_ROUNDS):
        first, second = _FACTORS[0] * c0, _FACTORS[1] * c2
        c0, c1 = (second >> _HALF) ^ c1 ^ np.uint64(k0), second & _LOW
        c2, c3 = (first >> _HALF) ^ c3 ^ np.uint64(k1), first & _LOW
        k0, k1 = (k0 + _STEPS[0]) & 0xFFFFFFFF, (k1 + _STEPS[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


class KeyedNoise:
    """Uniform numbers of rows with ids.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1.
    ids : ndarray of uint64 of shape (n_rows,)
    first : int, default=0
        Number of the first draw.
    """

    def __init__(self, seed: int, ids: np.ndarray, first: int = 0):
        self.seed, self.ids, self.first = seed, ids, first

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Any, first: int = 0) -> KeyedNoise:
        """Numbers of some of the rows, from the draw `first` on."""
        return KeyedNoise(self.seed, self.ids[rows], self.first + first)

    def uniform(self, rows: slice, draws: slice, n: int) -> np.ndarray:
        """Numbers strictly inside (0, 1), (n_rows, n_draws, n), multiples of 2**-53 and a half."""
        start, stop = draws.start + self.first, draws.stop + self.first
        if stop > WHOLE_ROW:
            raise ValueError(f"row_ids goes with up to {WHOLE_ROW} draws of a row, got {stop}.")
        return self._numbers(rows, np.arange(start, stop, dtype=np.uint64), n)

    def of_rows(self, rows: slice, n: int) -> np.ndarray:
        """Numbers that belong to each row as a whole, (n_rows, n)."""
        return self._numbers(rows, np.array([WHOLE_ROW], dtype=np.uint64), n)[:, 0]

    def _numbers(self, rows: slice, draws: np.ndarray, n: int) -> np.ndarray:
        ids, n_pairs = self.ids[rows], -(-n // 2)
        shape = len(ids), len(draws), n_pairs
        numbers = np.empty((np.prod(shape, dtype=int), 2))
        for some in chunks(len(numbers), N_COUNTERS):
            row, draw, pair = np.unravel_index(np.arange(some.start, some.stop), shape)
            own = ids[row]
            counter = np.stack([own & _LOW, own >> _HALF, pair.astype(np.uint64), draws[draw]])
            words = philox(counter, self.seed)
            numbers[some, 0] = _unit(words[0], words[1])
            numbers[some, 1] = _unit(words[2], words[3])
        return numbers.reshape(len(ids), len(draws), 2 * n_pairs)[..., :n]


def _unit(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Float64 strictly inside (0, 1) of two words of 32 bits."""
    bits = (high << np.uint64(21)) | (low >> np.uint64(11))
    return np.minimum(bits * 2.0**-53 + 2.0**-54, 1.0 - 2.0**-53)


#: Where draws get their random numbers from.
Noise = np.random.Generator | KeyedNoise


def make_noise(random_state: Any, row_ids: Any, n_rows: int) -> Noise:
    """Source of random numbers for `n_rows` rows.

    Parameters
    ----------
    random_state : int, RandomState, KeyedNoise or None
    row_ids : array-like of shape (n_rows,) or None
        Whole numbers or text, different from each other; with them `random_state` must be a whole
        number.
    n_rows : int
    """
    if isinstance(random_state, KeyedNoise):
        return random_state
    if row_ids is None:
        return make_random(random_state)
    is_whole = isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool)
    if not (is_whole and 0 <= random_state < 2**64):
        raise ValueError(
            "row_ids makes draws that are the same in every call, for which random_state must be a "
            f"whole number from 0 to 2**64 - 1, got {random_state!r}."
        )
    return KeyedNoise(int(random_state), check_ids(row_ids, n_rows))


def check_ids(row_ids: Any, n_rows: int) -> np.ndarray:
    """Ids as (n_rows,) uint64: whole numbers as they are, text by a hash."""
    ids = np.asarray(row_ids)
    if ids.shape != (n_rows,):
        raise ValueError(f"row_ids must have shape ({n_rows},), got {ids.shape}.")
    if ids.dtype.kind not in "iuSUT":
        entries = ids.tolist() if ids.dtype == object else [ids]
        is_text = all(isinstance(entry, (str, bytes)) for entry in entries)
        if not (is_text or all(_is_whole(entry) for entry in entries)):
            raise TypeError(
                "row_ids must be whole numbers or text, none missing, got "
                f"{ids.dtype if ids.dtype != object else ids[:3].tolist()}."
            )
        try:
            ids = ids if is_text else ids.astype(np.int64)
        except OverflowError:
            raise ValueError("row_ids must be whole numbers of 64 bits, or text.") from None
    if ids.dtype.kind in "iu":
        numbers = ids.astype(np.int64 if ids.dtype.kind == "i" else np.uint64).view(np.uint64)
    else:
        numbers = np.fromiter(map(_hash, ids.tolist()), dtype=np.uint64, count=n_rows)
    n_repeated = n_rows - len(np.unique(numbers))
    if n_repeated:
        raise ValueError(
            f"row_ids has {n_repeated} repeated entries; rows of one id would get the same noise, "
            "so that their draws were not independent."
        )
    return numbers


def _is_whole(entry: Any) -> bool:
    return isinstance(entry, (int, np.integer)) and not isinstance(entry, (bool, np.bool_))


def _hash(text: str | bytes) -> int:
    data = text.encode() if isinstance(text, str) else text
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def some_noise(noise: Noise | None, rows: slice) -> Noise | None:
    """Source for some of the rows; a generator goes on where it is."""
    return noise.take(rows) if isinstance(noise, KeyedNoise) else noise


def block_uniform(noise: Noise, rows: slice, draws: slice, n: int) -> np.ndarray:
    """Numbers strictly inside (0, 1) for rows and draws, (n_rows, n_draws, n).

    A generator is consumed in the order of the result, whatever the size of the blocks.
    """
    if isinstance(noise, KeyedNoise):
        return noise.uniform(rows, draws, n)
    return uniform((rows.stop - rows.start, draws.stop - draws.start, n), noise).numpy()


def row_uniform(noise: Noise, rows: slice, n: int) -> np.ndarray:
    """Numbers strictly inside (0, 1) of each row as a whole, (n_rows, n)."""
    if isinstance(noise, KeyedNoise):
        return noise.of_rows(rows, n)
    return uniform((rows.stop - rows.start, n), noise).numpy()


def row_randoms(noise: Noise, n_rows: int) -> Iterator[np.random.Generator]:
    """A numpy generator for each row: one for all, consumed row by row, or one of its own."""
    if isinstance(noise, KeyedNoise):
        for own in noise.ids:
            seed = [noise.seed, int(own), noise.first]
            yield np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        return
    random = np.random.default_rng(noise.bit_generator.seed_seq.entropy)  # type: ignore[attr-defined]
    for _ in range(n_rows):
        yield random
