"""Residual convolutions along one axis (spectra, light curves) or two (images).

Each choice and its reason:

- **Three kinds of input channels**: the standardised values, 0 where they are missing; a mask,
  since 0 is also a value; the coordinates along each axis, so that a filter may know where it is.
- **Residual blocks with the norm first** [1]_: what enters passes through all stages as it is, so
  that fluxes survive the normalisation of each row. Group normalisation with one group [2]_ looks
  at one row alone, so that no row depends on the others of its batch.
- **Averages of two neighbours** between stages, rather than strides: these would tell even from
  odd pixels, and a line that moves by one pixel would change the features in jumps.
- **Two ways to read the last stage**: averages over a few bins along each axis, since one average
  over all would forget where a line is; and attention, whose mean coordinates follow one source
  to fractions of a pixel.
- **SiLU**: smooth, as the posterior is in the values.

References
----------
.. [1] He, Zhang, Ren and Sun (2016), Identity mappings in deep residual networks.
.. [2] Wu and He (2018), Group normalization.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import Encoder, EncoderModule, check_odd, check_positive, check_widths

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
MEANS = {1: functional.avg_pool1d, 2: functional.avg_pool2d}
BINS = {1: functional.adaptive_avg_pool1d, 2: functional.adaptive_avg_pool2d}
#: Width of the layer between what is read and the features; heads of attention and their width.
HIDDEN, N_HEADS, HEAD_WIDTH = 64, 4, 8


class SpectrumEncoder(Encoder):
    """Residual convolutions for spectra and light curves on a common grid.

    Parameters
    ----------
    n_features : int, default=16
        Number of features.
    channels : tuple of int, default=(16, 32, 64)
        Channels of each stage. Every further stage halves the resolution: some three stages for
        100 pixels, five for 1,000.
    kernel_size : int, default=7
        Pixels that each convolution looks at, odd; about the width of the narrowest line.
    n_bins : int, default=8
        Bins along the spectrum over which the last stage is averaged.

    See Also
    --------
    ImageEncoder : For two axes.
    SetEncoder : For observations at irregular times.

    Notes
    -----
    Rows have shape ``(length,)`` or ``(channels, length)``. Pixels that are nan are bad ones. All
    pixels of a channel share their scale: take the logarithm or the arcsinh of what spans
    decades.

    Examples
    --------
    >>> import torch
    >>> from sklearn_san.encoders import SpectrumEncoder
    >>> module = SpectrumEncoder(n_features=5)((200,))
    >>> module(torch.zeros(3, 200)).shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        n_features: int = 16,
        *,
        channels: tuple[int, ...] = (16, 32, 64),
        kernel_size: int = 7,
        n_bins: int = 8,
    ):
        self.n_features = n_features
        self.channels = channels
        self.kernel_size = kernel_size
        self.n_bins = n_bins

    def _build(self, shape: tuple[int, ...]) -> Convolutions:
        self._check_dimensions(shape, {1: "(length,)", 2: "(channels, length)"})
        return _convolutions(self, shape, 1)


class ImageEncoder(Encoder):
    """Residual convolutions for images.

    Parameters
    ----------
    n_features : int, default=16
        Number of features.
    channels : tuple of int, default=(16, 32, 64)
        Channels of each stage. Every further stage halves the resolution: some three stages for
        16 x 16 pixels, five for 64 x 64.
    kernel_size : int, default=3
        Pixels along each axis that each convolution looks at, odd.
    n_bins : int, default=4
        Bins along each axis over which the last stage is averaged.

    See Also
    --------
    SpectrumEncoder : For one axis.

    Notes
    -----
    Rows have shape ``(height, width)`` or ``(channels, height, width)``. Pixels that are nan are
    bad ones. All pixels of a channel share their scale: take the logarithm or the arcsinh of
    what spans decades.

    Examples
    --------
    >>> import torch
    >>> from sklearn_san.encoders import ImageEncoder
    >>> module = ImageEncoder(n_features=5)((3, 16, 16))
    >>> module(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_features: int = 16,
        *,
        channels: tuple[int, ...] = (16, 32, 64),
        kernel_size: int = 3,
        n_bins: int = 4,
    ):
        self.n_features = n_features
        self.channels = channels
        self.kernel_size = kernel_size
        self.n_bins = n_bins

    def _build(self, shape: tuple[int, ...]) -> Convolutions:
        self._check_dimensions(shape, {2: "(height, width)", 3: "(channels, height, width)"})
        return _convolutions(self, shape, 2)


def _convolutions(
    encoder: SpectrumEncoder | ImageEncoder, shape: tuple[int, ...], n_axes: int
) -> Convolutions:
    check_widths("channels", encoder.channels)
    check_odd("kernel_size", encoder.kernel_size)
    check_positive("n_bins", encoder.n_bins)
    return Convolutions(
        shape,
        n_axes,
        n_features=encoder.n_features,
        channels=tuple(encoder.channels),
        kernel_size=encoder.kernel_size,
        n_bins=encoder.n_bins,
    )


class Convolutions(EncoderModule):
    """Module of `SpectrumEncoder` and `ImageEncoder`.

    Parameters
    ----------
    shape : tuple of int
        Of a row: the pixels along each axis, after the number of channels if there are several.
    n_axes : int
        1 or 2.
    n_features, channels, kernel_size, n_bins
        As in the encoders.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        n_axes: int,
        *,
        n_features: int,
        channels: tuple[int, ...],
        kernel_size: int,
        n_bins: int,
    ):
        n_channels = 1 if len(shape) == n_axes else shape[0]
        super().__init__(shape, (*shape[: len(shape) - n_axes], *(1,) * n_axes))
        self.n_axes, self.n_channels, self.pixels = n_axes, n_channels, shape[-n_axes:]
        along = [torch.linspace(-1.0, 1.0, size) for size in self.pixels]
        grid = torch.stack(torch.meshgrid(*along, indexing="ij"))
        self.register_buffer("coordinates", grid)  # (n_axes, *pixels)
        self.coordinates: Tensor

        convolution = CONVOLUTIONS[n_axes]
        self.first = convolution(
            2 * n_channels + n_axes, channels[0], kernel_size, padding=kernel_size // 2
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(convolution, n_in, n_out, kernel_size)
            for n_in, n_out in pairwise((channels[0], *channels))
        )
        self.norm = nn.GroupNorm(1, channels[-1])
        self.attention = Attention(convolution, channels[-1], n_axes)
        left = [math.ceil(size / 2 ** (len(channels) - 1)) for size in self.pixels]
        self.bins = tuple(min(n_bins, size) for size in left)
        self.head = nn.Sequential(
            nn.Linear(channels[-1] * math.prod(self.bins) + self.attention.width, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, n_features),
        )

    def _columns(self, values: Tensor) -> Tensor:
        pixels = values.reshape(len(values), self.n_channels, -1)
        return pixels.transpose(1, 2).reshape(-1, self.n_channels)

    def _encode(self, values: Tensor, seen: Tensor) -> Tensor:
        images = (len(values), self.n_channels, *self.pixels)
        coordinates = self.coordinates.expand(len(values), *self.coordinates.shape)
        h = self.first(torch.cat([values.reshape(images), seen.reshape(images), coordinates], 1))
        for i, block in enumerate(self.blocks):
            if i:
                h, coordinates = self._halved(h), self._halved(coordinates)
            h = block(h)  # (n, channels[i], *pixels / 2**i)
        h = functional.silu(self.norm(h))
        binned = BINS[self.n_axes](h, self.bins).flatten(1)
        return self.head(torch.cat([binned, self.attention(h, coordinates)], 1))

    def _halved(self, h: Tensor) -> Tensor:
        """Means of neighbours; the last of an odd number has none and stays."""
        return MEANS[self.n_axes](h, 2, ceil_mode=True)


class ResidualBlock(nn.Module):
    """Two convolutions, each after normalisation and activation, added to what they see."""

    def __init__(self, convolution: type[nn.Module], n_in: int, n_out: int, kernel_size: int):
        super().__init__()
        same = {"padding": kernel_size // 2}
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in (n_in, n_out))
        self.convolutions = nn.ModuleList(
            convolution(width, n_out, kernel_size, **same) for width in (n_in, n_out)
        )
        self.skip = nn.Identity() if n_in == n_out else convolution(n_in, n_out, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Features (n, n_out, *pixels) of h (n, n_in, *pixels)."""
        change = h
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            change = convolution(functional.silu(norm(change)))
        return self.skip(h) + change


class Attention(nn.Module):
    """Means of features, coordinates and squares of coordinates, weighted by several heads."""

    def __init__(self, convolution: type[nn.Module], n_channels: int, n_axes: int):
        super().__init__()
        self.score = convolution(n_channels, N_HEADS, 1)
        self.value = convolution(n_channels, HEAD_WIDTH, 1)
        self.width = N_HEADS * (HEAD_WIDTH + 2 * n_axes)

    def forward(self, h: Tensor, coordinates: Tensor) -> Tensor:
        """Means (n, width) for h (n, n_channels, *pixels) and coordinates (n, n_axes, *pixels)."""
        weight = self.score(h).flatten(2).softmax(-1)  # (n, n_heads, n_pixels)
        parts = [self.value(h), coordinates, coordinates.square()]
        values = torch.cat([part.flatten(2) for part in parts], 1)
        return (weight @ values.transpose(1, 2)).flatten(1)
