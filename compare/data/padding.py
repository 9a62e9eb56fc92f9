"""Sequences of different length in one array, with a mask of what is no padding."""

from collections.abc import Sequence

import numpy as np

from compare.errors import InputError


def mask_of(lengths: np.ndarray, window: int, padding: str) -> np.ndarray:
    """Return the mask (examples, window) of sequences of given lengths, padded on the right or on the left."""
    steps = np.arange(window)
    return steps < lengths[:, None] if padding == "right" else steps >= window - lengths[:, None]


def pad(sequences: Sequence[np.ndarray], window: int, padding: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Put sequences (time, …) of at most `window` timesteps into one array (examples, window, …), zero where masked.

    With padding "none" they must be of one length, which then is the array's, and there is no mask. Raises InputError
    where they are not.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    longest, shortest = int(lengths.max()), int(lengths.min())
    if padding == "none":
        if longest != shortest:
            raise InputError(
                f'the examples have {shortest} to {longest} timesteps; give data.padding = "right" or "left"'
            )
        return np.stack(sequences), None
    mask = mask_of(lengths, window, padding)
    padded = np.zeros((len(sequences), window, *sequences[0].shape[1:]), sequences[0].dtype)
    padded[mask] = np.concatenate(sequences)
    return padded, mask


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
