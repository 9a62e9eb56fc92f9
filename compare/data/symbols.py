"""Random token ids of several kinds, of which the most frequent so far is to be told at every timestep."""

import numpy as np

from compare.config.case import Case
from compare.config.streams import Stream, random_stream
from compare.data.examples import Examples
from compare.data.padding import draw_mask
from compare.data.parts import held_out, split

EXAMPLES = 200
VOCABULARY = 12
CLASSES = 3

PADDING_ID = 0


def symbols(case: Case) -> Examples:
    """Draw at most `window` token ids below `vocabulary` a sequence; id 0 is padding, id modulo `classes` is the kind.

    Targets by task: the most frequent kind of the sequence, or the most frequent so far at each timestep; of equally
    frequent ones the first.
    """
    data = case.data
    generator = random_stream(case.seed, Stream.DATA)
    examples, vocabulary = data.examples or EXAMPLES, data.vocabulary or VOCABULARY
    classes = data.classes or CLASSES
    ids = generator.integers(1, vocabulary, (examples, data.window), dtype=np.int32)
    mask = draw_mask(generator, examples, data.window, data.padding)
    real = np.ones(ids.shape, bool) if mask is None else mask

    kinds = np.eye(classes, dtype=np.int32)[ids % classes] * real[:, :, None]
    so_far = kinds.cumsum(axis=1).argmax(axis=2).astype(np.int32)
    targets = so_far[:, -1] if case.task == "classification" else np.where(real, so_far, 0).astype(np.int32)
    ids = np.where(real, ids, PADDING_ID).astype(np.int32)
    training, test = split(ids, targets, mask, held_out(examples, data.test_fraction))
    return Examples(training, test, classes, vocabulary=vocabulary)
