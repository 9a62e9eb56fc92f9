"""A user's own Keras model, observed step by step, with changes; for `compare.explain`."""
