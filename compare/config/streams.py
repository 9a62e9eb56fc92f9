"""The streams of random numbers that a case's seed gives, each drawn from by one purpose alone."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is drawn for; the ensemble has 3 and 4 of its own seeds, Monte Carlo arithmetic 5."""

    DATA = 0
    SCHEDULE = 1
    WEIGHTS = 2
    SAMPLED_TEXT = 4
    NULL_RUN = 6
    TRAINING_STATES = 6
    TEST_STATES = 7
    DROPOUT_MASKS = 8


def random_stream(seed: int, stream: Stream, *numbers: int) -> np.random.Generator:
    """Start a stream of a seed anew, of a step or the like where `numbers` say which."""
    return np.random.default_rng([seed, int(stream), *numbers])
