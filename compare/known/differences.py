"""Known reasons for differences between Keras and PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass

from compare.config.case import Case

Applies = Callable[[Case], bool]


@dataclass(frozen=True)
class KnownDifference:
    """One known difference that a run matches, or with `stock` leaves as it is; only where it `applies`."""

    cause: str
    cells: frozenset[str]
    matched: str
    stock: str | None = None
    applies: Applies = lambda case: True


def _optimizers(*names: str) -> Applies:
    return lambda case: case.training.optimizer in names


_ALL = frozenset({"simple_rnn", "lstm", "gru"})

KNOWN_DIFFERENCES = (
    KnownDifference(
        "transposed-kernel", _ALL, "kernels are (in, out) in Keras and (out, in) in PyTorch: transposed on loading"
    ),
    KnownDifference(
        "gru-gate-order",
        frozenset({"gru"}),
        "GRU gates are update, reset, candidate in Keras and reset, update, candidate in PyTorch: loaded by name",
    ),
    KnownDifference(
        "two-biases",
        frozenset({"simple_rnn", "lstm"}),
        "PyTorch has two biases where Keras has one: the second is frozen at zero",
        "PyTorch trains two biases where Keras has one, so their sum moves twice as far",
    ),
    KnownDifference(
        "adam-epsilon",
        _ALL,
        "Adam's epsilon is 1e-7 in Keras and 1e-8 in PyTorch: 1e-7 on both sides",
        "Adam's epsilon is 1e-7 in Keras and 1e-8 in PyTorch",
        _optimizers("adam", "adamw", "adamax", "nadam"),
    ),
    KnownDifference(
        "adam-epsilon-placement",
        _ALL,
        "Keras adds Adam's epsilon before the bias correction, PyTorch after it: before, on both sides",
        "Keras adds Adam's epsilon before the bias correction, PyTorch after it",
        _optimizers("adam", "adamw"),
    ),
    KnownDifference(
        "optimizer-rule",
        _ALL,
        "Keras adds Adamax's epsilon to the maximum, PyTorch inside it: to the maximum, on both sides",
        "Keras adds Adamax's epsilon to the maximum, PyTorch inside it",
        _optimizers("adamax"),
    ),
    KnownDifference(
        "optimizer-rule",
        _ALL,
        "Nadam's momentum grows as 0.96^t in Keras and as 0.96^(0.004 t) in PyTorch: 0.96^t on both sides",
        "Nadam's momentum grows as 0.96^t in Keras and as 0.96^(0.004 t) in PyTorch",
        _optimizers("nadam"),
    ),
    KnownDifference(
        "optimizer-rule",
        _ALL,
        "Adadelta has rho 0.95 and epsilon 1e-7 in Keras, 0.9 and 1e-6 in PyTorch: Keras's on both sides",
        "Adadelta has rho 0.95 and epsilon 1e-7 in Keras, 0.9 and 1e-6 in PyTorch",
        _optimizers("adadelta"),
    ),
    KnownDifference(
        "optimizer-rule",
        _ALL,
        "RMSprop has rho 0.9 in Keras and 0.99 in PyTorch: 0.9 on both sides",
        "RMSprop has rho 0.9 in Keras and 0.99 in PyTorch",
        _optimizers("rmsprop"),
    ),
    KnownDifference(
        "rmsprop-epsilon-placement",
        _ALL,
        "RMSprop's epsilon, 1e-7, is inside the root in Keras; 1e-8 and outside in PyTorch: Keras's on both sides",
        "RMSprop's epsilon, 1e-7, is inside the root in Keras; 1e-8 and outside in PyTorch",
        _optimizers("rmsprop"),
    ),
    KnownDifference(
        "initial-accumulator",
        _ALL,
        "Adagrad's accumulator starts at 0.1, with epsilon inside the root, in Keras; at 0 and outside in PyTorch: "
        "Keras's on both sides",
        "Adagrad's accumulator starts at 0.1, with epsilon inside the root, in Keras; at 0 and outside in PyTorch",
        _optimizers("adagrad"),
    ),
    KnownDifference(
        "momentum-rule",
        _ALL,
        "the learning rate is in the momentum in Keras and multiplies it in PyTorch: in it, on both sides",
        "the learning rate is in the momentum in Keras and multiplies it in PyTorch: they part where it changes",
        lambda case: case.training.momentum > 0,
    ),
    KnownDifference(
        "weight-decay-coupling",
        _ALL,
        "weight decay is decoupled in Keras; in PyTorch only AdamW's is, by default 0.01 and not 0.004: "
        "Keras's on both sides",
        "weight decay is decoupled in Keras; in PyTorch only AdamW's is, by default 0.01 and not 0.004",
        lambda case: case.training.optimizer == "adamw" or bool(case.training.weight_decay),
    ),
    KnownDifference(
        "gradient-clipping",
        _ALL,
        "PyTorch divides by the norm + 1e-6 when it clips and knows GRU's biases as two, Keras does not: "
        "as Keras, on both sides",
        "PyTorch divides by the norm + 1e-6 when it clips and knows GRU's biases as two, Keras does not",
        lambda case: case.training.clipnorm is not None or case.training.global_clipnorm is not None,
    ),
    KnownDifference(
        "learning-rate-schedule",
        _ALL,
        "Keras computes scheduled learning rates in float32, PyTorch in float64: in float32 on both sides",
        "Keras computes scheduled learning rates in float32, PyTorch in float64",
        lambda case: case.training.schedule != "constant",
    ),
    KnownDifference(
        "normalization-epsilon",
        _ALL,
        "the epsilon of normalisations is 1e-3 in Keras and 1e-5 in PyTorch: 1e-3 on both sides",
        applies=lambda case: case.model.normalization is not None,
    ),
    KnownDifference(
        "normalization-momentum",
        _ALL,
        "batch normalisation keeps 0.99 of its running figures in Keras, 0.9 in PyTorch, whose running variance is the "
        "unbiased one: as Keras, on both sides",
        applies=lambda case: case.model.normalization == "batch",
    ),
    KnownDifference(
        "bidirectional-merge",
        _ALL,
        "PyTorch's bidirectional layers concatenate only: two layers merged as Keras does",
        applies=lambda case: case.model.bidirectional is not None,
    ),
    KnownDifference(
        "backward-last-state",
        _ALL,
        "where Keras returns the last output alone it is the backward direction's last state, PyTorch's out[:, -1] is "
        "its first: the last state on both sides",
        applies=lambda case: case.model.bidirectional is not None and case.model.head == "last_state",
    ),
    KnownDifference(
        "missing-mask",
        _ALL,
        "Keras skips masked timesteps anywhere, PyTorch packs right padding only: moved to the front and packed",
        applies=lambda case: case.data.padding != "none",
    ),
    KnownDifference(
        "gru-reset-after",
        frozenset({"gru"}),
        "PyTorch's GRU resets after the product only: stepped by a cell that resets before",
        applies=lambda case: not case.model.reset_after,
    ),
    KnownDifference(
        "l2-penalty",
        _ALL,
        "Keras adds c times the squares of the kernels to the loss, PyTorch's weight_decay c times w to every "
        "gradient: added to the loss on both sides",
        applies=lambda case: bool(case.model.l2),
    ),
    KnownDifference(
        "dropout-placement",
        _ALL,
        "each framework draws its own dropout masks: the same masks, drawn outside, for both sides",
        applies=lambda case: case.model.shared_masks,
    ),
    KnownDifference(
        "stateful-reset",
        _ALL,
        "Keras keeps the states of a stateful layer, PyTorch has none: passed on detached, reset before every epoch",
        applies=lambda case: case.model.stateful,
    ),
    KnownDifference(
        "from-logits",
        _ALL,
        "crossentropy takes probabilities in Keras by default and logits in PyTorch: logits on both sides",
        applies=lambda case: case.training.loss == "sparse_categorical_crossentropy",
    ),
)


def known_differences(case: Case) -> list[tuple[str, str, bool]]:
    """List the known differences that touch a case: name of the cause, what is done about it, whether it is matched."""
    found = []
    for known in KNOWN_DIFFERENCES:
        if case.model.cell in known.cells and known.applies(case):
            left_as_is = case.training.stock and known.stock is not None
            words = known.stock if left_as_is and known.stock else known.matched
            found.append((known.cause, words, not left_as_is))
    return found
