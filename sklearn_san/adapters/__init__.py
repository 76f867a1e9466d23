"""The densities in the words of other packages, one file for each of these.

Nothing is imported here: each file imports its partner, which is an extra of this package.

=========  ===========================================================================
`rail`     `SANInformer`, `SANEstimator`: stages of a RAIL pipeline, for redshifts
=========  ===========================================================================
"""
