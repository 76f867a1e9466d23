"""A multilayer perceptron on all values of a row.

Each choice and its reason:

- **Every value has a scale of its own**: nothing is known of how values are related.
- **A mask next to the values**, since 0 is also a value.
- **A piecewise-linear encoding** [1]_ of each value, if asked for: it lets one layer follow what
  changes fast along one value, and costs on smooth problems.
- **Residual layers with layer normalisation first** [2]_: depth does no harm, and no row depends
  on the others of its batch.

References
----------
.. [1] Gorishniy, Rubachev and Babenko (2022), On embeddings for numerical features in tabular deep
   learning.
.. [2] Xiong et al. (2020), On layer normalization in the transformer architecture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import Encoder, EncoderModule, check_positive, quantiles, some_rows

#: Intervals between quantiles that are closer than this, in standard deviations, are widened.
NARROW = 1e-3


class PlainEncoder(Encoder):
    """Multilayer perceptron with residual layers, for rows of any shape.

    Parameters
    ----------
    n_features : int, default=16
        Number of features.
    width : int, default=128
        Width of all layers.
    n_layers : int, default=2
        Residual layers.
    n_knots : int, default=0
        Quantiles of each value between which it is encoded piecewise linearly, next to the value
        itself; 0 means no encoding, otherwise at least 2.

    See Also
    --------
    SpectrumEncoder : Where neighbouring values belong together.

    Notes
    -----
    Values that are nan are missing ones.

    Examples
    --------
    >>> import torch
    >>> from sklearn_san.encoders import PlainEncoder
    >>> module = PlainEncoder(n_features=5)((8,))
    >>> module(torch.zeros(3, 8)).shape
    torch.Size([3, 5])
    """

    def __init__(
        self, n_features: int = 16, *, width: int = 128, n_layers: int = 2, n_knots: int = 0
    ):
        self.n_features = n_features
        self.width = width
        self.n_layers = n_layers
        self.n_knots = n_knots

    def _build(self, shape: tuple[int, ...]) -> Perceptron:
        check_positive("width", self.width)
        check_positive("n_layers", self.n_layers, least=0)
        check_positive("n_knots", self.n_knots, least=0)
        if self.n_knots == 1:
            raise ValueError("n_knots must be 0 or at least 2, got 1.")
        return Perceptron(
            shape,
            n_features=self.n_features,
            width=self.width,
            n_layers=self.n_layers,
            n_knots=self.n_knots,
        )


class Perceptron(EncoderModule):
    """Module of `PlainEncoder`.

    Parameters
    ----------
    shape : tuple of int
        Of a row.
    n_features, width, n_layers, n_knots
        As in the encoder.
    """

    def __init__(
        self, shape: tuple[int, ...], *, n_features: int, width: int, n_layers: int, n_knots: int
    ):
        super().__init__(shape, shape)
        n_values = math.prod(shape)
        # In standard deviations, even until `observe` has seen quantiles
        knots = torch.linspace(-2.0, 2.0, n_knots)[:, None].expand(-1, n_values)
        self.register_buffer("knots", knots.clone())  # (n_knots, n_values)
        self.knots: Tensor
        n_inputs = n_values * (2 + max(n_knots - 1, 0))
        self.first = nn.Linear(n_inputs, width)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
            )
            for _ in range(n_layers)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, n_features))

    def _columns(self, values: Tensor) -> Tensor:
        return values.flatten(1)

    @torch.no_grad()
    def observe(self, values: Tensor) -> None:
        """Set location and scale, and the knots, to those of the rows ``(n, *shape)``."""
        super().observe(values)
        if len(self.knots):
            standard = some_rows(((values - self.location) / self.scale).flatten(1))
            self.knots.copy_(quantiles(standard, torch.linspace(0.0, 1.0, len(self.knots))))

    def _encode(self, values: Tensor, seen: Tensor) -> Tensor:
        x, mask = values.flatten(1), seen.flatten(1)
        parts = [x, mask]
        if len(self.knots):
            low, width = self.knots[:-1], self.knots.diff(dim=0).clamp(min=NARROW)
            progress = ((x[:, None] - low) / width).clamp(0.0, 1.0)
            parts.append(((2.0 * progress - 1.0) * mask[:, None]).flatten(1))
        h = self.first(torch.cat(parts, 1))
        for layer in self.layers:
            h = h + layer(h)
        return self.head(h)
