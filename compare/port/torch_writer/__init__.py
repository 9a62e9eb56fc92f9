"""Writes a graph as PyTorch code that a person would have written, and says which weight goes where."""
