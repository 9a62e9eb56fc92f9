"""Noisy measurements of a hidden process, with something to learn at every timestep."""

import numpy as np

from compare.config.case import Case
from compare.config.streams import Stream, random_stream
from compare.data.examples import Examples
from compare.data.padding import draw_mask
from compare.data.parts import held_out, split

EXAMPLES = 200
CLASSES = 3

# How much of the hidden process is kept from one timestep to the next.
MEMORY = 0.8


def signals(case: Case) -> Examples:
    """Draw sequences of `channels` noisy measurements of s(t) = 0.8·s(t-1) + e(t), of at most `window` timesteps.

    Targets by task: the next `horizon` values of s; the class of its mean over the timesteps that are not padding; its
    class at each timestep. Classes are equally frequent ranges of values.
    """
    data = case.data
    generator = random_stream(case.seed, Stream.DATA)
    examples, window = data.examples or EXAMPLES, data.window
    hidden = _hidden_process(generator, examples, window + data.horizon)
    seen, following = hidden[:, :window], hidden[:, window:]
    gains = generator.uniform(0.5, 1.5, data.channels)
    inputs = seen[:, :, None] * gains + generator.normal(0, data.noise, (examples, window, data.channels))
    mask = draw_mask(generator, examples, window, data.padding)
    real = np.ones(seen.shape, bool) if mask is None else mask
    inputs = np.where(real[:, :, None], inputs, 0).astype(case.dtype)

    outputs = data.classes or CLASSES
    if case.task == "forecasting":
        targets, outputs = following.astype(case.dtype), data.horizon
    elif case.task == "classification":
        targets = _classes((seen * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1), outputs)
    else:
        targets = np.where(real, _classes(seen, outputs), 0).astype(np.int32)
    training, test = split(inputs, targets, mask, held_out(examples, data.test_fraction))
    return Examples(training, test, outputs, features=data.channels)


def _hidden_process(generator: np.random.Generator, examples: int, steps: int) -> np.ndarray:
    values = generator.normal(size=(examples, steps))
    for step in range(1, steps):
        values[:, step] += MEMORY * values[:, step - 1]
    return values


def _classes(values: np.ndarray, classes: int) -> np.ndarray:
    borders = np.quantile(values, np.arange(1, classes) / classes)
    return np.digitize(values, borders).astype(np.int32)
