"""Time a training step of Keras's recurrent layers on torch beside the fast ones and native PyTorch, in turn.

KERAS_BACKEND=torch OMP_NUM_THREADS=1 python benchmarks/fast.py [--flush]

Prints Markdown: medians in milliseconds of processor time, which other programs on the machine disturb less than the
clock, and the median ratios of rounds that follow one another. Every model starts from the same weights and trains on
the same batches of a built-in case. With --flush the whole process takes numbers too small to be normal for 0.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from itertools import cycle
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch

import keras_models
import torch_models
from compare.config.case import load_case, with_fields
from compare.experiment.experiment import Experiment, make_experiment
from keras_models import fast
from keras_models.backends.direct import direct_call, direct_loss

CELLS = ("simple_rnn", "lstm", "gru")
ROUNDS = {10: (25, 12), 200: (9, 3)}  # timesteps: rounds, steps in each

Step = Callable[[Any, Any], None]


def keras_model(experiment: Experiment, is_fast: bool) -> keras.Model:
    """The case's model, of Keras's own layers or of fast ones."""
    model = keras_models.build(cell=experiment.case.model.cell, units=experiment.case.model.units)
    if is_fast:
        fast.enable(model)
    keras_models.load_canonical(model, dict(experiment.weights))
    model.compile(optimizer=keras.optimizers.Adam(), loss=keras.losses.MeanSquaredError(), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def keras_step(model: keras.Model, direct: bool) -> Step:
    """A training step of Keras's parts, with nothing recorded: `direct` as the runner here takes it, else as Keras."""
    variables = model.trainable_variables
    values = [variable.value for variable in variables]
    forward = direct_call(model) if direct else partial(model, training=True)
    loss_of = direct_loss(model) if direct else lambda y, outputs: model.compute_loss(y=y, y_pred=outputs)
    assert forward is not None

    def step(x: Any, y: Any) -> None:
        gradients = torch.autograd.grad(loss_of(y, forward(x)), values)
        with torch.no_grad():
            model.optimizer.apply(list(gradients), variables)

    return step


def torch_step(experiment: Experiment) -> Step:
    """A training step as one writes it in PyTorch."""
    model = torch_models.build(cell=experiment.case.model.cell, units=experiment.case.model.units)
    torch_models.load_canonical(model, dict(experiment.weights))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], foreach=True)
    loss = torch.nn.MSELoss()

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return step


def steps_by_name(experiment: Experiment) -> dict[str, Step]:
    """What is timed."""
    return {
        "PyTorch": torch_step(experiment),
        "stock": keras_step(keras_model(experiment, False), direct=False),
        "fast": keras_step(keras_model(experiment, True), direct=True),
        "fast, through the model": keras_step(keras_model(experiment, True), direct=False),
        "stock, train_on_batch": keras_model(experiment, False).train_on_batch,
        "fast, train_on_batch": keras_model(experiment, True).train_on_batch,
    }


def measure(experiment: Experiment) -> dict[str, list[float]]:
    """Milliseconds a step, by what is timed, one for each round."""
    rounds, count = ROUNDS[experiment.case.data.window]
    windows, size = experiment.windows, experiment.case.training.batch_size
    batches = [
        (torch.tensor(windows.training_inputs[chosen]), torch.tensor(windows.training_targets[chosen]))
        for chosen in experiment.schedule[0, : size * count].reshape(count, size)
    ]
    steps = steps_by_name(experiment)
    milliseconds: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in cycle(steps.items()):
        began = time.process_time()
        for x, y in batches:
            step(x, y)
        milliseconds[name].append((time.process_time() - began) / count * 1e3)
        if len(milliseconds["fast, train_on_batch"]) > rounds:
            return {name: values[1:] for name, values in milliseconds.items()}  # without the first, which warms up
    raise AssertionError


def ratio(numerators: list[float], denominators: list[float]) -> str:
    """The median of the ratios, round by round."""
    return f"{statistics.median(a / b for a, b in zip(numerators, denominators, strict=True)):.2f}"


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flush", action="store_true")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.set_flush_denormal(parser.parse_args().flush)
    print(f"{torch.get_num_threads()} thread, " + ", ".join(f"{name} {version(name)}" for name in ("keras", "torch")))
    milliseconds = {}
    for timesteps in ROUNDS:
        for cell in CELLS:
            experiment = make_experiment(with_fields(load_case(cell), {"data.window": timesteps, "data.points": 1000}))
            milliseconds[timesteps, cell] = measure(experiment)
    names = list(next(iter(milliseconds.values())))
    print("\n| timesteps | cell | " + " | ".join(names) + " |\n|---|---|" + "---|" * len(names))
    for (timesteps, cell), times in milliseconds.items():
        medians = [f"{statistics.median(times[name]):.2f}" for name in names]
        print(f"| {timesteps} | {cell} | " + " | ".join(medians) + " |")
    ratios = {
        "fast ÷ stock": ("fast", "stock"),
        "fast ÷ PyTorch": ("fast", "PyTorch"),
        "through the model, fast ÷ stock": ("fast, through the model", "stock"),
        "train_on_batch, fast ÷ stock": ("fast, train_on_batch", "stock, train_on_batch"),
    }
    print("\n| timesteps | cell | " + " | ".join(ratios) + " |\n|---|---|" + "---|" * len(ratios))
    for (timesteps, cell), times in milliseconds.items():
        row = [ratio(times[above], times[below]) for above, below in ratios.values()]
        print(f"| {timesteps} | {cell} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
