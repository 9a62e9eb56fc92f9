"""Sources of data, windows cut from series, whole examples, padding."""
