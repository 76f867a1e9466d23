"""Trees as plain values: what is in a file, without torch and the classes of its instances."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from test_container import DATA, damaged
from test_trees import VALUES, assert_same

from sklearn_san._container import description_of, dump_tree, load_tree, read_plain, sealed
from sklearn_san._plain_trees import USUAL, Record
from sklearn_san._scaling import SCALERS
from sklearn_san.exceptions import CorruptModelError
from sklearn_san.likelihoods import LIKELIHOODS, Inflated, MixtureOfGaussians, Ordinal


def read(path, data, content="tree"):
    """Plain tree of a file with these bytes."""
    path.write_bytes(data)
    return read_plain(path, content=content)[0]


def as_plain(value):
    """What becomes of a value that torch knows."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    return str(value) if isinstance(value, (torch.dtype, torch.device)) else value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_values_are_those_that_were_written(value, tmp_path):
    if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
        pytest.skip("numpy has no such numbers, and no model has them")
    again, expected = read(tmp_path / "m", dump_tree(value)), as_plain(value)
    if isinstance(expected, np.ndarray):
        assert (again.dtype, again.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(again, expected)
    else:
        assert repr(again) == repr(expected)


def test_instances_are_records(tmp_path):
    family, weight = MixtureOfGaussians(K=2), torch.nn.Parameter(torch.ones(3))
    tree = {"all": [family, family], "weight": weight, "random": np.random.RandomState(0)}
    plain = read(tmp_path / "m", dump_tree(tree))
    first, second = plain["all"]
    assert first is second
    assert first == Record("MixtureOfGaussians", {"K": 2, "min_scale": None})
    assert plain["weight"].name == "Parameter"
    assert_same(plain["weight"].state["data"].copy(), np.ones(3, dtype=np.float32))
    assert repr(plain["random"]) == "RandomState()"


def test_versions_come_along(tmp_path):
    (tmp_path / "m").write_bytes(dump_tree(1))
    assert read_plain(tmp_path / "m", content="tree")[1]["torch"] == torch.__version__


@pytest.mark.parametrize("cls", [*LIKELIHOODS.values(), *SCALERS])
def test_what_is_usual_is_the_default(cls, tmp_path):
    for name, one in inspect.signature(cls).parameters.items():
        if one.default is not None:
            assert USUAL[name] == one.default, (cls, name)
    assert repr(read(tmp_path / "m", dump_tree(cls()))) == repr(cls())


@pytest.mark.parametrize(
    "instance",
    [
        MixtureOfGaussians(K=3, min_scale=0.1),
        Ordinal(K=4, spacing=2.0),
        Inflated(base=Ordinal(K=2), at=0.0),
        StandardScaler(with_mean=False).fit([[1.0], [3.0]]),
        MinMaxScaler(feature_range=(-1, 1)),
        RobustScaler(quantile_range=(10.0, 90.0), with_centering=False),
    ],
    ids=repr,
)
def test_records_are_shown_as_the_instances(instance, tmp_path):
    assert repr(read(tmp_path / "m", dump_tree([instance, {"a": (instance,)}]))) == repr(
        [instance, {"a": (instance,)}]
    )


def error_of(call, *arguments, **options):
    with pytest.raises(CorruptModelError) as info:
        call(*arguments, **options)
    return str(info.value)


def test_files_are_refused_with_the_errors_of_a_loaded_one(tmp_path):
    random, path = np.random.default_rng(1), tmp_path / "m"
    contents = [damaged(DATA, random) for _ in range(30)]
    description = description_of(DATA)
    contents += [
        dump_tree(1, content="checkpoint"),
        sealed(description | {"format": 2}, {}),
        sealed(description | {"format": "1"}, {}),
        sealed(description | {"tree": {"array": "nothing"}}, {}),
        sealed(
            description | {"tree": {"array": "flags"}},
            {"flags": torch.tensor([2], dtype=torch.uint8).view(torch.bool)},
        ),
    ]
    for data in contents:
        if data != DATA:
            expected = error_of(load_tree, data, source=repr(str(path)))
            assert error_of(read, path, data) == expected
    assert len(contents) == 35
