"""Photometric redshifts in RAIL: inform, estimate and evaluate on the catalogue that it ships.

    python benchmarks/redshifts.py --estimators san flexzboost knn

It needs ``pz-rail-base``, and ``pz-rail-flexzboost`` and ``pz-rail-sklearn`` for the others; what
is not installed is left out. Train with 10,225 galaxies, test on 20,449, both of one small patch of
sky, whose structure a sharp p(z) can learn: the CDE loss flatters it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import temporary_folder

from sklearn_san.photoz import RedshiftPDF, evaluate

#: Module, informer and estimator of each.
ESTIMATORS = {
    "san": ("sklearn_san.adapters.rail", "SANInformer", "SANEstimator"),
    "flexzboost": ("rail.estimation.algos.flexzboost", "FlexZBoostInformer", "FlexZBoostEstimator"),
    "knn": ("rail.estimation.algos.k_nearneigh", "KNearNeighInformer", "KNearNeighEstimator"),
}
HEADER = (
    "estimator | CDE loss | KS of the PIT | sigma MAD | > 0.06 | > 0.15 | CPU s inform | estimate"
)
GRID = np.linspace(0.0, 3.0, 301)


def read(name: str, rows: int | None) -> dict[str, np.ndarray]:
    """Columns of a file of RAIL's example data."""
    import h5py
    import rail.examples_data

    folder = Path(next(iter(rail.examples_data.__path__))) / "testdata"
    with h5py.File(folder / f"test_dc2_{name}_9816.hdf5") as file:
        return {key: values[:rows] for key, values in file["photometry"].items()}


def run(name: str, rows: int | None, parameters: dict[str, Any]) -> str:
    """A row of the table."""
    module, informer, estimator = ESTIMATORS[name]
    stages = importlib.import_module(module)
    shared = {"hdf5_groupname": "", "output_mode": "return"}
    own = {"san": parameters} if name == "san" else {}
    start = time.process_time()
    inform = getattr(stages, informer).make_stage(name=f"inform_{name}", **shared, **own)
    model = inform.inform(read("training", rows))
    informed = time.process_time()
    estimate = getattr(stages, estimator).make_stage(name=f"estimate_{name}", model=model, **shared)
    truth = read("validation", rows)
    ensemble = estimate.estimate(dict(truth)).data
    estimated = time.process_time()
    pz = RedshiftPDF.from_arrays(GRID, np.maximum(ensemble.pdf(GRID), 0.0))
    found = evaluate(pz, truth["redshift"], kind="mode")
    points = found.points
    cells = [
        name,
        f"{found.cde_loss:.2f}",
        f"{found.uniformity.ks:.4f}",
        f"{points.sigma_mad:.4f}",
        f"{points.outliers_006:.1%}",
        f"{points.outliers_015:.1%}",
        f"{informed - start:.0f}",
        f"{estimated - informed:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS))
    parser.add_argument("--rows", type=int, default=None, help="of each file; all by default")
    parser.add_argument("--epochs", type=int, default=None, help="of ours")
    options = parser.parse_args()
    parameters = {} if options.epochs is None else {"epochs": options.epochs}
    print(f"| {HEADER} |")
    print("|---" * len(HEADER.split("|")) + "|", flush=True)
    for name in options.estimators:
        try:
            with temporary_folder():  # RAIL writes models where it stands
                with contextlib.redirect_stdout(sys.stderr):  # where its notes belong
                    row = run(name, options.rows, parameters)
                print(row, flush=True)
        except ImportError as error:
            print(f"{name}: left out, {error}", flush=True)


if __name__ == "__main__":
    main()
