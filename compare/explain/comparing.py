"""Where two recorded trainings first differ, beyond what rounding does to one of them."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compare.config.gates import GATES
from compare.explain.matching import Match
from compare.judge.phases import PHASES

# The tolerance: ENSEMBLE_FACTOR times what a change of the weights' last bits does to one side, and ULPS ulps in the
# largest number of the tensor. Both sides round every operation of a step in an order of their own, an ensemble
# member only its weights. How much of it correct ports use is in benchmarks/explain.md.
ENSEMBLE_FACTOR, ULPS, ULP = 24.0, 48.0, 2.0**-24

Run = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Finding:
    """One tensor that differs: where, by how much, and by which factor it would agree."""

    step: int
    phase: str
    location: str
    error: float
    tolerance: float
    scale: float
    ratio: float | None
    message: str = ""
    match: Match | None = None
    what: str = ""

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the error."""
        return self.error <= self.tolerance

    @property
    def relative_error(self) -> float:
        """The error by the largest number of Keras's tensor."""
        return self.error / self.scale if self.scale else math.inf

    @property
    def relative_tolerance(self) -> float:
        """What rounding explains, by the same number."""
        return self.tolerance / self.scale if self.scale else math.inf

    @property
    def ulps(self) -> float:
        """The error in ulps of float32."""
        return self.relative_error / ULP

    @property
    def tensor(self) -> str:
        """The layer and tensor, all gates together."""
        return f"{self.match.name if self.match else ''} {self.what}"


@dataclass(frozen=True)
class Stage:
    """One phase of one step, with everything compared in it."""

    step: int
    phase: str
    findings: tuple[Finding, ...]

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands in the order of computation."""
        return self.step, PHASES.index(self.phase)

    @property
    def differing(self) -> list[Finding]:
        """What differs, in the order of computation."""
        return [finding for finding in self.findings if not finding.agrees]

    @property
    def shown(self) -> Finding:
        """The difference to show: the first computed, or of tensors side by side the one most off."""
        if self.phase in ("gradient", "clip", "update"):
            return max(self.differing, key=lambda finding: finding.relative_error)
        return self.differing[0]


class Comparator:
    """Compares runs of both sides, stage by stage, with rounding error measured on PyTorch's ensemble members.

    `beta_2` is that of Keras's optimizer, where it has one; tensors in `excluded` are not compared.
    """

    def __init__(
        self,
        matches: Sequence[Match],
        excluded: Iterable[str],
        beta_2: float | None,
        runs: tuple[Run, Run, Sequence[Run]],
    ) -> None:
        self.matches, self.excluded, self.beta_2 = matches, set(excluded), beta_2
        self.keras, self.torch, self.members = runs

    def stages(self, steps: Sequence[int], count: int) -> list[Stage]:
        """List every stage of the recorded steps, the losses of the others, and the evaluation after them all."""
        stages = [self._start()]
        for step in range(count):
            stages += self._step(step) if step in steps else [self._loss(step, *self._everywhere("losses", index=step))]
        return [*stages, self._forward(count, "evaluation", "end/evaluation/")]

    def _everywhere(self, ours: str, theirs: str = "", index: Any = ()) -> tuple[Any, Any, list[Any]]:
        """A record of both sides and of the members; `theirs` is its name in PyTorch's runs, where that is another."""
        values = [run.get(theirs or ours) for run in (self.torch, *self.members)]
        left, right, *members = [value if value is None else value[index] for value in (self.keras.get(ours), *values)]
        return left, right, members

    def _start(self) -> Stage:
        findings = []
        for match, name in self._tensors():
            left = self.keras.get(f"{match.keras['key']}/{name}")
            right = self.torch.get(f"start/weights/{match.torch['key']}/{name}")
            findings += self._gates(Values(0, "start", match.canonical(name), left, right, (), 0.0, match, name))
        return Stage(0, "start", tuple(findings))

    def _tensors(self) -> Iterator[tuple[Match, str]]:
        for match in self.matches:
            yield from ((match, name) for name in match.tensors if match.canonical(name) not in self.excluded)

    def _step(self, step: int) -> list[Stage]:
        stages = [self._forward(step, "forward", f"{step}/"), self._loss(step, *self._everywhere(f"{step}/loss"))]
        relative: dict[str, float] = {}
        for phase in ("gradient", "clip", "update"):
            findings = self._weights(step, phase, relative)
            stages.append(Stage(step, phase, tuple(findings)))
            relative = {
                finding.tensor: finding.relative_tolerance
                for finding in findings
                if math.isfinite(finding.relative_tolerance)
            }
        return stages

    def _loss(self, step: int, left: Any, right: Any, members: Sequence[Any]) -> Stage:
        return Stage(step, "loss", (compared(Values(step, "loss", "loss", left, right, members)),))

    def _forward(self, step: int, phase: str, prefix: str) -> Stage:
        """Compare what every layer is given and gives, where it is not masked: there it means nothing."""
        findings = []
        order = self.torch.get(f"{prefix}order")
        for match, what in itertools.product(self.matches, ("in", "out")):
            left, right, members = self._everywhere(
                f"{prefix}{what}/{match.keras['key']}", f"{prefix}{what}/{match.torch['key']}"
            )
            if left is None and right is None:
                continue
            mask = self.keras.get(f"{prefix}mask/{match.keras['key']}")
            location = f"{match.name} {'input' if what == 'in' else 'output'}"
            values = Values(step, phase, location, left, right, members, 0.0, match, what)
            if left is None or right is None or left.shape != right.shape:
                findings.append(compared(values))
                continue
            same = [member if np.shape(member) == right.shape else None for member in members]
            values = replace(values, members=same)
            finding = compared(values.elements(mask))
            if order is not None and not finding.agrees:
                # PyTorch computes the batch in another order, up to where that is undone.
                restored = compared(values.rows(np.argsort(order)).elements(mask))
                finding = min(finding, restored, key=lambda either: either.error)
            findings.append(finding)
        return Stage(step, phase, tuple(findings))

    def _weights(self, step: int, phase: str, relative: Mapping[str, float]) -> list[Finding]:
        """Compare every tensor in a phase; `relative` are the tolerances of the phase before."""
        findings: list[Finding] = []
        for match, name in self._tensors():
            ours, theirs = f"{match.keras['key']}/{name}", f"{match.torch['key']}/{name}"
            left: Any
            if phase == "update":
                left, size = _moved(self.keras, step, ours, ours)
                right, *members = (
                    _moved(run, step, theirs, f"start/weights/{theirs}")[0] for run in (self.torch, *self.members)
                )
                floor = 8 * ULP * size
                if left is not None:
                    largest = float(np.max(np.abs(left), initial=0.0))
                    # What rounding does to a gradient goes on into its update.
                    floor += relative.get(f"{match.name} {name}", 0.0) * largest
                    if self.beta_2 is not None:
                        # 1 - beta^t in float32, under a root, multiplies every number of the update.
                        floor += ULP / (1 - self.beta_2 ** (step + 1)) * largest
            else:
                left, right, members = self._everywhere(f"{step}/{phase}/{ours}", f"{step}/{phase}/{theirs}")
                # A gradient is a sum over the batch whose terms may cancel: of their size, not of the sum's.
                floor = 4 * ULP * float(np.sum(np.abs(self.torch.get(f"{step}/output_gradient", np.zeros(1)))))
            if left is not None or right is not None:
                location = match.canonical(name)
                findings += self._gates(Values(step, phase, location, left, right, members, floor, match, name))
        return findings

    def _gates(self, values: "Values") -> list[Finding]:
        """One finding, or for each gate of a recurrent layer's tensor that differs one, scaled by the whole tensor."""
        whole, left, right = compared(values), values.left, values.right
        gates = GATES.get(values.match.kind, ()) if values.match else ()
        if not gates or left is None or right is None or left.shape != right.shape or whole.agrees:
            return [whole]
        keras, torch, *members = (
            None if value is None else np.split(value, len(gates), axis=-1) for value in (left, right, *values.members)
        )
        assert keras is not None  # neither is None, see above
        assert torch is not None
        return [
            compared(
                replace(
                    values,
                    location=f"{values.location}/{gate}",
                    left=keras[index],
                    right=torch[index],
                    members=[member[index] for member in members if member is not None],
                    scale=whole.scale,
                )
            )
            for index, gate in enumerate(gates)
        ]


@dataclass(frozen=True)
class Values:
    """One tensor of both sides and of PyTorch's ensemble members, each as it was recorded or None.

    `floor` is what the tolerance has besides, `scale` what it is relative to: None for Keras's largest number.
    """

    step: int
    phase: str
    location: str
    left: Any
    right: Any
    members: Sequence[Any]
    floor: float = 0.0
    match: Match | None = None
    what: str = ""
    scale: float | None = None

    def elements(self, mask: np.ndarray | None) -> "Values":
        """These values where a mask is True."""
        if mask is None:
            return self
        where = mask.astype(bool)
        members = [member if member is None else member[where] for member in self.members]
        return replace(self, left=self.left[where], right=self.right[where], members=members)

    def rows(self, order: np.ndarray) -> "Values":
        """These values with PyTorch's rows in another order."""
        members = [member if member is None else member[order] for member in self.members]
        return replace(self, right=self.right[order], members=members)


def compared(values: Values) -> Finding:
    """Compare both sides of a tensor; the error is infinite where one is missing, not finite or of another shape."""
    left, right = values.left, values.right
    if left is None or right is None:
        return _unequal(values, f"only {'PyTorch' if left is None else 'Keras'} has it")
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if left.size == right.size and left.squeeze().shape == right.squeeze().shape:
        right = right.reshape(left.shape)
    if left.shape != right.shape:
        return _unequal(values, f"shape {_shape(left)} in Keras, {_shape(right)} in PyTorch")
    finite = np.isfinite(left).all() and np.isfinite(right).all()
    error = float(np.max(np.abs(left - right), initial=0.0)) if finite else math.inf
    scale = float(np.max(np.abs(left), initial=0.0)) if values.scale is None else values.scale
    noise = max(
        (
            float(np.max(np.abs(np.asarray(member, np.float64) - right), initial=0.0))
            for member in values.members
            if member is not None and np.shape(member) == np.shape(right)
        ),
        default=0.0,
    )
    tolerance = ENSEMBLE_FACTOR * noise + ULPS * ULP * scale + values.floor
    return Finding(
        values.step, values.phase, values.location, error, tolerance if math.isfinite(tolerance) else 0.0, scale,
        _ratio(left, right), "", values.match, values.what,
    )  # fmt: skip


def _unequal(values: Values, message: str) -> Finding:
    return Finding(
        values.step, values.phase, values.location, math.inf, 0.0, 0.0, None, message, values.match, values.what
    )


def _moved(run: Run, step: int, location: str, start: str) -> tuple[Any, float]:
    """How far a tensor moved in a step, and its largest number."""
    after = run.get(f"{step}/weights/{location}")
    before = run.get(f"{step - 1}/weights/{location}") if step else run.get(start)
    if after is None or before is None or after.shape != before.shape:
        return None, 0.0
    size = float(np.max(np.abs(after), initial=0.0))
    return after.astype(np.float64) - before.astype(np.float64), size


def _ratio(left: np.ndarray, right: np.ndarray) -> float | None:
    """The factor between PyTorch's numbers and Keras's, where there is one."""
    square = float(np.sum(left * left))
    if not square or not np.isfinite(square) or not np.isfinite(right).all():
        return None
    ratio = float(np.sum(left * right)) / square
    rest = float(np.sqrt(np.sum((right - ratio * left) ** 2) / square))
    return ratio if rest < 0.02 * max(abs(ratio), 1e-3) else None


def _shape(array: np.ndarray) -> str:
    return "(" + ", ".join(map(str, array.shape)) + ")"
