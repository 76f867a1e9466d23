"""Properties over random problems, and more than a thousand bad inputs.

The first half draws small problems of any shape, dtype and family, and checks what must hold for
all of them. The second half goes through tables of values that make no sense, for every parameter
and argument there is: each must end in an error that this package, scikit-learn or numpy raises on
purpose, that names what is wrong, and that leaves a fitted estimator as it was. Odd values that are
taken all the same are listed with the reason.
"""

import contextlib
import datetime
import io
import linecache
import pickle
import re
import traceback
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import small
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._cli import main
from sklearn_san.density import resample
from sklearn_san.likelihoods import Inflated, MixtureOfGaussians, Ordinal

NAN, INF = np.nan, np.inf


def tiny(**parameters):
    """Estimator that fits in a twentieth of a second."""
    return small(**({"K": 2, "module_shape": (8,), "epochs": 1} | parameters))


# Bad inputs

RANDOM = np.random.default_rng(0)
N = 24
X, Y = RANDOM.normal(size=(N, 2)), RANDOM.normal(size=(N, 2))
X_ERR = np.full(X.shape, 0.1)
FRAME = pd.DataFrame({"kind": np.resize(["a", "b", "c"], N), "size": X[:, 0]})
TARGETS = pd.DataFrame({"colour": np.resize(["red", "blue"], N), "mass": Y[:, 0]})
GROUPS = {}


@cache
def plain():
    """Two outputs with limits; not to be changed."""
    return tiny(limits=[[-9, 9], [-INF, INF]]).fit(X, Y)


@cache
def one_dimensional():
    return tiny().fit(X, Y[:, 0])


@cache
def with_errors():
    return tiny(use_errors=True).fit(X, Y, X_err=X_ERR)


@cache
def with_labels():
    """Categories among the features, labels among the outputs."""
    return tiny().fit(FRAME, TARGETS)


def group(function):
    """Add a generator of cases: what it is, a call, and what the message must match."""
    GROUPS[function.__name__] = function
    return function


#: Errors that tell users what they did; none of them comes from torch or numba.
EXPECTED = (ValueError, TypeError, IndexError, FileNotFoundError, NotADirectoryError, OSError)
#: What numpy and the standard library say when they cannot convert a value at our border.
CONVERSIONS = re.compile(
    "could not convert|inhomogeneous shape|expected str, bytes or os.PathLike|valid indices|"
    "embedded null byte|File name too long"
)


def complaint(call, names):
    """What is wrong with the way in which a call fails; None if nothing is."""
    try:
        result = call()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        files = [Path(frame.filename).parts for frame in frames]
        ours = max(i for i, parts in enumerate(files) if {"sklearn_san", "sklearn"} & set(parts))
        line = linecache.getline(frames[ours].filename, frames[ours].lineno).strip()
        raised = "sklearn" in files[ours] or line.startswith("raise")
        deep = any({"torch", "numba", "safetensors"} & set(parts) for parts in files[ours:])
        told = f"{type(error).__name__}: {error} ({frames[ours].name}: {line})"
        if not isinstance(error, EXPECTED) or deep:
            return f"raises {told}"
        if not raised and not CONVERSIONS.search(str(error)):
            return f"stumbles over {told}"
        if not re.search(names, str(error)):
            return f"does not say {names!r}: {told}"
        return None
    return f"is accepted: {type(result).__name__}"


@pytest.mark.parametrize("name", GROUPS_BY_NAME)
@pytest.mark.filterwarnings("ignore:.*feature names")
def test_bad_inputs(name):
    problems = [
        f"{what}: {wrong}"
        for what, call, names in GROUPS[name]()
        if (wrong := complaint(call, names)) is not None
    ]
    assert not problems, "\n".join(problems)
