"""Many files in one command, against one command on a table of all rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SINGLE

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.cli import main
from sklearn_san.cli.formats import write_parquet
from sklearn_san.cli.parts import LOCK, MANIFEST
from sklearn_san.cli.tables import read_table
from sklearn_san.datasets import make_bimodal

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

N_ROWS, BOUNDS = 60, [0, 25, 25, 40, 60]
NAMES = ["a.parquet", "b.parquet", "deep/c.parquet", "deep/d.parquet"]
DRAWN = ["draw", "y0", "y1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, the same in four files, one of them empty, and two models."""
    pd = pytest.importorskip("pandas")
    path = tmp_path_factory.mktemp("work")
    X, y, _ = make_bimodal(300, random_state=0)
    table = {"x": X[:N_ROWS, 0], "id": np.arange(N_ROWS) + 7_000, "e": np.full(N_ROWS, 0.1)}
    write_parquet(str(path / "whole.parquet"), [table])
    (path / "sky" / "deep").mkdir(parents=True)
    (path / "sky" / "_metadata.parquet").touch()
    for name, start, stop in zip(NAMES, BOUNDS, BOUNDS[1:], strict=False):
        part = {column: values[start:stop] for column, values in table.items()}
        write_parquet(str(path / "sky" / name), [part])
    for seed in (0, 1):
        est = SANConditionalDensityEstimator(
            K=2, module_shape=(8,), n_members=1, epochs=2, random_state=seed
        )
        est.fit(pd.DataFrame(X, columns=["x"]), y).save(path / f"{seed}.san")
    return path


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    for name in ("whole.parquet", "sky", "0.san", "1.san"):
        os.symlink(folder / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fails(capsys):
    """Run a command that is to fail; what it prints on standard error."""

    def fails(code, *argv):
        assert main(list(argv)) == code
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        return printed

    return fails


def sample(table, out, *more, model="0.san", n=3):
    return ["sample", table, "--model", model, "--out", out, "-n", str(n), *more]


def parts(folder, names):
    tables = [read_table(f"{folder}/{n}", values=names, may_be_empty=True) for n in NAMES]
    return {name: np.concatenate([one.values[name] for one in tables]) for name in names}


def assert_same(folder, whole, names):
    expected = read_table(whole, values=names).values
    for name, values in parts(folder, names).items():
        np.testing.assert_allclose(values, expected[name], rtol=SINGLE, atol=SINGLE)


def stamps(folder):
    return {name: os.stat(f"{folder}/{name}").st_mtime_ns for name in NAMES}


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_draws_are_those_of_one_table(here, workers, capfd):
    assert main(sample("sky", "out", "--seed", "0", *workers)) == 0
    assert capfd.readouterr().err == "wrote 'out': 4 parts, 60 rows\n"
    assert main(sample("whole.parquet", "whole-out.parquet", "--seed", "0")) == 0
    assert_same("out", "whole-out.parquet", ["row", *DRAWN])
    written = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.*"))
    assert written == sorted([LOCK, MANIFEST, *NAMES])


def test_summaries_by_a_pattern(here):
    options = ["--model", "0.san", "--statistics", "mean", "q05", "--keep", "id"]
    assert main(["predict", "sky/**/*.parquet", "--out", "out", *options]) == 0
    assert main(["predict", "whole.parquet", "--out", "w.parquet", *options]) == 0
    assert_same("out", "w.parquet", ["id", "y0_mean", "y1_q05"])


def test_a_pattern_may_stand_beside_its_results(here, monkeypatch):
    Path("near").mkdir()
    for name in ("one", "two"):
        os.symlink(here / "sky" / "a.parquet", here / "near" / f"{name}.parquet")
    monkeypatch.chdir(here / "near")
    assert main(sample("*.parquet", "out", model="../0.san")) == 0
    assert sorted(path.name for path in Path("out").glob("*.parquet")) == [
        "one.parquet",
        "two.parquet",
    ]


def test_row_ids_make_draws_of_their_own_for_each_row(here):
    options = ["--seed", "3", "--row-id", "id", "--keep", "id"]
    assert main(sample("sky", "out", *options)) == 0
    assert main(sample("sky/deep/*.parquet", "deep", *options)) == 0
    whole = read_table("out/deep/d.parquet", values=DRAWN).values
    for name, values in read_table("deep/d.parquet", values=DRAWN).values.items():
        np.testing.assert_allclose(values, whole[name], rtol=SINGLE, atol=SINGLE)


def test_a_second_run_makes_what_is_missing_with_the_seed_of_the_first(here, capsys):
    assert main(sample("sky", "out")) == 0
    before, first = stamps("out"), parts("out", DRAWN)
    os.remove("out/deep/c.parquet")
    Path("out/deep/.0123456789abcdef.tmp").write_text("half of a part")
    capsys.readouterr()
    assert main(sample("sky", "out")) == 0
    assert "4 parts, 3 of which were there, 60 rows" in capsys.readouterr().err
    changed = [name for name, stamp in stamps("out").items() if stamp != before[name]]
    assert changed == ["deep/c.parquet"]
    for name, values in parts("out", DRAWN).items():
        np.testing.assert_array_equal(values, first[name])
    assert os.listdir("out/deep").count(".0123456789abcdef.tmp") == 0


def test_a_run_that_is_killed_goes_on(here):
    code = f"import sys; from sklearn_san.cli import main; sys.exit(main({sample('sky', 'out')}))"
    slow = """
import os, signal, sklearn_san.cli.parts as parts
done = parts._answer
def answer(command, parent, task, **options):
    if task[1] == "deep/c.parquet":
        os.kill(os.getpid(), signal.SIGKILL)
    return done(command, parent, task, **options)
parts._answer = answer
"""
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root}
    killed = subprocess.run([sys.executable, "-c", slow + code], env=environment)
    assert killed.returncode != 0
    there = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.parquet"))
    assert there == NAMES[:2]
    before = [os.stat(f"out/{name}").st_mtime_ns for name in there]
    assert main(sample("sky", "out")) == 0
    assert [os.stat(f"out/{name}").st_mtime_ns for name in there] == before
    with open(f"out/{MANIFEST}") as file:
        seed = json.load(file)["seed"]
    assert main(sample("whole.parquet", "whole-out.parquet", "--seed", str(seed))) == 0
    assert_same("out", "whole-out.parquet", ["row", *DRAWN])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "1.san"}, "another model"),
        ({"n": 4}, "--n 3 in place of 4"),
        ({"more": ["--seed", "1"]}, "seed 0 in place of 1"),
        ({"more": ["--errors", "x=e"]}, "--errors None in place of"),
        ({"table": "sky/*.parquet"}, "other files to read"),
    ],
)
def test_other_commands_do_not_mix_their_parts(here, fails, changed, said):
    assert main(sample("sky", "out", "--seed", "0")) == 0
    given = {"table": "sky", "out": "out", "more": ["--seed", "0"]} | changed
    more = given.pop("more")
    command = sample(given.pop("table"), given.pop("out"), *more, **given)
    before = stamps("out")
    assert said in fails(1, *command)
    assert stamps("out") == before
    assert main([*command, "--overwrite"]) == 0
    assert os.stat("out/a.parquet").st_mtime_ns != before["a.parquet"]


def test_what_cannot_be_done_is_refused(here, fails, tmp_path):
    assert "--workers and --scheduler share out files" in fails(
        2, *sample("whole.parquet", "o.parquet", "--workers", "2")
    )
    assert "There are no Parquet files in 'no*.parquet'" in fails(1, *sample("no*.parquet", "o"))
    assert "--out FOLDER" in fails(2, *sample("sky", "-"))
    assert "--out FOLDER" in fails(2, *sample("sky", "out", "--format", "npy"))
    assert "must end in .parquet" in fails(2, *sample("?.san", "out"))
    assert "'whole.parquet' is a file" in fails(1, *sample("sky", "whole.parquet"))
    Path("mine").mkdir()
    Path("mine/letter.txt").touch()
    assert "'mine' holds files that are not" in fails(1, *sample("sky", "mine"))
    assert "is inside 'sky', which is read" in fails(1, *sample("sky", "sky/out"))
    assert "The folder of 'no/out' does not exist" in fails(1, *sample("sky", "no/out"))


def test_two_commands_do_not_write_to_one_folder(here, fails):
    fcntl = pytest.importorskip("fcntl")
    assert main(sample("sky", "out")) == 0
    with open(f"out/{LOCK}") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "is being written to by another command" in fails(1, *sample("sky", "out"))


@pytest.mark.filterwarnings("always")
def test_warnings_and_errors_of_workers_name_the_file(here, fails, capsys):
    Path("bad").mkdir()
    write_parquet("bad/one.parquet", [{"x": np.array([0.0, np.nan])}])
    write_parquet("bad/two.parquet", [{"x": np.array([0.0, 1.0])}])
    options = ["--workers", "2", "--on-bad-rows", "nan"]
    assert main(sample("bad", "out", *options)) == 0
    said = capsys.readouterr().err
    assert "1 of 2 rows cannot be used" in said
    assert "(one.parquet)" in said
    assert fails(1, *sample("bad", "raised", "--workers", "2")).count("\n") == 1


def test_a_worker_ends_with_its_command():
    worker = (
        "import os, time; from sklearn_san.cli.parts import _end_with;"
        "_end_with(os.getppid()); print('ready', flush=True); time.sleep(600)"
    )
    command = (
        "import os, subprocess, sys;"
        f"process = subprocess.Popen([sys.executable, '-c', {worker!r}], stdout=subprocess.PIPE);"
        "process.stdout.readline(); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    # The worker holds this pipe for as long as it lives.
    options = {"stderr": subprocess.PIPE, "env": environment, "timeout": 120}
    assert subprocess.run([sys.executable, "-c", command], **options).returncode == -9
