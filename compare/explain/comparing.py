"""Where two recorded trainings first differ, beyond what rounding does to one of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.explain.matching import GATES, Match
from compare.judge.phases import PHASES

# What is allowed, absolutely: TWIN_FACTOR times what a change of the weights' last bits does to one side, and UNITS
# units of float32 in the largest number of the tensor. Both sides round every operation of a step in an order of their
# own, a twin only its weights. What was used of it is in benchmarks/explain.md.
ENSEMBLE_FACTOR, UNITS, UNIT = 24.0, 48.0, 2.0**-24


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
    def relative_error(self) -> float:
        """The error by the largest number of Keras's tensor."""
        return self.error / self.scale if self.scale else math.inf

    @property
    def relative_tolerance(self) -> float:
        """What rounding explains, by the same number."""
        return self.tolerance / self.scale if self.scale else math.inf

    @property
    def units(self) -> float:
        """The error in units of float32."""
        return self.relative_error / UNIT


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
        return [finding for finding in self.findings if not finding.error <= finding.tolerance]


Run = Mapping[str, np.ndarray]


class Comparator:
    """Compares runs of both sides, stage by stage, with what rounding may do measured on PyTorch twins."""

    def __init__(self, matches: Sequence[Match], excluded: Iterable[str], adaptive: float | None) -> None:
        self.matches, self.excluded, self.adaptive = matches, set(excluded), adaptive

    def stages(self, keras: Run, torch: Run, members: Sequence[Run], steps: Sequence[int], count: int) -> list[Stage]:
        """List every stage of the recorded steps, the losses of the others, and the evaluation after them all."""
        found = [self._start(keras, torch)]
        for step in range(count):
            if step in steps:
                found += self._step(step, keras, torch, members)
            else:
                finding = self._loss_alone(step, keras, torch, members)
                found.append(Stage(step, "loss", (finding,)))
        found.append(self._forward(count, "evaluation", "end/evaluation/", keras, torch, members))
        return found

    def _start(self, keras: Run, torch: Run) -> Stage:
        findings = []
        for match in self.matches:
            for name in match.tensors:
                left = keras.get(f"{match.keras['key']}/{name}")
                right = torch.get(f"start/weights/{match.torch['key']}/{name}")
                if left is None and right is not None and not np.any(right) and name == "bias":
                    left = None
                if match.canonical(name) not in self.excluded:
                    findings += self._tensors(0, "start", match, name, left, right, [], 0.0)
        return Stage(0, "start", tuple(findings))

    def _step(self, step: int, keras: Run, torch: Run, members: Sequence[Run]) -> list[Stage]:
        stages = [self._forward(step, "forward", f"{step}/", keras, torch, members)]
        name = f"{step}/loss"
        loss = self._values(
            step, "loss", "loss", keras.get(name), torch.get(name), [member.get(name) for member in members], 0.0
        )
        stages.append(Stage(step, "loss", (loss,)))
        relative: dict[str, float] = {}
        for phase in ("gradient", "clip", "update"):
            findings = self._of_tensors(step, phase, keras, torch, members, relative)
            stages.append(Stage(step, phase, tuple(findings)))
            relative = {
                _tensor(one): one.relative_tolerance for one in findings if math.isfinite(one.relative_tolerance)
            }
        return stages

    def _loss_alone(self, step: int, keras: Run, torch: Run, members: Sequence[Run]) -> Finding:
        left, right = keras["losses"][step], torch["losses"][step]
        return self._values(step, "loss", "loss", left, right, [member["losses"][step] for member in members], 0.0)

    def _forward(self, step: int, phase: str, prefix: str, keras: Run, torch: Run, members: Sequence[Run]) -> Stage:
        findings = []
        for match in self.matches:
            for what in ("in", "out"):
                theirs = f"{prefix}{what}/{match.torch['key']}"
                left, right = keras.get(f"{prefix}{what}/{match.keras['key']}"), torch.get(theirs)
                location = f"{match.name} {'input' if what == 'in' else 'output'}"
                if left is None and right is None:
                    continue
                mask, order = keras.get(f"{prefix}mask/{match.keras['key']}"), torch.get(f"{prefix}order")
                values: list[Any] = [right, *(member.get(theirs) for member in members)]
                if left is None or right is None or left.shape != right.shape:
                    mask = order = None
                else:
                    values = [value if np.shape(value) == right.shape else None for value in values]
                # What a layer is given and gives where it is masked means nothing.
                kept = np.s_[:] if mask is None else mask.astype(bool)
                compared = self._kept(step, phase, location, left, values, kept, match, what)
                if order is not None and compared.error > compared.tolerance:
                    # PyTorch computes the batch in another order, up to where that is undone.
                    restored = [value if value is None else value[np.argsort(order)] for value in values]
                    compared = min(
                        compared, self._kept(step, phase, location, left, restored, kept, match, what),
                        key=lambda one: one.error,
                    )  # fmt: skip
                findings.append(compared)
        return Stage(step, phase, tuple(findings))

    def _kept(
        self, step: int, phase: str, location: str, left: Any, values: Sequence[Any], kept: Any, match: Match, what: str
    ) -> Finding:
        """As `_values`, of the elements that are not masked; `values` are PyTorch's and the twins'."""
        left, right, *members = (value if value is None else value[kept] for value in (left, *values))
        return self._values(step, phase, location, left, right, members, 0.0, match, what)

    def _of_tensors(
        self, step: int, phase: str, keras: Run, torch: Run, members: Sequence[Run], relative: Mapping[str, float]
    ) -> list[Finding]:
        """Compare every tensor in a phase; `relative` is what each was allowed in the phase before."""
        findings: list[Finding] = []
        for match in self.matches:
            for name in match.tensors:
                if match.canonical(name) in self.excluded:
                    continue
                ours, theirs = f"{match.keras['key']}/{name}", f"{match.torch['key']}/{name}"
                if phase == "update":
                    left, size = _moved(keras, step, ours, f"{ours}")
                    right, _ = _moved(torch, step, theirs, f"start/weights/{theirs}")
                    moved = [_moved(member, step, theirs, f"start/weights/{theirs}")[0] for member in members]
                    floor = 8 * UNIT * size
                    if left is not None:
                        # What rounding does to a gradient goes on into its update.
                        before = relative.get(f"{match.name} {name}", 0.0)
                        floor += before * float(np.max(np.abs(left), initial=0.0))
                    if self.adaptive is not None and left is not None:
                        # 1 - beta^t in float32, under a root, multiplies every number of the update.
                        floor += UNIT / (1 - self.adaptive ** (step + 1)) * float(np.max(np.abs(left), initial=0.0))
                else:
                    left, right = keras.get(f"{step}/{phase}/{ours}"), torch.get(f"{step}/{phase}/{theirs}")
                    moved = [member.get(f"{step}/{phase}/{theirs}") for member in members]
                    # A gradient is a sum over the batch whose terms may cancel: of their size, not of the sum's.
                    floor = 4 * UNIT * float(np.sum(np.abs(torch.get(f"{step}/output_gradient", np.zeros(1)))))
                if left is None and right is None:
                    continue
                findings += self._tensors(step, phase, match, name, left, right, moved, floor)
        return findings

    def _tensors(
        self,
        step: int,
        phase: str,
        match: Match,
        name: str,
        left: Any,
        right: Any,
        members: Sequence[Any],
        floor: float,
    ) -> list[Finding]:
        """One finding for each gate of a recurrent layer's tensor, in Keras's order, scaled by the whole tensor."""
        gates = GATES.get(match.kind, ())
        whole = self._values(step, phase, match.canonical(name), left, right, members, floor, match, name)
        if not gates or left is None or right is None or left.shape != right.shape or whole.error <= whole.tolerance:
            return [whole]
        parts = [_cut(member, len(gates)) for member in members]
        return [
            self._values(
                step, phase, f"{match.canonical(name)}/{gate}",
                _cut(left, len(gates))[index], _cut(right, len(gates))[index],
                [part[index] for part in parts if part], floor, match, name, whole.scale,
            )
            for index, gate in enumerate(gates)
        ]  # fmt: skip

    def _values(
        self, step: int, phase: str, location: str, left: Any, right: Any, members: Sequence[Any], floor: float,
        match: Match | None = None, what: str = "", scale: float | None = None,
    ) -> Finding:  # fmt: skip
        if left is None or right is None:
            words = f"only {'PyTorch' if left is None else 'Keras'} has it"
            return Finding(step, phase, location, math.inf, 0.0, 0.0, None, words, match, what)
        left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        if left.shape != right.shape and left.size == right.size and left.squeeze().shape == right.squeeze().shape:
            right = right.reshape(left.shape)
        if left.shape != right.shape:
            words = f"shape {_shape(left)} in Keras, {_shape(right)} in PyTorch"
            return Finding(step, phase, location, math.inf, 0.0, 0.0, None, words, match, what)
        error = float(np.max(np.abs(left - right), initial=0.0))
        if not np.isfinite(left).all() or not np.isfinite(right).all():
            error = math.inf
        if scale is None:
            scale = float(np.max(np.abs(left), initial=0.0))
        noise = 0.0
        for member in members:
            if member is not None and np.shape(member) == np.shape(right):
                noise = max(noise, float(np.max(np.abs(np.asarray(member, np.float64) - right), initial=0.0)))
        tolerance = ENSEMBLE_FACTOR * noise + UNITS * UNIT * scale + floor
        if not math.isfinite(tolerance):
            tolerance = 0.0
        return Finding(step, phase, location, error, tolerance, scale, _ratio(left, right), "", match, what)


def _tensor(finding: Finding) -> str:
    return f"{finding.match.name if finding.match else ''} {finding.what}"


def _cut(array: np.ndarray | None, gates: int) -> list[np.ndarray]:
    return [] if array is None else np.split(array, gates, axis=-1)


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
