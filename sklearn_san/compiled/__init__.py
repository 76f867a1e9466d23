"""Compiled twins, for speed alone; each has the stem of its reference, here and in `likelihoods`.

==================  =======================================================================
`jit`               how kernels are compiled, and where they are kept
`vectors`           vectors of float32 in LLVM's terms
`products`          products of small matrices
`special`           elementary functions
`truncated_normal`  the truncated normal distribution
`components`        normal and logistic components of mixtures
`mixtures`          log density with gradient, draws and moments of mixtures
`interval`          the same of histograms
`families`          the same by the family of an output
`activations`       layer normalisation and activations
`network`           the network in tiles: log density with gradient, and draws
`slopes`            log density of single points with its slope by y
`training`          a step of the optimiser
`engine`            the engine and the objective that use them
==================  =======================================================================
"""
