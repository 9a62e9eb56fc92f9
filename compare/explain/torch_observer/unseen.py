"""What a pair cannot show, whose sides get the same weights and batches: initial weights, shuffling, evaluation."""

from typing import Any

import numpy as np
from torch import nn

from compare.explain.distributions import CODES, distribution
from compare.explain.torch_observer.checked_steps import Training, Work
from compare.explain.transfer import Transfer

# Of fewer numbers a standard deviation tells little.
FEWEST_NUMBERS = 16
# So many times as wide a draw is another distribution.
LIKE = 1.3
MOST_TOLD = 4
MODES = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


def unseen(work: Work, maps: Transfer, training: Training) -> list[str]:
    """What is no difference of a pair's steps and may be one of the two programs it was taken from."""
    return [*_initial_weights(work, maps, training), _batches(work), *_evaluation(work, training)]


def _initial_weights(work: Work, maps: Transfer, training: Training) -> list[str]:
    unlike, codes = [], []
    for name, weight_map in maps.maps.items():
        obtained = training.initial[name]
        if weight_map.extra or obtained.size < FEWEST_NUMBERS or name.endswith(("running_mean", "running_var")):
            continue
        expected = maps.weight(name, work.trace["initial"], obtained.shape)
        keras, torch = distribution(expected), distribution(obtained)
        wide, narrow = sorted((float(np.std(expected)), float(np.std(obtained))), reverse=True)
        if wide <= LIKE * narrow + 1e-9 and (keras == torch or "orthogonal" not in (keras, torch)):
            continue
        unlike.append(
            f"{name} ({keras}, standard deviation {np.std(expected):.3g}, in Keras; "
            f"{torch}, {np.std(obtained):.3g}, in PyTorch)"
        )
        if keras in CODES:
            codes.append(CODES[keras].format(f"module.{name}"))
    if not unlike:
        return []
    as_keras = f"; as Keras draws them: {'; '.join(codes)}" if codes else ""
    return [
        "the initial weights are drawn otherwise, which is no difference here, since Keras's are given to both: "
        + "; ".join(unlike[:MOST_TOLD])
        + as_keras
    ]


def _batches(work: Work) -> str:
    size = len(work.steps[0]["batch"]) if work.steps else 0
    return (
        f"both sides were given the same batches of {size} in the same order: fit() shuffles anew for every epoch and "
        "takes 32 unless told otherwise, a DataLoader does not shuffle and takes 1"
    )


def _evaluation(work: Work, training: Training) -> list[str]:
    """Say that nothing in the file evaluates, where layers compute otherwise then."""
    layers: list[Any] = [type(module).__name__ for module in training.module.modules() if isinstance(module, MODES)]
    layers += [
        "dropout between layers"
        for m in training.module.modules()
        if getattr(m, "dropout", 0.0) and isinstance(m, nn.RNNBase)
    ]
    if not layers or ".eval()" in work.text:
        return []
    return [
        f"predictions need module.eval() before and module.train() after them, for {', '.join(dict.fromkeys(layers))}: "
        "nothing in the pair file calls it; Keras's evaluate and predict do so by themselves"
    ]
