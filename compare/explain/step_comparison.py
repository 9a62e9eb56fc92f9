"""What differs in checked steps, phase by phase, beyond what rounding does to them.

A tolerance is ENSEMBLE_FACTOR times what Monte Carlo arithmetic does to the same step (every result is rounded at
random, so that it grows with the terms that are summed and with what cancels), and UNITS units of float32 in the
largest number.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.explain.transfer import Transfer

UNIT = 2.0**-24

# So many times as far apart as members in Monte Carlo arithmetic are from PyTorch's own step. Each of the two sides may
# be MONTE_CARLO_MARGIN = 6.5 times as far off as samples are (compare.judge.margins), together 13; the largest of two
# members falls 1.3 times as short as that of the judge's four, which makes 17; the rest is for sums inside of a single
# operation, which a member rounds once and a framework at every term. Measured, largest error / tolerance of a null run
# (the 15 correct pairs of tests/pairs, three seeds each, Keras on torch): median 0.06, largest 0.37.
ENSEMBLE_FACTOR = 24.0

# And so many units of the largest number, where members happen to agree: an operation sums n terms in another order on
# each side, with an error of log2(n) units for pairwise sums and √n for those one after the other (Higham 2002, section
# 4.2): 48 are those of 2,300 terms.
UNITS = 48.0

PHASES = ("loss", "gradient", "clip", "update")


@dataclass(frozen=True)
class Deviation:
    """One tensor that differs (or does not: `differs`), by how much, and by which factor it would agree."""

    step: int
    phase: str
    tensor: str
    error: float
    tolerance: float
    scale: float
    ratio: float | None = None
    message: str = ""
    # What each side has, where it differs.
    keras: np.ndarray | None = field(default=None, repr=False, compare=False)
    torch: np.ndarray | None = field(default=None, repr=False, compare=False)

    def as_facts(self) -> dict[str, Any]:
        """What a report shows of it."""
        names = ("step", "phase", "tensor", "ratio", "message", "keras", "torch")
        return {name: getattr(self, name) for name in names} | {
            "error": self.relative_error,
            "tolerance": self.relative_tolerance,
        }

    @property
    def differs(self) -> bool:
        """Whether rounding does not explain it."""
        return not self.error <= self.tolerance

    @property
    def relative_error(self) -> float:
        """The error by the largest number of Keras's tensor."""
        return self.error / self.scale if self.scale else math.inf

    @property
    def relative_tolerance(self) -> float:
        """The tolerance by the same number."""
        return self.tolerance / self.scale if self.scale else math.inf

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands in the order of computation."""
        return self.step, PHASES.index(self.phase) if self.phase in PHASES else len(PHASES)


def compare(
    step: int, phase: str, tensor: str, keras: Any, torch: Any, members: Sequence[Any], floor: float
) -> Deviation:
    """Compare one tensor; raises nothing: what is missing, of another shape or infinite on one side differs."""
    if keras is None or torch is None:
        return Deviation(
            step, phase, tensor, math.inf, 0.0, 0.0, None, f"only {'PyTorch' if keras is None else 'Keras'} has it"
        )
    keras, torch = np.asarray(keras, np.float64), np.asarray(torch, np.float64)
    if keras.shape != torch.shape:
        return Deviation(
            step, phase, tensor, math.inf, 0.0, 0.0, None, f"shape {keras.shape} in Keras, {torch.shape} in PyTorch"
        )
    if not (np.isfinite(keras).all() and np.isfinite(torch).all()):
        return Deviation(step, phase, tensor, math.inf, 0.0, 0.0, None, "not finite")
    scale = float(np.max(np.abs(keras), initial=0.0))
    noise = max(
        (float(np.max(np.abs(np.asarray(m, np.float64) - torch), initial=0.0)) for m in members if m is not None),
        default=0.0,
    )
    tolerance = ENSEMBLE_FACTOR * noise + UNITS * UNIT * scale + floor
    error = float(np.max(np.abs(keras - torch), initial=0.0))
    values = (keras, torch) if error > tolerance else (None, None)
    return Deviation(step, phase, tensor, error, tolerance, scale, _ratio(keras, torch), "", *values)


def _ratio(keras: np.ndarray, torch: np.ndarray) -> float | None:
    square = float(np.sum(keras * keras))
    if not square:
        return None
    ratio = float(np.sum(keras * torch)) / square
    rest = float(np.sqrt(np.sum((torch - ratio * keras) ** 2) / square))
    return ratio if rest < 0.02 * max(abs(ratio), 1e-3) else None


def applied_gradients(trace: Mapping[str, Any], number: int) -> Mapping[str, np.ndarray]:
    """What Keras's optimizer is given at a step: the mean gradient of the batches that it accumulates."""
    count = int(trace.get("accumulate", 1))
    if count == 1:
        return dict(trace["steps"][number]["gradients"])
    steps = [step["gradients"] for step in trace["steps"][max(number + 1 - count, 0) : number + 1]]
    return {name: sum(step[name] for step in steps if name in step) / count for name in steps[-1]}


class StepComparison:
    """Compares PyTorch's checked steps with Keras's."""

    def __init__(self, transfer: Transfer, trace: Mapping[str, Any], clip: Any) -> None:
        self.transfer, self.trace, self.clip = transfer, trace, clip

    def loss(self, step: Any, members: Sequence[Any]) -> Deviation:
        """The losses of a step."""
        return compare(
            step.number,
            "loss",
            "loss",
            self.trace["steps"][step.number]["loss"],
            step.loss,
            [m.loss for m in members],
            0.0,
        )

    def gradients(self, step: Any, members: Sequence[Any], frozen: set[str]) -> Iterator[Deviation]:
        """The gradients as the loss gives them."""
        keras = self.trace["steps"][step.number]["gradients"]
        if not keras:  # Keras could not compute any
            return
        # What every number of a gradient is a sum of: the errors of a batch's terms add up in all of them.
        largest = max((float(np.max(np.abs(g), initial=0.0)) for g in step.own.values() if g is not None), default=0.0)
        for name in self.transfer.maps:
            if name in frozen or self.transfer.maps[name].extra or name not in step.own:
                continue
            wanted = self.transfer.gradient(name, keras, np.shape(step.before[name]))
            own = step.own[name]
            if (
                wanted is None
                and own is not None
                and any(path in self.trace["trainable"] for path in self.transfer.maps[name].paths)
            ):
                wanted = np.zeros_like(own)
            if wanted is None:
                continue
            if own is None and not np.any(wanted):
                continue
            yield compare(
                step.number, "gradient", name, wanted, own, [m.own.get(name) for m in members], 4 * UNIT * largest
            )

    def clips(self, step: Any, frozen: set[str]) -> Iterator[Deviation]:
        """The gradients as the update takes them."""
        keras = applied_gradients(self.trace, step.number)
        if not keras or not step.updates:
            return
        clip = self.trace["clip"]
        wanted = self.clip(keras, clip)
        # clip_grad_norm_ divides by the norm + 1e-6, and a norm that is clipped is above the limit.
        relative = 1e-6 / clip["limit"] if clip["kind"] in ("norm", "global_norm") else 0.0
        for name in self.transfer.maps:
            if name in frozen or self.transfer.maps[name].extra or name not in step.clipped:
                continue
            gradient = self.transfer.gradient(name, wanted, np.shape(step.before[name]))
            if gradient is not None:
                floor = relative * float(np.max(np.abs(gradient), initial=0.0))
                yield compare(step.number, "clip", name, gradient, step.clipped[name], [], floor)

    def updates(self, step: Any) -> Iterator[Deviation]:
        """How far every tensor moved; two biases for one of Keras's together."""
        keras = self.trace["steps"][step.number]
        rule = self.trace["rule"] or {}
        rounding = 0.0 if rule.get("beta_2") is None else UNIT / (1 - rule["beta_2"] ** (step.number + 1))
        moved = {path: keras["after"][path].astype(np.float64) - keras["before"][path] for path in keras["after"]}
        for name, weight_map in self.transfer.maps.items():
            if weight_map.extra:
                continue
            wanted = self.transfer.gradient(name, moved, np.shape(step.before[name]))
            own = step.after[name].astype(np.float64) - step.before[name]
            for other, its in self.transfer.maps.items():
                if its.extra == name:
                    own = own + step.after[other].astype(np.float64)
            if wanted is None:
                continue
            size = float(np.max(np.abs(step.before[name]), initial=0.0))
            distance = float(np.max(np.abs(wanted), initial=0.0))
            if name.endswith("running_var"):
                # PyTorch keeps the unbiased variance, Keras the biased: a difference of n / (n - 1) that both document.
                own = self._biased(step, name, wanted, own)
            # 1 - beta^t in float32, under a root, multiplies every number of the update; weights round what moves them.
            floor = 8 * UNIT * size + rounding * distance
            yield compare(step.number, "update", name, wanted, own, [], floor)

    def _biased(self, step: Any, name: str, wanted: np.ndarray, own: np.ndarray) -> np.ndarray:
        before = step.before[name].astype(np.float64)
        batch = len(self.trace["steps"][step.number]["batch"])
        room = (np.abs(own) + np.abs(before) * 0.1) / max(batch - 1, 1)
        return np.where(np.abs(own - wanted) <= room, wanted, own)
