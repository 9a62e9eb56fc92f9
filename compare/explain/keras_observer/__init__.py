"""A user's own Keras model, taken apart step by step, with changes; for `compare.explain`."""
