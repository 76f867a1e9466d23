"""Fits that go on later, are killed, or read more rows than fit in memory."""

import contextlib
import signal
import subprocess
import sys
import time
from threading import Thread

import numpy as np
import pytest
from conftest import small

from sklearn_san import _checkpoints
from sklearn_san._inputs import InputEncoder
from sklearn_san.compiled.engine import CompiledObjective
from sklearn_san.exceptions import ConvergenceWarning, CorruptModelError
from sklearn_san.likelihoods import MixtureOfGaussians


def data(n, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 2))
    y = np.column_stack([np.sin(3 * X[:, 0]), np.abs(X[:, 1])])
    return X, y + 0.3 * random.normal(size=(n, 2))


def test_partial_fit_learns_batch_after_batch():
    est = small(n_members=2)
    scores = []
    X_test, y_test = data(500, 99)
    for seed in range(12):
        assert est.partial_fit(*data(500, seed)) is est
        scores.append(est.score(X_test, y_test))
    assert scores[-1] > scores[0] + 0.3
    assert est.n_iter_ == len(est.loss_curve_) == 12
    assert est.best_epoch_ == 12
    again = small(n_members=2)
    for seed in range(12):
        again.partial_fit(*data(500, seed))
    assert again.score(X_test, y_test) == scores[-1]
    before = est.score(X_test, y_test)
    with pytest.raises(ValueError, match="y has 1 outputs, but the fit that is gone on with had 2"):
        est.partial_fit(X_test, y_test[:, 0])
    with pytest.raises(ValueError, match="expecting 2 features"):
        est.partial_fit(X_test[:, :1], y_test)
    assert est.score(X_test, y_test) == before


def test_partial_fit_after_fit_goes_on_from_its_weights():
    X, y = data(600)
    est = small().partial_fit(X, y)
    first = [p.clone() for p in est.network_.parameters()]
    est.fit(X, y)
    fitted = est.score(X, y)
    est.partial_fit(X, y)
    assert est.score(X, y) == pytest.approx(fitted, abs=0.2)
    now = list(est.network_.parameters())
    assert max(float((a - b).abs().max()) for a, b in zip(first, now, strict=True)) > 0.1


def test_partial_fit_hears_a_new_learning_rate():
    X, y = data(600)
    est = small().partial_fit(X, y)
    before = [p.clone() for p in est.network_.parameters()]
    est.set_params(learning_rate=1e-9, weight_decay=0.0).partial_fit(X, y)
    for a, b in zip(before, est.network_.parameters(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert est.n_iter_ == len(est.loss_curve_) == 2


def test_each_partial_fit_draws_noise_of_its_own(monkeypatch):
    X, y = data(300)
    seen = []
    jitter = InputEncoder.jitter

    def remember(self, X, X_err, normal):
        seen.append(normal[:5].tobytes())
        return jitter(self, X, X_err, normal)

    monkeypatch.setattr(InputEncoder, "jitter", remember)
    est, noise = small(), []
    for _ in range(3):
        seen.clear()
        est.partial_fit(X, y, X_err=np.full(X.shape, 0.1))
        noise.append(set(seen))
    assert not noise[0] & noise[1]
    assert not noise[1] & noise[2]


def test_partial_fit_takes_no_processes():
    X, y = data(300)
    one = small(n_members=2).partial_fit(X, y)
    two = small(n_members=2, n_jobs=2).partial_fit(X, y)
    np.testing.assert_array_equal(one.log_prob(X, y), two.log_prob(X, y))


def test_a_warm_start_with_checkpoints_trains_again(tmp_path):
    X, y = data(800)
    est = small(epochs=3, warm_start=True, checkpoint_dir=tmp_path / "one").fit(X, y)
    first = est.loss_curve_
    est.set_params(checkpoint_dir=tmp_path / "two").fit(X, y)
    assert est.loss_curve_[0] < first[0] - 0.1
    # In the folder of the first fit, one that goes on has a file of its own
    third = est.set_params(checkpoint_dir=tmp_path / "one").fit(X, y).loss_curve_
    assert third[0] < first[0] - 0.1
    assert len(list((tmp_path / "one").iterdir())) == 2


def test_fingerprints_see_all_of_a_parameter():
    limits = np.zeros((2000, 2))
    changed = limits.copy()
    changed[1000, 0] = 1.0  # where a printed array has dots
    params = {"limits": limits, "likelihood": MixtureOfGaussians(K=2), "verbose": True}
    own = _checkpoints.fingerprint([params])
    assert own == _checkpoints.fingerprint([params | {"likelihood": MixtureOfGaussians(K=2)}])
    assert own == _checkpoints.fingerprint([params | {"verbose": False}])
    assert own != _checkpoints.fingerprint([params | {"limits": changed}])
    assert own != _checkpoints.fingerprint([params | {"likelihood": MixtureOfGaussians(K=3)}])
    with pytest.raises(TypeError, match="checkpoint_dir does not go with <object"):
        _checkpoints.fingerprint([params | {"likelihood": object()}])


def test_nobody_sees_a_network_that_is_not_trained(monkeypatch):
    X, y = data(300)
    est = small(epochs=2).fit(X, y)
    network, expected, seen = est.network_, est.score(X[:20], y[:20]), []
    steps = CompiledObjective.steps

    def look(self, *arguments):
        seen.append((est.network_ is network, est.score(X[:20], y[:20])))
        return steps(self, *arguments)

    monkeypatch.setattr(CompiledObjective, "steps", look)
    est.set_params(K=5, epochs=12).fit(X + 1.0, y)
    assert len(seen) > 10
    assert set(seen) == {(True, expected)}
    assert est.network_ is not network
    assert est.network_.families[0].K == 5


def test_a_failing_fit_changes_nothing(monkeypatch):
    X, y = data(300)
    est = small(epochs=2).fit(X, y)
    before = dict(vars(est))

    def fail(self, *arguments):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(CompiledObjective, "steps", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        est.fit(X[:, :1], y)
    assert vars(est).keys() == before.keys()
    assert all(vars(est)[name] is value for name, value in before.items())


@pytest.mark.parametrize("train_rsample", [False, True])
def test_free_running_training_stands_missing_outputs(train_rsample):
    X, y = data(400)
    y[::3, 1] = np.nan
    est = small(teacher_forcing=False, train_rsample=train_rsample, epochs=5).fit(X, y)
    assert np.isfinite(est.loss_curve_).all()
    assert est.loss_curve_[-1] < est.loss_curve_[0]


def test_warnings_of_workers_are_told():
    X, y = data(200)
    est = small(n_members=2, n_jobs=2, learning_rate=2e9, epochs=6)
    with pytest.warns(ConvergenceWarning, match="Training diverged") as caught:
        est.fit(X, y)
    assert caught[0].filename == __file__


def test_warm_start_goes_on_from_the_weights():
    X, y = data(800)
    est = small(epochs=3, warm_start=True).fit(X, y)
    first, network = est.loss_curve_, est.network_
    est.fit(X, y)
    assert est.network_ is not network  # what was fitted before is not touched
    assert est.loss_curve_[0] < first[0] - 0.1
    cold = small(epochs=3).fit(X, y).fit(X, y)
    assert cold.loss_curve_ == first


def test_a_checkpointed_fit_equals_a_plain_one(tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoints, "INTERVAL", 0.0)
    X, y = data(400)
    options = {"epochs": 6, "n_members": 2, "missing_rate": 0.1}
    plain = small(**options).fit(X, y)
    kept = small(**options, checkpoint_dir=tmp_path / "new").fit(X, y)
    np.testing.assert_array_equal(plain.log_prob(X, y), kept.log_prob(X, y))
    # Once more: nothing is left to train
    again = small(**options, checkpoint_dir=tmp_path / "new").fit(X, y)
    np.testing.assert_array_equal(plain.log_prob(X, y), again.log_prob(X, y))
    assert again.loss_curve_ == plain.loss_curve_
    # Other parameters or data do not go on from it
    for change, added in (({"K": 4}, 0.0), ({"epochs": 7}, 0.0), ({}, 1.0)):
        plain = small(**(options | change)).fit(X, y + added)
        kept = small(**(options | change), checkpoint_dir=tmp_path / "new").fit(X, y + added)
        np.testing.assert_array_equal(plain.log_prob(X, y), kept.log_prob(X, y))
    assert len(list((tmp_path / "new").iterdir())) == 4
    # Unless a file has got the name of another
    file, other = sorted((tmp_path / "new").iterdir())[:2]
    contents = file.read_bytes(), other.read_bytes()
    file.write_bytes(contents[1]), other.write_bytes(contents[0])
    trainings = [({"K": 4}, 0.0), ({"epochs": 7}, 0.0), ({}, 1.0), ({}, 0.0)]
    swapped = [
        (small(**(options | change), checkpoint_dir=tmp_path / "new"), added)
        for change, added in trainings
    ]
    refused = []
    for est, added in swapped:
        with contextlib.suppress(CorruptModelError):
            est.fit(X, y + added)
            continue
        refused.append((est, added))
    assert len(refused) == 2
    with pytest.raises(CorruptModelError, match="other parameters or data"):
        refused[0][0].fit(X, y + refused[0][1])


@pytest.mark.parametrize(
    "change",
    [{}, {"teacher_forcing": False}, {"batch_size": 128}],  # in eigenbases from 128 rows on
    ids=str,
)
def test_an_interrupted_fit_resumes_to_the_same_weights(tmp_path, monkeypatch, change):
    monkeypatch.setattr(_checkpoints, "INTERVAL", 0.0)
    X, y = data(600)
    options = {"epochs": 8, "random_state": 5, **change}
    plain = small(**options).fit(X, y)
    save, calls = _checkpoints.DiskCheckpoint.save, []

    def killed(self, state, *, final):
        save(self, state, final=final)
        calls.append(1)
        if len(calls) in (2, 5):
            raise RuntimeError("killed")

    monkeypatch.setattr(_checkpoints.DiskCheckpoint, "save", killed)
    est = small(**options, checkpoint_dir=tmp_path)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            est.fit(X, y)
    est.fit(X, y)
    assert len(calls) == 8
    np.testing.assert_array_equal(plain.log_prob(X, y), est.log_prob(X, y))
    assert est.loss_curve_ == plain.loss_curve_


def test_a_fit_without_a_seed_resumes_with_the_seed_it_began_with(tmp_path):
    X, y = data(200)
    first = small(checkpoint_dir=tmp_path, random_state=None).fit(X, y)
    second = small(checkpoint_dir=tmp_path, random_state=None).fit(X, y)
    np.testing.assert_array_equal(first.log_prob(X, y), second.log_prob(X, y))


SCRIPT = """
import sys
import numpy as np
from sklearn_san import SANConditionalDensityEstimator, _checkpoints
_checkpoints.INTERVAL = 0.0
random = np.random.default_rng(0)
X = random.normal(size=(2000, 2))
y = X + 0.3 * random.normal(size=(2000, 2))
est = SANConditionalDensityEstimator(
    K=3, module_shape=(16,), n_members=2, epochs=40, random_state=0, checkpoint_dir=sys.argv[1]
)
print("begins", flush=True)
est.fit(X, y)
print(repr(est.score(X, y)), flush=True)
"""


def run_until(folder, seconds):
    """Last line of a run that is killed after so many seconds of fitting, None if it was."""
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begins\n"
        if seconds is not None:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    return rest.strip() or None


@pytest.mark.slow
def test_a_fit_that_is_killed_twenty_times_ends_as_if_it_had_not_been(tmp_path):
    expected = run_until(tmp_path / "plain", None)
    random = np.random.default_rng(0)
    finished = 0
    for _ in range(20):
        finished += run_until(tmp_path / "killed", random.uniform(0.0, 0.6)) is not None
    assert run_until(tmp_path / "killed", None) == expected


def test_threads_share_a_fitted_estimator(fitted, bimodal):
    X, y, _ = bimodal
    expected = fitted.sample(X, 20, random_state=0), fitted.log_prob(X, y), fitted.predict(X)
    wrong = []

    def work():
        for _ in range(3):
            results = fitted.sample(X, 20, random_state=0), fitted.log_prob(X, y), fitted.predict(X)
            for one, other in zip(results, expected, strict=True):
                if not np.array_equal(one, other):
                    wrong.append(np.abs(one - other).max())

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_workers_give_the_same_results(fitted, bimodal, backend):
    from joblib import Parallel, delayed

    X = bimodal[0]
    fitted.sample(X[:2], random_state=0)  # the kernels have run in this process before it forks
    with Parallel(n_jobs=2, backend=backend) as parallel:
        draws = parallel(delayed(fitted.sample)(X, 3, random_state=0) for _ in range(2))
    for one in draws:
        np.testing.assert_array_equal(one, fitted.sample(X, 3, random_state=0))


@pytest.mark.slow
def test_twenty_million_rows_train_in_a_gigabyte(tmp_path):
    """A few hundred steps on memory maps of 1.3 GB, in a process of their own."""
    script = tmp_path / "script.py"
    script.write_text(
        "import resource, sys\n"
        "import numpy as np\n"
        "from sklearn_san import SANConditionalDensityEstimator, _rows\n"
        "n = 20_000_000\n"
        "X = np.lib.format.open_memmap(sys.argv[1], 'w+', np.float32, (n, 8))\n"
        "y = np.lib.format.open_memmap(sys.argv[2], 'w+', np.float32, (n, 9))\n"
        "block = np.random.default_rng(0).normal(size=(1_000_000, 17)).astype(np.float32)\n"
        "for start in range(0, n, len(block)):\n"
        "    X[start : start + len(block)] = block[:, :8]\n"
        "    y[start : start + len(block)] = block[:, 8:]\n"
        "    X.flush(), y.flush()\n"
        "del X, y, block\n"
        "X, y = (np.load(path, mmap_mode='r') for path in sys.argv[1:3])\n"
        "count, pool = [], _rows.ArrayStream.pool\n"
        "def stop(self, number, *rest):\n"
        "    count.append(number)\n"
        "    if len(count) == 3:\n"
        "        raise KeyboardInterrupt\n"
        "    return pool(self, number, *rest)\n"
        "_rows.ArrayStream.pool = stop\n"
        "est = SANConditionalDensityEstimator(random_state=0)\n"
        "try:\n"
        "    est.fit(X, y)\n"
        "except KeyboardInterrupt:\n"
        "    pass\n"
        "anonymous = [line for line in open('/proc/self/status') if line.startswith('RssAnon')]\n"
        "print(len(est.loss_curve_), anonymous[0].split()[1])\n"
    )
    paths = [str(tmp_path / name) for name in ("X.npy", "y.npy")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *paths],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    n_pools, kilobytes = map(int, done.stdout.split())
    assert n_pools >= 1
    assert kilobytes < 1_000_000
