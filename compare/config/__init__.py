"""A case and its parts: model, data and training, validated, read from and written to TOML or JSON."""
