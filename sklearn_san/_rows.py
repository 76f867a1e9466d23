"""Where training rows come from: a table in memory, or a stream that is larger than memory.

=====================  =====================================================================
`WholeTable`           rows in memory
`Pools`                rows of a stream, one pool in memory after the other
`as_rows`              one of these from what the user gave, and the schema learned from it
`ArrayStream`          arrays or memory maps that are larger than memory
`BatchStream`          batches from an iterable that can be read again and again
`RanksStream`          such batches of which each process of a group has its own, `OwnBatches`
`Epochs`               tensors for each epoch, with what is drawn anew in it
=====================  =====================================================================

Both kinds of rows can do the same: weights, measurement errors, missing values, categories, missing
last outputs. A stream is read once to learn the schema and the extremes of all rows and to keep a
random sample, on which scalers and the starting point are fitted; if all rows fit into the sample,
it is a table. Whatever changes from epoch to epoch is a function of a seed and the number of the
epoch, so that a training that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length
from torch import Generator, Tensor

from ._distributed import ALONE, Ranks
from ._inputs import InputEncoder
from ._order import Trials, settle_order
from ._parts import Part, PartColumn, n_rows_of
from ._scaling import OutputScaler
from ._schema import Block, Raw, Reader, concatenate
from ._splitting import Split, are_copies, group_numbers, linked_rows, split_rows
from ._training import Rows
from ._validation import check_weight

#: Rows of a stream that are in memory at once for training, and per chunk of a pass over it.
POOL, CHUNK = 131_072, 65_536
#: Share of the epochs, at the end of training, over which fewer and fewer rows have values hidden.
FADING = 0.3
#: Consecutive rows that are read at once from an array.
BLOCK = 1024
#: Rows drawn from a stream to start from, of which at most so many are for validation.
RESERVOIR, MAX_VALIDATION = 100_000, 10_000
#: How often rows that were observed stand among those drawn from a model of them, which are more.
OBSERVED_REPEATS = 3
#: Memory maps of more bytes than this are not read at once.
STREAM_BYTES = 256 * 2**20

#: Checks rows and drops those that do not count.
Read = Callable[..., Raw]


class WholeTable:
    """Rows in memory.

    Parameters
    ----------
    sample : Block
        Rows that were observed, behind them those drawn from a model of them, and behind these
        those that the user gave to validate on.
    groups : ndarray of shape (n_rows,), default=None
        Numbers of the groups that stay on one side of the split; None finds them.
    n_held : int, default=0
        How many rows the user gave to validate on.
    n_drawn : int, default=0
        How many rows were drawn.

    Attributes
    ----------
    ranks : Ranks
        Processes that learn from these rows together.
    """

    ranks: Ranks = ALONE
    n_pools = 1
    max_validation = np.inf

    def __init__(
        self,
        sample: Block,
        groups: np.ndarray | None = None,
        n_held: int = 0,
        n_drawn: int = 0,
    ):
        self.sample, self.groups, self.n_held, self.n_drawn = sample, groups, n_held, n_drawn

    @property
    def n_rows(self) -> int:
        """Of all that may be learned from."""
        return self.sample.n_rows - self.n_held

    @property
    def n_observed(self) -> int:
        """Of those to learn from, without those that were drawn."""
        return self.n_rows - self.n_drawn

    @property
    def observed(self) -> WholeTable:
        """The same table without the rows that were drawn."""
        if not self.n_drawn:
            return self
        own = np.delete(np.arange(self.sample.n_rows), slice(self.n_observed, self.n_rows))
        return WholeTable(self.sample.take(own), self.groups, self.n_held)

    def with_drawn(self, X: np.ndarray, y: np.ndarray) -> WholeTable:
        """The same table with rows (n, n_features) and (n, n_outputs), drawn from a model of it.

        Their weights are 1.
        """
        X, y = (
            np.concatenate([own[: self.n_rows], drawn, own[self.n_rows :]])
            for own, drawn in zip(self.sample[:2], (X, y), strict=True)
        )
        n_drawn, weight = len(X) - self.sample.n_rows, self.sample.weight
        if weight is not None:
            weight = np.insert(weight, self.n_rows, np.ones(n_drawn))
        joined = WholeTable(Block(X, y, weight, None), self.groups, self.n_held, n_drawn)
        joined.ranks = self.ranks
        return joined

    def split(self, n_validation: int, n_members: int, generator: Generator) -> Split:
        """Members validate on different rows, so that together they learn from all.

        Drawn rows are learned from by all, and those that were observed then stand repeatedly.
        """
        if self.n_held:
            held = np.arange(self.n_rows, self.sample.n_rows)
            split = split_rows(self.n_observed, 0, n_members, generator, None)
            split = Split(split.training, np.tile(held, (n_members, 1)))
        else:
            groups = self.groups
            if groups is None and n_validation:
                groups, _ = linked_rows(self.sample.take(slice(self.n_observed)), n_validation)
            split = split_rows(self.n_observed, n_validation, n_members, generator, groups)
        if not self.n_drawn:
            return split
        drawn = np.tile(np.arange(self.n_observed, self.n_rows), (n_members, 1))
        training = np.tile(split.training, (1, OBSERVED_REPEATS))
        return Split(np.concatenate([training, drawn], axis=1), split.holdout)

    def training_block(self, epoch: int) -> Block:
        """Rows of an epoch, all members' together."""
        return self.sample

    def index(self, split: Split, *, repeated: bool) -> Split:
        """Numbers of the rows in the table of an epoch, where they may stand twice."""
        n_rows = self.sample.n_rows
        return split if not repeated else Split(split.training, split.holdout + n_rows)

    def behind(self, split: Split) -> Any:
        """Rows of the sample that stand behind those of an epoch, if any stand there."""
        return slice(None)


class Pools:
    """Rows of a stream, of which a pool is in memory at a time.

    Parameters
    ----------
    stream : ArrayStream or BatchStream
    encode : callable
        From raw rows to a `Block`.
    sample : Block
        Random rows.
    numbers : ndarray of shape (n_sample,)
        Their numbers in the stream, rising.
    n_rows : int
        Of the whole stream.
    groups : ndarray of shape (n_stream,), default=None
        Numbers of the groups of all rows of the stream.
    n_held : int, default=0
        How many rows behind those of the sample the user gave to validate on.

    Attributes
    ----------
    ranks : Ranks
        Processes that learn from these rows together.
    """

    ranks: Ranks = ALONE
    n_drawn = 0
    max_validation = MAX_VALIDATION

    def __init__(
        self,
        stream: Any,
        encode: Callable[[Raw], Block],
        sample: Block,
        numbers: np.ndarray,
        n_rows: int,
        groups: np.ndarray | None = None,
        n_held: int = 0,
    ):
        self.stream, self.encode, self.sample = stream, encode, sample
        self.numbers, self.n_rows = numbers, n_rows
        self.groups, self.n_held = groups, n_held
        self.left_out = numbers[:0]

    def split(self, n_validation: int, n_members: int, generator: Generator) -> Split:
        """All members validate on the same rows, of which no pool holds a copy."""
        n_sample = self.sample.n_rows - self.n_held
        if self.n_held:
            others, chosen = np.arange(n_sample), np.arange(n_sample, self.sample.n_rows)
        else:
            chosen = self._choose(n_validation, generator)
            others = np.setdiff1d(np.arange(n_sample), chosen)
        return Split(np.tile(others, (n_members, 1)), np.tile(chosen, (n_members, 1)))

    def _choose(self, n_validation: int, generator: Generator) -> np.ndarray:
        """Rows of the sample to validate on; leaves out what repeats them elsewhere."""
        group, by_x_alone = None, np.zeros(0, dtype=bool)
        if self.groups is not None:
            _, group = np.unique(self.groups[self.numbers], return_inverse=True)
        elif n_validation:
            group, by_x_alone = linked_rows(self.sample, n_validation)
        split = split_rows(self.sample.n_rows, n_validation, 1, generator, group)
        chosen = np.unique(split.holdout[0])
        self.left_out = np.sort(self.numbers[chosen])
        if self.groups is not None:
            used = np.isin(self.groups, self.groups[self.left_out])
            self.left_out = np.flatnonzero(used)
        elif group is not None:
            held = self.sample.take(chosen)
            self.left_out = self.stream.numbers_of(
                lambda raw: are_copies(self.encode(raw), held, by_x_alone[chosen])
            )
        return chosen

    @property
    def observed(self) -> Pools:
        """The same rows, none of which were drawn."""
        return self

    @property
    def size(self) -> int:
        """Rows of a pool."""
        return min(POOL, self.n_rows - len(self.left_out))

    @property
    def n_pools(self) -> int:
        """Pools that hold as many rows as there are."""
        return -(-(self.n_rows - len(self.left_out)) // self.size)

    @property
    def part(self) -> slice:
        """Rows of a pool that are those of this rank."""
        if isinstance(self.stream, RanksStream):
            return self.stream.part(self.size, self.left_out)
        return self.ranks.part(self.size)

    def training_block(self, epoch: int, part: slice = slice(None)) -> Block:
        """Pool of an epoch, counted from 1, or a part of it."""
        return self.encode(self.stream.pool(epoch - 1, self.size, self.left_out, part))

    def index(self, split: Split, *, repeated: bool) -> Split:
        """Numbers of the rows in the table of an epoch."""
        n_members, n_validation = split.holdout.shape
        pool, behind = np.arange(self.size), np.arange(self.size, self.size + n_validation)
        return Split(np.tile(pool, (n_members, 1)), np.tile(behind, (n_members, 1)))

    def behind(self, split: Split) -> Any:
        """Rows of the sample for validation."""
        return split.holdout[0]


class Epochs:
    """Tensors of each epoch: the rows to train on, and behind them those for validation.

    Parameters
    ----------
    rows : WholeTable or Pools
    split : Split
    encoder : InputEncoder
    y_scaler : OutputScaler
    x, z : ndarray of shape (n_sample, n_inputs) and (n_sample, n_outputs)
        The sample as the network sees it, without noise.
    seed : int
        Of the noise and of the values that are hidden.
    dtype : torch.dtype
    device : torch.device
    patterns : ndarray of shape (n_patterns, n_features), default=None
        Values that are missing together in rows: training hides those of a random one in each
        row, to the end of training in fewer and fewer, so that it ends with rows as they are.
    once : bool, default=False
        Whether all members have the same rows in each batch.

    Attributes
    ----------
    n_epochs : float
        Of the whole training.
    """

    n_epochs = np.inf

    def __init__(
        self,
        rows: WholeTable | Pools,
        split: Split,
        encoder: InputEncoder,
        y_scaler: OutputScaler,
        x: np.ndarray,
        z: np.ndarray,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        patterns: np.ndarray | None = None,
        *,
        once: bool = False,
    ):
        self.rows, self.encoder, self.y_scaler, self.seed = rows, encoder, y_scaler, seed
        self.dtype, self.device = dtype, device
        self.patterns, self.once = patterns, once
        hides = patterns is not None or bool(np.any(encoder.missing_rate))
        self.noisy = rows.sample.X_err is not None or hides
        pooled = isinstance(rows, Pools)
        #: Whether an epoch has other columns than the one before
        self.change = self.noisy or pooled
        #: Rows of a pool that are those of this rank
        self.own = rows.part if isinstance(rows, Pools) and rows.ranks.size > 1 else None
        self.index = rows.index(split, repeated=self.noisy)
        behind = rows.behind(split)
        if self.noisy:  # validated with the same noise each time
            self._behind = self._columns(rows.sample.take(behind), 0)
        else:
            weight = rows.sample.weight
            parts = [x, z] if weight is None else [x, z, weight]
            encoded = [part[behind] for part in rows.sample.parts]
            self._behind = self._tensors([part[behind] for part in parts], encoded)

    def columns(self, epoch: int = 1) -> tuple[Any, ...]:
        """Scaled features and targets, parts, and the weights of rows if they have any.

        Of an epoch, from 1 on.
        """
        if not self.change:
            return self._behind
        if isinstance(self.rows, Pools) and self.own is not None:
            block = self.rows.training_block(epoch, self.own)
        else:
            block = self.rows.training_block(epoch)
        own = self._columns(block, epoch)
        return tuple(
            torch.cat([one, other]) if isinstance(one, Tensor) else one.joined(other)
            for one, other in zip(own, self._behind, strict=True)
        )

    def training_rows(self, jacobian: np.ndarray, split: Split) -> tuple[Rows, Rows | None]:
        """Rows to train on, and those for validation if there are any.

        Parameters
        ----------
        jacobian : ndarray of shape (n_sample,)
            Log-Jacobian of each row of the sample, which brings its loss to the units of y.
        split : Split
        """
        columns, holdout = self.columns(), self.index.holdout
        if isinstance(self.rows, Pools) and self.own is not None:
            holdout = holdout - self.rows.size + self.own.stop - self.own.start

        def of(index: np.ndarray, sample_rows: np.ndarray, own: slice | None = None) -> Rows:
            weight = self.rows.sample.weight
            share = None if weight is None else weight[sample_rows]
            offset = -np.average(jacobian[sample_rows], axis=1, weights=share)
            return Rows(
                columns,
                torch.from_numpy(index).to(self.device),
                torch.from_numpy(offset).to(self.device),
                weighted=weight is not None,
                ranks=self.rows.ranks,
                own=own,
            )

        training = of(self.index.training, split.training, self.own)
        return training, of(holdout, split.holdout) if split.holdout.size else None

    def _columns(self, block: Block, epoch: int) -> tuple[Any, ...]:
        X = block.X
        if self.noisy:
            seeds = [self.seed, epoch]
            if epoch and self.own is not None:  # the rows of another rank have other noise
                seeds.append(self.rows.ranks.rank)
            random = np.random.default_rng(seeds)
            normal = random.normal(size=X.shape)
            X = self._hide(self.encoder.jitter(X, block.X_err, normal), random, epoch)
        x = self.encoder.transform(X, block.X_err, out_of_fold=True)
        arrays = [x, self.y_scaler.transform(block.y)]
        if self.rows.sample.weight is not None:
            arrays.append(np.ones(block.n_rows) if block.weight is None else block.weight)
        return self._tensors(arrays, block.parts)

    def _hide(self, X: np.ndarray, random: np.random.Generator, epoch: int) -> np.ndarray:
        """X with values missing; rows for validation, those of epoch 0, by no pattern."""
        if self.patterns is None:
            return self.encoder.hide(X, random)
        share = (1.0 - epoch / self.n_epochs) / FADING if epoch else 0.0
        some = random.random((len(X), 1)) < share
        pattern = self.patterns[random.integers(len(self.patterns), size=len(X))]
        return np.where(some & pattern, np.nan, X)

    def _tensors(self, arrays: list[np.ndarray], parts: Sequence[Part]) -> tuple[Any, ...]:
        x, z, *weight = (torch.as_tensor(a, dtype=self.dtype, device=self.device) for a in arrays)
        columns = (PartColumn(part, self.dtype, self.device, once=self.once) for part in parts)
        return x, z, *columns, *weight


class Held(NamedTuple):
    """Rows that the user gave to validate on."""

    X: Any
    y: Any
    sample_weight: Any = None
    X_err: Any = None


def as_rows(
    X: Any,
    y: Any,
    sample_weight: Any,
    X_err: Any,
    reader: Reader,
    seed: int,
    trials: Trials,
    groups: Any = None,
    validation: Held | None = None,
) -> WholeTable | Pools:
    """Rows of what the user gave to `fit`; `reader` learns what the table is."""
    encoded = reader.estimator.encoder is not None
    is_own = isinstance(X, OwnBatches)
    batches = X.batches if is_own else X
    stream: Stream | None = as_stream(
        batches, y, sample_weight, X_err, reader.read, seed, encoded=encoded
    )
    if is_own:
        if not isinstance(stream, BatchStream):
            raise TypeError(
                "OwnBatches must hold batches (X, y), and go without y; got "
                f"{type(batches).__name__}."
            )
        if reader.ranks.size > 1:
            stream = RanksStream(stream, reader)
    if stream is None:
        reader.min_rows = 2
        raw = reader.read(X, y, sample_weight, X_err)
        if raw.n_rows < 2:
            raise ValueError(
                f"sample_weight is positive for {raw.n_rows} row; at least 2 are needed."
            )
        sample = reader.learn(raw)
        reader.check(sample)
        sample = settle_order(reader, sample, trials)
        numbers = None if groups is None else _groups_of(groups, y, sample_weight)
        table = reader.with_mean_weight_one(sample)
        return WholeTable(*_with_validation(table, numbers, reader, validation))
    if groups is not None and not isinstance(stream, ArrayStream):
        raise ValueError("groups goes with arrays; of batches, pass X_val and y_val instead.")
    numbers = None if groups is None else group_numbers(groups, len(X))
    kept, rows = draw_reservoir(stream, RESERVOIR, seed, reader.learn)

    def encode(raw: Raw) -> Block:
        return reader.with_mean_weight_one(reader.encode(raw))

    sample = encode(kept)
    reader.check(sample)
    sample = settle_order(reader, sample, trials)
    if len(rows) == reader.n_rows:
        own = None if numbers is None else np.unique(numbers[rows], return_inverse=True)[1]
        return WholeTable(*_with_validation(sample, own, reader, validation))
    sample, numbers, n_held = _with_validation(sample, numbers, reader, validation)
    return Pools(stream, encode, sample, rows, reader.n_rows, numbers, n_held)


def _groups_of(groups: Any, y: Any, sample_weight: Any) -> np.ndarray:
    """Numbers of the groups of the rows that count."""
    numbers = group_numbers(groups, n_rows_of(y))
    if sample_weight is not None:
        numbers = numbers[check_weight(sample_weight, len(numbers)) > 0]
    return np.unique(numbers, return_inverse=True)[1]


def _with_validation(
    sample: Block, groups: np.ndarray | None, reader: Reader, validation: Held | None
) -> tuple[Block, np.ndarray | None, int]:
    """Rows with those to validate on behind them; the groups; the number of the latter."""
    if validation is None:
        return sample, groups, 0
    reader.min_rows = 1
    try:
        raw = reader.read(*validation)
        if (raw.X_err is None) != (sample.X_err is None):
            raise ValueError("give X_err_val with X_err, and only then.")
        held = reader.schema.encode(raw)
        limits = reader.schema.limits[reader.schema.order]
        if ((held.y < limits[:, 0]) | (held.y > limits[:, 1])).any():
            raise ValueError("y has values outside the limits.")
    except (TypeError, ValueError) as error:
        raise type(error)(f"X_val and y_val cannot be used: {error}") from None
    weight = None
    if sample.weight is not None or held.weight is not None:
        weight = np.concatenate([
            np.ones(one.n_rows) if one.weight is None else one.weight for one in (sample, held)
        ])  # fmt: skip
    X_err = None
    if sample.X_err is not None and held.X_err is not None:
        X_err = np.concatenate([sample.X_err, held.X_err])
    parts = tuple(own.joined([other]) for own, other in zip(sample.parts, held.parts, strict=True))
    X, y = np.concatenate([sample.X, held.X]), np.concatenate([sample.y, held.y])
    joined = Block(X, y, weight, X_err, parts)
    return joined, groups, held.n_rows


class Stream(Protocol):
    """Rows that are read in pieces."""

    def chunks(self) -> Iterator[tuple[np.ndarray, Raw]]:
        """All rows in order, and their numbers, in pieces of any size."""

    def pool(self, number: int, size: int, left_out: np.ndarray, part: slice = slice(None)) -> Raw:
        """Part of the pool `number` of `size` rows.

        Those with sorted numbers `left_out` do not occur.
        """

    def numbers_of(self, test: Callable[[Raw], np.ndarray]) -> np.ndarray:
        """Sorted numbers of the rows for which `test` is true."""


class ArrayStream:
    """Arrays such as memory maps, with rows along their first axis; never read at once.

    Parameters
    ----------
    arrays : sequence of array or None
        X, y, sample_weight and X_err, None for what there is not.
    read : callable
        Of rows of these.
    seed : int
        Pools are random blocks of consecutive rows.
    """

    def __init__(self, arrays: Any, read: Read, seed: int):
        self.arrays, self.read, self.seed = arrays, read, seed
        self.n_rows = len(arrays[0])
        weight = arrays[2]
        #: Rows of weight 0, which count for nothing
        self.useless = np.empty(0, int) if weight is None else np.flatnonzero(weight == 0)

    def numbers_of(self, test: Callable[[Raw], np.ndarray]) -> np.ndarray:
        return np.concatenate([numbers[test(raw)] for numbers, raw in self.chunks()])

    def _rows(self, rows: Any) -> Raw:
        return self.read(*(_rows_of(array, rows) for array in self.arrays))

    def chunks(self) -> Iterator[tuple[np.ndarray, Raw]]:
        """All rows in order."""
        for start in range(0, self.n_rows, CHUNK):
            numbers = np.arange(start, min(start + CHUNK, self.n_rows))
            numbers = numbers[~_is_in(numbers, self.useless)]
            if len(numbers):
                yield numbers, self._rows(numbers)

    def pool(self, number: int, size: int, left_out: np.ndarray, part: slice = slice(None)) -> Raw:
        """Random blocks; over many pools all rows occur equally often."""
        n_blocks = -(-self.n_rows // BLOCK)
        parts, found, tries = [], 0, 0
        while found < size:
            random = np.random.default_rng((self.seed, number, tries))
            tries += 1
            shift = random.integers(self.n_rows)  # or the ends of blocks would be seen less often
            for block in random.permutation(n_blocks):
                rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, self.n_rows))
                rows = (rows + shift) % self.n_rows
                parts.append(rows[~(_is_in(rows, left_out) | _is_in(rows, self.useless))])
                found += len(parts[-1])
                if found >= size:
                    break
        rows = np.concatenate(parts)[:size]
        return self._rows(np.sort(rows, kind="stable")[part])  # shuffled by the training


class BatchStream:
    """Batches from an iterable that can be read more than once.

    Parameters
    ----------
    batches : iterable, or callable without arguments that returns one
        Of ``(X, y)``, ``(X, y, sample_weight)`` or ``(X, y, sample_weight, X_err)``, where None
        stands for what there is not, or of dicts with these names.
    read : callable
        Of a batch.

    Attributes
    ----------
    first, step : int
        Number of the first row, and from one row to the next.
    """

    first, step = 0, 1

    def __init__(self, batches: Iterable | Callable[[], Iterable], read: Read):
        self.batches, self.read = batches, read
        self._next = -1
        self._rows: Iterator[Raw] = iter(())
        self._rest: list[Raw] = []

    def chunks(self) -> Iterator[tuple[np.ndarray, Raw]]:
        """All batches in order."""
        start, parts = 0, None
        for number, batch in enumerate(_iterated(self.batches)):
            arguments = _parts_of_batch(number, batch)
            try:
                raw = self.read(**arguments)
            except (TypeError, ValueError) as error:
                raise type(error)(f"batch {number} cannot be used: {error}") from None
            own = raw.weight is None, raw.X_err is None
            if parts not in (None, own):
                raise ValueError(
                    f"batch {number} has other parts than those before it: give sample_weight and "
                    "X_err with every batch, or with none."
                )
            parts = own
            if raw.n_rows:
                yield self.first + self.step * np.arange(start, start + raw.n_rows), raw
                start += raw.n_rows

    def numbers_of(self, test: Callable[[Raw], np.ndarray]) -> np.ndarray:
        return np.concatenate([numbers[test(raw)] for numbers, raw in self.chunks()])

    def pool(self, number: int, size: int, left_out: np.ndarray, part: slice = slice(None)) -> Raw:
        """Consecutive rows; after the last batch come the first ones again."""
        if number != self._next:
            self._rows, self._rest = self._endless(left_out), []
            for _ in range(number):
                self._take(size)
        self._next = number + 1
        return self._take(size).take(part)

    def _take(self, size: int) -> Raw:
        while sum(raw.n_rows for raw in self._rest) < size:
            self._rest.append(next(self._rows))
        rows = concatenate(self._rest)
        self._rest = [rows.take(slice(size, None))]
        return rows.take(slice(size))

    def _endless(self, left_out: np.ndarray) -> Iterator[Raw]:
        while True:
            for numbers, raw in self.chunks():
                yield raw.take(~_is_in(numbers, left_out))


class OwnBatches:
    """Batches of rows that this process of a group has, and no other one.

    Where several processes fit one estimator together, started by ``torchrun``, each of them reads
    all rows that `fit` is given, which must be the same. With these, it reads a part of them, such
    as its own files: the estimator learns from the batches of all processes. They have the same
    columns. Without a process group they are like any other batches.

    Parameters
    ----------
    batches : iterable, or callable without arguments that returns one
        Batches as `fit` takes them.

    Examples
    --------
    >>> from sklearn_san import OwnBatches, SANConditionalDensityEstimator
    >>> from sklearn_san.datasets import make_bimodal
    >>> rank, n_ranks = 0, 1  # torch.distributed.get_rank(), torch.distributed.get_world_size()
    >>> files = range(rank, 4, n_ranks)
    >>> def batches():
    ...     for number in files:
    ...         yield make_bimodal(100, random_state=number)[:2]
    >>> est = SANConditionalDensityEstimator(K=3, epochs=1, n_members=1, random_state=0)
    >>> est.fit(OwnBatches(batches)).n_iter_
    1
    """

    def __init__(self, batches: Iterable | Callable[[], Iterable]):
        self.batches = batches


class RanksStream:
    """Batches of which each process of a group has its own.

    To learn what the table is, each batch is sent to all processes. Pools have rows of each
    process, as many as go with all that it has, which stay where they are.

    Parameters
    ----------
    own : BatchStream
        Of this process. Row k of rank r has the number ``k * n_ranks + r``.
    reader : Reader
        That reads the batches.
    """

    def __init__(self, own: BatchStream, reader: Reader):
        self.own, self.reader, self.ranks = own, reader, reader.ranks
        own.first, own.step = self.ranks.rank, self.ranks.size
        self._counts = np.zeros(self.ranks.size, dtype=np.int64)

    def chunks(self) -> Iterator[tuple[np.ndarray, Raw]]:
        """A batch of each process in turn."""
        counts = np.zeros_like(self._counts)
        batches = self.own.chunks()
        own = next(batches, None)
        self._check_columns(own is None)
        while True:
            found = self.ranks.all("a batch", own)
            for rank, one in enumerate(found):
                if one is not None:
                    counts[rank] += one[1].n_rows
                    yield one
            if all(one is None for one in found):
                break
            own = next(batches, None)
        self._counts = counts

    def _check_columns(self, is_empty: bool) -> None:
        """Raise, on all ranks, if some have no rows or other columns."""
        empty = [rank for rank, one in enumerate(self.ranks.all("rows", is_empty)) if one]
        if empty:
            raise ValueError(
                f"The batches of rank {empty[0]} hold no rows; give some to every rank."
            )
        schema = self.reader.schema
        kinds = [type(family).__name__ for family in schema.families]
        are_categories = [one is not None for one in schema.n_categories]
        columns = schema.feature_names, are_categories, schema.names, kinds, schema.part_names
        self.ranks.check_alike("columns", repr((*columns, schema.one_dimensional)))

    def numbers_of(self, test: Callable[[Raw], np.ndarray]) -> np.ndarray:
        """Sorted numbers of the rows for which `test` is true, of all processes."""
        return np.sort(np.concatenate(self.ranks.all("numbers", self.own.numbers_of(test))))

    def part(self, size: int, left_out: np.ndarray) -> slice:
        """Rows of a pool that are those of this process."""
        n_ranks = self.ranks.size
        counts = self._counts - np.bincount(left_out % n_ranks, minlength=n_ranks)
        bounds = np.round(size * np.cumsum([0, *counts]) / counts.sum()).astype(int)
        if (empty := np.flatnonzero(np.diff(bounds) < 1)).size:
            raise ValueError(
                f"Rank {empty[0]} has {counts[empty[0]]} of {counts.sum()} rows, too few for one "
                f"in each pool of {size}; give it more."
            )
        return slice(*bounds[self.ranks.rank :][:2].tolist())

    def pool(self, number: int, size: int, left_out: np.ndarray, part: slice = slice(None)) -> Raw:
        """Rows of this process in a pool."""
        return self.own.pool(number, part.stop - part.start, left_out)


def _rows_of(array: Any, rows: np.ndarray) -> Any:
    """Rows of an array or frame, in memory."""
    if array is None:
        return None
    return array.iloc[rows] if hasattr(array, "iloc") else np.asarray(array[rows])


def _iterated(batches: Any) -> Iterable:
    source = batches() if callable(batches) else batches
    if not hasattr(source, "__iter__"):
        raise TypeError(f"batches must be pairs (X, y) in an iterable, got {source!r}.")
    return source


def _parts_of_batch(number: int, batch: Any) -> dict[str, Any]:
    names = ("X", "y", "sample_weight", "X_err")
    if isinstance(batch, (tuple, list)) and 2 <= len(batch) <= len(names):
        return dict(zip(names, batch, strict=False))
    if isinstance(batch, dict) and {"X", "y"} <= batch.keys() <= set(names):
        return batch
    raise TypeError(
        f"batch {number} must be (X, y), (X, y, sample_weight), (X, y, sample_weight, X_err) or a "
        f"dict with these names, got {type(batch).__name__}."
    )


def draw_reservoir(
    stream: Stream, size: int, seed: int, learn: Callable[[Raw], Any]
) -> tuple[Raw, np.ndarray]:
    """Random rows in one pass [1]_, in order, and their numbers; `learn` sees all rows.

    References
    ----------
    .. [1] Efraimidis and Spirakis (2006), Weighted random sampling with a reservoir.
    """
    random = np.random.default_rng(seed)
    key, number = np.empty(0), np.empty(0, dtype=np.int64)
    kept: Raw | None = None
    n_rows = 0
    for numbers, raw in stream.chunks():
        learn(raw)
        n_rows += raw.n_rows
        key = np.concatenate([key, random.random(raw.n_rows)])
        number = np.concatenate([number, numbers])
        kept = raw if kept is None else concatenate([kept, raw])
        if len(key) > size:
            best = np.sort(np.argpartition(key, size)[:size])
            key, number, kept = key[best], number[best], kept.take(best)
    if kept is None or n_rows < 2:
        raise ValueError(f"The batches hold {n_rows} rows; at least 2 are needed.")
    return kept, number


def as_stream(
    X: Any,
    y: Any,
    sample_weight: Any,
    X_err: Any,
    read: Read,
    seed: int,
    *,
    encoded: bool = False,
) -> ArrayStream | BatchStream | None:
    """Stream for batches, or for large memory maps; None for what is read at once.

    What is `encoded` stays in its file and is read row by row.
    """
    if y is not None or (encoded and isinstance(X, Mapping)):
        if encoded:
            return None
        if not (isinstance(X, np.memmap) and X.ndim == 2 and X.nbytes > STREAM_BYTES):
            return None
        if sample_weight is not None:
            sample_weight = check_weight(sample_weight, len(X))
        check_consistent_length(X, y, X_err)
        return ArrayStream((X, y, sample_weight, X_err), read, seed)
    is_batches = callable(X) or (
        not hasattr(X, "shape") and hasattr(X, "__iter__") and not isinstance(X, (str, bytes))
    )
    if not is_batches or (isinstance(X, (list, tuple)) and not _holds_batches(X)):
        return None
    if not callable(X) and iter(X) is X:
        raise TypeError(
            "fit reads the batches more than once, but a generator can be read only once; pass a "
            "function that returns a fresh one."
        )
    if sample_weight is not None or X_err is not None:
        raise ValueError(
            "sample_weight and X_err of batches are part of each batch: give (X, y, sample_weight, "
            "X_err), with None for what there is not."
        )
    return BatchStream(X, read)


def _holds_batches(batches: Any) -> bool:
    return all(
        (isinstance(one, tuple) and 2 <= len(one) <= 4) or isinstance(one, dict)
        for one in islice(batches, 3)
    )


def _is_in(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Whether `rows` occur among sorted `numbers`."""
    if not len(numbers):
        return np.zeros(len(rows), dtype=bool)
    place = np.minimum(np.searchsorted(numbers, rows), len(numbers) - 1)
    return numbers[place] == rows
