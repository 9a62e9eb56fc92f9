"""What came of mutations, and how it is counted."""

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compare.workers.backends import keras_runner

PACKAGES = {"torch": "torch_models", "keras": "keras_models"}
# What the judge can say of a mutation that runs and has an effect.
JUDGED = ("differs", "agrees", "undecidable", "failed")


@dataclass(frozen=True)
class Result:
    """What came of a mutation; `status` is the judge's, or "does not run", "no effect", "below rounding"."""

    planted: dict[str, Any]
    new: str
    status: str
    case: str | None = None
    backend: str | None = None
    effect: float | None = None
    expected: Sequence[Any] = (None, None)
    said: Sequence[Any] = (None, None, None)
    message: str = ""

    @property
    def side_right(self) -> bool:
        """Whether the judge has named the side that was mutated."""
        side = "torch" if self.planted["file"].startswith(PACKAGES["torch"]) else keras_runner(self.backend or "")
        return self.said[2] == side


def counts_of(results: Sequence[Result]) -> dict[str, Any]:
    """Count what was found, and what was said of it."""
    groups = {
        kind: [result for result in results if result.planted["preserving"] is preserving]
        for kind, preserving in (("faults", False), ("preserving", True))
    }
    judged = [r for r in groups["faults"] if r.status in JUDGED]
    found = [r for r in judged if r.status == "differs"]
    return {
        "drawn": dict(collections.Counter(r.status for r in groups["faults"])),
        "to be found": len(judged),
        "found": len(found),
        "side named": sum(r.side_right for r in found),
        "exact step": sum(r.said[0] == r.expected[0] for r in found),
        "exact step and phase": sum(_place(r.said) == _place(r.expected) for r in found),
        "preserving": dict(collections.Counter(r.status for r in groups["preserving"])),
    }


def _place(said: Sequence[Any]) -> tuple[Any, Any]:
    """A step and a phase; what is predicted after the last step is a forward pass."""
    return said[0], "forward" if said[1] == "evaluation" else said[1]


def held_out(counts: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return hits and trials by the names of the power table's rows."""
    found = counts["found"]
    flagged = counts["preserving"].get("differs", 0)
    return {
        "faults detected": (found, counts["to be found"]),
        "side named": (counts["side named"], found),
        "exact step": (counts["exact step"], found),
        "phase right": (counts["exact step and phase"], found),
        "meaning-preserving changes flagged": (flagged, counts["preserving"].get("agrees", 0) + flagged),
    }
