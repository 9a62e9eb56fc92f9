"""Does a difference matter? How far both sides end up apart, against what other seeds of the same model make."""
