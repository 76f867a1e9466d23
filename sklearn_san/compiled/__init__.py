"""Compiled twins, for speed alone; each has the stem of its reference, here and in `likelihoods`.

==================  =======================================================================
`jit`               how kernels are compiled, and where they are kept
`special`           elementary functions
`truncated_normal`  the truncated normal distribution
`mixtures`          log density with gradient, draws and moments of Gaussian mixtures
`activations`       layer normalisation and activations
`network`           the network in tiles: log density with gradient, and draws
`training`          a step of the optimiser
`engine`            the engine and the objective that use them
==================  =======================================================================
"""
