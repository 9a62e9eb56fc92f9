"""Nothing passes by absence: what one trace lacks, what is not finite, and what did not start the same."""

from collections.abc import Iterator, Sequence

import numpy as np

from compare.experiment.experiment import Experiment
from compare.judge.verdict import Difference
from compare.trace.trace import Trace


def required_columns(experiment: Experiment) -> list[str]:
    """Name what both sides must have recorded at each step of a case, also where neither has it."""
    phases = ("gradient", "update") if experiment.case.training.record == "norms" else ()
    return ["loss", *(f"{phase}/{name}" for phase in phases for name in experiment.weights), "batch"]


def experiment_differences(expected: Trace, obtained: Trace) -> Iterator[Difference]:
    """Compare the hashes of data, schedule and initial weights, made inside each process."""
    for name in ("data", "schedule", "weights"):
        left, right = (trace.manifest.get("hashes", {}).get(name) for trace in (expected, obtained))
        if left is None or right is None:
            yield Difference("missing-hash", 0, "start", f"the hash of the {name} is missing", tensor=name)
        elif left != right:
            yield Difference("start", 0, "start", f"the two sides did not start from the same {name}", tensor=name)
    if expected.manifest["dtype"] != obtained.manifest["dtype"]:
        words = f"dtype {obtained.manifest['dtype']}, expected {expected.manifest['dtype']}"
        yield Difference("dtype", 0, "start", words)


def absent_columns(expected: Trace, obtained: Trace, required: Sequence[str]) -> Iterator[Difference]:
    """Name every recorded figure that one trace has and the other lacks, and required ones that both lack."""
    for column in required:
        if column not in expected.columns and column not in obtained.columns:
            tensor = column.partition("/")[2] or column
            yield Difference("missing-tensor", 0, "start", f"{column} is missing on both sides", tensor=tensor)
    for column in expected.columns:
        if column not in obtained.columns:
            yield Difference(
                "missing-tensor", 0, "start", f"{column} is missing", tensor=column.partition("/")[2] or column
            )
    for column in obtained.columns:
        if column not in expected.columns:
            yield Difference(
                "extra-tensor", 0, "start", f"{column} was not expected", tensor=column.partition("/")[2] or column
            )


def absent_steps(expected: Trace, obtained: Trace) -> Iterator[Difference]:
    """Name the first step that a trace lacks, of those that were planned or that the other has."""
    planned = max(int(expected.manifest["steps"]), len(expected.rows), len(obtained.rows))
    not_finite = {}
    for trace in (expected, obtained):
        runner = trace.manifest["runner"]
        steps = len(trace.rows)
        wrong = np.flatnonzero(~np.isfinite(trace.losses))
        if wrong.size:
            not_finite[runner] = int(wrong[0])
        elif steps == 0:
            yield Difference("empty", 0, "start", f"the trace of {runner} is empty", off_side=runner)
        elif steps != planned:
            what = "was cut short" if trace.truncated else "ends"
            words = f"the trace of {runner} {what} after {steps} of {planned} steps"
            yield Difference("missing-steps", steps, "loss", words, off_side=runner)
        elif not trace.complete:
            yield Difference("incomplete", steps, "forward", f"the trace of {runner} has no end", off_side=runner)
    if not_finite:
        first = min(not_finite.values())
        sides = [runner for runner, step in not_finite.items() if step == first]
        words = "the loss is not finite from " + " and ".join(
            f"step {step} on {runner}" for runner, step in not_finite.items()
        )
        yield Difference("not-finite", first, "loss", words, off_side=sides[0] if len(sides) == 1 else "both")


def absent_weights(expected: Trace, obtained: Trace, step_of: dict[int, int]) -> Iterator[Difference]:
    """Name every checkpoint, and every tensor in one, that one trace lacks or has in another shape or dtype."""
    for epoch in sorted(expected.checkpoints.keys() | obtained.checkpoints.keys()):
        step = step_of.get(epoch, 0)
        if epoch not in expected.checkpoints or epoch not in obtained.checkpoints:
            side = (expected if epoch not in expected.checkpoints else obtained).manifest["runner"]
            words = f"the weights of {side} after epoch {epoch} are missing"
            yield Difference("missing-checkpoint", step, "update", words, off_side=side)
            continue
        left, right = expected.checkpoints[epoch], obtained.checkpoints[epoch]
        for name in sorted(left.keys() | right.keys()):
            if name not in left or name not in right:
                kind = "missing-tensor" if name not in right else "extra-tensor"
                yield Difference(kind, step, "update", f"{name} is on one side only after epoch {epoch}", tensor=name)
            elif (left[name].shape, left[name].dtype) != (right[name].shape, right[name].dtype):
                words = (
                    f"{name} is {right[name].dtype}{list(right[name].shape)}, "
                    f"expected {left[name].dtype}{list(left[name].shape)}"
                )
                yield Difference("shape", step, "update", words, tensor=name)


def absent_predictions(
    expected: Trace,
    obtained: Trace,
    shape: tuple[int, ...],
    future: int = 0,
    sampled: int = 0,
) -> Iterator[Difference]:
    """Say where predictions are missing, empty, or not of the shape of what they predict, or a forecast is short."""
    step = int(expected.manifest["steps"])
    for trace in (expected, obtained):
        runner = trace.manifest["runner"]
        if trace.predictions is None or trace.predictions.size == 0:
            words = f"{runner} has no predictions"
            yield Difference("missing-predictions", step, "forward", words, off_side=runner)
        elif trace.predictions.shape != shape:
            words = f"the predictions of {runner} are {list(trace.predictions.shape)}, expected {list(shape)}"
            yield Difference("shape", step, "forward", words, off_side=runner)
        done = {
            "forecast": (0 if trace.forecast is None else trace.forecast.size, future),
            "sampled": (0 if trace.sample is None else trace.sample.ids.size, sampled),
        }
        for what, (count, asked) in done.items():
            if count != asked:
                words = f"{runner} {what} {count} values of {asked}"
                yield Difference("missing-predictions", step, "forward", words, off_side=runner)
