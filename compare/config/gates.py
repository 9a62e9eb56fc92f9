"""The gates of each cell, in the order in which initial weights are drawn and dropout masks are laid side by side."""

# A SimpleRNN has none.
GATES: dict[str, tuple[str, ...]] = {
    "simple_rnn": (),
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("update", "reset", "candidate"),
}


def gate_count(cell: str) -> int:
    """Return how many gates a cell has; the whole of a SimpleRNN counts as one."""
    return len(GATES[cell]) or 1


def gated(name: str, cell: str) -> list[str]:
    """Return the canonical names of a tensor of a cell, one for each gate: "kernel/input", …, or "kernel"."""
    return [f"{name}/{gate}" for gate in GATES[cell]] or [name]
