"""Defects of the frameworks themselves that these models meet, and how each shows in a comparison."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from compare.config.case import Case
from compare.judge.single_step import OFF_REFERENCE
from compare.judge.step_reference import StepReference
from compare.judge.verdict import Cause, Comparison, Difference
from compare.known.changed_references import KeepsNoState, RowByRow, StartsAtPadding
from compare.known.evidence import Evidence

# An embedding's gradient is a list of rows, in which a token may come twice. These rules square it, as norms do.
_SQUARING = ("adam", "adamw", "nadam", "adamax", "rmsprop", "adagrad", "adadelta")


@dataclass(frozen=True)
class Defect:
    """A defect of a framework: on which runner, in which cases, how it shows, and what a user is told.

    `proof` changes the reference of a checked step as the defect has it: what is off the reference, and within the
    tolerance of the changed one, is its doing. `fails` is of a runner's error, `source` the location in the framework.
    What drifts apart from the first such difference on is its doing too, and nothing else is.
    """

    name: str
    runner: str
    applies: Callable[[Case], bool]
    message: str
    workaround: str
    source: str
    proof: Callable[[StepReference], StepReference] | None = None
    fails: Callable[[str], bool] = lambda error: False


def _takes_rows_one_by_one(case: Case) -> bool:
    """Whether a case has an embedding whose gradient is squared or clipped."""
    training = case.training
    clipped = (training.clipvalue, training.clipnorm, training.global_clipnorm) != (None, None, None)
    return case.model.embedding is not None and (training.optimizer in _SQUARING or clipped)


DEFECTS = (
    Defect(
        "stateful-on-torch",
        "keras-torch",
        # A SimpleRNN keeps its output, which its gradient does not need from the variable.
        lambda case: (
            case.model.stateful and case.training.keras_layers == "stock" and case.model.cell in ("lstm", "gru")
        ),
        "Keras 3.15.1 cannot train a stateful LSTM or GRU on its torch backend: it writes the new state into the "
        "variable that the gradient still needs",
        "train on another backend, or with the layers of keras_models.fast",
        "keras/src/layers/rnn/rnn.py, RNN.call",
        fails=lambda error: "modified by an inplace operation" in error,
    ),
    Defect(
        "stateful-on-jax",
        "keras-jax",
        lambda case: case.model.stateful,
        "Keras 3.15.1 on JAX never keeps the states of a stateful layer in compiled training: they are not among "
        "the model's non-trainable variables, so that every batch starts from zeros",
        "train on TensorFlow, or pass the states from batch to batch yourself",
        "keras/src/layers/rnn/rnn.py, RNN._create_state_variables",
        proof=KeepsNoState.of,
    ),
    Defect(
        "padded-start-on-jax",
        "keras-jax",
        lambda case: case.data.padding != "none" and case.model.initial_state == "given",
        "Keras 3.15.1 on JAX puts out the initial state at padding that comes first, where its other backends put out "
        "zeros",
        "start from zeros, or pad on the right",
        "keras/src/backend/jax/rnn.py, rnn",
        proof=StartsAtPadding.of,
    ),
    Defect(
        "repeated-tokens-on-tensorflow",
        "keras-tensorflow",
        _takes_rows_one_by_one,
        "Keras 3.15.1 on TensorFlow squares and clips the rows of an embedding's gradient one by one where a token "
        "comes more than once in a batch, instead of their sum, so that its second moment or its norm is another",
        "train on another backend, or with SGD and without clipping",
        "keras/src/backend/tensorflow/sparse.py, elementwise_unary",
        proof=RowByRow.of,
    ),
)


def with_defects(case: Case, comparison: Comparison, evidence: Evidence | None = None) -> Comparison:
    """Name the framework's defect as the cause where one shows, and say so where one that was expected does not.

    A comparison is expected where the defect explains every difference; the others alone are left where it does not.
    """
    for defect in DEFECTS:
        if defect.runner != comparison.runner or not defect.applies(case):
            continue
        expected = defect.name in case.expected_defects
        if comparison.status == "agrees" and expected:
            note = f"the defect {defect.name} was expected and does not show: this version of Keras may have fixed it"
            return replace(comparison, notes=(*comparison.notes, note))
        if comparison.status == "failed" and defect.fails(comparison.error or ""):
            cause = Cause("framework-defect", True, defect.message, defect.workaround)
            return replace(comparison, causes=(*comparison.causes, cause), expected=expected)
        if comparison.status == "differs" and (own := _own_differences(defect, comparison, evidence)):
            return _explained(defect, comparison, own, expected)
    return comparison


def _own_differences(defect: Defect, comparison: Comparison, evidence: Evidence | None) -> list[Difference]:
    """The differences of single steps that a defect of the Keras side makes, in the order of computation."""
    if defect.proof is None or evidence is None:
        return []
    off = [
        difference
        for difference in comparison.differences
        if difference.kind == OFF_REFERENCE and difference.off_side == comparison.runner
    ]
    own = [difference for difference in off if evidence.explains(difference, defect.proof)]
    return sorted(own, key=lambda difference: difference.order)


def _explained(defect: Defect, comparison: Comparison, own: Sequence[Difference], expected: bool) -> Comparison:
    first = own[0]

    def follows(difference: Difference) -> bool:
        """Whether trainings that the defect has separated would have drifted so."""
        at_once = any(
            difference.order >= of_step.order and (of_step.tensor or "").endswith(difference.tensor or "nothing")
            for of_step in own
            if of_step.step == difference.step
        )
        if difference.kind == "not-its-weights":  # as the defect computes from them
            return difference.off_side == comparison.runner
        return difference.kind == "beyond-rounding" and (difference.step > first.step or at_once)

    left = [difference for difference in comparison.differences if difference not in own and not follows(difference)]
    where = f"step {first.step}, {first.phase}, {first.tensor}"
    cause = Cause(
        "framework-defect",
        True,
        defect.message,
        defect.workaround,
        step=first.step,
        phase=first.phase,
        tensor=first.tensor,
        observation=f"shows first at {where}",
    )
    causes = (*comparison.causes, cause)
    if not left:
        return replace(comparison, causes=causes, expected=expected)
    note = f"the defect {defect.name} shows first at {where}; it does not explain what differs beside it"
    return replace(comparison, differences=left, causes=causes, notes=(*comparison.notes, note))
