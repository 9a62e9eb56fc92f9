"""A user's own PyTorch module, observed step by step, with changes; for `compare.explain`."""
