"""Known reasons for differences between Keras and PyTorch, and how a run matches each."""

from collections.abc import Callable
from dataclasses import dataclass

from compare.config.case import Case

Applies = Callable[[Case], bool]


@dataclass(frozen=True)
class KnownDifference:
    """One known difference, by the name of its cause: what the frameworks do, and how a run matches it.

    `by_stock` where `--stock` leaves it as it is, with the `effect` of that.
    """

    cause: str
    difference: str
    match: str
    applies: Applies = lambda case: True
    by_stock: bool = False
    effect: str = ""


def _cells(*names: str) -> Applies:
    return lambda case: case.model.cell in names


def _optimizers(*names: str) -> Applies:
    return lambda case: case.training.optimizer in names


KNOWN_DIFFERENCES = (
    KnownDifference(
        "transposed-kernel", "kernels are (in, out) in Keras and (out, in) in PyTorch", "transposed on loading"
    ),
    KnownDifference(
        "gru-gate-order",
        "GRU gates are update, reset, candidate in Keras and reset, update, candidate in PyTorch",
        "loaded by name",
        _cells("gru"),
    ),
    KnownDifference(
        "two-biases",
        "PyTorch has two biases where Keras has one",
        "the second is frozen at zero",
        _cells("simple_rnn", "lstm"),
        by_stock=True,
        effect="both are trained, so their sum moves twice as far",
    ),
    KnownDifference(
        "adam-epsilon",
        "Adam's epsilon is 1e-7 in Keras and 1e-8 in PyTorch",
        "1e-7 on both sides",
        _optimizers("adam", "adamw", "adamax", "nadam"),
        by_stock=True,
    ),
    KnownDifference(
        "adam-epsilon-placement",
        "Keras adds Adam's epsilon before the bias correction, PyTorch after it",
        "before, on both sides",
        _optimizers("adam", "adamw"),
        by_stock=True,
    ),
    KnownDifference(
        "optimizer-rule",
        "Keras adds Adamax's epsilon to the maximum, PyTorch inside it",
        "to the maximum, on both sides",
        _optimizers("adamax"),
        by_stock=True,
    ),
    KnownDifference(
        "optimizer-rule",
        "Nadam's momentum grows as 0.96^t in Keras and as 0.96^(0.004 t) in PyTorch",
        "0.96^t on both sides",
        _optimizers("nadam"),
        by_stock=True,
    ),
    KnownDifference(
        "optimizer-rule",
        "Adadelta has rho 0.95 and epsilon 1e-7 in Keras, 0.9 and 1e-6 in PyTorch",
        "Keras's on both sides",
        _optimizers("adadelta"),
        by_stock=True,
    ),
    KnownDifference(
        "optimizer-rule",
        "RMSprop has rho 0.9 in Keras and 0.99 in PyTorch",
        "0.9 on both sides",
        _optimizers("rmsprop"),
        by_stock=True,
    ),
    KnownDifference(
        "rmsprop-epsilon-placement",
        "RMSprop's epsilon, 1e-7, is inside the root in Keras; 1e-8 and outside in PyTorch",
        "Keras's on both sides",
        _optimizers("rmsprop"),
        by_stock=True,
    ),
    KnownDifference(
        "initial-accumulator",
        "Adagrad's accumulator starts at 0.1, with epsilon inside the root, in Keras; at 0 and outside in PyTorch",
        "Keras's on both sides",
        _optimizers("adagrad"),
        by_stock=True,
    ),
    KnownDifference(
        "momentum-rule",
        "the learning rate is in the momentum in Keras and multiplies it in PyTorch",
        "in it, on both sides",
        lambda case: case.training.momentum > 0,
        by_stock=True,
        effect="the trainings diverge where it changes",
    ),
    KnownDifference(
        "weight-decay-coupling",
        "weight decay is decoupled in Keras; in PyTorch only AdamW's is, by default 0.01 and not 0.004",
        "Keras's on both sides",
        lambda case: case.training.optimizer == "adamw" or bool(case.training.weight_decay),
        by_stock=True,
    ),
    KnownDifference(
        "gradient-clipping",
        "PyTorch divides by the norm + 1e-6 when it clips and knows GRU's biases as two, Keras does not",
        "as Keras, on both sides",
        lambda case: case.training.clipnorm is not None or case.training.global_clipnorm is not None,
        by_stock=True,
    ),
    KnownDifference(
        "learning-rate-schedule",
        "Keras computes scheduled learning rates in float32, PyTorch in float64",
        "in float32 on both sides",
        lambda case: case.training.schedule != "constant",
        by_stock=True,
    ),
    KnownDifference(
        "normalization-epsilon",
        "the epsilon of normalisations is 1e-3 in Keras and 1e-5 in PyTorch",
        "1e-3 on both sides",
        lambda case: case.model.normalization is not None,
    ),
    KnownDifference(
        "normalization-momentum",
        "batch normalisation keeps 0.99 of its running figures in Keras, 0.9 in PyTorch, whose running variance is the "
        "unbiased one",
        "as Keras, on both sides",
        lambda case: case.model.normalization == "batch",
    ),
    KnownDifference(
        "bidirectional-merge",
        "PyTorch's bidirectional layers concatenate only",
        "two layers merged as Keras does",
        lambda case: case.model.bidirectional is not None,
    ),
    KnownDifference(
        "backward-last-state",
        "where Keras returns the last output alone it is the backward direction's last state, PyTorch's out[:, -1] is "
        "its first",
        "the last state on both sides",
        lambda case: case.model.bidirectional is not None and case.model.head == "last_state",
    ),
    KnownDifference(
        "missing-mask",
        "Keras skips masked timesteps anywhere, PyTorch packs right padding only",
        "moved to the front and packed",
        lambda case: case.data.padding != "none",
    ),
    KnownDifference(
        "gru-reset-after",
        "PyTorch's GRU resets after the product only",
        "stepped by a cell that resets before",
        lambda case: case.model.cell == "gru" and not case.model.reset_after,
    ),
    KnownDifference(
        "l2-penalty",
        "Keras adds c times the squares of the kernels to the loss, PyTorch's weight_decay c times w to every gradient",
        "added to the loss on both sides",
        lambda case: bool(case.model.l2),
    ),
    KnownDifference(
        "dropout-placement",
        "each framework draws its own dropout masks",
        "shared masks, drawn outside, for both sides",
        lambda case: case.model.shared_masks,
    ),
    KnownDifference(
        "stateful-reset",
        "Keras keeps the states of a stateful layer, PyTorch has none",
        "passed on detached, reset before every epoch",
        lambda case: case.model.stateful,
    ),
    KnownDifference(
        "from-logits",
        "crossentropy takes probabilities in Keras by default and logits in PyTorch",
        "logits on both sides",
        lambda case: case.training.loss == "sparse_categorical_crossentropy",
    ),
)


def known_differences(case: Case) -> list[tuple[str, str, bool]]:
    """List the known differences that touch a case: name of the cause, what is done about it, whether it is matched."""
    lines = []
    for known in KNOWN_DIFFERENCES:
        if known.applies(case):
            matched = not (case.training.stock and known.by_stock)
            outcome = known.match if matched else known.effect
            lines.append((known.cause, f"{known.difference}: {outcome}" if outcome else known.difference, matched))
    return lines
