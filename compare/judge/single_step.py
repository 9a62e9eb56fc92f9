"""Same step: both sides take the same step from the same state, and each phase is compared with the reference.

Each phase is judged by itself: the loss is recomputed from a side's own outputs, the clipping from its own gradients,
the update and the new slots from its own clipped gradients. So an error is found in the phase that makes it.

A side's error in a tensor is max|obtained - expected| by the root mean square of its block, all gates of one kernel or
bias together, since a small gate has no digits of its own. What is allowed is derived anew for every state and batch:
the reference is computed again with every operation rounded at random as the working precision rounds
(`compare.reference.rounding`), so the length of the sequence, the width and the conditioning of 1 - beta^t are in it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.verdict import Difference
from compare.reference import losses, network
from compare.reference.clipping import clip
from compare.reference.rounding import EXACT, Rounding, working
from compare.reference.update_rules import apply_update, initial_slots, learning_rate_at
from compare.trace.trace import read_state

Tensors = Mapping[str, np.ndarray]

# How often the rounded reference is computed; the largest of its errors counts.
ROUNDED_REFERENCES = 4

# A side may be this many times as far from the reference as the rounded references are: the largest of four samples
# falls short of the largest possible, and in float64 the reference rounds too. `benchmarks/power.md` has the
# distribution of (error / rounded references' error) over clean runs.
MARGIN = 6.5

# Rounded references that happen to be exact (a sum of one term, a tensor of zeros) would allow nothing.
FLOOR_UNITS = 1.25

# Names all tensors of a model joined into one.
ALL = "all"

PHASES = ("forward", "loss", "gradient", "clip", "update")


@dataclass(frozen=True)
class Measured:
    """A side's error in one tensor at one step, relative, with what is allowed; `timestep` of the first beyond it."""

    step: int
    phase: str
    tensor: str
    error: float
    tolerance: float
    timestep: int | None = None

    @property
    def share(self) -> float:
        """How much of what is allowed was used."""
        return self.error / self.tolerance if self.tolerance else (np.inf if self.error else 0.0)


class StepReference:
    """What one step should compute, exactly, and how far rounding may carry a side from it."""

    def __init__(
        self,
        experiment: Experiment,
        step: int,
        weights: Tensors,
        slots: Tensors,
        non_trainable: Tensors,
        precision: str,
    ) -> None:
        windows = experiment.batch(step)
        self.step = step
        self.experiment = experiment
        self.precision = precision
        inputs = experiment.batch_inputs(step, windows)
        targets = experiment.examples.training.targets[windows]
        self.given = {
            **{f"inputs/{name}": inputs[name] for name in sorted(inputs)},
            "targets": targets,
            **{f"weights/{name}": weights[name] for name in in_order(weights)},
        }
        self.weights, self.slots, self.non_trainable = _float64(weights), _float64(slots), _float64(non_trainable)
        self.inputs = {name: _wide(array) for name, array in inputs.items()}
        self.targets = _wide(targets)
        self.unit = float(np.finfo(precision).eps) / 2
        self.floor = FLOOR_UNITS * self.unit
        self.smallest = float(np.finfo(precision).smallest_normal)
        self.exact = self._forward_and_gradients(EXACT)
        self.rounded = [self._forward_and_gradients(rounding) for rounding in self._roundings()]

    @cached_property  # the references of a step serve all backends
    def rounded_norms(self) -> dict[str, float]:
        """How far rounding alone moves a step: the root of its loss, and the norm of any tensor of its gradient."""
        gradients = [name for name in self.exact if name.startswith("gradient/")]
        loss = np.sqrt(self.exact["loss"])
        moved = [np.linalg.norm(rounded[name] - self.exact[name]) for rounded in self.rounded for name in gradients]
        return {
            "loss": max(float(abs(np.sqrt(rounded["loss"]) - loss)) for rounded in self.rounded),
            "gradient": float(max(moved)),
        }

    def measure(self, record: Tensors) -> Iterator[Measured]:
        """Measure a side's record of the step, in the order of computation.

        Raises KeyError where the record lacks something that it should hold.
        """
        for name, expected in self.given.items():
            obtained = record[name]
            same = obtained.shape == expected.shape and np.array_equal(obtained, expected)
            tensor = "inputs" if name == "inputs/sequence" else name.removeprefix("weights/")
            yield Measured(self.step, "forward", tensor, 0.0 if same else np.inf, self.floor)
        yield from self._measure_forward(record)
        yield self._measure_loss(record)
        yield from self._measure_phase("gradient", record, self.exact, self.rounded)

        training, gradients = self.experiment.case.training, _of_phase(record, "gradient")

        def clipped(rounding: Rounding) -> dict[str, np.ndarray]:
            return {f"clip/{name}": tensor for name, tensor in clip(training, gradients, rounding).items()}

        yield from self._measure_phase("clip", record, clipped(EXACT), [clipped(r) for r in self._roundings()])

        yield self._measure_learning_rate(record)
        learning_rate = float(record["learning_rate"])

        # A rule treats every number alike: all tensors in one are updated much faster than one by one.
        parts = _of_phase(record, "clip")
        clip_of_all = _joined({name: np.broadcast_to(parts[name], part.shape) for name, part in self.weights.items()})
        weights = _joined(self.weights)
        slots = {f"{kind}/{ALL}": _joined(tensors) for kind, tensors in self._slots_by_kind().items()}
        slots |= {name: number for name, number in self.slots.items() if "/" not in name}

        def updated(rounding: Rounding) -> dict[str, np.ndarray]:
            new, new_slots = apply_update(
                training,
                {ALL: weights},
                {ALL: clip_of_all},
                slots,
                self.step,
                rounding,
                learning_rate,
                casts=self.experiment.case.dtype == self.precision,
            )
            found = {f"update/{name}": part for name, part in self._parted(new[ALL] - weights).items()}
            for name, values in new_slots.items():
                kind, joined, _ = name.partition(f"/{ALL}")
                parted = self._parted(values) if joined else {}
                found |= {f"slot/{kind}/{tensor}": part for tensor, part in parted.items()} or {f"slot/{name}": values}
            return found

        exact, rounded = updated(EXACT), [updated(rounding) for rounding in self._roundings()]
        yield from self._measure_phase("update", record, exact, rounded)
        yield from self._measure_phase("slot", record, exact, rounded)
        yield from self._measure_phase("non_trainable", record, self.exact, self.rounded)

    def _times_a_token_came(self) -> int:
        return int(np.bincount(np.ravel(self.given["inputs/sequence"])).max())

    def _slots_by_kind(self) -> dict[str, dict[str, np.ndarray]]:
        """The slots of each kind, such as "momentum", by tensor; a tensor that has none raises KeyError."""
        kinds = dict.fromkeys(name.partition("/")[0] for name in self.slots if "/" in name)
        return {kind: {name: self.slots[f"{kind}/{name}"] for name in self.weights} for kind in kinds}

    def _parted(self, joined: np.ndarray) -> dict[str, np.ndarray]:
        """Part what was joined in the order of the weights."""
        parts = np.split(joined, np.cumsum([part.size for part in self.weights.values()])[:-1])
        return {name: part.reshape(w.shape) for part, (name, w) in zip(parts, self.weights.items(), strict=True)}

    def _roundings(self) -> list[Rounding]:
        return [working(self.precision, seed) for seed in range(ROUNDED_REFERENCES)]

    def _forward_and_gradients(self, rounding: Rounding) -> dict[str, np.ndarray]:
        model = self.experiment.case.model
        passed = network.forward(model, self.weights, self.inputs, self.non_trainable, rounding)
        loss, d_outputs = self._loss(passed.outputs, rounding)
        found = {"loss": loss} | {f"forward/{name}": outputs for name, outputs in passed.stages.items()}
        found |= {f"gradient/{name}": tensor for name, tensor in passed.backward(d_outputs).items()}
        return found | {f"non_trainable/{name}": tensor for name, tensor in passed.non_trainable.items()}

    def _loss(self, outputs: np.ndarray, rounding: Rounding) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss without the penalty, and its gradient by the outputs."""
        model = self.experiment.case.model
        mask = self.inputs.get("mask") if model.head == "every_output" else None
        return losses.total(self.experiment.case.training.loss, outputs, self.targets, mask, rounding)

    def _whole_loss(self, outputs: np.ndarray, rounding: Rounding) -> float:
        value = self._loss(outputs, rounding)[0]
        model = self.experiment.case.model
        return float(rounding(value + network.penalty(model, self.weights, rounding)) if model.l2 else value)

    def _measure_forward(self, record: Tensors) -> Iterator[Measured]:
        for name, expected in self.exact.items():
            if not name.startswith("forward/"):
                continue
            obtained = record[name]
            tensor = name.removeprefix("forward/")
            if obtained.shape != expected.shape:
                yield Measured(self.step, "forward", tensor, np.inf, self.floor)
                continue
            scale = _root_mean_square([expected])
            errors = _by_timestep(obtained - expected) / scale
            rounding = np.max([_by_timestep(rounded[name] - expected) for rounded in self.rounded], axis=0) / scale
            # Later timesteps compute with the rounding of earlier ones.
            tolerance = MARGIN * np.maximum(np.maximum.accumulate(rounding), self.floor)
            beyond = np.flatnonzero(~(errors <= tolerance))
            worst = int(beyond[0]) if beyond.size else int(np.argmax(errors / tolerance))
            timestep = worst if tensor != "head" else None
            yield Measured(self.step, "forward", tensor, _finite(errors[worst]), float(tolerance[worst]), timestep)

    def _measure_loss(self, record: Tensors) -> Measured:
        outputs = np.asarray(record["forward/head"], dtype=np.float64)
        expected = self._whole_loss(outputs, EXACT)
        scale = abs(expected) or 1.0
        rounding = max(abs(self._whole_loss(outputs, r) - expected) for r in self._roundings())
        error = _finite(abs(float(record["loss"]) - expected) / scale)
        return Measured(self.step, "loss", "", error, MARGIN * max(rounding / scale, self.floor))

    def _measure_learning_rate(self, record: Tensors) -> Measured:
        """Measure the learning rate; Keras computes schedules in float32 whatever the precision of the model."""
        training = self.experiment.case.training
        expected = learning_rate_at(training, self.step)
        unit = self.unit if training.schedule == "constant" else float(np.finfo(np.float32).eps) / 2
        # A cosine ends at zero, with an error as large as that of a number near one.
        scale = training.learning_rate if training.schedule == "cosine" else expected
        error = _finite(abs(float(record["learning_rate"]) - expected) / scale)
        return Measured(self.step, "update", "learning_rate", error, MARGIN * unit)

    def _measure_phase(
        self, kind: str, record: Tensors, exact: Tensors, rounded: list[dict[str, np.ndarray]]
    ) -> Iterator[Measured]:
        phase = "update" if kind in ("slot", "non_trainable") else kind
        blocks = _blocks(name for name in exact if name.startswith(f"{kind}/"))
        names = [name for names in blocks.values() for name in names]
        if not names:
            return
        # All tensors are measured at once: one by one takes longer than to compute them.
        truth = _joined({name: exact[name] for name in names})
        offsets = np.cumsum([0, *(exact[name].size for name in names[:-1])])

        def largest(tensors: Tensors) -> np.ndarray:
            return np.maximum.reduceat(np.abs(_joined({name: tensors[name] for name in names}) - truth), offsets)

        same_shape = {name: record[name].shape == exact[name].shape for name in names}
        scales = [_root_mean_square([exact[name] for name in block]) for block in blocks.values() for _ in block]
        obtained = {name: record[name] if same_shape[name] else np.full(exact[name].shape, np.inf) for name in names}
        errors = largest(obtained) / scales
        roundings = np.nan_to_num(np.max([largest(sample) for sample in rounded], axis=0) / scales, posinf=np.inf)
        for name, error, rounding, scale in zip(names, errors, roundings, scales, strict=True):
            tensor = name if kind == "slot" else name.removeprefix(f"{kind}/")
            tolerance = self.floor
            if same_shape[name]:
                # TensorFlow makes zeros of numbers that have no whole digits left, as the squares of 1e-20.
                tolerance = max(MARGIN * float(rounding), MARGIN * self.floor, self.smallest / scale)
            if kind == "update" and same_shape[name]:
                # New minus old weights, both rounded: a last bit of the weight may be all of a small update's digits,
                # and in float64, where the rounded references hit the same numbers, these do not show it.
                last_bit = 2 * self.unit * _largest(self.weights[tensor] + exact[name])
                # Keras on TensorFlow takes an embedding's row away once for every time that its token came.
                times = self._times_a_token_came() if tensor == "embedding/embeddings" else 1
                tolerance = max(tolerance, np.sqrt(times) * last_bit / scale)
            yield Measured(self.step, phase, tensor, _finite(float(error)), tolerance)


def initial_state_differences(experiment: Experiment, folders: Mapping[str, Path], precision: str) -> list[Difference]:
    """Compare the weights and slots that each side starts with, in its trace's folder, with those that it should."""
    unit = float(np.finfo(precision).eps) / 2
    found = []
    for side, folder in folders.items():
        state = read_state(folder, 0)
        if state is None:
            found.append(Difference("missing-state", 0, "update", f"{side} has no initial slots", off_side=side))
            continue
        weights, slots, _ = state
        for name in in_order(experiment.weights):
            if name not in weights or not np.array_equal(weights[name], experiment.weights[name]):
                words = f"{side} does not start from the weights that were given to it"
                found.append(Difference("initial-weights", 0, "forward", words, name, off_side=side))
        expected = initial_slots(experiment.case.training, _float64(weights))
        for name in sorted(expected.keys() | slots.keys()):
            if name not in expected or name not in slots:
                words = f"the slot {name} of {side} is {'missing' if name in expected else 'not expected'}"
                found.append(Difference("missing-tensor", 0, "update", words, name.partition("/")[2], off_side=side))
                continue
            error = _largest(slots[name] - expected[name])
            tolerance = unit * _largest(expected[name])
            if not error <= tolerance:
                words = f"the slot {name} of {side} does not start with what the rule has"
                tensor = name.partition("/")[2]
                found.append(Difference("initial-slot", 0, "update", words, tensor, error, tolerance, off_side=side))
    return found


def step_differences(
    reference: StepReference, sides: Mapping[str, Tensors | None]
) -> tuple[list[Difference], dict[str, list[Measured]]]:
    """Compare the sides' records of a step with the reference: one difference a phase, and everything measured."""
    measured: dict[str, list[Measured]] = {}
    for side, record in sides.items():
        if record is None:
            words = f"{side} has no record of the step"
            # Whatever else differs in this step says more than that it could not be taken apart.
            return [Difference("missing-step", reference.step, "update", words, off_side=side)], {}
        try:
            measured[side] = list(reference.measure(record))
        except KeyError as missing:
            words = f"{side} has no {missing.args[0]}"
            return [Difference("missing-tensor", reference.step, "forward", words, off_side=side)], {}
    differences = []
    for phase in PHASES:
        of_phase = {side: [one for one in found if one.phase == phase] for side, found in measured.items()}
        off = {side: _first_or_worst(found) for side, found in of_phase.items() if any(one.share > 1 for one in found)}
        if off:
            differences.append(_difference(reference, off))
    return differences, measured


def _first_or_worst(found: list[Measured]) -> Measured:
    """In the forward phase the first tensor beyond what is allowed, in the others the one furthest beyond."""
    beyond = [one for one in found if one.share > 1]
    return beyond[0] if beyond[0].phase == "forward" else max(beyond, key=lambda one: one.share)


def _difference(reference: StepReference, off: Mapping[str, Measured]) -> Difference:
    side, worst = max(off.items(), key=lambda item: item[1].share)
    unit = reference.unit
    if np.isinf(worst.error):
        words = f"{side} does not hold what was given to it"
    else:
        words = f"{side} is {worst.error / unit:.0f} units from the reference, {worst.tolerance / unit:.0f} allowed"
    return Difference(
        "off-reference",
        worst.step,
        worst.phase,
        words,
        worst.tensor.removeprefix("slot/") or None,
        worst.error,
        worst.tolerance,
        off_side=side if len(off) == 1 else "both",
        timestep=worst.timestep,
    )


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of tensors in the order of computation: the layers, then the head."""
    first = ("embedding", "layer", "normalization", "head")
    return sorted(names, key=lambda name: (next(i for i, kind in enumerate(first) if name.startswith(kind)), name))


def _wide(array: np.ndarray) -> np.ndarray:
    """Numbers in float64; token ids, labels and masks as they are."""
    return np.asarray(array, dtype=np.float64) if np.issubdtype(array.dtype, np.floating) else array


def _float64(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: np.asarray(tensor, dtype=np.float64) for name, tensor in tensors.items()}


def _joined(tensors: Tensors) -> np.ndarray:
    return np.concatenate([tensor.ravel() for tensor in tensors.values()])


def _of_phase(record: Tensors, phase: str) -> dict[str, np.ndarray]:
    prefix = f"{phase}/"
    return _float64({name.removeprefix(prefix): part for name, part in record.items() if name.startswith(prefix)})


def _blocks(names: Iterator[str]) -> dict[str, list[str]]:
    """Group the gates of one kernel or bias."""
    blocks: dict[str, list[str]] = {}
    for name in names:
        gated = "/layer" in name and name.rpartition("/")[0].rpartition("/")[2] not in ("forward", "backward")
        blocks.setdefault(name.rpartition("/")[0] if gated else name, []).append(name)
    return blocks


def _root_mean_square(tensors: list[np.ndarray]) -> float:
    squares = np.concatenate([np.square(tensor).ravel() for tensor in tensors])
    return float(np.sqrt(squares.mean())) or 1.0


def _by_timestep(values: np.ndarray) -> np.ndarray:
    """The largest absolute value at each timestep (batch, time, units); of a head's outputs (batch, outputs), one."""
    largest = np.abs(values).max(axis=-1).max(axis=0)
    return np.atleast_1d(largest) if values.ndim == 3 else np.atleast_1d(largest.max())


def _largest(values: np.ndarray) -> float:
    return float(np.max(np.abs(values)))


def _finite(error: float) -> float:
    return float(error) if np.isfinite(error) else float("inf")
