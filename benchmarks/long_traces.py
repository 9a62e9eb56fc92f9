"""Time the judging of two long traces with four ensemble members; prints one line of Markdown.

python benchmarks/long_traces.py FOLDER [STEPS]     (a new folder; 100,000 steps by default)

The traces have what an LSTM of 4 units has: 30 figures a step, 18 checkpoints of weights. One step is not trained: the
figures are drawn, those of the two sides and of the members a last bit apart. Checked steps are left out, since their
number grows with the logarithm of the steps alone.
"""

import sys
import time
from pathlib import Path

import numpy as np

from compare.config.case import load_case, with_fields
from compare.data.windows import batch_schedule
from compare.experiment.experiment import Experiment, make_experiment
from compare.judge import judge
from compare.trace.trace import TraceWriter, read_trace

STEPS_PER_EPOCH = 10
ROWS_A_RECORD = 128


def write(folder: Path, experiment: Experiment, runner: str, seed: int) -> None:
    """Write a trace of as many steps as the start has."""
    generator = np.random.default_rng(seed)
    tensors = list(experiment.weights)
    columns = ["loss", *(f"{kind}/{name}" for kind in ("gradient", "update") for name in tensors), "batch"]
    manifest = {
        "case": experiment.case.name, "runner": runner, "dtype": "float32", "precision": "float32", "narrowed": [],
        "steps": experiment.steps, "epochs": experiment.case.training.epochs,
        "versions": {},
        "execution": {"kernel": "loop", "device": "cpu"},
        "hashes": {"data": "", "schedule": "", "weights": ""},
    }  # fmt: skip
    common = np.random.default_rng(0)
    with TraceWriter(folder, manifest, columns) as trace:
        for first in range(0, experiment.steps, ROWS_A_RECORD):
            rows = common.uniform(0.5, 1.5, (min(ROWS_A_RECORD, experiment.steps - first), len(columns)))
            rows *= 1 + np.finfo("float32").eps * generator.choice([-1.0, 1.0], rows.shape)
            rows[:, -1] = 1.0
            trace.append(rows)
        epochs = experiment.case.training.epochs
        for epoch in sorted({2**power for power in range(epochs.bit_length())} | {epochs}):
            trace.checkpoint(epoch, experiment.weights)
        trace.finish({"predictions": experiment.examples.test.targets}, {"stopped": None})


def main(folder: Path, steps: int) -> None:
    """Write the traces, and read and judge them."""
    fields = {"data.points": 210, "model.units": 4, "training.batch_size": 16, "training.epochs": 1}
    experiment = make_experiment(with_fields(load_case("lstm"), fields))
    case = with_fields(experiment.case, {"training.epochs": steps // experiment.steps})
    schedule = batch_schedule(0, case.training.epochs, experiment.schedule.shape[1])
    experiment = Experiment(case, experiment.windows, experiment.scaling, experiment.weights, schedule)
    names = ["torch", "keras-torch", *(f"member-{number}" for number in range(4))]
    for seed, name in enumerate(names):
        write(folder / name, experiment, name, seed)
    began = time.monotonic()
    expected, obtained, *members = (read_trace(folder / name) for name in names)
    read = time.monotonic()
    comparison = judge(expected, obtained, members, experiment)
    done = time.monotonic()
    assert comparison.status == "agrees", comparison.first_difference
    print(f"| {comparison.steps} | {read - began:.2f} | {done - read:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
