"""A user's own PyTorch module, taken apart step by step, with changes; for `compare.explain`."""
