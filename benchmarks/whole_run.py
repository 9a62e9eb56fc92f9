"""Time the whole default run beside the same trainings as stock scripts, one process after the other.

python benchmarks/whole_run.py

The stock scripts are what a user without this project would run: one for each cell and framework, `fit` or a loop
written by hand, on the same data for the same epochs, nothing recorded, nothing compared. The default run trains all
of that with everything recorded, four ensemble members of each PyTorch training beside, and judges and reports it.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare.config.case import DEFAULT_SUITE, load_case
from compare.experiment.experiment import make_experiment, write_experiment

ROUNDS = 3
RUNNERS = ("torch", "keras-tensorflow", "keras-torch", "keras-jax")

STOCK = """
import importlib, sys
from pathlib import Path
from compare.experiment.experiment import read_experiment
experiment = read_experiment(Path(sys.argv[1]))
case, examples = experiment.case, experiment.examples.training
models = importlib.import_module("torch_models" if sys.argv[2] == "torch" else "keras_models")
model = models.build(cell=case.model.cell, units=case.model.units)
train = models.train_stock(model, examples.inputs, examples.targets, case.training.batch_size)
train(case.training.epochs)
"""


def stock_scripts(folder: Path) -> float:
    """Run every stock script, one after the other; seconds."""
    began = time.perf_counter()
    for name in DEFAULT_SUITE:
        for runner in RUNNERS:
            environment = os.environ | {"KERAS_BACKEND": runner.removeprefix("keras-"), "TF_CPP_MIN_LOG_LEVEL": "2"}
            arguments = [sys.executable, "-c", STOCK, str(folder / name), runner]
            subprocess.run(arguments, env=environment, check=True, stderr=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - began


def default_run(out: Path) -> float:
    """Run the default suite; seconds."""
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    began = time.perf_counter()
    arguments = [sys.executable, "-m", "compare", "--quiet", "--out", str(out)]
    subprocess.run(arguments, env=environment, check=True, stderr=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - began


def main() -> None:
    """Print the seconds and the ratio of each round."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in DEFAULT_SUITE:
            write_experiment(make_experiment(load_case(name)), folder / name)
        for number in range(ROUNDS):
            scripts, run = stock_scripts(folder), default_run(folder / f"out{number}")
            print(f"stock scripts {scripts:.1f} s, default run {run:.1f} s, ratio {run / scripts:.2f}", flush=True)


if __name__ == "__main__":
    main()
