"""Commands, options and their help."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from .. import __version__
from .calibrate import calibrate
from .commands import N_DRAWS, N_SCORED, STATISTICS, fit, predict, sample, score
from .info import info
from .options import count, error_column, grid_of, limits_of, parameter, seed, share, statistic
from .parts import in_parts

#: Draws for each row behind a calibration report, and what it can test.
N_TESTED = 200
DIAGNOSTICS = ("rosenblatt", "ranks", "hpd", "tarp", "local")
#: What options are of commands that do not have them.
_LEFT_OUT: dict[str, Any] = {
    "targets": None,
    "weights": None,
    "out": None,
    "out_group": None,
    "keep": [],
    "drop_missing": False,
    "missing": None,
    "first_row": 0,
}


def make_parser() -> argparse.ArgumentParser:
    """Parser of the whole command line; `command` of what it returns is the function to call."""
    parser = argparse.ArgumentParser(
        prog="sklearn-san",
        description="Conditional densities p(y | x) of tables: CSV, Parquet (.parquet), FITS, "
        "VOTable (.vot), HDF5 (.hdf5).",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sklearn-san {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[Namespace], None], text: str) -> Any:
        one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(command=command, parser=one, **_LEFT_OUT)
        one.add_argument("--quiet", action="store_true", help="no progress and no notes")
        one.add_argument("--debug", action="store_true", help="show where an error comes from")
        return one

    _add_fit(add("fit", fit, "Fit a model to a table."))
    _add_sample(add("sample", in_parts(sample), "Draw from p(y | x) for each row of a table."))
    _add_predict(add("predict", in_parts(predict), "Summarise p(y | x) for each row of a table."))
    _add_score(add("score", score, "Score a table whose targets are known."))
    text = "Test the calibration of a model on a table whose targets are known."
    _add_calibrate(add("calibrate", calibrate, text))
    _add_info(add("info", info, "Tell what is in a model file."))
    return parser


def _add_fit(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("table", metavar="TABLE", nargs="?", help="file to learn from")
    _add_group(parser)
    add("--model", metavar="FILE", help="file to write the model to")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--features", metavar="COLUMN", nargs="+", action="extend", help="columns x")
    some.add_argument("--features-from-file", metavar="FILE", help="the same, one name a line")
    add("--targets", metavar="COLUMN", nargs="+", action="extend", help="columns y")
    add(
        "--categorical",
        metavar="COLUMN",
        nargs="+",
        action="extend",
        help="features and targets that are labels, not numbers",
    )
    add(
        "--limits",
        metavar="NAME=LOW,HIGH",
        nargs="+",
        action="extend",
        type=limits_of,
        help="limits of targets, such as redshift=0,13 or mass=0,inf",
    )
    add("--weights", metavar="COLUMN", help="weight of each row")
    _add_errors(parser)
    _add_missing(parser)
    add(
        "--set",
        metavar="NAME=VALUE",
        nargs="+",
        action="extend",
        type=parameter,
        default=[],
        help="parameters of the estimator, such as epochs=20 module_shape=64,64",
    )
    add("--config", metavar="FILE", help="TOML file with any of these options; see the guide")
    add(
        "--test-fraction",
        metavar="SHARE",
        type=share,
        help="share of the rows to set aside and print the log-likelihood of",
    )
    _add_drop_missing(parser)
    _add_seed(parser)
    _add_overwrite(parser)


def _add_sample(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, several=True)
    _add_out(parser)
    add = parser.add_argument
    add("-n", "--n", type=count(1), default=N_DRAWS, help="draws for each row (%(default)s)")
    add(
        "--format",
        choices=("long", "vectors", "npy"),
        help="a table with a row for each draw, one with the draws of a row in a vector (of HDF5 "
        "by itself), or one array (rows, draws, outputs); otherwise as --out ends",
    )
    add(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="of a .npy file (%(default)s)",
    )
    add(
        "--row-id",
        metavar="COLUMN",
        help="whole numbers or text that name the rows, by which and by the seed the draws of each "
        "are made: the same whatever part of a table it is in (the number of the row)",
    )
    _add_seed(parser)
    _add_workers(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, several=True)
    _add_out(parser)
    _add_workers(parser)
    parser.add_argument(
        "--statistics",
        metavar="NAME",
        nargs="+",
        type=statistic,
        help=f"any of mean, std, median, mode, and quantiles in percent such as q05 or q97.5 "
        f"({' '.join(STATISTICS)}, or none with --pdf)",
    )
    parser.add_argument(
        "--pdf",
        metavar="NAME=LOW,HIGH,N",
        nargs="+",
        action="extend",
        type=grid_of,
        default=[],
        help="outputs whose density is written on N points from LOW to HIGH, such as "
        "redshift=0,3,301: a column of vectors, or, of one output, a .npy file (rows, points)",
    )


def _add_score(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    add = parser.add_argument
    _add_targets(parser)
    add("--weights", metavar="COLUMN", help="weight of each row")
    add(
        "-n",
        "--n",
        type=count(2),
        default=N_SCORED,
        help="draws for each row behind the CRPS (%(default)s)",
    )
    add("--per-row", dest="out", metavar="FILE", help="table to write the scores of each row to")
    _add_report_of_rows(parser)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    add = parser.add_argument
    _add_targets(parser)
    add(
        "-n",
        "--n",
        type=count(2),
        default=N_TESTED,
        help="draws for each row (%(default)s)",
    )
    add(
        "--diagnostics",
        metavar="NAME",
        nargs="+",
        choices=DIAGNOSTICS,
        help=f"which to run (all of {', '.join(DIAGNOSTICS)})",
    )
    add("--picture", metavar="FILE", help="picture to draw, such as report.png or report.pdf")
    add(
        "--per-row",
        dest="out",
        metavar="FILE",
        help="table to write the cumulative probability of each target to",
    )
    _add_report_of_rows(parser)


def _add_targets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--targets",
        metavar="COLUMN",
        nargs="+",
        action="extend",
        help="columns with the true targets, if their names are not those of `fit`",
    )


def _add_report_of_rows(parser: argparse.ArgumentParser) -> None:
    """What commands share that compare a table with its targets, and may write a row for each."""
    add = parser.add_argument
    add(
        "--keep",
        metavar="COLUMN",
        nargs="+",
        action="extend",
        default=[],
        help="columns of TABLE to copy to FILE",
    )
    add("--json", action="store_true", help="print JSON")
    _add_drop_missing(parser)
    _add_seed(parser, 0)
    _add_overwrite(parser)


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="file that `fit` wrote")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_model(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    add = parser.add_argument
    or_more = ", or a folder or a pattern (in quotes) of Parquet files" if several else ""
    add("table", metavar="TABLE", help=f"file with the features{or_more}")
    _add_group(parser)
    add("--model", metavar="FILE", required=True, help="file that `fit` wrote")
    add(
        "--features",
        metavar="COLUMN",
        nargs="+",
        action="extend",
        help="columns x in the order of `fit`, if their names are not the same",
    )
    _add_errors(parser)
    _add_missing(parser)
    _add_on_bad_rows(parser)


def _add_missing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--missing",
        metavar="VALUE",
        nargs="+",
        action="extend",
        type=float,
        help="numbers that mean missing in features, targets and errors, such as -99",
    )


def _add_group(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group",
        metavar="NAME",
        help="group of an HDF5 table, such as photometry (the only one that has the columns)",
    )


def _add_on_bad_rows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-bad-rows",
        choices=("raise", "nan"),
        default="raise",
        help="whether rows with features that the model cannot take are an error, or answered with "
        "nan and counted (%(default)s)",
    )


def _add_out(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--out",
        metavar="FILE",
        required=True,
        help='file to write, "-" for CSV to the screen, or a folder for the results of many '
        "files, where a command that was stopped goes on",
    )
    add("--out-group", metavar="NAME", help="group to write to in an HDF5 file (the root)")
    add(
        "--keep",
        metavar="COLUMN",
        nargs="+",
        action="extend",
        default=[],
        help="columns of TABLE to copy, in place of the number of the row from 0",
    )
    _add_overwrite(parser)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    some = parser.add_mutually_exclusive_group()
    some.add_argument(
        "--workers",
        metavar="N",
        type=count(1),
        help="processes that share the files, if TABLE is a folder or a pattern",
    )
    some.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="scheduler of Dask whose workers share the files, such as tcp://node1:8786",
    )


def _add_errors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--errors",
        metavar="NAME=COLUMN",
        nargs="+",
        action="extend",
        type=error_column,
        help="columns with the measurement errors of features, one standard deviation each",
    )


def _add_drop_missing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--drop-missing", action="store_true", help="leave out rows without all targets"
    )


def _add_seed(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    shown = "" if default is None else f" ({default})"
    parser.add_argument(
        "--seed",
        metavar="N",
        type=seed,
        default=default,
        help=f"whole number that makes the result the same each time{shown}",
    )


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
