"""Generated words as a speech recogniser hears them: sounds of different length, each with its own spectrum."""

import numpy as np

from compare.config.data import Task

EXAMPLES = 200
FEATURES = 13
SOUNDS = 5
LONGEST_SOUND = 8

# Which sounds make up each word; two words differ in their order alone.
WORDS = ((0, 1, 2), (2, 1, 0), (3, 1, 4), (4, 0, 3))


def speech(generator: np.random.Generator, task: Task, examples: int | None) -> dict[str, np.ndarray]:
    """Draw spoken words as the arrays of an NPZ file: inputs, lengths, targets and, of classes, their labels.

    Targets by task: the word; the sound at each timestep; how many timesteps a sound takes on average.
    """
    count = examples or EXAMPLES
    spectra = generator.normal(size=(SOUNDS, FEATURES))
    words = generator.integers(0, len(WORDS), count)
    durations = generator.integers(2, LONGEST_SOUND, (count, len(WORDS[0])), endpoint=True)
    lengths = durations.sum(axis=1)
    sounds = np.zeros((count, lengths.max()), np.int64)
    for row, (word, duration) in enumerate(zip(words, durations, strict=True)):
        sounds[row, : lengths[row]] = np.repeat(WORDS[word], duration)
    inputs = spectra[sounds] + generator.normal(0, 0.7, (*sounds.shape, FEATURES))
    if task == "forecasting":
        return {"inputs": inputs, "lengths": lengths, "targets": durations.mean(axis=1)}
    if task == "tagging":
        names = np.array([f"sound {sound}" for sound in range(SOUNDS)])
        return {"inputs": inputs, "lengths": lengths, "targets": sounds, "labels": names}
    names = np.array([f"word {word}" for word in range(len(WORDS))])
    return {"inputs": inputs, "lengths": lengths, "targets": words, "labels": names}
