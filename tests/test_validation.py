"""Checks of input that need an estimator of their own; bad values are in `test_properties`."""

import numpy as np
import pytest
from conftest import small

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._validation import PARAMETERS, WITH_DATA


@pytest.mark.filterwarnings("ignore::sklearn_san.exceptions.ScaleWarning")
def test_a_power_transform_that_saturates_needs_a_bounded_family():
    heavy = np.random.default_rng(0).pareto(1.0, size=(200, 1))
    x = np.arange(200.0)[:, None]
    with pytest.raises(ValueError, match="cannot respect the range of the power transform"):
        small(y_scaler="power", likelihood="mog").fit(x, heavy)
    draws = small(y_scaler="power").fit(x, heavy).sample(x, 50, random_state=0)
    assert np.isfinite(draws).all()


def test_every_parameter_is_checked():
    named = set(SANConditionalDensityEstimator().get_params())
    assert named == set(PARAMETERS) | WITH_DATA
    assert not set(PARAMETERS) & WITH_DATA
