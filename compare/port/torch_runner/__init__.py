"""Runs a PyTorch module that was written, for the proof; in a process of its own."""
