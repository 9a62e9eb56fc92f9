"""A grid of cases, run on this machine or on Ray; each case is trained and judged once, whatever interrupts it."""
