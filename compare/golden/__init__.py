"""The commands `record` and `check`: golden traces and today's run held against them."""
