"""Reads a Keras model into a graph, and puts it to work for the proof; runs in a process of its own."""
