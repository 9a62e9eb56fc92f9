"""Writes a graph as Keras code, and how it is trained."""
