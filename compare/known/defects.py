"""Defects of the frameworks themselves that these models meet, and how each shows in a comparison."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from compare.config.case import Case
from compare.judge.verdict import Cause, Comparison, Difference

# An embedding's gradient is a list of rows, in which a token may come twice. These rules square it, as norms do.
_SQUARING = ("adam", "adamw", "nadam", "adamax", "rmsprop", "adagrad", "adadelta")


@dataclass(frozen=True)
class Defect:
    """A defect of a framework: on which runner, in which cases, how it shows, and what a user is told."""

    name: str
    runner: str
    applies: Callable[[Case], bool]
    shows: Callable[[Comparison], bool]
    message: str
    workaround: str


def _first(fits: Callable[[Difference], bool]) -> Callable[[Comparison], bool]:
    """Whether the Keras side alone is off, and the first difference fits."""

    def shows(comparison: Comparison) -> bool:
        first = comparison.first_difference
        return first is not None and first.off_side == comparison.runner and fits(first)

    return shows


def _takes_rows_one_by_one(case: Case) -> bool:
    """Whether a case has an embedding whose gradient is squared or clipped."""
    training = case.training
    clipped = (training.clipvalue, training.clipnorm, training.global_clipnorm) != (None, None, None)
    return case.model.embedding is not None and (training.optimizer in _SQUARING or clipped)


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
        _first(lambda first: "/state/" in (first.tensor or "")),
        "Keras 3.15.1 on JAX never keeps the states of a stateful layer in compiled training: they are not among "
        "the model's non-trainable variables, so that every batch starts from zeros",
        "train on TensorFlow, or pass the states from batch to batch yourself",
    ),
    Defect(
        "padded-start-on-jax",
        "keras-jax",
        lambda case: case.data.padding != "none" and case.model.initial_state == "given",
        _first(lambda first: first.phase == "forward" and (first.tensor or "").startswith("layer")),
        "Keras 3.15.1 on JAX puts out the initial state at padding that comes first, where its other backends put out "
        "zeros",
        "start from zeros, or pad on the right",
    ),
    Defect(
        "repeated-tokens-on-tensorflow",
        "keras-tensorflow",
        _takes_rows_one_by_one,
        _first(lambda first: first.phase == "clip" or "embedding/embeddings" in (first.tensor or "")),
        "Keras 3.15.1 on TensorFlow squares and clips the rows of an embedding's gradient one by one where a token "
        "comes more than once in a batch, instead of their sum, so that its second moment or its norm is another",
        "train on another backend, or with SGD and without clipping",
    ),
)


def with_defects(case: Case, comparison: Comparison) -> Comparison:
    """Name the framework's defect as the cause where one shows, and say so where one that was expected does not."""
    for defect in DEFECTS:
        if defect.runner != comparison.runner or not defect.applies(case):
            continue
        expected = defect.name in case.expected_defects
        if comparison.status != "agrees" and defect.shows(comparison):
            cause = Cause("framework-defect", True, defect.message, defect.workaround)
            return replace(comparison, causes=(*comparison.causes, cause), expected=expected)
        if comparison.status == "agrees" and expected:
            note = f"the defect {defect.name} was expected and does not show: this version of Keras may have fixed it"
            return replace(comparison, notes=(*comparison.notes, note))
    return comparison
