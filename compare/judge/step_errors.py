"""The errors of a side's record of one step against the reference, tensor by tensor, each with its tolerance.

A side's error in a tensor is max|obtained - expected| by the root mean square of its block, all gates of one kernel or
bias together, since a small gate has no digits of its own. The tolerance is derived anew for every state and batch:
the reference is computed again in Monte Carlo arithmetic, where every operation rounds at random as the working
precision rounds (`compare.reference.rounding`), so the length of the sequence, the width and the conditioning of
1 - beta^t are in it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from compare.judge.margins import LINEAR_LIMIT, MONTE_CARLO_MARGIN, ulp
from compare.judge.phases import Phase
from compare.judge.ratios import tolerance_ratio, tolerance_ratios
from compare.judge.step_reference import Computed, StepReference, Tensors, in_float64, joined, largest_by_timestep
from compare.reference.update_rules import learning_rate_at

# What a record has of a step besides its phases, and the phase in which each is computed.
PHASE_OF: dict[str, Phase] = {
    "gradient": "gradient",
    "clip": "clip",
    "update": "update",
    "slot": "update",
    "non_trainable": "update",
}


@dataclass(frozen=True)
class StepError:
    """A side's error in one tensor at one step, relative, with its tolerance; `timestep` of the first beyond it."""

    step: int
    phase: Phase
    tensor: str
    error: float
    tolerance: float
    timestep: int | None = None

    @property
    def tolerance_ratio(self) -> float:
        """The error / tolerance; infinite for an error where there is no tolerance."""
        return tolerance_ratio(self.error, self.tolerance)


def step_errors(reference: StepReference, record: Tensors) -> Iterator[StepError]:
    """Measure a side's record of the step, in the order of computation.

    Raises KeyError where the record lacks something that it should hold.
    """
    yield from _state_and_batch_errors(reference, record)
    yield from _forward_errors(reference, record)
    yield _loss_error(reference, record)
    yield from _tensor_errors("gradient", reference, record, reference.computed)
    yield from _tensor_errors("clip", reference, record, reference.clipped(_of_kind(record, "gradient")))

    yield _learning_rate_error(reference, record)
    clipped, learning_rate = _of_kind(record, "clip"), float(record["learning_rate"])
    updated = reference.updated(clipped, learning_rate)
    yield from _tensor_errors("update", reference, record, updated)
    yield from _tensor_errors("slot", reference, record, updated)
    yield from _tensor_errors("non_trainable", reference, record, reference.computed)


def _state_and_batch_errors(reference: StepReference, record: Tensors) -> Iterator[StepError]:
    for name, expected in reference.state_and_batch.items():
        obtained = record[name]
        same = obtained.shape == expected.shape and np.array_equal(obtained, expected)
        tensor = "inputs" if name == "inputs/sequence" else name.removeprefix("weights/")
        yield StepError(reference.step, "forward", tensor, 0.0 if same else np.inf, reference.floor)


def _forward_errors(reference: StepReference, record: Tensors) -> Iterator[StepError]:
    for name, expected in reference.computed.exact.items():
        if not name.startswith("forward/"):
            continue
        obtained = record[name]
        tensor = name.removeprefix("forward/")
        if obtained.shape != expected.shape:
            yield StepError(reference.step, "forward", tensor, np.inf, reference.floor)
            continue
        scale = _root_mean_square([expected])
        errors = np.atleast_1d(largest_by_timestep(obtained - expected, expected.ndim == 3)) / scale
        rounding = np.atleast_1d(reference.computed.rounding[name]) / scale
        # Later timesteps compute with the rounding of earlier ones.
        tolerance = MONTE_CARLO_MARGIN * np.maximum(np.maximum.accumulate(rounding), reference.floor)
        tolerance = np.where(tolerance < LINEAR_LIMIT, tolerance, np.inf)
        ratios = tolerance_ratios(errors, tolerance)
        beyond = np.flatnonzero(ratios > 1)
        worst = int(beyond[0]) if beyond.size else int(np.argmax(ratios))
        timestep = worst if tensor != "head" else None
        error = _finite_or_infinite(errors[worst])
        yield StepError(reference.step, "forward", tensor, error, float(tolerance[worst]), timestep)


def _loss_error(reference: StepReference, record: Tensors) -> StepError:
    outputs = np.asarray(record["forward/head"], dtype=np.float64)
    computed = reference.loss(outputs)
    expected = float(computed.exact["loss"])
    scale = abs(expected) or 1.0
    error = _finite_or_infinite(abs(float(record["loss"]) - expected) / scale)
    tolerance = MONTE_CARLO_MARGIN * max(float(computed.rounding["loss"]) / scale, reference.floor)
    return StepError(reference.step, "loss", "", error, tolerance)


def _learning_rate_error(reference: StepReference, record: Tensors) -> StepError:
    """Measure the learning rate; Keras computes schedules in float32 whatever the precision of the model."""
    training = reference.experiment.case.training
    expected = learning_rate_at(training, reference.step)
    last_bit = reference.ulp if training.schedule == "constant" else ulp("float32")
    # A cosine ends at zero, with an error as large as that of a number near one.
    scale = training.learning_rate if training.schedule == "cosine" else expected
    error = _finite_or_infinite(abs(float(record["learning_rate"]) - expected) / scale)
    return StepError(reference.step, "update", "learning_rate", error, MONTE_CARLO_MARGIN * last_bit)


def _tensor_errors(kind: str, reference: StepReference, record: Tensors, computed: Computed) -> Iterator[StepError]:
    """Measure all tensors of a kind at once: one by one takes longer than to compute them."""
    exact = computed.exact
    blocks = _blocks(name for name in exact if name.startswith(f"{kind}/"))
    names = [name for block in blocks for name in block]
    if not names:
        return
    truth = joined({name: exact[name] for name in names})
    offsets = np.cumsum([0, *(exact[name].size for name in names[:-1])])

    def largest_errors(tensors: Tensors) -> np.ndarray:
        return np.maximum.reduceat(np.abs(joined({name: tensors[name] for name in names}) - truth), offsets)

    same_shape = {name: record[name].shape == exact[name].shape for name in names}
    scales = [_root_mean_square([exact[name] for name in block]) for block in blocks for _ in block]
    obtained = {name: record[name] if same_shape[name] else np.full(exact[name].shape, np.inf) for name in names}
    errors = largest_errors(obtained) / scales
    roundings = np.array([float(computed.rounding[name].max()) for name in names]) / scales
    roundings = np.nan_to_num(roundings, posinf=np.inf)
    smallest = float(np.finfo(reference.precision).smallest_normal)
    for name, error, rounding, scale in zip(names, errors, roundings, scales, strict=True):
        tensor = name if kind == "slot" else name.removeprefix(f"{kind}/")
        tolerance = reference.floor
        if same_shape[name]:
            # TensorFlow makes zeros of numbers that have no whole digits left, as the squares of 1e-20.
            tolerance = max(MONTE_CARLO_MARGIN * max(float(rounding), reference.floor), smallest / scale)
        if kind in ("gradient", "non_trainable") and same_shape[name] and not reference.is_linear:
            tolerance = np.inf
        if kind == "update" and same_shape[name]:
            tolerance = max(tolerance, _last_bits_of_weights(reference, tensor, exact[name]) / scale)
        yield StepError(reference.step, PHASE_OF[kind], tensor, _finite_or_infinite(float(error)), tolerance)


def _last_bits_of_weights(reference: StepReference, tensor: str, update: np.ndarray) -> float:
    """How far the rounding of the weights alone may carry their update, which is new minus old weights.

    A last bit of the weight may be all of a small update's digits, and in float64, where the Monte Carlo samples hit
    the same numbers, these do not show it.
    """
    last_bit = 2 * reference.ulp * largest(reference.weights[tensor] + update)
    # Keras on TensorFlow takes an embedding's row away once for every time that its token came.
    times = 1
    if tensor == "embedding/embeddings":
        times = int(np.bincount(np.ravel(reference.state_and_batch["inputs/sequence"])).max())
    return float(np.sqrt(times) * last_bit)


def _of_kind(record: Tensors, kind: str) -> dict[str, np.ndarray]:
    prefix = f"{kind}/"
    return in_float64({name.removeprefix(prefix): part for name, part in record.items() if name.startswith(prefix)})


def _blocks(names: Iterable[str]) -> list[list[str]]:
    """Group the gates of one kernel or bias."""
    blocks: dict[str, list[str]] = {}
    for name in names:
        gated = "/layer" in name and name.rpartition("/")[0].rpartition("/")[2] not in ("forward", "backward")
        blocks.setdefault(name.rpartition("/")[0] if gated else name, []).append(name)
    return list(blocks.values())


def _root_mean_square(tensors: list[np.ndarray]) -> float:
    squares = np.concatenate([np.square(tensor).ravel() for tensor in tensors])
    return float(np.sqrt(squares.mean())) or 1.0


def largest(values: np.ndarray) -> float:
    """Return the largest absolute value."""
    return float(np.max(np.abs(values)))


def _finite_or_infinite(error: float) -> float:
    return float(error) if np.isfinite(error) else np.inf
