"""`explain --fix`: the pair file with every confirmed fix made."""
