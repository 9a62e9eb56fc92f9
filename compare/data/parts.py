"""Which examples are used, and which of them are held out."""

import numpy as np

from compare.data.examples import Part
from compare.errors import InputError


def held_out(examples: int, test_fraction: float) -> int:
    """Return how many of the examples are held out; raises InputError where a part would be empty."""
    held = round(examples * test_fraction)
    if not 0 < held < examples:
        raise InputError(
            f"{examples} examples with data.test_fraction {test_fraction} leave {examples - held} to train on and "
            f"{held} to test with; each part needs one"
        )
    return held


def draw_order(generator: np.random.Generator, available: int, examples: int | None) -> np.ndarray:
    """Draw which examples are used, in an order in which the last may be held out, since files are often sorted.

    Raises InputError where fewer are available than are asked for.
    """
    return generator.permutation(available)[: limited(available, examples)]


def limited(available: int, examples: int | None) -> int:
    """Return how many examples are used; raises InputError where fewer are available than are asked for."""
    if examples is not None and examples > available:
        raise InputError(f"data.examples = {examples}, but there are {available}; give as many or fewer")
    return available if examples is None else examples


def split(inputs: np.ndarray, targets: np.ndarray, mask: np.ndarray | None, held: int) -> tuple[Part, Part]:
    """Split examples, in the order in which they stand, into the training part and the last `held` of them."""
    cut = len(inputs) - held
    if mask is None:
        return Part(inputs[:cut], targets[:cut]), Part(inputs[cut:], targets[cut:])
    return Part(inputs[:cut], targets[:cut], mask[:cut]), Part(inputs[cut:], targets[cut:], mask[cut:])
