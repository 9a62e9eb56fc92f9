"""PyTorch modules as graphs in Keras's vocabulary."""
