"""Trees of data: values come back as they were; others can neither be written nor read."""

import numpy as np
import pytest
import torch

from sklearn_san._container import description_of, dump_tree, load_tree, sealed
from sklearn_san._trees import Encoder
from sklearn_san.exceptions import CorruptModelError
from sklearn_san.likelihoods import MixtureOfGaussians

VALUES = [
    None,
    True,
    -0.0,
    float("inf"),
    float("-inf"),
    5e-324,
    2**80,
    "é\ud800\x00",
    (1, (2, [3, {"x": (4,)}])),
    {1: 2, (1, 2): 3, None: 4, "a.b": {"c": 5}, "a": {"b.c": 6}},
    np.float64(1.5),
    np.bool_(True),
    np.str_("text"),
    np.uint64(2**64 - 1),
    np.zeros((0, 3)),
    np.array([], dtype="U3"),
    np.array(3.5),
    np.array(["é", "two"]),
    np.array([["x", True], [None, 2.5]], dtype=object),
    np.array(["long", ""], dtype=np.dtypes.StringDType()),
    np.arange(6.0).reshape(2, 3).T,
    np.arange(24).reshape(2, 3, 4).T,
    np.arange(10)[::2],
    np.array([1, 2], dtype=">i4"),
    np.array([1 + 2j, np.nan]),
    np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
    np.array([True, False]),
    torch.zeros(0),
    torch.arange(6.0).reshape(2, 3).T,
    torch.tensor(2.0, dtype=torch.bfloat16),
    torch.float32,
    torch.device("cuda:1"),
    {"__metadata__": np.arange(3), "": np.arange(2)},
]


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert_same(list(first.items()), list(second.items()))
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for pair in zip(first, second, strict=True):
            assert_same(*pair)
    elif isinstance(first, np.ndarray):
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert first.flags.fnc == second.flags.fnc
        assert second.flags.writeable
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    else:
        assert first == second
        assert repr(first) == repr(second)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_values_come_back_as_they_were(value):
    data = dump_tree(value)
    assert_same(value, load_tree(data))
    assert dump_tree(load_tree(data)) == data


def test_all_values_in_one_tree():
    assert_same(VALUES, load_tree(dump_tree(VALUES)))
    assert np.isnan(load_tree(dump_tree(float("nan"))))


def test_one_instance_stays_one():
    family = MixtureOfGaussians(K=2)
    first, second = load_tree(dump_tree([family, {"again": family}]))
    assert second["again"] is first


def test_memory_is_not_shared_with_the_data():
    tensor = torch.zeros(3)
    tree = {"all": tensor, "part": tensor[1:], "parameter": torch.nn.Parameter(tensor, False)}
    again = load_tree(dump_tree(tree))
    again["all"] += 1.0
    assert again["part"].tolist() == [0.0, 0.0]
    assert tensor.tolist() == [0.0, 0.0, 0.0]
    assert not again["parameter"].requires_grad


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (print, "builtin_function_or_method"),
        ({1}, "set"),
        (b"", "bytes"),
        (np.ma.array([1.0]), "MaskedArray of float64"),
        (np.zeros(1, dtype=[("a", "f4")]), "ndarray of "),
        (np.random.default_rng(0), "Generator"),
        (np.random.RandomState(np.random.PCG64(0)), "RandomState"),
        (np.array([print]), "builtin_function_or_method"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_that_are_no_data(value, kind):
    with pytest.raises(TypeError, match=rf"a\[0\].* holds a value of type {kind}.*, which cannot"):
        dump_tree({"a": [value]})
    with pytest.raises(TypeError, match="The tree holds a value of type set"):
        dump_tree({1, 2})


def tree_of(value):
    """JSON of a value, and its arrays."""
    encoder = Encoder()
    return encoder.encode(value, ""), encoder.tensors


def read(node, **arrays):
    """What is read from a made-up tree."""
    tensors = {name: torch.as_tensor(value) for name, value in arrays.items()}
    return load_tree(sealed(description_of(dump_tree(None)) | {"tree": node}, tensors))


@pytest.mark.parametrize(
    "node",
    [
        {"call": ["os.system", "true"]},
        {"instance": ["os.system", []]},
        {"instance": ["SAN", 1]},
        {"bytes": ["weight", "O", [1]]},
        {"bytes": ["weight", "?", [8]]},
        {"bytes": ["weight", "<U1", [1]]},
        {"bytes": ["weight", "<i4", [3]]},
        {"array": "nothing"},
        {"again": 5},
        {"dtype": "torch.load"},
        {"device": "elsewhere"},
        {"tuple": 1},
        {"scalar": {"array": "weight"}, "more": 1},
        {"scalar": {"array": "weight"}},
        {"parameter": ["weight", "text"]},
        {"objects": [[3], [1]]},
        {"dict": [[[], 1]]},
        {"random": {"dict": []}},
    ],
    ids=str,
)
def test_trees_that_were_made_up_are_refused(node):
    with pytest.raises(
        CorruptModelError, match=r"cannot be rebuilt: a\[1\]\.b.* (is no|must|names)"
    ):
        read({"dict": [["a", [0, {"dict": [["b", node]]}]]]}, weight=np.full(4, 255, np.uint8))


def test_booleans_that_are_neither_true_nor_false_are_refused():
    strange = torch.tensor([0, 1, 2], dtype=torch.uint8).view(torch.bool)
    with pytest.raises(CorruptModelError, match="flags holds booleans that are neither 0 nor 1"):
        read({"array": "flags"}, flags=strange)


@pytest.mark.parametrize(
    ("name", "value"),
    [("pos", 625), ("pos", -1), ("pos", 1.5), ("key", np.arange(623, dtype=np.uint32))],
    ids=["beyond", "negative", "fraction", "short"],
)
def test_states_of_generators_that_read_elsewhere_are_refused(name, value):
    state = np.random.RandomState(0).get_state(legacy=False)
    node, tensors = tree_of(state | {"state": state["state"] | {name: value}})
    with pytest.raises(CorruptModelError, match=r"a.state must be the state of a Mersenne twister"):
        read({"dict": [["a", {"random": node}]]}, **tensors)


def test_trees_that_are_too_deep_are_refused():
    node = 1
    for _ in range(200):
        node = [{"tuple": [node]}]
    with pytest.raises(CorruptModelError, match=r"cannot be rebuilt \(RecursionError"):
        read(node)
