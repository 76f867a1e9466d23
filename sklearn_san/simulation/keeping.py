"""Simulations in a folder, of one prior and one simulator, from which a killed run goes on.

=============================  ===========================================================
file                           holds
=============================  ===========================================================
``simulations.json``           what the run is (`Folder`), and what came out of it
``batch-000003.theta.npy``     parameters, (n, n_parameters)
``batch-000003.x0.npy``        simulated data, (n, ...); x1 and so on of a dict
``batch-000003.json``          their names, and the rows that failed; written last
=============================  ===========================================================

Every file is written whole or not at all. A batch is there if its last file is.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import io
import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from .._files import write_atomically

MANIFEST = "simulations.json"
#: What a manifest says of the run, and how an error calls it.
FACTS = {
    "prior": "prior",
    "simulate": "simulator",
    "batch_size": "batch_size",
    "allow_missing": "allow_missing",
    "seed": "random_state",
    "region": "x_o, estimator, epsilon or n_simulations_per_round",
}


class Folder:
    """Batches of one run.

    Parameters
    ----------
    path : str or path
        Made if it is missing.
    facts : dict
        What the result depends on, by the names of `FACTS`.
    chosen_seed : object
        None if the seed was drawn and that of an earlier run is to be taken.

    Attributes
    ----------
    seed : int
        That of the run.

    Raises
    ------
    ValueError
        If the folder holds another run.
    """

    def __init__(self, path: Any, facts: dict[str, Any], *, chosen_seed: Any):
        self.path, self.facts = Path(path), dict(facts)
        self.path.mkdir(parents=True, exist_ok=True)
        manifest = self.path / MANIFEST
        if manifest.exists():
            try:
                kept = json.loads(manifest.read_text())
                kept = {name: kept[name] for name in FACTS}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{str(manifest)!r} is damaged ({error!r}); delete the folder."
                ) from None
            if chosen_seed is None:
                self.facts["seed"] = kept["seed"]
            for name, called in FACTS.items():
                if kept[name] != self.facts[name]:
                    raise ValueError(
                        f"cache_dir {str(path)!r} holds simulations of another run, whose {called} "
                        "is not the same; give another folder, or delete this one."
                    )
        else:
            self._tell({})

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.facts["seed"]

    def _tell(self, outcome: dict[str, Any]) -> None:
        text = json.dumps(self.facts | outcome, indent=1)
        write_atomically(self.path / MANIFEST, text.encode())

    def close(self, n_rows: int, n_failed: int, message: str) -> None:
        """Write what came out of the run."""
        self._tell({"n_rows": n_rows, "n_failed": n_failed, "first_failure": message})

    def _file(self, number: int, what: str) -> Path:
        return self.path / f"batch-{number:06d}.{what}"

    def read(self, number: int, size: int) -> tuple[Any, ...] | None:
        """Theta, data by name, failed rows and message of a batch, or None if it is not there.

        A batch of another size is the last one of a smaller run, and made anew.
        """
        if not self._file(number, "json").exists():
            return None
        about = json.loads(self._file(number, "json").read_text())
        if about["size"] != size:
            return None
        theta = self._load(number, "theta")
        x = {name: self._load(number, f"x{i}") for i, name in enumerate(about["names"])}
        failed = np.zeros(size, dtype=bool)
        failed[about["failed"]] = True
        return theta, x, failed, about["message"]

    def _load(self, number: int, what: str) -> np.ndarray:
        return np.load(self._file(number, f"{what}.npy"), mmap_mode="r", allow_pickle=False)

    def write(
        self,
        number: int,
        theta: np.ndarray,
        x: dict[str, np.ndarray],
        failed: np.ndarray,
        message: str,
    ) -> None:
        """Keep a batch."""
        self._file(number, "json").unlink(missing_ok=True)
        for what, array in {"theta": theta, **{f"x{i}": x[k] for i, k in enumerate(x)}}.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            write_atomically(self._file(number, f"{what}.npy"), buffer.getvalue())
        about = {
            "size": len(theta),
            "names": list(x),
            "failed": np.flatnonzero(failed).tolist(),
            "message": message,
        }
        write_atomically(self._file(number, "json"), json.dumps(about).encode())


def told(function: Any) -> str:
    """Digest that tells a simulator from another one.

    It is made of its source and of the values in its closure, its defaults, its attributes and the
    arguments of a `partial`; of global names only the names count.
    """
    digest = hashlib.sha256()
    _feed(digest, function, set())
    return digest.hexdigest()


def _feed(digest: Any, value: Any, seen: set[int]) -> None:
    """Add what is known of a function or a value to a digest."""
    if id(value) in seen:  # a function that refers to itself
        return
    seen.add(id(value))
    parts: list[Any] = []
    if isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    elif inspect.ismethod(value):
        parts = [value.__func__, value.__self__]
    elif inspect.isfunction(value) or inspect.isclass(value):
        digest.update(_source(value).encode())
        for cell in getattr(value, "__closure__", None) or ():
            parts.append(cell.cell_contents)
        parts += [getattr(value, "__defaults__", None), getattr(value, "__kwdefaults__", None)]
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    elif isinstance(value, dict):
        parts = [one for pair in value.items() for one in pair]
    elif callable(value) and hasattr(value, "__dict__"):
        parts = [type(value), vars(value)]
    else:
        digest.update(_hashed(value).encode())
    for part in parts:
        _feed(digest, part, seen)
    digest.update(b";")


def _hashed(value: Any) -> str:
    """Digest of a value; of one that cannot be pickled its type."""
    try:
        return joblib.hash(value)
    except Exception:  # whatever a class does when it is pickled
        return f"{type(value).__module__}.{type(value).__qualname__}"


def _source(value: Any) -> str:
    """Source of a function or a class, or what it was compiled to where there is none."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        code = getattr(value, "__code__", None)
        name = f"{value.__module__}.{value.__qualname__}"
        return name if code is None else f"{name}{code.co_code!r}{code.co_consts!r}"
