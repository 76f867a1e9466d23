"""What files of results tell beside their columns: program, model, seed, units and grids."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Any

from .. import __version__
from .formats import About
from .rows import Rows


def about(options: Namespace, rows: Rows, notes: dict[str, dict[str, str]]) -> About:
    """Program, model, seed, and what is to be said of columns."""
    facts = {"creator": f"sklearn_san {__version__}", "model": os.path.basename(options.model)}
    if getattr(options, "seed", None) is not None:
        facts["seed"] = options.seed
    kept = {name: {"units": unit} for name, unit in rows.kept_units.items()}
    return About(facts, {**kept, **notes}, options.out_group)


def notes_of(estimator: Any, output: str, description: str) -> dict[str, str]:
    """Description and units of a column in the units of an output."""
    unit = estimator.codec_.units.get(output)
    return {"description": description} | ({"units": unit} if unit else {})


def grid_notes(estimator: Any, output: str, grid: tuple[float, float, int]) -> dict[str, str]:
    """Description, units and grid of a column of densities, or probabilities of whole numbers."""
    low, high, n = grid
    text = f"p({output} | x) at {n} values from {low:g} to {high:g}"
    notes = notes_of(estimator, output, text) | {"grid": f"{low!r},{high!r},{n}"}
    unit = notes.pop("units", None)
    if unit and not estimator.codec_.whole[estimator.output_names_.index(output)]:
        notes["units"] = f"{unit}**-1" if unit.isalpha() else f"({unit})**-1"
    return notes
