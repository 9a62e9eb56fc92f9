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
import json, sys
from pathlib import Path
import numpy as np
from compare.experiment.experiment import read_experiment
start = read_experiment(Path(sys.argv[1]))
case, examples = start.case, start.examples.training
if sys.argv[2] == "torch":
    import torch
    cell = {"simple_rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case.model.cell]
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = cell(1, case.model.units, batch_first=True), torch.nn.Linear(case.model.units, 1)
        def forward(self, x):
            return self.head(self.cell(x)[0][:, -1])
    model, loss = Model(), torch.nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.tensor(np.asarray(examples.inputs)), torch.tensor(np.asarray(examples.targets))
    for epoch in range(case.training.epochs):
        for batch in torch.randperm(len(x)).split(case.training.batch_size):
            optimizer.zero_grad()
            loss(model(x[batch]), y[batch]).backward()
            optimizer.step()
else:
    import keras
    cell = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[case.model.cell]
    model = keras.Sequential([keras.layers.Input(examples.inputs.shape[1:]), cell(case.model.units),
                              keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    model.fit(examples.inputs, examples.targets, batch_size=case.training.batch_size, epochs=case.training.epochs,
              verbose=0)
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
