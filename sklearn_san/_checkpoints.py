"""State of a training on disk, so that a run that is killed at any moment can go on.

The file is replaced atomically after an epoch; a resumed run ends with the same weights as one that
was never interrupted.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ._container import dump_tree, read_checked, rebuilding
from ._distributed import ALONE, Ranks
from ._files import write_atomically
from ._kinds import (
    NONE,
    NUMBER,
    POSITIVE,
    TEXT,
    CorruptModelError,
    Kind,
    Rule,
    State,
    listed,
    whole,
)
from ._optimizer import STATE
from .exceptions import warn_caller

#: Seconds between two checkpoints, at least.
INTERVAL = 1.0
#: Parameters that do not change the result.
WITHOUT_EFFECT = frozenset({"verbose", "checkpoint_dir", "n_jobs"})


def _is_alike(tensors: Any, state: State) -> bool:
    """Whether tensors have the names, shapes and dtypes of those of the training."""
    expected = state["like"]["tensors"]
    return tensors.keys() == expected.keys() and all(
        (tensors[name].shape, tensors[name].dtype) == (one.shape, one.dtype)
        for name, one in expected.items()
    )


def _are_generators(states: Any, state: State) -> bool:
    """Whether these are states of torch's generators, as many as the training has.

    Besides the size, which torch compares, the place among the 624 words must be one to which
    their number of numbers left leads, or the next ones would be read from beyond them.
    """
    if len(states) != len(state["like"]["generators"]):
        return False
    for one in states:
        torch.Generator().set_state(one)
        n_left, place = one[8:12].view(torch.int32).item(), one[16:24].view(torch.int64).item()
        if n_left != 1 and n_left + place != 625:
            return False
    return True


_FILE = Rule(
    {
        "fingerprint": TEXT,
        "seed": NONE | whole(-(2**63), 2**64 - 1),
        "state": Kind("a dict", lambda v, _: type(v) is dict),
    }
)
_STATE = Rule(
    {
        "tensors": Kind("those of this training in names, shapes and dtypes", _is_alike),
        "generators": Kind("states of as many generators as this training has", _are_generators),
        "counts": listed(whole(0), 4),
        "peak": POSITIVE,
        "train": listed(NUMBER),
        "validation": listed(NUMBER),
    }
)


def check_state(state: State, like: State, source: str) -> None:
    """Raise `CorruptModelError` unless `state` can take the place of `like`.

    Parameters
    ----------
    state, like : dict
        States of a training, as it was kept and as it is now.
    source : str
        Where the former comes from.
    """
    with rebuilding(source):
        _STATE.check({**state, "like": like}, "state")


class DiskCheckpoint:
    """Checkpoint in a folder, of one training with given parameters and data.

    The name of the file tells them, so that a folder may hold those of several trainings, such as
    the fits of a search.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    fingerprint : str
        Of parameters and data, from `fingerprint`.
    ranks : Ranks
        Processes that train together; the first one has the folder, and tells the others.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: str, ranks: Ranks = ALONE):
        self.path = Path(folder) / f"training-{fingerprint[:16]}.safetensors"
        self.fingerprint, self.ranks = fingerprint, ranks
        self.seed: int | None = None
        self._state: State | None = None
        self._written = -INTERVAL
        if ranks.rank == 0:
            self._open()
        kept = self.seed, self._state
        self.seed, self._state = ranks.first("the checkpoint", kept)

    def _open(self) -> None:
        """Read what was kept, if anything was."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            kept = read_checked(self.path, content="checkpoint")
            with rebuilding(repr(os.fspath(self.path))):
                _FILE.check(kept, "")
            if kept["fingerprint"] != self.fingerprint:
                raise CorruptModelError(
                    f"{os.fspath(self.path)!r} holds the checkpoint of a training with other "
                    "parameters or data, so that it was renamed; delete it."
                )
            self.seed, self._state = kept["seed"], kept["state"]

    def load(self, like: State) -> State | None:
        """State that was kept, if any; `like` is that of the training as it is now."""
        if self._state is not None:
            check_state(self._state, like, repr(os.fspath(self.path)))
        return self._state

    def save(self, state: State, *, final: bool) -> None:
        """Replace the file, unless that was done a moment ago."""
        if self.ranks.rank:
            return
        now = time.monotonic()
        if final or now - self._written >= INTERVAL:
            tree = {"fingerprint": self.fingerprint, "seed": self.seed, "state": state}
            write_atomically(self.path, dump_tree(tree, content="checkpoint"))
            self._written = now


class MemoryCheckpoint:
    """State of the optimiser and generators from one call of `partial_fit` to the next."""

    def __init__(self, state: State | None):
        self.state = state

    def load(self, like: State) -> State | None:
        """State of the call before, as a training that has not begun."""
        if self.state is None:
            return None
        if self._is_of_other_optimizer(like):
            warn_caller(
                "This model comes from another version of the package, whose optimiser keeps other "
                "statistics: partial_fit goes on from its weights, with new statistics.",
                UserWarning,
            )
            return None
        check_state(self.state, like, "The state of partial_fit")
        kept = {name: self.state["tensors"][name] for name in STATE}
        n_steps = self.state["counts"][2]
        return {
            **like,
            "tensors": {**like["tensors"], **kept},
            "generators": self.state["generators"],
            "counts": [0, 0, n_steps, 0],
        }

    def _is_of_other_optimizer(self, like: State) -> bool:
        """Whether nothing but the number of the optimiser's statistics and bases differs."""
        own = self.state.get("tensors") if self.state is not None else None
        if not isinstance(own, dict) or own.keys() != like["tensors"].keys():
            return False
        differ = [
            name
            for name, one in like["tensors"].items()
            if getattr(own[name], "shape", None) != one.shape
        ]
        return bool(differ) and set(differ) <= {"statistics", "bases"}

    def save(self, state: State, *, final: bool) -> None:
        """Keep the state."""
        self.state = state


def fingerprint(parts: Any) -> str:
    """Digest of all that decides the result of a training.

    Parameters
    ----------
    parts : object
        Nested lists, tuples and dicts of numbers, text, arrays, tensors, random states and
        objects with scikit-learn's `get_params`; of a dict of parameters those that change the
        result count.

    Raises
    ------
    TypeError
        For anything else, of which one could not tell whether it is the same.
    """
    digest = hashlib.sha256()
    _feed(digest, parts)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Add a value, and what it is, to a digest."""
    digest.update(f"{type(value).__name__}(".encode())
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.shape}{value.dtype.str}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (list, tuple, np.ndarray)):
        for one in value:
            _feed(digest, one)
    elif isinstance(value, dict):
        for key in sorted(value.keys() - WITHOUT_EFFECT, key=repr):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, np.random.RandomState):
        _feed(digest, value.get_state())
    elif hasattr(value, "get_params"):
        digest.update(f"{type(value).__module__}.{type(value).__qualname__}".encode())
        _feed(digest, value.get_params(deep=False))
    elif (
        value is None
        or value is ...
        or isinstance(
            value, (bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device)
        )
    ):
        digest.update(repr(value).encode())
    else:
        raise TypeError(
            f"checkpoint_dir does not go with {value!r} among the parameters: one could not tell "
            "later whether it is the same; use numbers, text, arrays or scikit-learn's objects."
        )
    digest.update(b")")
