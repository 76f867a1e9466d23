"""Fits that processes of a group do together, and one process alone; run by `test_distributed`.

As a script, started by torchrun with a folder as its argument, it does all of `CASES` and keeps
what came out of each in a file of the rank; then rank 1 fails while rank 0 trains.
"""

import hashlib
import os
import pickle
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import small
from sklearn.base import clone
from torch import nn

from sklearn_san import OwnBatches, _checkpoints, _rows
from sklearn_san.datasets import make_bimodal
from sklearn_san.exceptions import TrainingInterruptedWarning
from sklearn_san.likelihoods import MixtureOfGaussians

X, Y, _ = make_bimodal(307, random_state=0)
WEIGHT = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
GAPS = np.where(np.arange(len(X))[:, None] % 5 == [-1, 0], np.nan, Y)
#: Steps that are those of one process within rounding: no eigenbases, in double precision
EXACT = {"batch_size": 32, "dtype": "float64", "n_members": 2, "epochs": 4}
#: Streams that are larger than the memory there is for them
POOLS = {"POOL": 150, "CHUNK": 100, "BLOCK": 16, "RESERVOIR": 200, "STREAM_BYTES": 0}


class Rounded(nn.Module):
    """Encoder with dropout and statistics of the batch."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(5, 2)
        )

    def forward(self, x):
        return self.layers(x)


def pictures():
    return {"plain": X, "line": np.random.default_rng(1).normal(size=(len(X), 4)) + X[:, :1]}


def rank_and_size():
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def batches_of(numbers, *, weighted=True):
    """Function that gives batches of 31 rows."""

    def batches():
        for k in numbers:
            rows = slice(31 * k, 31 * (k + 1))
            yield (X[rows], GAPS[rows], WEIGHT[rows]) if weighted else (X[rows], Y[rows])

    return batches


def table(folder, **options):
    return small(**EXACT | options).fit(X, GAPS, WEIGHT)


def few_rows(folder):
    """Last batch of one row, in kernels."""
    return small(batch_size=32, early_stopping=False, n_members=2).fit(X[:97], Y[:97])


def memory_map(folder):
    path = folder / f"x{rank_and_size()}.npy"
    np.save(path, X)
    with mock.patch.multiple(_rows, **POOLS):
        return small(**EXACT).fit(np.load(path, mmap_mode="r"), GAPS, WEIGHT)


def stream(folder):
    with mock.patch.multiple(_rows, **POOLS):
        return small(**EXACT).fit(batches_of(range(10)))


def own_in_memory(folder):
    rank, size = rank_and_size()
    return small(**EXACT).fit(OwnBatches(batches_of(range(rank, 10, size))))


def own_pools(folder):
    """Rank 0 has 6 of 10 batches, rank 1 the others, and learns from these; with noise."""
    rank, size = rank_and_size()
    numbers = {(0, 1): range(10), (0, 2): range(6), (1, 2): range(6, 10)}[rank, size]
    batches = batches_of(numbers, weighted=False)
    pool, seen = _rows.RanksStream.pool, []

    def recorded(self, *arguments):
        raw = pool(self, *arguments)
        seen.extend(raw.X[:, 0].tolist())
        return raw

    with (
        mock.patch.multiple(_rows, **POOLS),
        mock.patch.object(_rows.RanksStream, "pool", recorded),
    ):
        est = small(**EXACT | {"missing_rate": 0.1}).fit(OwnBatches(batches))
    if size == 2:
        own = {x for batch in batches() for x in batch[0][:, 0].tolist()}
        assert set(seen) <= own
        assert len(own - set(seen)) <= 20  # a tenth of the sample is validated on
    return est


def encoder(folder, **options):
    spec = {"line": nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))}
    return small(**EXACT | {"encoder": spec, "epochs": 2} | options).fit(pictures(), Y)


def drawing_encoder(folder):
    spec = {"line": Rounded()}
    return small(encoder=spec, teacher_forcing=False, epochs=2, n_members=2).fit(pictures(), Y)


def chosen_by_pilots(folder):
    """No seed is given."""
    return small(feature_encoding="auto", random_state=None, epochs=2).fit(X, Y)


def goes_on(folder):
    est = small(**EXACT | {"warm_start": True, "epochs": 2})
    return est.fit(X, Y).fit(X, Y).partial_fit(X, Y)


def resumed(folder):
    """Every rank has a folder of its own, of which that of the first one is in use."""
    folder = folder / "checkpoints of rank {} of {}".format(*rank_and_size())
    est = small(**EXACT | {"checkpoint_dir": folder})
    save, states = _checkpoints.DiskCheckpoint.save, []

    def killed(self, state, *, final):
        save(self, state, final=True)
        states.append(state)
        if len(states) == 2:
            raise KeyboardInterrupt

    interrupted = clone(est)
    with (
        mock.patch.object(_checkpoints.DiskCheckpoint, "save", killed),
        pytest.warns(TrainingInterruptedWarning),
        pytest.raises(KeyboardInterrupt),
    ):
        interrupted.fit(X, GAPS, WEIGHT)
    assert folder.exists() == (rank_and_size()[0] == 0)
    assert est.fit(X, GAPS, WEIGHT).loss_curve_[:2] == interrupted.loss_curve_
    return est


CASES = {
    "table": table,
    "compiled": lambda folder: table(folder, dtype="float32"),
    "eigenbases": lambda folder: table(folder, batch_size=64),
    "few rows": few_rows,
    "memory map": memory_map,
    "stream": stream,
    "own in memory": own_in_memory,
    "own pools": own_pools,
    "encoder": encoder,
    "shared encoder": lambda folder: encoder(folder, share_encoder=True),
    "drawing encoder": drawing_encoder,
    "chosen by pilots": chosen_by_pilots,
    "goes on": goes_on,
    "resumed": resumed,
}


def outcome(name, folder):
    """What came out of a case, and a digest of the model."""
    est = CASES[name](folder)
    features = X if est.encoder is None else pictures()
    digest = hashlib.sha256()
    tensors = list(est.network_.parameters())
    tensors += [] if est.encoders_ is None else list(est.encoders_.tensors())
    for tensor in tensors:
        digest.update(tensor.detach().numpy().tobytes())
    return {
        "train": est.loss_curve_,
        "validation": est.validation_curve_,
        "log_prob": est.log_prob(features, Y),
        "digest": digest.hexdigest(),
    }


def refused(rank):
    """Errors and warnings of fits that cannot be, on this rank."""
    other = X + 1e-9 * rank

    class Local(MixtureOfGaussians):
        """Of no module."""

    calls = {
        "n_jobs": lambda: small(n_jobs=2).fit(X, Y),
        "rows": lambda: small().fit(other, Y),
        "columns": lambda: small().fit(OwnBatches([(X, Y[:, : 1 + rank])])),
        "no rows": lambda: small().fit(OwnBatches([(X, Y)] if rank == 0 else [])),
        "no batches": lambda: small().fit(OwnBatches(X), Y),
        "parameters": lambda: small(K=3 + rank).fit(X, Y),
        "family": lambda: small(likelihood=Local()).fit(X, Y),
    }
    told = {}
    for name, call in calls.items():
        try:
            call()
        except (TypeError, ValueError) as error:
            told[name] = f"{type(error).__name__}: {error}"
    return told


def main(folder):
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small(epochs=1).fit(X[:40], Y[:40])
    result = {"alone": [str(one.message) for one in caught]}
    dist.init_process_group("gloo")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result |= {name: outcome(name, folder) for name in CASES}
        result["refused"] = refused(rank)
    (folder / f"rank{rank}.pickle").write_bytes(pickle.dumps(result))
    passes = []

    def batches():
        passes.append(None)
        if rank == 1 and len(passes) == 3:
            raise RuntimeError("rank 1 has lost its files")
        yield from batches_of(range(10))()

    with mock.patch.multiple(_rows, **POOLS):
        small(epochs=1000, n_iter_no_change=None).fit(batches)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
