"""Numbers that the reference in torch and its compiled twin must share."""

import math

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
#: Raw log scales above this are taken for it, so that scales stay below 1e26.
MAX_RAW_SCALE = 60.0
#: Added to the variance by the layer normalisation.
LAYER_NORM_EPSILON = 1e-5
#: Decay of Adam's first and second moments, and what is added to the root of the second.
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8
