"""How the box head's deltas are normalised: apart from the model, so that converters need not import Keras."""

# Deviations of the box head's deltas in joint training, as py-faster-rcnn has them; the means are 0.
DELTA_DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
