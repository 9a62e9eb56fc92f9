"""Defects of the frameworks themselves that these models meet, and how each shows in a comparison."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from compare.case import Case
from compare.judge.verdict import Cause, Comparison

# Update rules that square the gradient; an embedding's gradient is a list of rows, in which a token may come twice.
_SQUARING = ("adam", "adamw", "nadam", "adamax", "rmsprop", "adagrad", "adadelta")


@dataclass(frozen=True)
class Defect:
    """A defect of a framework: on which runner, in which cases, how it shows, and the words for it."""

    name: str
    runner: str
    applies: Callable[[Case], bool]
    shows: Callable[[Comparison], bool]
    words: str
    way_round: str


def _first_in(*parts: str) -> Callable[[Comparison], bool]:
    """Whether the Keras side alone is off, first in a tensor whose name has all parts."""

    def shows(comparison: Comparison) -> bool:
        first = comparison.first_difference
        return (
            first is not None
            and first.off_side == comparison.runner
            and all(part in (first.tensor or "") for part in parts)
        )

    return shows


DEFECTS = (
    Defect(
        "stateful-on-torch",
        "keras-torch",
        lambda case: case.model.stateful and case.training.keras_layers == "stock",
        lambda comparison: "modified by an inplace operation" in (comparison.error or ""),
        "Keras 3.15.1 cannot train a stateful recurrent layer on its torch backend: it writes the new state into the "
        "variable that the gradient still needs",
        "train on another backend, or with the layers of keras_models.fast",
    ),
    Defect(
        "stateful-on-jax",
        "keras-jax",
        lambda case: case.model.stateful,
        _first_in("/state/"),
        "Keras 3.15.1 on JAX never carries the states of a stateful layer on in compiled training: they are not among "
        "the model's non-trainable variables, so that every batch starts from zeros",
        "train on TensorFlow, or pass the states from batch to batch yourself",
    ),
    Defect(
        "repeated-tokens-on-tensorflow",
        "keras-tensorflow",
        lambda case: case.model.embedding is not None and case.training.optimizer in _SQUARING,
        _first_in("embedding/embeddings"),
        "Keras 3.15.1 on TensorFlow squares the rows of an embedding's gradient one by one where a token comes more "
        "than once in a batch, instead of squaring their sum, so that its second moment is another",
        "train on another backend, or with SGD",
    ),
)


def defect_names() -> tuple[str, ...]:
    """Name all known defects."""
    return tuple(defect.name for defect in DEFECTS)


def with_defects(case: Case, comparison: Comparison) -> Comparison:
    """Name the framework's defect as the cause where one shows, and say so where one that was expected does not."""
    for defect in DEFECTS:
        if defect.runner != comparison.runner or not defect.applies(case):
            continue
        expected = defect.name in case.expected_defects
        if comparison.status != "agrees" and defect.shows(comparison):
            cause = Cause("framework-defect", True, defect.words, defect.way_round)
            return replace(comparison, causes=(*comparison.causes, cause), expected=expected)
        if comparison.status == "agrees" and expected:
            note = f"the defect {defect.name} was expected and does not show: this version of Keras may have mended it"
            return replace(comparison, notes=(*comparison.notes, note))
    return comparison
