"""A cause that may explain a difference, with the counterfactual that would prove it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Candidate:
    """One named cause: what to change on either side to take it away, and how the user fixes it.

    `excluded` are tensors that are no longer compared once it is taken away, since one side has none. Of candidates
    that explain equally much the one of the smallest `priority` is the most exact. Candidates of one `group` exclude
    one another.
    """

    cause: str
    fix: str
    torch: tuple[Mapping[str, Any], ...] = ()
    keras: tuple[Mapping[str, Any], ...] = ()
    excluded: frozenset[str] = frozenset()
    priority: int = 5
    group: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True)
class Context:
    """What is known when causes are proposed: both descriptions, the matched layers, and step's records.

    `finding` is the first thing that differs, `stage` all of its phase; `keras_run` and `torch_run` hold the records,
    `inputs` and `targets` the step's batch.
    """

    keras: Mapping[str, Any]
    torch: Mapping[str, Any]
    matches: Sequence[Any]
    stage: Any
    keras_run: Mapping[str, np.ndarray]
    torch_run: Mapping[str, np.ndarray]
    inputs: np.ndarray
    targets: np.ndarray
    batch_size: int
    all_inputs: np.ndarray

    @property
    def finding(self) -> Any:
        """The first thing that differs."""
        return self.stage.differing[0]

    @property
    def step(self) -> int:
        """The step at which it differs."""
        return self.stage.step

    def record(self, run: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
        """A value of the step that differs, or of the evaluation after the last one."""
        prefix = "end/evaluation" if self.stage.phase == "evaluation" else str(self.step)
        return run.get(f"{prefix}/{name}")

    def group_before(self, index: int) -> list[Any]:
        """The matched layer, or both directions of it, that comes before the one of an index."""
        group = self.matches[index].group
        before = [match for match in self.matches[:index] if match.group != group]
        return [match for match in before if match.group == before[-1].group] if before else []

    def outputs(self, run: Mapping[str, np.ndarray], side: str, group: Sequence[Any]) -> np.ndarray | None:
        """What a layer gave, both directions side by side."""
        values = [self.record(run, f"out/{getattr(match, side)['key']}") for match in group]
        present = [value for value in values if value is not None]
        if len(present) != len(group) or not present:
            return None
        try:
            return np.concatenate(present, -1)
        except ValueError:
            return None
