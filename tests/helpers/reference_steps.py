"""What the reference makes of an example of a model's options."""

import numpy as np
from helpers.model_options import Example

from compare.reference import losses
from compare.reference.network import Network, penalty


def reference_step(example: Example) -> dict[str, np.ndarray]:
    """What each part computes, the loss, the gradients and the non-trainable state, by the names of a recorded step."""
    passed = Network(example.model, example.weights, example.inputs, example.non_trainable)
    # Padding counts where there is one label for all.
    mask = example.inputs.get("mask") if example.model.head == "every_output" else None
    loss, d_outputs = losses.total(example.option.loss, passed.outputs, example.targets, mask)
    loss = loss + (penalty(example.model, example.weights) if example.model.l2 else 0)
    record = {f"forward/{stage}": outputs for stage, outputs in passed.stages.items()} | {"loss": np.asarray(loss)}
    record |= {f"gradient/{tensor}": gradient for tensor, gradient in passed.backward(d_outputs).items()}
    return record | {f"non_trainable/{tensor}": value for tensor, value in passed.non_trainable.items()}
