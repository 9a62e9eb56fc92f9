"""The command `power`: fault injection and null runs, from which the judge's detection rate is counted."""
