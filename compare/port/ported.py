"""What a port is asked for, and what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compare.judge import Verdict
from compare.judge.verdict import Comparison
from compare.storage import write_json

KERAS_TO_TORCH, TORCH_TO_KERAS = "keras-to-torch", "torch-to-keras"


@dataclass(frozen=True)
class Options:
    """What a port is asked for beside its source.

    `weights`: a .weights.h5 file for a factory; `own`: a file with the counterparts of a user's own layers; `trust`:
    code that a model file holds may run; `unproved`: what is not proved is written nevertheless; `examples`: the shapes
    of a PyTorch module's inputs; `backends`: those of Keras on which it is proved.
    """

    weights: Path | None = None
    own: Path | None = None
    trust: bool = False
    unproved: bool = False
    examples: Sequence[str] = ()
    backends: Sequence[str] = ("torch",)
    timeout: float = 600


@dataclass(frozen=True)
class Ported:
    """What came of a port: its direction, the folder (None where nothing was written), the proofs, and notes."""

    direction: str
    folder: Path | None
    comparisons: Sequence[Comparison]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def proved(self) -> bool:
        """Whether every proof was made and agrees."""
        return bool(self.comparisons) and all(comparison.status == "agrees" for comparison in self.comparisons)

    def as_json(self) -> dict[str, Any]:
        """The content of `verdict.json`: that of every command, with the direction and what is to be said."""
        return {**Verdict(self.comparisons).as_json(), "direction": self.direction, "notes": list(self.notes)}


def kept(ported: Ported, to: Path, options: Options) -> Ported:
    """Keep what is proved, or asked for unproved, with its verdict; else leave nothing."""
    if ported.proved or options.unproved:
        write_json(to / "verdict.json", ported.as_json())
        return ported
    for file in to.iterdir():
        file.unlink()
    to.rmdir()
    return replace(ported, folder=None)
