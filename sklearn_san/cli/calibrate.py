"""The command that tests the calibration of a model on a table whose targets are known."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np

from .commands import check_distinct, check_files
from .headers import about
from .printing import note, print_json
from .rows import Rows, as_frame, load
from .tables import UsageError, check_output, write_table


class _Given:
    """What gives `calibration_report` the density of the rows, measurement errors included."""

    def __init__(self, density: Any):
        self.density = density

    def predict_density(self, X: Any) -> Any:
        return self.density


def calibrate(options: Namespace) -> None:
    """Print a calibration report, draw it, and write the coordinates of each row."""
    if options.keep and not options.out:
        raise UsageError("--keep goes with --per-row.")
    check_files(options)
    if options.picture is not None:
        inputs = [options.table, options.model, *([options.out] if options.out else [])]
        check_output(options.picture, overwrite=options.overwrite, inputs=inputs)
        from ..plotting.drawing import pyplot

        pyplot()  # before anything is computed
    estimator, rows = load(options, with_targets=True)
    rows, density = _usable(options, estimator, rows)
    note(options, f"testing calibration on {len(rows)} rows with {options.n} draws each")
    from ..calibration import DIAGNOSTICS, calibration_report

    report = calibration_report(
        _Given(density),
        as_frame(rows.features, rows.units),
        as_frame(rows.targets, rows.units),
        n_draws=options.n,
        diagnostics=options.diagnostics or tuple(DIAGNOSTICS),
        random_state=options.seed,
    )
    if options.picture is not None:
        report.plot().figure_.savefig(options.picture)
    if options.out:
        _write(options, rows, density)
    if not options.json:
        print(report.summary())
        return
    effects = [effect._asdict() for effect in report.effects]
    print_json(
        {
            "rows": len(rows),
            "rejected": report.pvalue <= 0.05,
            "pvalue": report.pvalue,
            "pvalues": report.pvalues,
            "effects": effects,
        }
    )


def _usable(options: Namespace, estimator: Any, rows: Rows) -> tuple[Rows, Any]:
    """Rows that the model can take, and their density."""
    density = rows.density(estimator, options.on_bad_rows)
    if not hasattr(density, "usable"):
        return rows, density
    usable = density.usable
    if not usable.any():
        raise ValueError(f"{options.table!r} has no row that the model can take.")
    return rows.take(np.flatnonzero(usable)), density.density


def _write(options: Namespace, rows: Rows, density: Any) -> None:
    """Table of the cumulative probabilities of the targets of each row."""
    u = np.asarray(density.cdf(as_frame(rows.targets, rows.units))).reshape(len(rows), -1)
    columns = {f"pit_{name}": u[:, j] for j, name in enumerate(rows.targets)}
    check_distinct(rows.kept, columns)
    notes = {
        f"pit_{name}": {"description": f"cdf of {name} given those before it, at its true value"}
        for name in rows.targets
    }
    write_table(options.out, [{**rows.kept, **columns}], about(options, rows, notes))
