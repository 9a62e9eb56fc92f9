"""The arbiter: float64 NumPy cells, losses, clipping and update rules, written as their equations."""
