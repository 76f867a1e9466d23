"""Two processes of a group fit together what one process would: see `ranks` for what they do."""

import os
import pickle
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ranks
import torch
import torch.distributed as dist
from conftest import SINGLE, small

from sklearn_san._distributed import ALONE, Ranks, current_ranks
from sklearn_san._rows import BatchStream, RanksStream
from sklearn_san._training import Rows

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without groups")
#: Cases in which no number depends on the process that draws it, and how closely they are those
#: of one process: a thousand units in the last place
DOUBLE = 1000 * float(np.finfo(np.float64).eps)
ALIKE = {
    "table": DOUBLE, "memory map": DOUBLE, "stream": DOUBLE, "own in memory": DOUBLE,
    "encoder": DOUBLE, "shared encoder": DOUBLE, "goes on": DOUBLE, "resumed": DOUBLE,
    "compiled": SINGLE, "few rows": SINGLE,
}  # fmt: skip
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What both ranks found, what one process found, and how the ranks ended."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
        "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--local-addr=localhost",
        "ranks.py", str(folder),
    ]  # fmt: skip
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    settings = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback}
    with (folder / "log").open("w+") as log:
        started = subprocess.Popen(
            command, cwd=HERE, env=os.environ | settings, stdout=log, stderr=log
        )
        try:
            alone = {name: ranks.outcome(name, folder) for name in ranks.CASES}
            code = started.wait(timeout=300)
        finally:
            started.kill()
        log.seek(0)
        text = log.read()
    files = [folder / f"rank{rank}.pickle" for rank in range(2)]
    assert all(file.exists() for file in files), text
    both = [pickle.loads(file.read_bytes()) for file in files]
    return SimpleNamespace(both=both, alone=alone, code=code, log=text)


def test_ranks_end_with_the_same_estimator(run):
    for name in ranks.CASES:
        one, other = (found[name] for found in run.both)
        for what in ("digest", "train", "validation"):
            assert one[what] == other[what], (name, what)
        np.testing.assert_array_equal(one["log_prob"], other["log_prob"], err_msg=name)


def test_they_are_one_process_within_rounding(run):
    for name, tolerance in ALIKE.items():
        found, alone = run.both[0][name], run.alone[name]
        for what in ("train", "validation", "log_prob"):
            np.testing.assert_allclose(
                found[what], alone[what], tolerance, tolerance, err_msg=f"{name}, {what}"
            )
    # Of eigenbases, rounding decides directions in which there has been no gradient yet
    found, alone = (one["eigenbases"]["train"] for one in (run.both[0], run.alone))
    np.testing.assert_allclose(found[:2], alone[:2], rtol=DOUBLE)


def test_a_resumed_training_is_that_of_a_run_without_interruption(run):
    for found in run.both:
        assert found["resumed"]["digest"] == found["table"]["digest"]


def test_ranks_refuse_the_same(run):
    told, other = (found["refused"] for found in run.both)
    assert told == other
    words = {
        "n_jobs": "ValueError: The 2 ranks .* needs n_jobs=None, got n_jobs=2",
        "rows": "ValueError: .*rank 1 was given other rows than rank 0",
        "columns": "ValueError: .*rank 1 was given other columns than rank 0",
        "no rows": "ValueError: The batches of rank 1 hold no rows",
        "no batches": "TypeError: OwnBatches must hold batches .* got ndarray",
        "parameters": "ValueError: .*rank 1 was given other parameters than rank 0",
        "family": "TypeError: Rank 0 cannot send the network .*local",
    }
    assert told.keys() == words.keys()
    for name, pattern in words.items():
        assert re.match(pattern, told[name]), told[name]


def test_processes_that_know_nothing_of_each_other_are_told(run):
    for found in run.both:
        (message,) = found["alone"]
        assert message.startswith("torchrun has started 2 processes, each of which fits alone")


def test_a_rank_that_fails_ends_the_others(run):
    assert run.code != 0
    assert "RuntimeError: rank 1 has lost its files" in run.log


@contextmanager
def group_of_one(backend, folder):
    store = dist.FileStore(str(folder / "store"), 1)
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def both_ways(backend, folder, **options):
    """Estimators from fits without a group and with one of this process alone."""
    fits = [small(n_members=2, epochs=3, **options) for _ in range(2)]
    fits[0].fit(ranks.X, ranks.GAPS, ranks.WEIGHT)
    with group_of_one(backend, folder):
        fits[1].fit(ranks.X, ranks.GAPS, ranks.WEIGHT)
    return fits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_group_of_one_changes_nothing(dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    alone, grouped = both_ways("gloo", tmp_path, dtype=dtype)
    assert grouped.loss_curve_ == alone.loss_curve_
    np.testing.assert_array_equal(
        grouped.log_prob(ranks.X, ranks.Y), alone.log_prob(ranks.X, ranks.Y)
    )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_group_of_one_gpu(device, tmp_path):
    """What is on the CPU is sent through the GPU."""
    alone, grouped = both_ways("nccl", tmp_path, device=device)
    np.testing.assert_allclose(grouped.loss_curve_, alone.loss_curve_, rtol=SINGLE, atol=SINGLE)
    np.testing.assert_allclose(
        grouped.log_prob(ranks.X, ranks.Y), alone.log_prob(ranks.X, ranks.Y), rtol=SINGLE, atol=0.01
    )


def test_without_a_group_nothing_is_sent():
    assert current_ranks() == ALONE
    assert ALONE.first("anything", ranks.X) is ranks.X
    assert ALONE.all("anything", 1) == [1]
    assert ALONE.any(True)


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("sharded", [False, True])
def test_shares_of_all_ranks_are_the_batch(n_ranks, sharded):
    """Whether each has all rows or some of them; batches of 5 rows, and of 2."""
    table, random = torch.arange(20.0), torch.Generator().manual_seed(0)
    index = torch.stack([torch.randperm(17, generator=random) for _ in range(3)])
    for chosen in index.split(5, 1):
        mean = 0.0
        for rank in range(n_ranks):
            own = Ranks(rank, n_ranks).part(20) if sharded else None
            rows = Rows(
                (table[own] if sharded else table,), index, torch.zeros(3),
                ranks=Ranks(rank, n_ranks), own=own,
            )  # fmt: skip
            mine, share, total = rows.shares(chosen)
            assert mine.shape == share.shape
            mean = mean + (share * rows.columns[0][mine]).sum(1)
            assert total.tolist() == [chosen.shape[1]] * 3
        torch.testing.assert_close(mean, chosen.float().mean(1))


def test_ranks_with_more_rows_have_more_of_each_pool():
    streams = [
        RanksStream(BatchStream([], None), SimpleNamespace(ranks=Ranks(rank, 3)))
        for rank in range(3)
    ]
    for stream in streams:
        stream._counts[:] = [600, 302, 100]
    left_out = np.array([1, 4])  # two rows of rank 1
    assert [stream.part(100, left_out) for stream in streams] == [
        slice(0, 60), slice(60, 90), slice(90, 100),
    ]  # fmt: skip
    streams[0]._counts[2] = 1
    with pytest.raises(ValueError, match="Rank 2 has 1 of 901 rows, too few for one in each pool"):
        streams[0].part(100, left_out)
