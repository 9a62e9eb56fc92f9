"""Puts written Keras code to work: builds and saves the model, and runs it for the proof."""
