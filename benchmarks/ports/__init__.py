"""Random model pairs, correct by construction, and single mistakes in them: what `explain` has never been shown."""
