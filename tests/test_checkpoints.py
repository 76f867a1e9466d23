"""Checkpoints that were made up are refused; those of the package are covered by long_life."""

import numpy as np
import pytest
import torch
from conftest import small

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._container import dump_tree, read_checked
from sklearn_san._files import write_atomically
from sklearn_san.exceptions import CorruptModelError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 2))
Y = X + 0.3 * RANDOM.normal(size=(60, 2))
HUGE = 10**9


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Name of the file of a small fit, and the tree in it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    small(K=1, epochs=2, checkpoint_dir=folder).fit(X, Y)
    (file,) = folder.iterdir()
    return file.name, read_checked(file, content="checkpoint")


def displaced(state):
    """State of a generator whose next numbers lie beyond the last one."""
    changed = state.clone()
    changed[8:12] = torch.tensor([624], dtype=torch.int32).view(torch.uint8)
    changed[16:24] = torch.tensor([624], dtype=torch.int64).view(torch.uint8)
    return changed


#: Entry of the state, and what it becomes
STATES = [
    ("counts", lambda v: [-1, *v[1:]], "a list of a whole number"),
    ("counts", lambda v: v[:3], "a list of a whole number"),
    ("counts", lambda v: [1.5, *v[1:]], "a list of a whole number"),
    ("peak", lambda v: 0.0, "a positive number"),
    ("peak", lambda v: None, "a positive number"),
    ("train", lambda v: ["low"], "a list of a number"),
    ("validation", lambda v: 1, "a list of a number"),
    ("generators", lambda v: [], "states of as many generators"),
    ("generators", lambda v: [v[0][:100]], "states of as many generators"),
    ("generators", lambda v: [displaced(v[0])], "states of as many generators"),
    ("generators", lambda v: v + v, "states of as many generators"),
    ("tensors", lambda v: v | {"values": v["values"][:, :-1]}, "those of this training"),
    ("tensors", lambda v: v | {"values": v["values"][:, :1]}, "those of this training"),
    ("tensors", lambda v: v | {"values": v["values"].double()}, "those of this training"),
    ("tensors", lambda v: v | {"more": v["values"]}, "those of this training"),
    ("tensors", lambda v: v | {"best_epoch": 1}, "those of this training"),
    ("tensors", lambda v: None, "those of this training"),
]


@pytest.mark.parametrize(("name", "change", "words"), STATES)
def test_made_up_states_are_refused(name, change, words, kept, tmp_path):
    file, tree = kept
    state = tree["state"] | {name: change(tree["state"][name])}
    data = dump_tree(tree | {"state": state}, content="checkpoint")
    write_atomically(tmp_path / file, data)
    with pytest.raises(CorruptModelError, match=rf"rebuilt: state.{name} must be {words}"):
        small(K=1, epochs=2, checkpoint_dir=tmp_path).fit(X, Y)


@pytest.mark.parametrize(
    "changed", [{"fingerprint": 1}, {"seed": "1"}, {"seed": 2**64}, {"state": None}], ids=str
)
def test_made_up_files_are_refused(changed, kept, tmp_path):
    file, tree = kept
    data = dump_tree(tree | changed, content="checkpoint")
    write_atomically(tmp_path / file, data)
    with pytest.raises(CorruptModelError, match=f"rebuilt: {next(iter(changed))} must be"):
        small(K=1, epochs=2, checkpoint_dir=tmp_path).fit(X, Y)


def test_a_model_with_a_made_up_state_of_partial_fit_is_refused(tmp_path):
    est = small(K=1).partial_fit(X, Y)
    est.save(tmp_path / "m")
    SANConditionalDensityEstimator.load(tmp_path / "m").partial_fit(X, Y)
    est._increment_state["counts"] = [0, 0, -1, 0]
    est.save(tmp_path / "m")
    again = SANConditionalDensityEstimator.load(tmp_path / "m")
    with pytest.raises(CorruptModelError, match=r"state.counts must be a list"):
        again.partial_fit(X, Y)


def test_partial_fit_goes_on_from_the_weights_of_another_version(tmp_path):
    est = small(K=1).partial_fit(X, Y)
    tensors = est._increment_state["tensors"]
    tensors["bases"] = torch.zeros(len(tensors["bases"]), 7)
    est.save(tmp_path / "m")
    again = SANConditionalDensityEstimator.load(tmp_path / "m")
    with pytest.warns(UserWarning, match="goes on from its weights, with new statistics"):
        again.partial_fit(X, Y)
    assert again.n_iter_ == 2
    again.partial_fit(X, Y)  # without a warning
