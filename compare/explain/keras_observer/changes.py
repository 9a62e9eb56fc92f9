"""What counterfactuals change in a session; torch_observer/changes.py is its mirror."""

from dataclasses import dataclass, field


@dataclass
class Changes:
    """What differs from the user's own code; nothing but `dropout`, "shared", "rows" or "off", at first.

    `zeroed` are tensors, by part and name, that are held at zero.
    """

    dropout: str
    reset_state: bool = False
    no_tf32: bool = False
    zeroed: set[tuple[str, str]] = field(default_factory=set)
