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

from ._saving import dump_tree, read_checked, write_atomically

#: Seconds between two checkpoints, at least.
INTERVAL = 1.0
#: Parameters that do not change the result.
WITHOUT_EFFECT = frozenset({"verbose", "checkpoint_dir", "n_jobs"})


class DiskCheckpoint:
    """Checkpoint in a folder, of one training with given parameters and data.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    fingerprint : str
        Of parameters and data, from `fingerprint`.

    Raises
    ------
    ValueError
        If the folder holds the checkpoint of another training.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: str):
        self.path = Path(folder) / "training.safetensors"
        self.fingerprint = fingerprint
        self.seed: int | None = None
        self._state: dict[str, Any] | None = None
        self._written = -INTERVAL
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            kept = read_checked(self.path, content="checkpoint")
            if kept["fingerprint"] != fingerprint:
                raise ValueError(
                    f"checkpoint_dir={os.fspath(folder)!r} holds the checkpoint of a training with "
                    "other parameters or data; choose another folder, or delete it."
                )
            self.seed, self._state = kept["seed"], kept["state"]

    def load(self) -> dict[str, Any] | None:
        """State that was kept, if any."""
        return self._state

    def save(self, state: dict[str, Any], *, final: bool) -> None:
        """Replace the file, unless that was done a moment ago."""
        now = time.monotonic()
        if final or now - self._written >= INTERVAL:
            tree = {"fingerprint": self.fingerprint, "seed": self.seed, "state": state}
            write_atomically(self.path, dump_tree(tree, content="checkpoint"))
            self._written = now


class MemoryCheckpoint:
    """Weights' moments and generators from one call of `partial_fit` to the next."""

    def __init__(self, state: dict[str, Any] | None):
        self.state = state

    def load(self) -> dict[str, Any] | None:
        """State of the call before, as a training that has not begun."""
        if self.state is None:
            return None
        n_steps = self.state["counts"][2]
        fresh = {"counts": [0, 0, n_steps, 0], "train": [], "validation": []}
        return self.state | fresh

    def save(self, state: dict[str, Any], *, final: bool) -> None:
        """Keep the state."""
        self.state = state


def fingerprint(params: dict[str, Any], arrays: list[np.ndarray | None]) -> str:
    """Digest of what decides the result of a training."""
    digest = hashlib.sha256()
    deciding = sorted((k, v) for k, v in params.items() if k not in WITHOUT_EFFECT)
    digest.update(repr(deciding).encode())
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        digest.update(repr((array.shape, array.dtype.str)).encode())
        if array.dtype == object:
            digest.update(repr(array.tolist()).encode())
        else:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
