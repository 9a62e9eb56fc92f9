"""The command `bench`: what a training step costs."""
