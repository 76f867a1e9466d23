"""Sets of varying size: each element for itself, then means that do not ask for the order.

Each choice and its reason:

- **One small network for all elements, then means over them** [1]_: every function of a set that
  does not depend on the order can be written so.
- **The plain mean and attention** [2]_: sufficient statistics of independent elements are means;
  the few elements that matter among many need weights.
- **An element that is not there has a score too**, so that attention over an empty set is no
  division by zero, and weights fall where nothing fits.
- **The logarithm of the size** next to them: means forget it, and errors fall with it.
- **A mask for each column**, so that an element may lack some of its values.

References
----------
.. [1] Zaheer et al. (2017), Deep sets.
.. [2] Lee et al. (2019), Set transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .base import Encoder, EncoderModule, check_positive


def pad_sets(sets: Sequence[Any], max_length: int | None = None) -> np.ndarray:
    """Put sets of different sizes into one array, padded with rows of nan.

    Parameters
    ----------
    sets : sequence of array-like of shape (length, n_columns) or (length,)
        Elements of each set in rows; one-dimensional ones have one column. Sets may be empty.
    max_length : int, default=None
        Elements for which there is place, as many as at `fit` in rows to predict; None takes the
        size of the largest set.

    Returns
    -------
    ndarray of shape (n_sets, max_length, n_columns)
        Of float32 if all sets are, else of float64.

    Raises
    ------
    ValueError
        If there is no set, if the numbers of columns differ, if a set is larger than `max_length`,
        or if an element is nan throughout, which could not be told from padding.

    Examples
    --------
    >>> from sklearn_san.encoders import pad_sets
    >>> pad_sets([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]])
    array([[[ 1.,  2.],
            [ 3.,  4.]],
           [[ 5.,  6.],
            [nan, nan]]])
    """
    arrays = [_as_set(one, i) for i, one in enumerate(sets)]
    if not arrays:
        raise ValueError("sets is empty; pass at least one set, which may have no elements.")
    # An empty list says nothing about columns
    wide = [i for i, array in enumerate(arrays) if array.shape[1]]
    n_columns = arrays[wide[0]].shape[1] if wide else 1
    for i in wide:
        if arrays[i].shape[1] != n_columns:
            raise ValueError(
                f"sets[{wide[0]}] has {n_columns} columns and sets[{i}] has {arrays[i].shape[1]}; "
                "give all the same columns, nan where a value is missing."
            )
    largest = max(len(array) for array in arrays)
    if max_length is None:
        max_length = max(largest, 1)
    check_positive("max_length", max_length)
    if largest > max_length:
        i = next(i for i, array in enumerate(arrays) if len(array) > max_length)
        raise ValueError(
            f"sets[{i}] has {len(arrays[i])} elements, more than max_length={max_length}; raise "
            "max_length or leave elements out."
        )
    single = all(array.dtype == np.float32 for array in arrays)
    shape = (len(arrays), max_length, n_columns)
    padded = np.full(shape, np.nan, dtype=np.float32 if single else np.float64)
    for row, array in zip(padded, arrays, strict=True):
        if len(array):
            row[: len(array)] = array
    return padded


def _as_set(values: Any, i: int) -> np.ndarray:
    """Array (length, n_columns); no columns where an empty list does not say how many."""
    array: np.ndarray = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(float)
    if array.ndim == 1:
        array = array.reshape((-1, 1) if len(array) else (0, 0))
    if array.ndim != 2:
        raise ValueError(
            f"sets[{i}] has shape {array.shape}; a set has shape (length, n_columns) or (length,)."
        )
    empty = np.flatnonzero(np.isnan(array).all(axis=1))
    if len(empty) and array.size:
        raise ValueError(
            f"sets[{i}][{empty[0]}] is nan throughout and would pass for padding; leave it out."
        )
    return array


class SetEncoder(Encoder):
    """Deep set with attention, for sets of varying size such as irregular light curves.

    Parameters
    ----------
    n_features : int, default=16
        Number of features.
    width : int, default=64
        Width of all layers.
    n_heads : int, default=4
        Heads of attention; they share the width, of which they must be a divisor.

    See Also
    --------
    pad_sets : Puts sets into one array.

    Notes
    -----
    Rows have shape ``(max_length, n_columns)``; elements that are nan throughout are padding and
    may stand anywhere. Neither they nor the order of the elements change the features, apart
    from rounding. A set may be empty.

    Examples
    --------
    >>> import torch
    >>> from sklearn_san.encoders import SetEncoder, pad_sets
    >>> X = pad_sets([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]])
    >>> module = SetEncoder(n_features=5)(X.shape[1:])
    >>> module(torch.tensor(X)).shape
    torch.Size([2, 5])
    """

    def __init__(self, n_features: int = 16, *, width: int = 64, n_heads: int = 4):
        self.n_features = n_features
        self.width = width
        self.n_heads = n_heads

    def _build(self, shape: tuple[int, ...]) -> DeepSet:
        self._check_dimensions(shape, {2: "(max_length, n_columns)"})
        check_positive("width", self.width)
        check_positive("n_heads", self.n_heads)
        if self.width % self.n_heads:
            raise ValueError(
                f"width={self.width} is not a multiple of n_heads={self.n_heads}; change one of "
                "them."
            )
        return DeepSet(shape, n_features=self.n_features, width=self.width, n_heads=self.n_heads)


class DeepSet(EncoderModule):
    """Module of `SetEncoder`.

    Parameters
    ----------
    shape : tuple of int
        ``(max_length, n_columns)``.
    n_features, width, n_heads
        As in the encoder.
    """

    def __init__(self, shape: tuple[int, ...], *, n_features: int, width: int, n_heads: int):
        super().__init__(shape, shape[1:])
        self.n_heads = n_heads
        self.element = nn.Sequential(
            nn.Linear(2 * shape[1], width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.value = nn.Linear(width, width)
        self.score = nn.Linear(width, n_heads)
        self.score_of_nothing = nn.Parameter(torch.zeros(n_heads))
        self.head = nn.Sequential(
            nn.Linear(2 * width + 1, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, n_features),
        )

    def _columns(self, values: Tensor) -> Tensor:
        return values.reshape(-1, values.shape[-1])

    def _encode(self, values: Tensor, seen: Tensor) -> Tensor:
        there = (seen > 0).any(-1, keepdim=True)  # (n, max_length, 1)
        size = there.sum(1).to(values.dtype)  # (n, 1)
        h = self.element(torch.cat([values, seen], -1))  # (n, max_length, width)
        mean = torch.where(there, h, 0.0).sum(1) / size.clamp(min=1.0)
        score = torch.where(there, self.score(h), -torch.inf)
        nothing = self.score_of_nothing.expand(len(values), 1, -1)
        weight = torch.cat([score, nothing], 1).softmax(1)[:, :-1]  # (n, max_length, n_heads)
        value = self.value(h).unflatten(-1, (self.n_heads, -1))
        attended = torch.einsum("nlh,nlhw->nhw", weight, value).flatten(1)
        return self.head(torch.cat([mean, attended, size.log1p()], 1))
