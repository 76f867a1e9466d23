"""Files of models that nobody saved: the golden ones with one entry changed, digest made right."""

import copy
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load

from sklearn_san._container import description_of, sealed

GOLDEN = Path(__file__).parent / "golden"
#: Nodes of a tree that stand for an array, which is under their (first) content.
ARRAYS = ("array", "transposed", "tensor", "parameter", "bytes")
REMOVED = object()


@cache
def _parts(model):
    data = (GOLDEN / f"{model}.safetensors").read_bytes()
    return description_of(data), load(data)


def parts(model):
    """Description and arrays of a golden file, to be changed."""
    return copy.deepcopy(_parts(model))


def children(node):
    """Entries of a node by name: each a list or dict that holds it, and where."""
    if isinstance(node, list):
        return {str(i): (node, i) for i in range(len(node))}
    if not isinstance(node, dict):
        return {}
    ((kind, content),) = node.items()
    if kind in ("dict", "instance"):
        pairs = content if kind == "dict" else content[1]
        return {str(pair[0]): (pair, 1) for pair in pairs}
    if kind in ("tuple", "objects"):
        return children(content if kind == "tuple" else content[1])
    if kind in ("scalar", "random"):
        return children(content)
    return {}


def find(tree, path):
    """What holds the entry at a path such as ``network_.blocks.0.shape``, and where."""
    place = ([tree], 0)
    for name in path.split("."):
        place = children(place[0][place[1]])[name]
    return place


def all_paths(node, prefix=""):
    """Paths of all entries of a tree."""
    for name, (holder, at) in children(node).items():
        yield prefix + name
        yield from all_paths(holder[at], f"{prefix}{name}.")


def change(tree, tensors, path, value):
    """Put `value`, JSON or a function of the array there, at a path; `REMOVED` removes it.

    A path whose last part is new adds an entry to an instance.
    """
    above, _, name = path.rpartition(".")
    holder, at = find(tree, above) if above else ([tree], 0)
    siblings = children(holder[at])
    if name not in siblings:
        ((kind, content),) = holder[at].items()
        (content if kind == "dict" else content[1]).append([name, value])
        return
    holder_of_it, at_it = siblings[name]
    node = holder_of_it[at_it]
    if value is REMOVED:
        ((kind, content),) = holder[at].items()
        pairs = content if kind == "dict" else content[1]
        pairs.remove(holder_of_it)
    elif callable(value):
        ((kind, content),) = node.items()
        if kind == "scalar":
            ((kind, content),) = content.items()
        key = content if isinstance(content, str) else content[0]
        tensors[key] = torch.as_tensor(np.array(value(tensors[key].numpy())))
    else:
        holder_of_it[at_it] = value


def made_up(model, *changes):
    """Bytes of a file of a golden model with pairs of path and value changed."""
    description, tensors = parts(model)
    for path, value in changes:
        change(description["tree"], tensors, path, value)
    return sealed(description, tensors)
