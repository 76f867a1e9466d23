"""The compiled twins of the files that bear the same names one folder up, for speed alone.

===============  ==========================================================================
`jit`            how kernels are compiled, and where they are kept
`special`        elementary functions
`normal`         the truncated normal distribution
`mixtures`       log density with gradient, draws and moments of Gaussian mixtures
`activations`    layer normalisation and activations
`network`        the network in tiles: log density with gradient, and draws
`training`       a step of the optimiser
`engine`         the engine and the objective that use them
===============  ==========================================================================
"""
