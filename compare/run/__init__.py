"""The command `run`: from cases to a verdict."""
