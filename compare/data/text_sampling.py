"""Text sampled from a model's logits with given random numbers, so that two sides can be given the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from compare.config.streams import Stream, random_stream


@dataclass(frozen=True)
class Sample:
    """Sampled token ids (length,), and for each how far its random number was from choosing another.

    A margin is a distance in cumulative probability. Two sides whose probabilities differ by less than the margins have
    sampled the same ids; from a smaller margin on they may rightly differ.
    """

    ids: np.ndarray
    margins: np.ndarray


def draw_uniforms(seed: int, length: int) -> np.ndarray:
    """Draw the random numbers (length,) in [0, 1) that `sample_text` takes."""
    return random_stream(seed, Stream.SAMPLED_TEXT).random(length)


def sample_ids(logits: np.ndarray, uniforms: np.ndarray, temperature: float = 1.0) -> Sample:
    """Choose an id for each row of logits (rows, classes) by inverting its distribution at a number (rows,) in [0, 1).

    The probabilities are softmax(logits / temperature), in float64; the chosen id is the first whose cumulative
    probability is above the number. At temperature 0 it is the largest logit, whatever the number, and its margin is
    how far its probability is above the next one's. Raises ValueError for logits that are not finite, numbers outside
    [0, 1) and a temperature that is negative or not finite.
    """
    logits, uniforms = np.asarray(logits, np.float64), np.asarray(uniforms, np.float64)
    if logits.ndim != 2 or logits.shape[1] < 1 or uniforms.shape != logits.shape[:1]:
        raise ValueError(
            f"logits {list(logits.shape)} and uniforms {list(uniforms.shape)} are not (rows, classes), (rows,)"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits are not finite: there is nothing to sample from")
    if not ((uniforms >= 0) & (uniforms < 1)).all():
        raise ValueError("uniforms must be in [0, 1)")
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature {temperature} must be finite and at least 0")
    probabilities = _softmax(logits, temperature or 1.0)
    rows = np.arange(len(logits))
    if temperature == 0:
        ids = logits.argmax(axis=1)
        others = probabilities.copy()
        others[rows, ids] = 0
        return Sample(ids, probabilities[rows, ids] - others.max(axis=1))
    above = probabilities.cumsum(axis=1)
    # Rounding leaves the last sum a little off 1, beyond which a number could choose nothing.
    above /= above[:, -1:]
    ids = (above <= uniforms[:, None]).sum(axis=1)
    below = np.where(ids > 0, above[rows, ids - 1], -np.inf)
    upper = np.where(above[rows, ids] < 1, above[rows, ids], np.inf)
    return Sample(ids, np.minimum(uniforms - below, upper - uniforms))


def sample_text(
    predict_next: Callable[[np.ndarray], np.ndarray],
    prompt: Sequence[int],
    uniforms: np.ndarray,
    temperature: float = 1.0,
) -> Sample:
    """Let a model continue a prompt of token ids, one id for each random number (length,).

    `predict_next` is given all ids so far (time,), the prompt first, and returns the logits (classes,) of the next one.
    Raises ValueError for an empty prompt and as `sample_ids` does.
    """
    if not len(prompt):
        raise ValueError("the prompt is empty; a model needs one token id at least to go on from")
    ids, margins = list(prompt), []
    for uniform in uniforms:
        logits = np.asarray(predict_next(np.array(ids, np.int32)))
        if logits.ndim != 1:
            raise ValueError(f"predict_next returned {list(logits.shape)}, expected logits (classes,)")
        sample = sample_ids(logits[None], np.array([uniform]), temperature)
        ids.append(int(sample.ids[0]))
        margins.append(float(sample.margins[0]))
    return Sample(np.array(ids[len(prompt) :], np.int32), np.array(margins))


def _softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    scaled = (logits - logits.max(axis=1, keepdims=True)) / temperature
    weights = np.exp(scaled)
    return weights / weights.sum(axis=1, keepdims=True)
