"""How a fast layer was computed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """The kernel that computed a layer; None for Keras's own code, and then the reason."""

    kernel: str | None
    reason: str | None = None
