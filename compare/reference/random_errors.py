"""Random errors of an operation's results: equal numbers err equally, as they do where an operation is rounded."""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


class RandomErrors:
    """A seeded stream of errors, each in so many samples. The mixing of bits is that of MurmurHash3 (Appleby 2011)."""

    def __init__(self, samples: int, seed: Sequence[int]) -> None:
        self.samples = samples
        self._generator = np.random.default_rng(seed)
        self._drawn: list[int] = []

    def errors(self, value: Array, largest: Array) -> Array:
        """Draw errors (samples, *shape) for each number, up or down, the same for numbers that are equal in float32.

        None is below a half of the largest: of a few that were drawn around zero all might be small, and would allow
        next to nothing where one number outweighs all others of its tensor.
        """
        bits = np.array(value, np.float32, ndmin=1).view(np.uint32)
        bits *= np.uint32(2 * self.bits() + 1)
        bits ^= bits >> 16
        bits *= np.uint32(0x85EBCA6B)
        # As float32: the sign and the digits are drawn, the exponent is that of a half.
        drawn = np.empty((self.samples, *bits.shape), np.uint32)
        for sample in range(self.samples):
            np.left_shift(bits, np.uint32(sample), out=drawn[sample])
        drawn &= np.uint32(0x807FFFFF)
        drawn |= np.uint32(0x3F000000)
        errors = drawn.view(np.float32).reshape(self.samples, *value.shape)
        errors *= largest
        return errors

    def bits(self) -> int:
        """Return 31 random bits; they are drawn in blocks."""
        if not self._drawn:
            self._drawn = self._generator.integers(2**31, size=4096).tolist()
        return self._drawn.pop()
