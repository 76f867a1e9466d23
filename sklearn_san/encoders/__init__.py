"""Encoders: networks that reduce one row of X, such as a spectrum, to features.

==================  ======================  ==============================================
`SpectrumEncoder`   ``"spectrum"``          spectra and light curves on a common grid
`ImageEncoder`      ``"image"``             images of one or several channels
`SetEncoder`        ``"set"``               sets of varying size, such as irregular light
                                            curves; `pad_sets` puts them into one array
`PlainEncoder`      ``"plain"``             numbers in no order
==================  ======================  ==============================================

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

#: Encoders by their short names.
ENCODERS: dict[str, type[Encoder]] = {
    "spectrum": SpectrumEncoder,
    "image": ImageEncoder,
    "set": SetEncoder,
    "plain": PlainEncoder,
}

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderModule",
    "ImageEncoder",
    "PlainEncoder",
    "SetEncoder",
    "SpectrumEncoder",
    "pad_sets",
]
