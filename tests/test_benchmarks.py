"""The benchmarks run and measure what they say; what the defaults reach on real tables (slow)."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._engines import without_kernels
from sklearn_san.datasets import make_bimodal, make_galaxies

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmark_modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def run(script, *arguments):
    command = [sys.executable, str(FOLDER / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_accuracy_prints_a_row_per_model():
    table = run(
        "accuracy.py", "--tasks", "linear-300", "--models", "san", "linear-gaussian",
        "--rows", "150", "--set", "epochs=2", "n_members=1", "--seeds", "2",
    ).splitlines()  # fmt: skip
    assert [line.split("|")[2].strip() for line in table[2:4]] == ["san", "linear-gaussian"]
    cells = [cell.strip() for cell in table[3].split("|")]
    assert 3.5 < float(cells[3]) < 4.0  # the exact NLL is 3.59
    assert float(cells[5]) == 0.0  # no seed in least squares
    assert table[5].startswith("| model | tasks | rank by NLL |")
    assert sorted(line.split("|")[1].strip() for line in table[7:]) == ["linear-gaussian", "san"]


def test_densities_of_the_flows_are_normalised():
    pytest.importorskip("zuko")
    import torch
    from peers import Flow

    X, y, _ = make_bimodal(300, random_state=0)
    y = np.clip(y[:, :1], -2.9, 2.9)
    grid = np.linspace(-2.99, 2.99, 4001)[:, None]
    with torch.random.fork_rng():  # zuko knows only the global generator
        for limits in (None, np.array([[-3.0, 3.0]])):
            flow = Flow("nsf", limits, 0, budget=1.0).fit(X, y)
            density = np.exp(flow.log_prob(np.tile(X[:1], (4001, 1)), grid))
            assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1.0, abs=0.03)
            draws = flow.sample(X[:5], 100, 0)
            assert draws.shape == (5, 100, 1)
            assert limits is None or np.abs(draws).max() < 3.0


def test_the_energy_score_of_exact_draws_is_that_of_the_formula():
    from scores import energy_score

    class Normal:
        def sample(self, X, n, random_state):
            return np.random.default_rng(0).normal(size=(len(X), n, 1))

    X, y = np.zeros((500, 1)), np.random.default_rng(1).normal(size=(500, 1))
    # Mean CRPS of a standard normal forecast of standard normal values: 1 / sqrt(pi)
    assert energy_score(Normal(), X, y, 1.0) == pytest.approx(1.0 / np.sqrt(np.pi), abs=0.06)


class Gaussian:
    """N(0, scale^2), whatever the features."""

    def __init__(self, scale):
        self.density = norm(0.0, scale)

    def log_prob(self, X, y):
        return self.density.logpdf(y[:, 0])

    def sample(self, X, n, random_state):
        return self.density.rvs((len(X), n, 1), random_state=random_state)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_cde_loss_of_a_gaussian_is_that_of_the_formula(scale):
    from scores import cde_loss

    y = np.random.default_rng(0).normal(size=(500, 1))
    exact = 0.5 / (scale * np.sqrt(np.pi)) - 2.0 * norm.pdf(y[:, 0], 0.0, scale).mean()
    # The mean of a density below 0.8 over 100,000 draws: five errors are 0.004
    assert cde_loss(Gaussian(scale), np.zeros((500, 1)), y) == pytest.approx(exact, abs=0.004)


def test_the_classifier_test():
    from scores import c2st

    random = np.random.default_rng(0)
    same, other = random.normal(size=(2, 200, 1))
    assert c2st(same, other) == pytest.approx(0.5, abs=0.13)  # five errors
    # Two unit Gaussians three apart: the best classifier is right with probability 0.933
    assert c2st(same + 3.0, other) == pytest.approx(0.933, abs=0.065)


def test_ranks_over_the_tasks_of_each_model():
    from scores import rank_table

    rows = [
        {"task": "one", "model": "a", "nll": 1.0, "crps": 2.0},
        {"task": "one", "model": "b", "nll": 2.0, "crps": 2.0},
        {"task": "one", "model": "c", "crps": 1.0},
        {"task": "two", "model": "a", "nll": 4.0, "crps": 1.0},
        {"task": "two", "model": "b", "nll": 3.0, "crps": np.nan},
        {"task": "three", "model": "b", "nll": 0.0},
        {"task": "three", "model": "d", "nll": np.inf},
    ]
    assert rank_table(rows, ["nll", "crps"]) == [
        ["a", 2, 1.5, 2.5],
        ["b", 2, 1.5, 2.5],
        ["c", 1, None, 1.0],
    ]
    assert rank_table(rows[:1], ["nll", "crps"]) == []


def test_models_without_a_density_have_scores_of_draws():
    from accuracy import scores
    from tasks import Task

    class DrawsOnly:
        sample = Gaussian(1.0).sample

    y = np.random.default_rng(0).normal(size=(100, 1))
    X = np.zeros((100, 1))
    task = Task(X, y, X, y, exact=1.4)
    assert list(scores(DrawsOnly(), task)) == ["energy_score"]
    both = scores(Gaussian(1.0), task)
    assert both["above_exact"] == both["nll"] - 1.4
    assert list(both) == ["energy_score", "nll", "nll_error", "above_exact", "cde_loss"]
    two = Task(X, np.hstack([y, y]), X, np.hstack([y, y]))
    assert "cde_loss" not in scores(Gaussian(1.0), two)


def test_what_is_not_installed_is_left_out(monkeypatch):
    import peers

    assert peers.installed("san")
    assert peers.installed("linear-gaussian")
    for name in ("nsf-logit", "npe", "catboost", "quantile-forest"):
        with monkeypatch.context() as changed:
            changed.setattr(peers.importlib.util, "find_spec", lambda package: None)
            assert not peers.installed(name)


@pytest.mark.parametrize(
    "name",
    ["ngboost", "catboost", "quantile-forest", pytest.param("treeffuser", marks=pytest.mark.slow)],
)
@pytest.mark.filterwarnings("default")  # their own
def test_peers_fit_and_draw(name):
    import peers
    from tasks import Task

    if not peers.installed(name):
        pytest.skip(f"{name} is not installed")
    random = np.random.default_rng(0)
    X = random.normal(size=(150, 1))
    y = X + 0.3 * random.normal(size=(150, 1))
    task = Task(X, y, X, y)
    model = peers.make_model(name, task, 0, 1.0, {})
    model.fit(X, y)
    draws = model.sample(X[:50], 40, random_state=0)
    assert draws.shape == (50, 40, 1)
    assert np.corrcoef(draws.mean(axis=1)[:, 0], y[:50, 0])[0, 1] > 0.8
    if hasattr(model, "log_prob"):
        assert model.log_prob(X[:50], y[:50]).mean() > -1.0
    assert peers.applies(name, task)
    two = task._replace(y=np.hstack([y, y]))
    assert peers.applies(name, two) == (name == "treeffuser")


@pytest.mark.parametrize("variant", ["", "-limits", "-power", "-box-cox"])
def test_log_normal_tasks(variant):
    from tasks import TASKS

    (task,) = TASKS[f"log-normal{variant}"]()
    assert task.X.shape == (2000, 5)
    assert (task.y > 0.0).all()
    residual = np.log(task.y_test[:, 0])
    residual -= task.X_test @ np.linalg.lstsq(task.X_test, residual, rcond=None)[0]
    # The NLL of the logarithm, and the Jacobian
    exact = np.mean(np.log(task.y_test)) - norm.logpdf(residual, 0.0, 0.5).mean()
    assert task.exact == pytest.approx(exact, abs=1e-3)


def test_the_yardstick_agrees_with_plain_monte_carlo():
    import yardstick

    from sklearn_san.datasets import galaxies

    class Prior:
        """The worst proposal."""

        def sample(self, X, n, random_state):
            return galaxies.draw_parameters(n, np.random.RandomState(random_state))[None]

        def log_prob(self, X, y):
            return yardstick.log_prior(y)

    y = galaxies.draw_parameters(100_000, np.random.RandomState(0))
    uniform = np.random.default_rng(0).uniform(*yardstick.GALAXY_LIMITS.T, size=(200_000, 9))
    volume = np.log(yardstick.HIGH - yardstick.LOW).sum()
    mass = np.exp(yardstick.log_prior(uniform) + volume).mean()
    assert mass == pytest.approx(1.0, abs=0.03)  # five standard errors
    X, _ = make_galaxies(300, random_state=5)
    x = X[X.sum(axis=1).argmax()]  # the faintest: its likelihood is broad
    plain = logsumexp(yardstick.log_likelihood(y, x)) - np.log(len(y))
    random = np.random.default_rng(0)
    evidence, effective = yardstick.log_evidence(Prior(), x, random, n=1000, n_rounds=4)
    assert effective > 150
    assert evidence == pytest.approx(plain, abs=0.2)


def test_the_bare_products_are_those_of_the_layers():
    import speed
    import torch

    X, y, limits = speed.galaxies(3, n_rows=100)
    est = speed.fit(X, y, limits, module_shape=(8, 4), n_members=2)
    forward, backward = speed.forward(est, 10), speed.backward(est, 10)
    weights = sum(p.numel() for p in est.network_.parameters() if p.ndim == 3)
    assert sum(p.members * p.n_in * p.n_out for p in forward) == weights
    by_weights = [p for p in backward if p.rows != 10]
    assert sum(p.members * p.rows * p.n_out for p in by_weights) == weights
    assert len(backward) == 2 * len(forward) - 1  # nobody wants the gradient by x
    assert speed.turning(est) == []  # batches of 32 rows
    est.batch_size_ = 128
    turning = sum(p.members * p.rows * p.n_in * p.n_out for p in speed.turning(est))
    blocks = [[*block.hidden, block.heads] for block in est.network_.blocks]
    matrices = [layer.weight for part in (est.network_.encoder, *blocks) for layer in part]
    heads = {id(block[-1].weight) for block in blocks}  # whose outputs are not mixed
    sides = [p[0].numel() * (p.shape[1] + p.shape[2] * (id(p) not in heads)) for p in matrices]
    assert turning == 2 * est.n_members_ * sum(sides)
    per_row, per_draw = [], []
    for product in speed.drawing(est, 10, 5):
        (per_draw if product.rows == 50 else per_row).append(product.n_in * product.n_out)
    assert sum(per_row + per_draw) == weights / 2  # one member draws
    n, n_handed = est.n_features_in_, est.sequence_features
    n_seen = n + n_handed  # x and what encodes it
    encoder = [n * 8, 8 * 4, 4 * n_handed]
    assert per_row == [*encoder, n_seen * 8, 8 * 4, 4 * (n_handed + 30), *[n_seen * 8] * 2]
    wanted = [p.n_out for p in backward if p.n_in == 8 and p.rows == 10]
    assert wanted.count(2 * n_handed) == 2  # by the encoding and what a block hands on
    assert speed.floating_point_operations(forward) == 2 * 10 * weights
    epoch = speed.floating_point_operations(speed.products_of(est)[speed.EPOCH])
    assert 2.5 < epoch / (speed.N_ROWS * 2 * weights) <= 3.1
    with torch.random.fork_rng():
        speed.large_product("cpu", count=1)()


def test_medians_leave_out_the_first_call_and_take_the_word_of_a_function():
    import speed

    said = iter([5.0, 9.0, 1.5, 9.0, 0.5, 9.0, 1.0])
    taken = speed.medians({"says": lambda: next(said), "slow": lambda: 11.0}, repeats=3)
    assert taken == {"says": 1.0, "slow": 11.0}


def test_tables_are_printed_and_kept(tmp_path, capsys):
    import speed

    report = speed.Report(tmp_path / "results" / "speed.md")
    report.table("Title", ["what", "ms"], [["a", 1234.5], ["b", 0.012345], ["c", None]], "Note.")
    expected = (
        "\n## Title\n\n| what | ms |\n|---|---|\n| a | 1,234 |\n| b | 0.0123 |\n| c |  |\n\nNote.\n"
    )
    assert capsys.readouterr().out == report.path.read_text() == expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_added_memory_counts_arrays_but_no_pages_of_files(tmp_path):
    import measuring

    _, added = measuring.added_memory(lambda: np.ones(12_500_000).sum())
    assert added == pytest.approx(100.0, abs=10.0)  # MB of 2^20 bytes
    out = np.memmap(tmp_path / "draws.dat", np.float32, "w+", shape=(25_000_000,))
    _, added = measuring.added_memory(lambda: out.fill(1.0))
    assert added < 10.0


def test_fresh_processes_and_folders(tmp_path, monkeypatch):
    import measuring

    monkeypatch.chdir(tmp_path)
    with measuring.temporary_folder() as folder:
        assert Path.cwd() == folder.resolve()
    assert Path.cwd() == tmp_path
    assert not folder.exists()
    assert measuring.fresh(os.getpid) != os.getpid()


def test_dependencies_are_what_the_package_names_and_loads(tmp_path):
    import speed

    file = tmp_path / "one.py"
    file.write_text(
        "from __future__ import annotations\nimport numpy as np\nfrom scipy import stats\n"
        "from . import two\ndef f():\n    import matplotlib\n"
    )
    loaded = dict.fromkeys(["numpy", "numpy.ma", "scipy", "scipy.stats"], "None")
    loaded["sklearn_san.one"] = str(file)
    assert speed.dependencies(loaded) == ["numpy", "scipy", "scipy.stats"]


def test_a_point_of_every_way_to_draw(tmp_path):
    import pareto
    from tasks import Task

    X, y = make_galaxies(150, random_state=0)
    task = Task(X[:100], y[:100, :2], X[100:], y[100:, :2])
    changes = {"module_shape": (8,), "n_members": 1, "epochs": 1}
    compiled, in_torch, *_ = points = list(pareto.points_of_shape(task, changes))
    assert (compiled.kind, in_torch.kind) == ("compiled", "torch")
    assert compiled.nll == pytest.approx(in_torch.nll, abs=1e-4)
    slow = compiled._replace(draws_per_second=1.0, kind="zuko")
    best = slow._replace(nll=compiled.nll - 1.0)
    assert pareto.front([slow, compiled, best]) == [compiled, best]
    pareto.draw_picture([*points, slow, best], "make_galaxies", tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").stat().st_size > 10_000


def test_without_kernels_means_in_torch():
    X, y = make_galaxies(100, random_state=0)
    est = SANConditionalDensityEstimator(module_shape=(8,), epochs=1, n_members=1, random_state=0)
    est.fit(X, y[:, :2])
    with without_kernels():
        assert est.engine_ == "torch: kernels are switched off"
    assert est.engine_ == "compiled"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # sbi warns of its own
def test_every_section_of_the_benchmark_of_speed(tmp_path, monkeypatch):
    pytest.importorskip("sbi")
    import speed
    import torch

    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    options = "--outputs 2 --module-shape 8 8 --repeats 1 --peers --sbi --growth --catalogue"
    options += " --catalogue-rows 20 --pareto --rows 200 --epochs 1 --budget 1 --shapes 8,8"
    monkeypatch.setattr(sys, "argv", ["speed.py", *options.split(), "--task", "make_galaxies"])
    with torch.random.fork_rng():
        speed.main()
    text = (tmp_path / "speed.md").read_text()
    titles = [line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("## ")]
    of_speed = ["Speed", "An", "Peers"] * len(speed.devices())
    assert titles == [*of_speed, "First", "Import", "Growth", "Catalogue", "Test"]
    assert (tmp_path / "pareto.png").exists()


@pytest.mark.slow
def test_magnitudes_given_redshift(benchmark_data):
    data = benchmark_data("dc2_galaxies.npz")
    X, y = data["redshift"][:, None], data["mags"]
    est = SANConditionalDensityEstimator(random_state=0).fit(X[:20_000], y[:20_000])
    assert -est.score(X[-5000:], y[-5000:]) <= -8.9
    draws = est.sample(X[-5000:], 1, random_state=0)[:, 0]
    assert np.abs(np.corrcoef(draws.T) - np.corrcoef(y[-5000:].T)).max() < 0.02


@pytest.mark.slow
def test_galaxies(benchmark_data):
    data = benchmark_data("galaxies.npz")
    X, y = data["x"], data["y"]
    nll = {}
    for n in (20_000, 100_000):
        est = SANConditionalDensityEstimator(limits=data["y_limits"], random_state=0)
        nll[n] = -est.fit(X[:n], y[:n]).score(X[-5000:], y[-5000:])
    assert nll[20_000] < 3.8
    assert nll[100_000] < nll[20_000] - 0.5
    draws = est.sample(X[-100:], 20_000, random_state=0)
    low, high = data["y_limits"].T
    assert ((draws > low) & (draws < high)).mean() > 0.999  # few round to a limit


def test_encoders_are_compared_with_exact_posteriors():
    lines = run("encoders.py", "sets", "--rows", "300", "--epochs", "1").splitlines()
    assert lines[2].startswith("| sets | SetEncoder | 300 | 0 |")


@pytest.mark.slow
def test_many_files_are_resumed_after_a_kill():
    pytest.importorskip("pyarrow")
    said = run("many_files.py", "--rows", "400", "--files", "4", "--workers", "2",
               "--train", "300", "--epochs", "1")  # fmt: skip
    assert "4 parts, 0 of them made twice, 0 temporary files left" in said
    assert "400 rows in the order of one table: True" in said
