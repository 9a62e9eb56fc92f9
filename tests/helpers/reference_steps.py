"""What the reference makes of an example of a model's options."""

import numpy as np
from helpers.model_options import Example

from compare.reference import losses
from compare.reference.network import Network, penalty


def whole_loss(example: Example, weights: dict[str, np.ndarray]) -> tuple[np.longdouble, Network]:
    """The loss of a network with the given weights, its penalty included, and its forward pass."""
    passed = Network(example.model, weights, example.inputs, example.non_trainable)
    loss, _ = loss_of(example, passed.outputs)
    return loss + (penalty(example.model, weights) if example.model.l2 else 0), passed


def loss_of(example: Example, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss of outputs without the penalty, and its gradient; padding counts where there is one label for all."""
    mask = example.inputs.get("mask") if example.model.head == "every_output" else None
    return losses.total(example.option.loss, outputs, example.targets, mask)


def reference_step(example: Example) -> dict[str, np.ndarray]:
    """What each part computes, the loss, the gradients and the non-trainable state, by the names of a recorded step."""
    loss, passed = whole_loss(example, example.weights)
    quantities = {f"forward/{stage}": outputs for stage, outputs in passed.stages.items()} | {"loss": np.asarray(loss)}
    gradients = passed.backward(loss_of(example, passed.outputs)[1])
    quantities |= {f"gradient/{tensor}": gradient for tensor, gradient in gradients.items()}
    return quantities | {f"non_trainable/{tensor}": value for tensor, value in passed.non_trainable.items()}
