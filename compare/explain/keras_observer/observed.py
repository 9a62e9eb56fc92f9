"""What is seen of a user's model at work; torch_observer/observed.py is its mirror."""

from typing import Any

from compare.explain.keras_observer.parts import Part


class Observed:
    """The forward pass at work: `seen` holds tensors as "in/part", "out/part" and "mask/part"."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.begin_pass()

    def begin_pass(self) -> None:
        """Start a forward pass: nothing is called yet."""
        self.called: list[str] = []
        self.seen: dict[str, Any] = {}
        self.dropout_calls: list[dict[str, Any]] = []

    def entered(self, key: str, x: Any) -> None:
        """Note what a part is given."""
        if key not in self.called:
            self.called.append(key)
        self.seen[f"in/{key}"] = x

    def left(self, key: str, y: Any) -> None:
        """Note what a part gives."""
        self.seen[f"out/{key}"] = y

    @property
    def last_called(self) -> str | None:
        """The part that was called last."""
        return self.called[-1] if self.called else None
