"""One-dimensional likelihood families, the conditionals of each output.

A family maps the *raw* (unconstrained) numbers that a network block returns to a normalised
density ``p(y | raw)``. Choose one for all outputs or one for each, by short name or as an instance.

==============================  ==========================  =====================================
family                          short name                  support
==============================  ==========================  =====================================
`Gaussian`                      ``"gaussian"``              the whole line
`Laplace`                       ``"laplace"``               the whole line
`MixtureOfGaussians`            ``"mog"``                   the whole line
`MixtureOfLogistics`            ``"molog"``                 the whole line
`MixtureOfStudentT`             ``"most"``                  the whole line, heavy tails
`Spline`                        ``"spline"``                the whole line, sharp edges
`TruncatedMixtureOfGaussians`   ``"truncated_mog"``         ``limits``, one or both
`TruncatedMixtureOfLogistics`   ``"truncated_molog"``       ``limits``, one or both
`TruncatedMixtureOfStudentT`    ``"truncated_most"``        ``limits``, one or both
`MixtureOfBetas`                ``"mob"``                   ``limits``, both
`Softmax`                       ``"softmax"``               ``limits``, both; a histogram
`Categorical`                   ``"categorical"``           labels of any kind
`Ordinal`                       ``"ordinal"``               whole numbers; ``limits`` if any
`Inflated`                      instance only               a point mass and a family of these
==============================  ==========================  =====================================

`Likelihood` is the interface, for families of one's own; `make_likelihood` makes a family from its
short name.
"""

from __future__ import annotations

from typing import Any

from .base import Likelihood, Support
from .discrete import Categorical, Inflated, Ordinal
from .interval import MixtureOfBetas, Softmax
from .mixtures import (
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    MixtureOfLogistics,
    MixtureOfStudentT,
    TruncatedMixtureOfGaussians,
    TruncatedMixtureOfLogistics,
    TruncatedMixtureOfStudentT,
)
from .spline import Spline

__all__ = [
    "LIKELIHOODS",
    "Categorical",
    "Gaussian",
    "Inflated",
    "Laplace",
    "Likelihood",
    "MixtureOfBetas",
    "MixtureOfGaussians",
    "MixtureOfLogistics",
    "MixtureOfStudentT",
    "Ordinal",
    "Softmax",
    "Spline",
    "Support",
    "TruncatedMixtureOfGaussians",
    "TruncatedMixtureOfLogistics",
    "TruncatedMixtureOfStudentT",
    "make_likelihood",
]

#: Short names that the estimator's `likelihood` accepts.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "mog": MixtureOfGaussians,
    "molog": MixtureOfLogistics,
    "most": MixtureOfStudentT,
    "spline": Spline,
    "truncated_mog": TruncatedMixtureOfGaussians,
    "truncated_molog": TruncatedMixtureOfLogistics,
    "truncated_most": TruncatedMixtureOfStudentT,
    "mob": MixtureOfBetas,
    "softmax": Softmax,
    "categorical": Categorical,
    "ordinal": Ordinal,
}


def make_likelihood(name: str, **parameters: Any) -> Likelihood:
    """Family with the short `name`, constructed with `parameters`.

    Examples
    --------
    >>> make_likelihood("mog", K=3)
    MixtureOfGaussians(K=3)
    """
    if name not in LIKELIHOODS:
        raise ValueError(
            f"likelihood={name!r} is unknown; choose one of "
            f"{', '.join(repr(known) for known in ['auto', *LIKELIHOODS])} or pass an instance."
        )
    try:
        return LIKELIHOODS[name](**parameters)
    except TypeError:
        accepted = ", ".join(LIKELIHOODS[name]().get_params(deep=False))
        raise TypeError(
            f"likelihood_params={parameters!r} do not fit likelihood {name!r}, "
            f"which accepts {accepted}."
        ) from None
