"""Photometric redshifts: p(z) of a catalogue, points, n(z), scores and weights.

Everything rests on the density protocol, ``estimator.predict_density(X)``, and takes p(z) of other
origin on a grid or as draws.

==========================  ===============================================================
`RedshiftPDF`               p(z) of many rows on a grid: from a density, an estimator, draws
`summarise`                 columns for a catalogue: points, errors, odds, risk, modes
`point_estimate`            mode, mean, median, or the point of least expected loss
`odds`, `risk`              probability near a point; its expected loss
`highest_density`           width and number of modes
`quality_cut`               mask of the rows to keep
`stacked_nz`                n(z) as the mean of p(z)
`hierarchical_nz`           n(z) with the prior of the training rows divided out
`tomographic_bins`          bins by a point estimate, for both
`evaluate`                  CDE loss, PIT, bias, scatter, outliers; also one by one: `cde_loss`,
                            `pit`, `uniformity`, `point_scores`
`neighbour_weights`,        weights of a spectroscopic sample that does not represent the catalogue;
`classifier_weights`        `effective_rows` they are worth
`RedshiftDisplay`,          pictures, which need matplotlib
`DistributionDisplay`
==========================  ===============================================================

Redshifts should come first in ``order``, as they do if they are the first column of y: p(z) is then
one conditional of the network, and nothing is drawn.
"""

from __future__ import annotations

from .displays import DistributionDisplay, RedshiftDisplay
from .pdfs import RedshiftPDF
from .points import highest_density, odds, point_estimate, quality_cut, risk, summarise
from .populations import (
    RedshiftDistribution,
    hierarchical_nz,
    stacked_nz,
    tomographic_bins,
)
from .scores import (
    Evaluation,
    PointScores,
    Uniformity,
    cde_loss,
    evaluate,
    pit,
    point_scores,
    uniformity,
)
from .weights import classifier_weights, effective_rows, neighbour_weights

__all__ = [
    "DistributionDisplay",
    "Evaluation",
    "PointScores",
    "RedshiftDisplay",
    "RedshiftDistribution",
    "RedshiftPDF",
    "Uniformity",
    "cde_loss",
    "classifier_weights",
    "effective_rows",
    "evaluate",
    "hierarchical_nz",
    "highest_density",
    "neighbour_weights",
    "odds",
    "pit",
    "point_estimate",
    "point_scores",
    "quality_cut",
    "risk",
    "stacked_nz",
    "summarise",
    "tomographic_bins",
    "uniformity",
]
