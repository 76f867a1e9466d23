"""What all encoders share: parameters that are checked, values standardised, gaps marked.

==================  ========================================================================
`Encoder`           parameters; called with the shape of a row, it gives a module
`EncoderModule`     from values of rows to features; what encoders build
==================  ========================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

#: Values beyond these quantiles do not set the scale, which so many values tell well enough.
TRIMMED, ENOUGH_VALUES = 0.001, 50_000
#: A column whose deviation is smaller than this, relative to its mean, is constant.
CONSTANT = 1e-12


class Encoder(BaseEstimator, ABC):
    """Interface of encoders: parameters, from which a module is made for rows of a given shape.

    A subclass stores its parameters, among them `n_features`, and has `_build`.
    """

    n_features: int

    def __call__(self, shape: Sequence[int]) -> EncoderModule:
        """Untrained module for rows of a shape.

        Parameters
        ----------
        shape : sequence of int
            Shape of one row.

        Returns
        -------
        EncoderModule
            From values ``(n, *shape)`` to features ``(n, n_features)``. Its weights come from the
            global generator of torch, as those of all modules.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the shape is not what the encoder takes.
        """
        check_positive("n_features", self.n_features)
        sizes = tuple(shape)
        name = type(self).__name__
        if not all(is_integer(size) and size >= 1 for size in sizes):
            raise ValueError(f"shape must have positive integers only, got {sizes} for {name}.")
        return self._build(tuple(int(size) for size in sizes))

    @abstractmethod
    def _build(self, shape: tuple[int, ...]) -> EncoderModule:
        """Module for rows of a shape of positive integers."""

    def _check_dimensions(self, shape: tuple[int, ...], accepted: dict[int, str]) -> None:
        """Refuse rows whose number of dimensions is not in `accepted`, which describes them."""
        if len(shape) not in accepted:
            kinds = " or ".join(accepted.values())
            raise ValueError(
                f"{type(self).__name__} takes rows of shape {kinds}, got {shape}; reshape X or "
                "choose another encoder."
            )


class EncoderModule(nn.Module, ABC):
    """Module that an encoder makes.

    Parameters
    ----------
    shape : tuple of int
        Shape of one row.
    statistics : tuple of int
        Shape of `location` and `scale`, which must broadcast with a row.

    Attributes
    ----------
    accepts_missing : bool
        Whether nan inside of a row are understood.
    location, scale : Tensor
        Buffers, 0 and 1 until `observe` sets them.
    """

    accepts_missing = True

    def __init__(self, shape: tuple[int, ...], statistics: tuple[int, ...]):
        super().__init__()
        self.shape = shape
        self.register_buffer("location", torch.zeros(statistics))
        self.register_buffer("scale", torch.ones(statistics))
        self.location: Tensor
        self.scale: Tensor

    @torch.no_grad()
    def observe(self, values: Tensor) -> None:
        """Set `location` and `scale` to those of the rows to train on, nan left out.

        They are the mean and the standard deviation, for which values outside the central 99.8 %
        count as the last one inside, so that a few extreme ones do not press all others together.

        Parameters
        ----------
        values : Tensor of shape (n, ...)
            Rows, whose shape is that for which the module was made.
        """
        self._check(values)
        location, scale = moments(self._columns(values))
        self.location.copy_(location.view(self.location.shape))
        self.scale.copy_(scale.view(self.scale.shape))

    @abstractmethod
    def _columns(self, values: Tensor) -> Tensor:
        """Values (n, *shape) as (n_values, n_columns); those of a column share their scale."""

    def forward(self, values: Tensor) -> Tensor:
        """Features ``(n, n_features)`` for values ``(n, *shape)``."""
        self._check(values)
        standard = (values - self.location) / self.scale
        seen = ~standard.isnan()
        dtype = self.scale.dtype
        return self._encode(torch.where(seen, standard, 0.0).to(dtype), seen.to(dtype))

    @abstractmethod
    def _encode(self, values: Tensor, seen: Tensor) -> Tensor:
        """Features of standardised values, 0 where they are missing, and 1 where they are not."""

    def _check(self, values: Tensor) -> None:
        if tuple(values.shape[1:]) != self.shape:
            raise ValueError(
                f"Rows have shape {tuple(values.shape[1:])}, but the encoder was made for "
                f"{self.shape}; pass rows of that shape, or fit again."
            )


def moments(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of (n_values, n_columns), the tails pulled in.

    Columns without values have 0 and 1, constant ones their value and 1.
    """
    columns = some_rows(columns)
    low, high = quantiles(columns, torch.tensor([TRIMMED, 1.0 - TRIMMED]))
    location, scale = _plain_moments(columns.clamp(low, high))
    # Where all but a few values are the same, these few are the scale
    own_location, own_scale = _plain_moments(columns)
    rare = scale <= CONSTANT * location.abs()
    location, scale = torch.where(rare, own_location, location), torch.where(rare, own_scale, scale)
    return location, torch.where(scale > CONSTANT * location.abs(), scale, 1.0)


def _plain_moments(columns: Tensor) -> tuple[Tensor, Tensor]:
    location = columns.nanmean(0).nan_to_num()
    return location, (columns - location).square().nanmean(0).sqrt().nan_to_num()


def some_rows(columns: Tensor) -> Tensor:
    """At most `ENOUGH_VALUES` rows of (n_values, n_columns), the same each time.

    On the CPU in double precision, which other devices may lack.
    """
    if len(columns) > ENOUGH_VALUES:
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randint(len(columns), (ENOUGH_VALUES,), generator=generator)
        columns = columns[chosen.to(columns.device)]
    return columns.cpu().double()


def quantiles(columns: Tensor, levels: Tensor) -> Tensor:
    """Order statistics next to the levels, nan left out; (n_levels, n_columns), 0 where none is."""
    ordered = columns.sort(0).values  # nan come last
    last = ((~columns.isnan()).sum(0) - 1).clamp(min=0)
    places = (levels.double()[:, None] * last).round().long()
    return ordered.gather(0, places).nan_to_num()


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_positive(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is not an integer of at least `least`."""
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer of at least {least}, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")


def check_widths(name: str, value: Any) -> None:
    """Refuse what is not a non-empty sequence of positive integers."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a tuple of positive integers, got {value!r}.")
    if not value or not all(is_integer(width) and width >= 1 for width in value):
        raise ValueError(f"{name} must be a tuple of one or more positive integers, got {value!r}.")


def check_odd(name: str, value: Any) -> None:
    """Refuse what is not an odd positive integer, which alone keeps the length of a row."""
    if not is_integer(value):
        raise TypeError(f"{name} must be an odd positive integer, got {value!r}.")
    if value < 1 or value % 2 == 0:
        raise ValueError(f"{name} must be an odd positive integer, got {value!r}.")
