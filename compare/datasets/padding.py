"""Sequences of different length in one array: which timesteps are padding, and which examples are held out."""

import numpy as np

from compare.errors import InputError
from compare.examples import Part


def mask_of(lengths: np.ndarray, window: int, padding: str) -> np.ndarray:
    """Return the mask (examples, window) of sequences of given lengths, padded on the right or on the left."""
    steps = np.arange(window)
    return steps < lengths[:, None] if padding == "right" else steps >= window - lengths[:, None]


def draw_mask(generator: np.random.Generator, examples: int, window: int, padding: str) -> np.ndarray | None:
    """Draw a mask (examples, window): lengths from 1 to window, or timesteps scattered anywhere; None for "none".

    The first example and the last (which is held out) are the shortest, of scattered padding without any timestep; the
    second is the longest.
    """
    if padding == "none":
        return None
    if padding == "scattered":
        mask = generator.random((examples, window)) < 0.7
        mask[[0, -1]], mask[1] = False, True
        return mask
    lengths = generator.integers(1, window, examples, endpoint=True)
    lengths[[0, -1]], lengths[1] = 1, window
    return mask_of(lengths, window, padding)


def split(inputs: np.ndarray, targets: np.ndarray, mask: np.ndarray | None, test_fraction: float) -> tuple[Part, Part]:
    """Split examples, in the order in which they stand, into the training part and the held-out part.

    Raises InputError where a part would be empty.
    """
    examples = len(inputs)
    held_out = round(examples * test_fraction)
    if not 0 < held_out < examples:
        raise InputError(
            f"{examples} examples with data.test_fraction {test_fraction} leave {examples - held_out} to train on and "
            f"{held_out} to test with; each part needs one"
        )
    cut = examples - held_out
    if mask is None:
        return Part(inputs[:cut], targets[:cut]), Part(inputs[cut:], targets[cut:])
    return Part(inputs[:cut], targets[:cut], mask[:cut]), Part(inputs[cut:], targets[cut:], mask[cut:])
