"""Encoders: shapes, what must not matter, gaps, precision, other weights, errors."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.func import functional_call, stack_module_state, vmap

from sklearn_san.encoders import (
    ImageEncoder,
    PlainEncoder,
    SetEncoder,
    SpectrumEncoder,
    pad_sets,
)
from sklearn_san.encoders.base import ENOUGH_VALUES, moments, quantiles

CASES = [
    pytest.param(SpectrumEncoder(4), (64,), id="spectrum"),
    pytest.param(SpectrumEncoder(4, channels=(8, 8)), (2, 33), id="two spectra"),
    pytest.param(SpectrumEncoder(4, n_bins=1), (1,), id="one pixel"),
    pytest.param(ImageEncoder(4), (16, 16), id="image"),
    pytest.param(ImageEncoder(4, kernel_size=5), (3, 5, 9), id="three images"),
    pytest.param(SetEncoder(4), (7, 2), id="set"),
    pytest.param(SetEncoder(4, width=6, n_heads=3), (1, 1), id="set of one"),
    pytest.param(PlainEncoder(4), (5,), id="plain"),
    pytest.param(PlainEncoder(4, n_knots=5, n_layers=0), (2, 3), id="plain with knots"),
]


def some_values(shape, n=20, dtype=torch.float32):
    random = np.random.default_rng(0)
    values = 100.0 + 5.0 * random.standard_normal((n, *shape))
    values[0] = np.nan
    values[1::4][random.uniform(size=values[1::4].shape) < 0.3] = np.nan
    return torch.tensor(values, dtype=dtype)


def made(encoder, shape, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return encoder(shape).eval()


@pytest.mark.parametrize(("encoder", "shape"), CASES)
class TestAllEncoders:
    def test_shapes_and_finite_gradients(self, encoder, shape):
        module, values = made(encoder, shape), some_values(shape)
        assert module(values).shape == (20, 4)  # before `observe`
        module.observe(values)
        features = module(values)
        assert features.shape == (20, 4)
        assert module(values[:0]).shape == (0, 4)
        assert module.accepts_missing
        features.square().sum().backward()
        gradients = [parameter.grad for parameter in module.parameters()]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        if max(shape) > 1:  # attention to one pixel has no choice
            assert all(gradient.abs().sum() > 0 for gradient in gradients)

    def test_rows_do_not_depend_on_others(self, encoder, shape):
        module, values = made(encoder, shape), some_values(shape)
        module.observe(values)
        alone = torch.cat([module(row[None]) for row in values])
        torch.testing.assert_close(module(values), alone, atol=1e-5, rtol=1e-4)

    def test_units_do_not_matter_once_observed(self, encoder, shape):
        module, values = made(encoder, shape).double(), some_values(shape, dtype=torch.float64)
        module.observe(values)
        before = module(values)
        other = 1e3 * values - 7e4
        module.observe(other)
        torch.testing.assert_close(module(other), before, atol=1e-6, rtol=1e-6)

    def test_precisions_agree(self, encoder, shape):
        module, values = made(encoder, shape), some_values(shape)
        module.observe(values)
        single = module(values)
        assert single.dtype == torch.float32
        assert module(values.double()).dtype == torch.float32
        double = module.double()(values.double())
        assert double.dtype == torch.float64
        torch.testing.assert_close(single, double.float(), atol=1e-4, rtol=1e-3)

    def test_members_side_by_side(self, encoder, shape):
        modules, values = [made(encoder, shape, seed) for seed in range(2)], some_values(shape)
        modules[1].observe(values)
        state = stack_module_state(modules)
        together = vmap(lambda p, b: functional_call(modules[0], (p, b), (values,)))(*state)
        for features, module in zip(together, modules, strict=True):
            torch.testing.assert_close(features, module(values), atol=1e-5, rtol=1e-4)

    def test_same_seed_same_weights(self, encoder, shape):
        one, two, other = (made(encoder, shape, seed) for seed in (0, 0, 1))
        values = some_values(shape)
        torch.testing.assert_close(one(values), two(values), rtol=0, atol=0)
        assert not torch.equal(one(values), other(values))

    def test_missing_is_not_the_mean(self, encoder, shape):
        module, values = made(encoder, shape), some_values(shape)
        module.observe(values)
        at_mean = module.location.expand(shape)[None].clone()
        missing = at_mean.clone()
        missing.view(1, -1)[:, 0] = torch.nan
        assert not torch.allclose(module(at_mean), module(missing), atol=1e-5, rtol=0)

    def test_clone_and_parameters(self, encoder, shape):
        copy = clone(encoder)
        assert copy.get_params() == encoder.get_params()
        assert made(copy.set_params(n_features=7), shape)(some_values(shape)).shape[1] == 7

    def test_other_rows_are_refused(self, encoder, shape):
        module = made(encoder, shape)
        for method in (module, module.observe):
            with pytest.raises(ValueError, match=r"Rows have shape .*99.* made for"):
                method(torch.zeros(2, *shape, 99))


def test_location_and_scale():
    random = np.random.default_rng(0)
    mean, deviation = np.array([5.0, -3.0, 1e3]), np.array([2.0, 1e-3, 50.0])
    columns = torch.tensor(random.normal([*mean, 0.0], [*deviation, 1.0], (10_000, 4)))
    columns[:5, 0], columns[::3, 1], columns[:, 3] = 1e9, torch.nan, torch.nan
    location, scale = (moment.numpy() for moment in moments(columns))
    np.testing.assert_allclose((location[:3] - mean) / deviation, 0.0, atol=0.06)
    assert location[3] == 0.0
    # Standard errors are 1%; five values of 1e9 pull by half a percent
    np.testing.assert_allclose(scale, [2.0, 1e-3, 50.0, 1.0], rtol=0.05)


def test_scale_of_constant_and_sparse_columns():
    columns = torch.zeros(10_000, 2)
    columns[:, 0] = 0.1
    columns[:3, 1] = 7.0
    location, scale = moments(columns)
    assert location[0] == pytest.approx(0.1)
    assert scale[0] == 1.0
    assert scale[1] == pytest.approx(7.0 * np.sqrt(3e-4), rel=0.01)


def test_large_samples_are_thinned():
    values = torch.arange(4.0 * ENOUGH_VALUES)[:, None]
    location, _ = moments(values)
    assert location.item() == pytest.approx(2.0 * ENOUGH_VALUES, rel=0.02)
    torch.testing.assert_close(moments(values)[0], location, rtol=0, atol=0)


def test_quantiles_leave_out_nan():
    columns = torch.tensor([[3.0, torch.nan], [torch.nan, torch.nan], [1.0, torch.nan], [2.0, 4.0]])
    found = quantiles(columns, torch.tensor([0.0, 0.5, 1.0]))
    assert found.tolist() == [[1.0, 4.0], [2.0, 4.0], [3.0, 4.0]]


def test_scale_of_channels_and_columns():
    random = np.random.default_rng(0)
    values = random.normal(0.0, [[1.0], [10.0]], (500, 2, 40))
    module = made(SpectrumEncoder(), (2, 40))
    module.observe(torch.tensor(values))
    np.testing.assert_allclose(module.scale[:, 0], [1.0, 10.0], rtol=0.05)
    module = made(SetEncoder(), (40, 2))
    module.observe(torch.tensor(values).mT)
    np.testing.assert_allclose(module.scale, [1.0, 10.0], rtol=0.05)
    module = made(PlainEncoder(), (2, 40))
    module.observe(torch.tensor(values))
    assert module.scale.shape == (2, 40)


@pytest.mark.parametrize(("shape", "encoder"), [
    ((256,), SpectrumEncoder()), ((32, 32), ImageEncoder(channels=(16, 32))),
])  # fmt: skip
def test_features_tell_where_a_source_is(shape, encoder):
    module = made(encoder, shape)
    values = torch.zeros(2, *shape)
    values[0, 3] = values[1, 4] = 5.0  # the same in another place
    features = module(values)
    assert (features[0] - features[1]).abs().max() > 1e-4


class TestSets:
    def test_order_and_padding_do_not_matter(self):
        values = some_values((9, 2), n=4)
        values[2] = torch.nan
        module, longer = made(SetEncoder(4), (9, 2)), made(SetEncoder(4), (15, 2))
        for one in (module, longer):
            one.location.fill_(100.0)
            one.scale.fill_(5.0)
        features = module(values)
        assert torch.isfinite(features).all()
        order = torch.tensor(np.random.default_rng(1).permutation(9))
        torch.testing.assert_close(module(values[:, order]), features, atol=1e-5, rtol=1e-4)
        padded = torch.cat([values[:, :4], torch.full((4, 6, 2), torch.nan), values[:, 4:]], 1)
        torch.testing.assert_close(longer(padded), features, atol=1e-5, rtol=1e-4)

    def test_size_matters(self):
        few, many = torch.full((1, 8, 1), torch.nan), torch.ones(1, 8, 1)
        few[:, :4] = 1.0
        module = made(SetEncoder(4), (8, 1))
        assert (module(few) - module(many)).abs().max() > 1e-4

    def test_padding_of_sets(self):
        first = np.array([[1.0, 2.0], [3.0, np.nan]])
        padded = pad_sets([first, [], [[5.0, 6.0]]], max_length=4)
        assert padded.shape == (3, 4, 2)
        np.testing.assert_array_equal(padded[0, :2], first)
        assert np.isnan(padded[0, 2:]).all()
        assert np.isnan(padded[1]).all()
        assert padded[2, 0].tolist() == [5.0, 6.0]
        assert pad_sets([[1, 2, 3], [4]]).shape == (2, 3, 1)
        assert pad_sets([np.ones((2, 3), np.float32)]).dtype == np.float32
        assert pad_sets([[], []]).shape == (2, 1, 1)
        assert pad_sets([np.empty((0, 3)), np.ones((1, 3))]).shape == (2, 1, 3)

    @pytest.mark.parametrize(("sets", "options", "message"), [
        ([], {}, "sets is empty"),
        ([np.ones((2, 3)), [], np.ones((2, 4))], {}, r"sets\[0\] has 3 .* sets\[2\] has 4"),
        ([[1.0], [2.0, np.nan]], {}, r"sets\[1\]\[1\] is nan throughout"),
        ([np.ones((1, 2, 3))], {}, r"sets\[0\] has shape \(1, 2, 3\)"),
        ([[1.0], [1.0, 2.0]], {"max_length": 1}, r"sets\[1\] has 2 .* max_length=1"),
        ([[1.0]], {"max_length": 0}, "max_length must be .* got 0"),
    ])  # fmt: skip
    def test_sets_that_are_refused(self, sets, options, message):
        with pytest.raises(ValueError, match=message):
            pad_sets(sets, **options)


@pytest.mark.parametrize(("encoder", "shape", "error", "message"), [
    (SpectrumEncoder(0), (5,), ValueError, "n_features must be .* got 0"),
    (SpectrumEncoder(2.5), (5,), TypeError, "n_features must be .* got 2.5"),
    (SpectrumEncoder(True), (5,), TypeError, "n_features must be .* got True"),
    (SpectrumEncoder(channels=()), (5,), ValueError, r"channels must be .* got \(\)"),
    (SpectrumEncoder(channels=(4, 0)), (5,), ValueError, r"channels must be .* got \(4, 0\)"),
    (SpectrumEncoder(channels=8), (5,), TypeError, "channels must be .* got 8"),
    (SpectrumEncoder(kernel_size=4), (5,), ValueError, "kernel_size must be an odd .* got 4"),
    (ImageEncoder(kernel_size="3"), (5, 5), TypeError, "kernel_size must be an odd .* got '3'"),
    (ImageEncoder(n_bins=0), (5, 5), ValueError, "n_bins must be .* got 0"),
    (SetEncoder(width=10, n_heads=4), (5, 5), ValueError, "width=10 .* n_heads=4"),
    (PlainEncoder(n_knots=1), (5,), ValueError, "n_knots must be .* got 1"),
    (PlainEncoder(n_layers=-1), (5,), ValueError, "n_layers must be .* got -1"),
    (SpectrumEncoder(), (2, 3, 4), ValueError, r"SpectrumEncoder takes .* got \(2, 3, 4\)"),
    (ImageEncoder(), (9,), ValueError, r"ImageEncoder takes .*height.* got \(9,\)"),
    (SetEncoder(), (9,), ValueError, r"SetEncoder takes .*max_length.* got \(9,\)"),
    (PlainEncoder(), (0,), ValueError, r"shape must have positive .* got \(0,\)"),
])  # fmt: skip
def test_what_is_refused(encoder, shape, error, message):
    with pytest.raises(error, match=message):
        encoder(shape)
