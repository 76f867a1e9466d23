"""What stands once: numbers that torch and compiled code must share, and what a number is."""

import math

import numpy as np

#: What counts as a number; fractions and the like are none to compiled code.
NUMBERS = (int, float, np.integer, np.floating)

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
#: Raw log scales above this are taken for it, so that scales stay below 1e26.
MAX_RAW_SCALE = 60.0
#: Added to the variance by the layer normalisation.
LAYER_NORM_EPSILON = 1e-5
#: Decay of Adam's first and second moments, and what is added to the root of the second.
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8
#: The same in bases that change, where directions without a gradient have one of rounding.
TURNED_BETAS, TURNED_EPSILON = (0.98, 0.99), 1e-6
#: Share of the mean gradient in a step; the rest is the last gradient's, without which a long mean
#: would oscillate.
MEAN_SHARE = 0.95
#: Longest side of a matrix that is turned to the eigenbasis of its gradients.
LONGEST_TURNED = 128
#: Steps from one look at the gradients to the next, and the decay of what was seen.
STATISTICS_EVERY, STATISTICS_DECAY = 8, 0.81
#: Steps from one change of the bases to the next.
BASES_EVERY = 40
