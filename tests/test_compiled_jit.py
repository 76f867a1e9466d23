"""How kernels are compiled and kept: folders that cannot be written to, damaged files, versions."""

import errno
import functools
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from conftest import small
from numba import config
from numba.core.runtime import rtsys
from numba.core.runtime._nrt_python import memsys_disable_stats, memsys_enable_stats

import sklearn_san.compiled.engine as engine_module
from sklearn_san import _constants
from sklearn_san.compiled import jit
from sklearn_san.compiled.engine import n_threads
from sklearn_san.exceptions import KernelCacheWarning


def double(values):
    total = 0.0
    for value in values:
        total += 2.0 * value
    return total


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder of kernels of its own."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit, "_warned", False)
    jit.folder.cache_clear()
    yield tmp_path
    jit.folder.cache_clear()


def run(*, expect_hit=None):
    """Compile `double`, or read it, and use it."""
    kernel = jit.kernel(double)
    values = np.arange(4.0)
    jit.prepare(kernel, values)
    assert kernel(values) == 12.0
    if expect_hit is not None:
        assert bool(kernel.stats.cache_hits) == expect_hit
    return kernel


def run_twice():
    run()
    run()


def run_python(code, **environment):
    """Output of a program in a fresh process."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_kernel_is_read_the_second_time(cache):
    assert not jit.is_kept(jit.kernel(double), np.arange(4.0))
    run(expect_hit=False)
    kernel = jit.kernel(double)
    assert jit.is_kept(kernel, np.arange(4.0))
    assert not jit.is_kept(kernel, np.arange(4))
    run(expect_hit=True)


def difference(values):
    return -double(values)


def test_a_twin_calls_others_and_is_kept_on_its_own(cache, monkeypatch):
    monkeypatch.setitem(globals(), "double", jit.kernel(double))
    values = np.arange(4.0)
    triple = jit.kernel(lambda values: 3.0 * values.sum())
    for expect_hit in (False, True):
        kernel = jit.kernel(difference)
        twin = jit.twin(kernel, "other_difference", double=triple)
        assert kernel(values) == -12.0
        assert twin(values) == -18.0
        assert bool(twin.stats.cache_hits) == expect_hit


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\x00" * len(data),
        lambda data: pickle.dumps("something else"),
        lambda data: pickle.dumps("0.0.1") + data,
    ],
    ids=["truncated", "empty", "zeros", "foreign", "other version"],
)
def test_damaged_files_are_replaced(cache, ending, damage):
    run()
    (path,) = cache.rglob(f"*.{ending}")
    path.write_bytes(damage(path.read_bytes()))
    run(expect_hit=False)
    run(expect_hit=True)


def test_a_full_disk_is_no_error(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", full)
    with pytest.warns(KernelCacheWarning, match="No space left.*NUMBA_CACHE_DIR") as caught:
        run_twice()
    assert len(caught) == 1


def test_without_a_folder_kernels_are_compiled_with_one_warning(cache, monkeypatch):
    (cache / "file").write_text("")
    monkeypatch.setattr(config, "CACHE_DIR", str(cache / "file"))  # no folder can be made in it
    with pytest.warns(KernelCacheWarning, match="NUMBA_CACHE_DIR to a folder") as caught:
        run_twice()
    assert len(caught) == 1
    assert not jit.is_kept(jit.kernel(double), np.arange(4.0))


def test_the_first_folder_that_can_be_written_to_is_taken(cache, monkeypatch):
    monkeypatch.setattr(jit, "_parents", lambda: iter(["/proc/nowhere", str(cache / "second")]))
    assert jit.folder().startswith(str(cache / "second"))
    monkeypatch.undo()
    monkeypatch.setattr(config, "CACHE_DIR", "")
    first, second = jit._parents()
    assert first == str(Path(jit.__file__).parent / "__pycache__")
    assert os.path.isabs(second)


def test_a_change_of_any_source_is_another_folder(tmp_path):
    sources = tmp_path / "compiled"
    shutil.copytree(Path(jit.__file__).parent, sources)
    constants = shutil.copy(Path(_constants.__file__), tmp_path)
    same = jit._fingerprint(sources)
    assert same == jit._fingerprint()
    for path in [*sorted(sources.glob("*.py")), Path(constants)]:
        path.write_text(path.read_text() + "\n# another line\n")
        changed = jit._fingerprint.__wrapped__(sources)
        if path.name in jit.WITHOUT_KERNELS:
            assert "@kernel" not in path.read_text()
        else:
            assert changed != same, path
        same = changed


def test_another_cpu_is_another_folder(monkeypatch):
    own = jit._fingerprint()
    monkeypatch.setattr(config, "CPU_NAME", "core2")
    assert jit._fingerprint.__wrapped__() != own


def test_no_call_compiles_a_second_time():
    # Features in either order, frames, one row, given values, all summaries
    found = run_python(
        """
        import numpy as np, pandas as pd
        from sklearn_san import SANConditionalDensityEstimator
        from sklearn_san.datasets import make_bimodal
        from sklearn_san.compiled import mixtures, network, training

        X, y, _ = make_bimodal(150, random_state=0)
        X = np.concatenate([X, X**2], axis=1)
        parameters = dict(K=2, module_shape=(4,), epochs=1, n_members=2, random_state=0)
        for order in "CF":
            x = np.asarray(X, order=order)
            est = SANConditionalDensityEstimator(**parameters, limits=[[-9, 9], [-9, 9]]).fit(x, y)
            est.log_prob(x, y), est.score(x[::2], y[::2]), est.sample(x, 3), est.sample(x[:1], 200)
            est.sample(x[:2], 3, given={0: 0.0}), est.sample(x[:2], 3, given={1: 0.0})
            for kind in ("mean", "median", "std", "quantiles", "mode", "samples"):
                est.predict(x[:5], output_type=kind)
            est.predict_density(x[:3]).marginal([0, 1], n_points=5, n_draws=8)
            est.partial_fit(x, y)
        frame = pd.DataFrame(X, columns=["a", "b"])
        SANConditionalDensityEstimator(**parameters).fit(frame, y).predict(frame[:3])
        for one in (network.score, network.draw_rows, training.adamw):
            print(one.py_func.__name__, len(one.signatures), len(one.stats.cache_misses))
        """
    )
    lines = [line.split() for line in found.splitlines()]
    assert [(name, count) for name, count, _ in lines] == [
        ("score", "1"),
        ("draw_rows", "1"),
        ("adamw", "1"),
    ]


def test_kernels_of_other_families_are_read_in_another_process():
    code = """
        import numpy as np
        from sklearn_san import SANConditionalDensityEstimator
        from sklearn_san.datasets import make_bimodal
        from sklearn_san.likelihoods import Softmax
        from sklearn_san.compiled import network

        X, y, _ = make_bimodal(150, random_state=0)
        parameters = dict(K=2, module_shape=(4,), epochs=1, random_state=0)
        for likelihood in (["molog", Softmax(atoms=5)], ["mog", "truncated_molog"]):
            est = SANConditionalDensityEstimator(
                **parameters, likelihood=likelihood, limits=[(-np.inf, np.inf), (-9, 9)]
            ).fit(X, y)
            est.sample(X[:3], 4), est.predict(X[:3]), est.sample(X[:2], 3, given={1: 0.0})
        for one in (network.score_any, network._draw_rows_any):
            print(len(one.signatures), len(one.stats.cache_hits), len(one.stats.cache_misses))
        print(len(network.score.signatures), len(network.draw_rows.signatures))
        """
    run_python(code)
    assert run_python(code).split() == ["1", "1", "0"] * 2 + ["0", "0"]


def test_without_a_compiler_everything_is_done_in_torch():
    found = run_python(
        """
        import pickle
        from sklearn_san import SANConditionalDensityEstimator
        from sklearn_san.datasets import make_bimodal

        X, y, _ = make_bimodal(150, random_state=0)
        est = SANConditionalDensityEstimator(K=2, module_shape=(4,), epochs=1, n_members=2)
        again = pickle.loads(pickle.dumps(est.fit(X, y)))
        print(again.engine_, again.sample(X[:2], 3).shape, again.score(X, y) == est.score(X, y))
        """,
        NUMBA_DISABLE_JIT="1",
    )
    assert found == "torch: NUMBA_DISABLE_JIT is set (2, 3, 2) True\n"


FIRST_START = """
    import pickle, sys, warnings
    from sklearn_san import SANConditionalDensityEstimator
    from sklearn_san.datasets import make_bimodal

    X, y, _ = make_bimodal(150, random_state=0)
    est = SANConditionalDensityEstimator(K=2, module_shape=(4,), epochs=1, n_members=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est.fit(X, y)
        again = pickle.loads(pickle.dumps(est))
        path = sys.argv[1] if len(sys.argv) > 1 else "model.safetensors"
        draws = again.sample(X[:2], 3, random_state=0)
    names = sorted({warning.category.__name__ for warning in caught})
    print(est.engine_, draws.shape, *names)
"""


@pytest.mark.slow
def test_a_fit_from_a_read_only_installation():
    found = run_python(FIRST_START, NUMBA_CACHE_DIR="/proc/nowhere")
    assert found == "compiled (2, 3, 2) KernelCacheWarning\n"


@pytest.mark.slow
def test_sixteen_first_starts_at_once(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(FIRST_START)]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(16)
    ]
    results = [process.communicate()[0] for process in started]
    assert results == ["compiled (2, 3, 2)\n"] * 16
    # One data file for each kernel: what all wrote is the same
    assert not list(tmp_path.rglob("*.2.nbc"))


def threads_of_worker(_):
    return n_threads()


def test_threads_follow_the_cores_of_the_process(monkeypatch):
    counted_anew = functools.cache(engine_module._n_cores.__wrapped__)
    monkeypatch.setattr(engine_module, "_n_cores", counted_anew)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 6)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    assert n_threads() == 6
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert n_threads() == 3
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)
    assert n_threads() == 2
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert n_threads() == 1


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_worker_of_joblib_has_one_thread(backend):
    with joblib.parallel_config(backend, n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(threads_of_worker)(i) for i in range(2))
    assert found == [1, 1]
    assert n_threads() == min(joblib.cpu_count(), torch.get_num_threads())


def test_a_first_fit_says_what_it_waits_for(monkeypatch, bimodal):
    X, y, _ = bimodal
    network = small(epochs=1).fit(X, y).network_
    told = []
    monkeypatch.setattr(engine_module, "is_kept", lambda *_: False)
    monkeypatch.setattr(engine_module, "prepare", lambda *_: None)
    engine_module.load_kernels(network, told.append, for_training=True)
    assert told == ["compiling kernels, once on this machine"]
    engine_module.load_kernels(
        network, told.append, for_training=False
    )  # later, when they are needed
    monkeypatch.setattr(engine_module, "is_kept", lambda *_: True)
    engine_module.load_kernels(network, told.append, for_training=True)
    assert len(told) == 1


def test_memory_of_kernels_is_given_back():
    X, y = np.random.default_rng(0).normal(size=(2, 200, 2))
    est = small(encoder_shape=(4,)).fit(X, y)

    def use():
        small(encoder_shape=(4,)).fit(X, y)
        density = est.predict_density(X[:3])
        density.log_prob(y[:3])
        density.sample(3)
        density.mode()
        density.summarise(["mean", "quantiles"])
        density.given({0: 0.5}).sample(3)

    use()
    memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        use()
        after = rtsys.get_allocation_stats()
    finally:
        memsys_disable_stats()
    assert after.mi_alloc > before.mi_alloc
    assert after.mi_free - before.mi_free == after.mi_alloc - before.mi_alloc
