"""Write the golden files: models saved by an earlier version, and what it computed with them.

    PYTHONPATH=. python tests/golden/make.py [model ...]

Each model in `MODELS` becomes ``<name>.safetensors``, as `save` writes it, and ``<name>.npz`` with
some rows, and for them the log density of y and the values at which the cdfs are u. No pickle is in
either. They stand for the files that users have: `test_golden` opens them with the package as
it is and compares. So they are never made again for a model that has files already; a new format
of the file or a new kind of content is a reason to add a model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.encoders import SpectrumEncoder
from sklearn_san.likelihoods import Inflated, MixtureOfGaussians, Ordinal

FOLDER = Path(__file__).parent
#: Rows to fit, and rows on which results are kept.
N_FIT, N_KEPT = 160, 12
TINY = {
    "K": 2,
    "module_shape": (8,),
    "sequence_features": 3,
    "n_members": 2,
    "epochs": 4,
    "random_state": 0,
}


def ordered() -> dict[str, Any]:
    """Two outputs with limits and a linear base, named and in another order than given."""
    random = np.random.default_rng(1)
    X = random.normal(size=(N_FIT, 3))
    mass = X @ [1.0, -0.5, 0.2] + 0.3 * random.normal(size=N_FIT)
    age = 0.7 * mass + 0.2 * random.normal(size=N_FIT)
    return {
        "parameters": TINY
        | {"limits": [[-8.0, np.inf], [-6.0, 6.0]], "linear_base": True, "order": ["age", "mass"]},
        "X": pd.DataFrame(X, columns=["u", "g", "r"]),
        "y": pd.DataFrame({"mass": mass, "age": age}),
    }


def mixed() -> dict[str, Any]:
    """Labels, counts, a point mass and a number from a table with gaps, categories and errors."""
    random = np.random.default_rng(2)
    colour, size = random.normal(size=N_FIT), random.gamma(2.0, size=N_FIT)
    field = random.choice(["north", "south", "east"], size=N_FIT)
    flux = (colour + 0.5 * random.normal(size=N_FIT)).clip(0.0)
    errors = np.column_stack([random.uniform(0.1, 0.3, (N_FIT, 2)), np.zeros(N_FIT)])
    colour[::9] = np.nan
    return {
        "parameters": TINY
        | {
            "likelihood": {
                "n": Ordinal(K=2),
                "flux": Inflated(MixtureOfGaussians(), at=0.0),
            },
            "limits": [[-np.inf, np.inf], [0.0, np.inf], [-np.inf, np.inf], [0.0, np.inf]],
            "order": ["size", "kind", "n", "flux"],
            "x_scaler": "robust",
            "y_scaler": "power",
            "missing_rate": 0.2,
            "use_errors": True,
        },
        "X": pd.DataFrame({"colour": colour, "width": size, "field": field}),
        "X_err": errors,
        "y": pd.DataFrame(
            {
                "kind": np.where(random.uniform(size=N_FIT) < 0.4, "star", "galaxy"),
                "n": random.poisson(1.0 + size),
                "flux": flux,
                "size": size * random.gamma(9.0, 1.0 / 9.0, size=N_FIT),
            }
        ),
    }


def double() -> dict[str, Any]:
    """A spline and a mixture of logistics behind an encoder, in double precision."""
    random = np.random.default_rng(3)
    X = random.normal(size=(N_FIT, 2))
    y = np.column_stack([np.abs(X[:, 0]), X[:, 1]]) + 0.3 * random.normal(size=(N_FIT, 2))
    return {
        "parameters": TINY
        | {
            "encoder_shape": (5,),
            "activation": "relu",
            "layer_norm": False,
            "likelihood": ["spline", "molog"],
            "dtype": "float64",
            "x_scaler": "minmax",
        },
        "X": X,
        "y": y,
    }


def parts() -> dict[str, Any]:
    """Spectra, of which some are missing, beside two columns."""
    random = np.random.default_rng(4)
    place, width = random.uniform(-1.0, 1.0, size=(2, N_FIT))
    wavelength = np.linspace(-2.0, 2.0, 20)
    spectrum = np.exp(-8.0 * (wavelength - place[:, None]) ** 2)
    spectrum += 0.1 * random.normal(size=spectrum.shape)
    spectrum[::5] = np.nan
    columns = np.column_stack([width + 0.3 * random.normal(size=N_FIT), place**2])
    return {
        "parameters": TINY
        | {
            "encoder": {"spectrum": SpectrumEncoder(3, channels=(2, 4), kernel_size=3, n_bins=2)},
            "limits": [[-1.0, 1.0], [-np.inf, np.inf]],
            "dtype": "float64",
        },
        "X": {"spectrum": spectrum.astype(np.float32), "columns": columns},
        "y": np.column_stack([place, width]),
    }


MODELS = {model.__name__: model for model in (ordered, mixed, double, parts)}


def columns(table: Any, name: str) -> dict[str, np.ndarray]:
    """Arrays that stand for an array, a frame or parts, by their keys in a file of numpy."""
    if isinstance(table, dict):
        return {f"{name}.{part}": values for part, values in table.items()}
    if not hasattr(table, "columns"):
        return {name: np.asarray(table)}
    arrays = {f"{name}.{column}": table[column].to_numpy() for column in table.columns}
    return {k: v if v.dtype.kind in "iuf" else v.astype(str) for k, v in arrays.items()}


def make(name: str) -> None:
    """Write both files of one model."""
    recipe = MODELS[name]()
    X, y, X_err = recipe["X"], recipe["y"], recipe.get("X_err")
    est = SANConditionalDensityEstimator(**recipe["parameters"])
    est.fit(X, y, X_err=X_err)
    est.save(FOLDER / f"{name}.safetensors")
    if isinstance(X, dict):
        X = {part: values[:N_KEPT] for part, values in X.items()}
    else:
        X = X[:N_KEPT]
    y = y[:N_KEPT]
    errors = {} if X_err is None else {"X_err": X_err[:N_KEPT]}
    density = est.predict_density(X, **errors)
    u = np.random.default_rng(0).uniform(0.02, 0.98, size=(N_KEPT, est.n_outputs_))
    inverse = pd.DataFrame(density.inverse_cdf(u), columns=est.output_names_).infer_objects()
    np.savez_compressed(
        FOLDER / f"{name}.npz",
        **columns(X, "X"),
        **errors,
        **columns(y, "y"),
        log_prob=density.log_prob(y),
        u=u,
        **columns(inverse, "inverse_cdf"),
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        make(name)
