"""Nothing passes because it is missing: what a trace lacks, what is not finite, what is of another experiment."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.metrics import predictions_shape
from compare.judge.verdict import Difference
from compare.trace.trace import Trace, TraceError


def require_one_device(traces: Sequence[Trace]) -> None:
    """Raise TraceError where trainings that are compared ran on different devices, whose rounding is another."""
    devices = [(trace.manifest["runner"], trace.manifest["execution"]["device"]) for trace in traces]
    if len({device for _, device in devices}) > 1:
        each = ", ".join(f"{runner} ran on {device}" for runner, device in dict.fromkeys(devices))
        raise TraceError(f"the trainings ran on different devices: {each}; give all runners one --device")


def required_columns(experiment: Experiment) -> list[str]:
    """Name what both sides must have recorded at each step of a case, also where neither has it."""
    phases = ("gradient", "update") if experiment.case.training.record == "norms" else ()
    return ["loss", *(f"{phase}/{name}" for phase in phases for name in experiment.weights), "batch"]


def experiment_differences(expected: Trace, obtained: Trace) -> Iterator[Difference]:
    """Compare the hashes of data, schedule and initial weights, made inside each process, and the dtypes."""
    for name in ("data", "schedule", "weights"):
        left, right = (trace.manifest.get("hashes", {}).get(name) for trace in (expected, obtained))
        if left is None or right is None:
            yield Difference("missing-hash", 0, "start", f"the hash of the {name} is missing", name)
        elif left != right:
            message = f"the two sides did not start from the same {name}"
            yield Difference("start", 0, "start", message, name, expected=left, obtained=right)
    left, right = (trace.manifest["dtype"] for trace in (expected, obtained))
    if left != right:
        message = f"dtype {right}, expected {left}"
        yield Difference("dtype", 0, "start", message, expected=left, obtained=right)


def missing_columns(expected: Trace, obtained: Trace, required: Sequence[str]) -> Iterator[Difference]:
    """Name every recorded figure that one trace has and the other lacks, and required ones that both lack."""
    left, right = set(expected.columns), set(obtained.columns)
    messages = {
        **{column: "is missing on both sides" for column in required if column not in left | right},
        **{column: "is missing" for column in expected.columns if column not in right},
        **{column: "was not expected" for column in obtained.columns if column not in left},
    }
    for column, message in messages.items():
        kind = "extra-tensor" if column in right else "missing-tensor"
        yield Difference(kind, 0, "start", f"{column} {message}", column.partition("/")[2] or column)


def missing_steps(expected: Trace, obtained: Trace, experiment: Experiment) -> Iterator[Difference]:
    """Name the first step that a trace lacks, of those that were planned or that the other has."""
    planned = max(experiment.steps, len(expected.rows), len(obtained.rows))
    not_finite = {}
    for trace in (expected, obtained):
        runner, steps = trace.manifest["runner"], len(trace.rows)
        wrong = np.flatnonzero(~np.isfinite(trace.losses))
        if wrong.size:
            not_finite[runner] = int(wrong[0])
        elif steps == 0:
            yield Difference("empty", 0, "start", f"the trace of {runner} is empty", off_side=runner)
        elif steps != planned:
            what = "was cut short" if trace.truncated else "ends"
            message = f"the trace of {runner} {what} after {steps} of {planned} steps"
            yield Difference("missing-steps", steps, "loss", message, off_side=runner, expected=planned, obtained=steps)
        elif not trace.complete:
            yield Difference("incomplete", steps, "forward", f"the trace of {runner} has no end", off_side=runner)
    if not_finite:
        first = min(not_finite.values())
        sides = [runner for runner, step in not_finite.items() if step == first]
        steps_by_side = " and ".join(f"step {step} on {runner}" for runner, step in not_finite.items())
        message = f"the loss is not finite from {steps_by_side}"
        yield Difference("not-finite", first, "loss", message, off_side=sides[0] if len(sides) == 1 else "both")


def finite_steps(trace: Trace, experiment: Experiment) -> int:
    """Return how many steps a runner was to take: all that were planned, or those before its loss was not finite."""
    wrong = np.flatnonzero(~np.isfinite(trace.losses))
    return int(wrong[0]) if wrong.size else experiment.steps


def missing_states(
    trace: Trace, experiment: Experiment, checked: Sequence[int], found: Collection[int]
) -> list[Difference]:
    """Name every step to be checked whose state, from which both sides take it, is not in the trace that has them."""
    runner, steps = trace.manifest["runner"], finite_steps(trace, experiment)
    return [
        Difference(
            "missing-state", step, "update", f"{runner} has no state before step {step} to check it", off_side=runner
        )
        for step in checked
        if step <= steps and step not in found
    ]


def missing_weights(
    expected: Trace, obtained: Trace, experiment: Experiment, step_of: dict[int, int]
) -> Iterator[Difference]:
    """Name every checkpoint, and every tensor in one, that a trace lacks or has in another shape or dtype."""
    for epoch in sorted(step_of):
        step = step_of[epoch]
        without = [trace for trace in (expected, obtained) if epoch not in trace.checkpoints]
        for trace in without:
            if step < finite_steps(trace, experiment):
                side = trace.manifest["runner"]
                message = f"the weights of {side} after epoch {epoch} are missing"
                yield Difference("missing-checkpoint", step, "update", message, off_side=side)
        if without:
            continue
        left, right = expected.checkpoints[epoch], obtained.checkpoints[epoch]
        for name in sorted(left.keys() | right.keys()):
            if name not in left or name not in right:
                kind = "missing-tensor" if name not in right else "extra-tensor"
                yield Difference(kind, step, "update", f"{name} is on one side only after epoch {epoch}", name)
            elif (left[name].shape, left[name].dtype) != (right[name].shape, right[name].dtype):
                shapes = [f"{tensor.dtype}{list(tensor.shape)}" for tensor in (left[name], right[name])]
                message = f"{name} is {shapes[1]}, expected {shapes[0]}"
                yield Difference("shape", step, "update", message, name, expected=shapes[0], obtained=shapes[1])


def missing_predictions(expected: Trace, obtained: Trace, experiment: Experiment) -> Iterator[Difference]:
    """Say where predictions are missing, empty, or not of the shape of what they predict, or a forecast is short."""
    step, shape = int(expected.manifest["steps"]), predictions_shape(experiment.examples)
    for trace in (expected, obtained):
        runner = trace.manifest["runner"]
        if trace.predictions is None or trace.predictions.size == 0:
            message = f"{runner} has no predictions"
            yield Difference("missing-predictions", step, "forward", message, off_side=runner)
        elif trace.predictions.shape != shape:
            shapes = [str(list(shape)), str(list(trace.predictions.shape))]
            message = f"the predictions of {runner} are {shapes[1]}, expected {shapes[0]}"
            yield Difference("shape", step, "forward", message, off_side=runner, expected=shapes[0], obtained=shapes[1])
        counts = {
            "forecast": (experiment.case.data.future, 0 if trace.forecast is None else trace.forecast.size),
            "sampled": (experiment.case.data.sampled, 0 if trace.sample is None else trace.sample.ids.size),
        }
        for verb, (asked, count) in counts.items():
            if count != asked:
                message = f"{runner} {verb} {count} values of {asked}"
                yield Difference(
                    "missing-predictions", step, "forward", message, off_side=runner, expected=asked, obtained=count
                )
