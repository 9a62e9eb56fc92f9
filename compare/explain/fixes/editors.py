"""Which edits fix which cause."""

from collections.abc import Callable, Iterator, Mapping

from compare.explain.fixes import constructor_edits, loop_edits, loss_edits, optimizer_edits, sequence_edits
from compare.explain.fixes.expression_edits import expression_edits
from compare.explain.fixes.pair_source import Edit
from compare.explain.fixes.request import Request

Editor = Callable[[Request], Iterator[Edit | None]]

# What no entry is for is edited as an expression.
EDITORS: Mapping[str, tuple[Editor, ...]] = {
    "two-biases": (optimizer_edits.parameter_edits,),
    "frozen-parameter": (optimizer_edits.parameter_edits,),
    "missing-bias": (constructor_edits.bias_edits,),
    "learning-rate": (optimizer_edits.option_edits,),
    "adam-betas": (optimizer_edits.option_edits,),
    "adam-epsilon": (optimizer_edits.option_edits,),
    "adam-epsilon-placement": (optimizer_edits.epsilon_edits,),
    "optimizer-rule": (optimizer_edits.option_edits,),
    "momentum-rule": (optimizer_edits.momentum_edits,),
    "initial-accumulator": (optimizer_edits.option_edits,),
    "weight-decay-coupling": (optimizer_edits.option_edits,),
    "rmsprop-epsilon-placement": (optimizer_edits.rmsprop_edits,),
    "learning-rate-schedule": (optimizer_edits.schedule_edits,),
    "gradient-clipping": (loop_edits.clipping_edits,),
    "gradient-accumulation": (loop_edits.step_edits,),
    "last-partial-batch": (loop_edits.step_edits,),
    "batch-order": (sequence_edits.order_edits, expression_edits, loop_edits.step_edits),
    "initial-state": (sequence_edits.state_edits,),
    "state-choice": (sequence_edits.state_edits,),
    "stateful-reset": (sequence_edits.state_edits,),
    "missing-mask": (sequence_edits.mask_edits,),
    "padding-side": (sequence_edits.padding_edits,),
    "reduced-precision": (sequence_edits.precision_edits,),
    "dropout-active": (loop_edits.mode_edits,),
    "train-eval-mode": (loop_edits.mode_edits,),
    "detached-gradient": (loop_edits.gradient_edits,),
    "l2-penalty": (loss_edits.penalty_edits,),
    "loss-function": (loss_edits.loss_edits,),
    "loss-reduction": (loss_edits.loss_edits,),
    "loss-broadcast": (loss_edits.broadcast_edits,),
    "from-logits": (loss_edits.logits_edits,),
    "class-weights": (loss_edits.weight_edits,),
    "normalization-momentum": (constructor_edits.option_edits,),
    "normalization-epsilon": (constructor_edits.option_edits,),
    "batch-first": (constructor_edits.option_edits,),
    "activation": (sequence_edits.body_edits, constructor_edits.option_edits),
    "recurrent-activation": (constructor_edits.option_edits,),
    "gru-reset-after": (constructor_edits.option_edits,),
    "gru-gate-order": (constructor_edits.map_edits,),
    "lstm-gate-order": (constructor_edits.map_edits,),
    "transposed-kernel": (constructor_edits.map_edits,),
    "dropout-rate": (constructor_edits.rate_edits,),
    "dropout-placement": (constructor_edits.dropout_edits,),
}


def edits_of(request: Request) -> list[Edit]:
    """Every way to make a fix in the pair file, the likeliest first; none where no edit makes it."""
    edits: list[Edit] = []
    for editor in EDITORS.get(request.cause.name, (expression_edits,)):
        try:
            edits += [edit for edit in editor(request) if edit is not None and edit.changes and edit not in edits]
        except (ValueError, StopIteration):  # the call is written so that no edit fits
            continue
    return edits
