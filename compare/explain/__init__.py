"""Explain why a user's Keras model and PyTorch module train differently."""
