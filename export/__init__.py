"""Export and serving: to come. Keras' own ``model.export`` works on the detectors meanwhile."""
