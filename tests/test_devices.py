"""Every device gives the results of the reference, which is torch on the CPU.

On the device "cpu" that compares the compiled kernels, where these know the network.
"""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import SINGLE, small
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from sklearn_san._engines import without_kernels
from sklearn_san.datasets import make_bimodal
from sklearn_san.likelihoods import Inflated, Softmax, TruncatedMixtureOfGaussians
from sklearn_san.recalibration import CalibratedDensity

HAS_GPU = torch.cuda.is_available()
ON_GPU = [pytest.mark.cuda, pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_GPU)]
X, Y, _ = make_bimodal(300, random_state=0)
BOX = [[-9.0, 9.0], [-9.0, 9.0]]
OPTIONS = {
    "default": {},
    "members, limits, encoder": {
        "n_members": 3, "limits": [[-9, 9], [-9, np.inf]], "encoder_shape": (6,)
    },
    "float64": {"dtype": "float64"},
    "laplace": {"likelihood": "laplace"},
    "most": {"likelihood": "most"},
    "spline": {"likelihood": "spline"},
    "truncated_molog": {"likelihood": "truncated_molog", "limits": BOX},
    "truncated_most": {"likelihood": "truncated_most", "limits": BOX},
    "mob": {"likelihood": "mob", "limits": BOX},
    "softmax": {"likelihood": Softmax(20, interpolate=True), "limits": BOX},
    "counts and a point mass": {
        "likelihood": ["ordinal", Inflated(TruncatedMixtureOfGaussians(K=2))],
        "limits": [[-30, 30], [0, np.inf]],
    },
    "labels": {"likelihood": ["categorical", "mog"]},
    "own draws": {"teacher_forcing": False, "train_rsample": True},
}  # fmt: skip


def targets(options):
    """Targets that the family of each output can have."""
    y = Y.copy()
    if options == "counts and a point mass":
        y = np.stack([np.round(3.0 * y[:, 0]), np.maximum(y[:, 1], 0.0)], axis=1)
    if options == "labels":
        y[:, 0] = y[:, 0] > 0
    return y


@pytest.fixture(scope="module", params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(scope="module", params=OPTIONS)
def options(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(device, options):
    """Estimator that was fitted on the device, and its y."""
    y = targets(options)
    return small(**{"epochs": 2, "device": device} | OPTIONS[options]).fit(X, y), y


def by_reference(est, function):
    """Result of `function` for the same weights in torch on the CPU."""
    reference = copy.deepcopy(est).set_params(device="cpu")
    with without_kernels():
        return function(reference)


def test_training_reaches_the_same_loss(fitted, options):
    est, y = fitted
    assert all(tensor.device.type == "cpu" for tensor in est.network_.state_dict().values())
    with without_kernels():
        reference = clone(est).set_params(device="cpu").fit(X, y)
    # Steps amplify rounding errors; a wrong gradient shows at once
    for name in ("loss_curve_", "validation_curve_"):
        own, exact = (np.array(getattr(one, name)) for one in (est, reference))
        np.testing.assert_allclose(own, exact, rtol=1e-3, atol=1e-3)


def test_log_densities_are_equal(fitted):
    est, y = fitted
    exact = by_reference(est, lambda one: one.log_prob(X, y))
    np.testing.assert_allclose(est.log_prob(X, y), exact, rtol=SINGLE, atol=SINGLE)


def test_the_same_seed_gives_the_same_draws(fitted, options):
    est, _ = fitted
    own = est.sample(X[:30], 20, random_state=0)
    exact = by_reference(est, lambda one: one.sample(X[:30], 20, random_state=0))
    # Rounding may choose another component
    assert np.isclose(own, exact, rtol=SINGLE, atol=SINGLE).mean() > 0.99


@pytest.mark.parametrize("what", ["mean", "median", "std", "quantiles"])
def test_summaries_are_equal(fitted, options, what):
    if options == "labels" and what != "mean":
        pytest.skip("labels have no other summary")
    est, _ = fitted
    own = est.predict(X[:9], output_type=what)
    exact = by_reference(est, lambda one: one.predict(X[:9], output_type=what))
    spread = est.sample(X[:9], 200, random_state=0).std(axis=1)
    allowed = 0.02 * (spread[..., None, :] if own.ndim > spread.ndim else spread)
    close = np.abs(own - exact) <= np.maximum(allowed, SINGLE * np.abs(exact).clip(1.0))
    assert close.mean() > 0.95  # of few values the median may be the neighbour


QUESTIONS = {
    "cdf": lambda rows, y: rows.cdf(y),
    "inverse_cdf": lambda rows, y: rows.inverse_cdf(np.full((len(rows), 2), 0.3)),
    "grad_log_prob": lambda rows, y: rows.grad_log_prob(y),
    "sobol": lambda rows, y: rows.sample(4, method="sobol", random_state=0),
    "pdf_grid": lambda rows, y: rows.pdf_grid(1, np.linspace(-2.0, 2.0, 9)),
    "marginal_cdf": lambda rows, y: rows.marginal_cdf(1, y[:, 1]),
    "components": lambda rows, y: rows.components(1, y).loc,
    "entropy": lambda rows, y: rows.entropy(),
    "given the first": lambda rows, y: rows.given({0: y[:, 0]}).sample(9, random_state=0),
    "given the last": lambda rows, y: rows.given({1: y[:, 1]}).log_prob(y),
    "given, mean": lambda rows, y: rows.given({1: y[:, 1]}).mean(),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("with_errors", [False, True])
def test_a_density_answers_the_same(device, question, with_errors):
    options = {"n_members": 2, "epochs": 2, "device": device}
    est, errors = small(**options).fit(X, Y), None
    if with_errors:
        if question == "sobol":
            pytest.skip("needs no other path")
        errors = np.full((6, X.shape[1]), 0.1)

    def answer(one):
        return QUESTIONS[question](one.predict_density(X[:6], X_err=errors), Y[:6])

    own, exact = answer(est), by_reference(est, answer)
    # What is drawn in single precision may come from another component here and there
    close = np.isclose(own, exact, rtol=0.02, atol=0.02)
    assert close.mean() > 0.95


def test_modes_are_as_high(device):
    est = small(n_members=2, epochs=5, device=device).fit(X, Y)
    mode = est.predict(X[:20], output_type="mode")
    exact = by_reference(est, lambda one: one.predict(X[:20], output_type="mode"))
    heights = est.log_prob(X[:20], mode), est.log_prob(X[:20], exact)
    assert np.median(np.abs(heights[0] - heights[1])) < 1e-2


def test_recalibration(device):
    est = small(epochs=2, device=device).fit(X, Y)

    def answer(one):
        rows = CalibratedDensity(FrozenEstimator(one)).fit(X, Y).predict_density(X[:9])
        return np.concatenate([rows.log_prob(Y[:9]), rows.grad_log_prob(Y[:9]).ravel()])

    np.testing.assert_allclose(answer(est), by_reference(est, answer), rtol=1e-3, atol=1e-3)


def test_copies_go_on_where_the_first_one_is(device):
    est = small(epochs=2, device=device).fit(X, Y)
    expected = est.log_prob(X, Y)
    for other in (pickle.loads(pickle.dumps(est)), copy.deepcopy(est), clone(est).fit(X, Y)):
        assert other.engine_ == est.engine_
        np.testing.assert_allclose(other.log_prob(X, Y), expected, rtol=SINGLE, atol=SINGLE)
    goes_on = clone(est).partial_fit(X, Y).partial_fit(X, Y)
    assert np.isfinite(goes_on.score(X, Y))


def test_a_grid_search(device):
    search = GridSearchCV(small(epochs=2, device=device), {"K": [2, 3]}, cv=2).fit(X, Y)
    with without_kernels():
        reference = clone(search).set_params(estimator__device="cpu").fit(X, Y)
    own, exact = (one.cv_results_["mean_test_score"] for one in (search, reference))
    np.testing.assert_allclose(own, exact, rtol=1e-2, atol=1e-2)


def test_a_saved_model_opens_on_a_machine_without_a_gpu(device, tmp_path):
    est = small(epochs=2, device=device).fit(X, Y)
    est.save(tmp_path / "model.san")
    code = (
        "import sys, numpy as np, torch\n"
        "from sklearn_san import SANConditionalDensityEstimator\n"
        "from sklearn_san.datasets import make_bimodal\n"
        "assert not torch.cuda.is_available()\n"
        "X, y, _ = make_bimodal(300, random_state=0)\n"
        "est = SANConditionalDensityEstimator.load(sys.argv[1]).set_params(device='auto')\n"
        "np.save(sys.argv[2], est.log_prob(X, y))\n"
    )
    files = [str(tmp_path / name) for name in ("model.san", "log_prob.npy")]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code, *files], check=True, env=environment)
    np.testing.assert_allclose(np.load(files[1]), est.log_prob(X, Y), rtol=SINGLE, atol=SINGLE)


@pytest.mark.cuda
@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")
def test_processes_share_a_gpu():
    together, apart = (
        small(n_members=2, epochs=2, device="cuda", n_jobs=n).fit(X, Y).log_prob(X, Y)
        for n in (None, 2)
    )
    np.testing.assert_allclose(apart, together, rtol=1e-3, atol=1e-3)
