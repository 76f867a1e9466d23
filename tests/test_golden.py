"""Files of earlier versions: they open, and mean what they meant; `golden/make.py` wrote them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_san import SANConditionalDensityEstimator

FOLDER = Path(__file__).parent / "golden"
MODELS = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
#: Roundings from the weights to a log density or a value.
N_ROUNDINGS = 1000


def table(arrays, name):
    """Array, or the arrays whose keys begin with `name` and a dot: a frame, or a dict of parts."""
    if name in arrays:
        return arrays[name]
    own = {key.partition(".")[2]: arrays[key] for key in arrays if key.startswith(f"{name}.")}
    if any(array.ndim > 1 for array in own.values()):
        return own
    return pd.DataFrame(own) if own else None


def assert_close(found, expected, dtype):
    tolerance = N_ROUNDINGS * np.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=MODELS)
def golden(request):
    with np.load(FOLDER / f"{request.param}.npz", allow_pickle=False) as arrays:
        kept = dict(arrays)
    path = FOLDER / f"{request.param}.safetensors"
    return SANConditionalDensityEstimator.load(path), kept


def test_there_are_golden_files():
    assert {"double", "mixed", "ordered", "parts"} <= set(MODELS)


def test_log_densities_are_what_they_were(golden):
    est, kept = golden
    X, y, X_err = (table(kept, name) for name in ("X", "y", "X_err"))
    assert_close(est.log_prob(X, y, X_err=X_err), kept["log_prob"], est.dtype)


def test_values_of_given_cdfs_are_what_they_were(golden):
    est, kept = golden
    found = est.predict_density(table(kept, "X"), X_err=table(kept, "X_err")).inverse_cdf(kept["u"])
    for j, name in enumerate(est.output_names_):
        expected = kept[f"inverse_cdf.{name}"]
        if expected.dtype.kind == "U":
            assert found[:, j].tolist() == expected.tolist()
        else:  # in double precision, whatever the weights have
            assert_close(found[:, j].astype(float), expected, np.float64)


def test_saved_again_they_mean_the_same(golden, tmp_path):
    est, kept = golden
    est.save(tmp_path / "model")
    again = SANConditionalDensityEstimator.load(tmp_path / "model")
    X, y, X_err = (table(kept, name) for name in ("X", "y", "X_err"))
    np.testing.assert_array_equal(
        again.log_prob(X, y, X_err=X_err), est.log_prob(X, y, X_err=X_err)
    )
