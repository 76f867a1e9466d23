"""Checks of input that need an estimator of their own; bad values are in `test_properties`."""

import numpy as np
import pytest
from conftest import small

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._validation import PARAMETERS, WITH_DATA, check_limits

FREE = [-np.inf, np.inf]


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


def test_limits_of_all_outputs_and_by_name():
    names = ["redshift", "mass"]
    np.testing.assert_array_equal(check_limits((0, np.inf), names), [[0, np.inf]] * 2)
    np.testing.assert_array_equal(check_limits({"mass": (0, 4)}, names), [FREE, [0, 4]])
    np.testing.assert_array_equal(check_limits({}, names), [FREE] * 2)
    x = np.arange(60.0)[:, None]
    y = np.random.default_rng(0).uniform(size=(60, 2))
    est = small(epochs=1, limits={"y1": (0, 1)}).fit(x, y)
    np.testing.assert_array_equal(est.limits_, [FREE, [0, 1]])


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"z": (0, 4)}, "limits names 'z', which is not a column of y; they are redshift, mass"),
        ({"mass": 4}, r"limits\['mass'\] must be a lower and an upper limit, got 4"),
        ({"mass": (0, 1, 2)}, r"limits\['mass'\] must be a lower and an upper limit"),
        ({"mass": (4, 0)}, r"limits\['mass'\] = \(4, 0\): the lower limit must be below"),
        ({"mass": (None, 0)}, r"limits\['mass'\] = \(nan, 0\): use -inf and inf"),
        ((4, 0), r"limits\[0\] = \(4, 0\): the lower limit must be below"),
        ([0, 1, 2], "one pair for all or a dict of pairs by name; got shape"),
    ],
)
def test_limits_that_are_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        check_limits(limits, ["redshift", "mass"])
