"""Encoders: networks that reduce one row of X, such as a spectrum, to features.

==================  ==============================  ======================================
encoder             shape of a row                  for
==================  ==============================  ======================================
`SpectrumEncoder`   (length,)                       spectra and light curves on a common
                    (channels, length)              grid
`ImageEncoder`      (height, width)                 images
                    (channels, height, width)
`SetEncoder`        (max_length, n_columns)         sets of varying size, such as irregular
                                                    light curves, from `pad_sets`
`PlainEncoder`      any                             numbers of which no two are neighbours
==================  ==============================  ======================================

An encoder has plain parameters, which a search can vary. Called with the shape of a row, it makes a
module, whose features ``(n, n_features)`` depend on the values ``(n, *shape)`` of each row alone:

1. `observe` sees the rows to train on once, and remembers their location and scale.
2. Values are standardised; those that are nan become 0, and a mask says where.

Anything with ``__call__(shape)`` that gives a module serves as well; `Encoder` and `EncoderModule`
are what those above share.
"""

from .base import Encoder, EncoderModule
from .convolutions import ImageEncoder, SpectrumEncoder
from .plain import PlainEncoder
from .sets import SetEncoder, pad_sets

__all__ = [
    "Encoder",
    "EncoderModule",
    "ImageEncoder",
    "PlainEncoder",
    "SetEncoder",
    "SpectrumEncoder",
    "pad_sets",
]
