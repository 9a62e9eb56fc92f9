"""The reference's formulas written once more with torch operations, so that autograd differentiates them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Tensors = Mapping[str, np.ndarray]


def activations() -> dict[str, Any]:
    """torch's own function for every activation that the reference has."""
    import torch
    from torch.nn import functional

    return {
        "linear": lambda x: x,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        # Not functional.hardsigmoid, whose float64 gradient is float32's 1/6.
        "hard_sigmoid": lambda x: (x / 6 + 0.5).clamp(0, 1),
        "relu": functional.relu,
        "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
        "elu": functional.elu,
        "selu": functional.selu,
        "exponential": torch.exp,
        "softplus": functional.softplus,
        "softsign": functional.softsign,
        "silu": functional.silu,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    }


def losses() -> dict[str, Any]:
    """torch's own function for every loss that the reference has; probabilities are clipped as Keras clips them."""
    import torch
    from torch.nn import functional

    def categorical(outputs, targets):
        probabilities = (outputs / outputs.sum(-1, keepdim=True)).clamp(1e-7, 1 - 1e-7)
        return -(targets * probabilities.log()).sum(-1).mean()

    return {
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "huber": functional.huber_loss,
        "binary_crossentropy": lambda p, t: functional.binary_cross_entropy(p.clamp(1e-7, 1 - 1e-7), t),
        "binary_crossentropy_of_logits": functional.binary_cross_entropy_with_logits,
        "categorical_crossentropy": categorical,
        "categorical_crossentropy_of_logits": lambda x, t: -(t * torch.log_softmax(x, -1)).sum(-1).mean(),
    }


def cell_gradients(
    side: str, cell: Mapping[str, Any], tensors: Tensors, inputs: np.ndarray, weighting: np.ndarray
) -> Any:
    """Return a layer's outputs (batch, time, units) and the gradients of sum(weighting * outputs) by every weight."""
    import torch

    w = {name: torch.tensor(tensor, requires_grad=True) for name, tensor in tensors.items()}
    act, rec = activations()[cell["activation"]], activations()[cell["recurrent_activation"]]
    units = next(tensor.shape[0] for name, tensor in tensors.items() if name.startswith("recurrent_kernel"))
    x = torch.tensor(inputs)
    h = c = torch.zeros(len(x), units, dtype=x.dtype)
    outputs = []

    def affine(gate, state, bias="bias"):
        return x[:, t] @ w[f"kernel{gate}"] + state @ w[f"recurrent_kernel{gate}"] + w[f"{bias}{gate}"]

    for t in range(x.shape[1]):
        if cell["kind"] == "simple_rnn":
            h = act(affine("", h))
        elif cell["kind"] == "lstm":
            i, f, o = (rec(affine(f"/{gate}", h)) for gate in ("input", "forget", "output"))
            c = f * c + i * act(affine("/candidate", h))
            h = o * act(c)
        elif cell["reset_after"]:
            z, r = (
                rec(affine(f"/{gate}", h, "input_bias") + w[f"recurrent_bias/{gate}"]) for gate in ("update", "reset")
            )
            from_h = h @ w["recurrent_kernel/candidate"] + w["recurrent_bias/candidate"]
            g = act(x[:, t] @ w["kernel/candidate"] + w["input_bias/candidate"] + r * from_h)
            h = z * h + (1 - z) * g
        else:
            z, r = (rec(affine(f"/{gate}", h)) for gate in ("update", "reset"))
            g = act(affine("/candidate", r * h))
            h = z * h + (1 - z) * g
        outputs.append(h)
    result = torch.stack(outputs, 1)
    (result * torch.tensor(weighting)).sum().backward()
    return result.detach().numpy(), {name: tensor.grad.numpy() for name, tensor in w.items()}


def loss_gradient(side: str, loss: str, outputs: np.ndarray, targets: np.ndarray) -> Any:
    """Return a loss and its gradient by the outputs."""
    import torch

    x = torch.tensor(outputs, requires_grad=True)
    value = losses()[loss](x, torch.tensor(targets))
    value.backward()
    return value.item(), x.grad.numpy()
