"""What tests run inside the process of a framework; each takes a side, "torch" or "keras-<backend>", first."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Tensors = Mapping[str, np.ndarray]


def package(side: str) -> Any:
    """The package of a side: both offer the same functions."""
    return importlib.import_module("torch_models" if side == "torch" else "keras_models")


def new_model(side: str, shape: Mapping[str, Any], tensors: Tensors | None = None) -> Any:
    """Build a model in the precision of its shape, with the given weights or its own."""
    package(side).set_precision(shape.get("dtype", "float32"))
    model = package(side).build(**shape)
    if tensors is not None:
        package(side).load_canonical(model, dict(tensors))
    return model


def trained(side: str, model: Any) -> Any:
    """What an optimizer of a model is built for, with names where they count."""
    return model.named_parameters() if side == "torch" else model.trainable_variables


def own_weights(side: str, shape: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The weights that a framework's own initialisers give a model."""
    return package(side).to_canonical(new_model(side, shape))


def loaded_weights(side: str, shape: Mapping[str, Any], tensors: Tensors) -> dict[str, np.ndarray]:
    """Load weights and read them again."""
    return package(side).to_canonical(new_model(side, shape, tensors))


def outputs(side: str, shape: Mapping[str, Any], tensors: Tensors, inputs: np.ndarray) -> np.ndarray:
    """What a model with the given weights predicts."""
    return package(side).predict(new_model(side, shape, tensors), inputs)


def train(
    side: str,
    shape: Mapping[str, Any],
    tensors: Tensors,
    inputs: np.ndarray,
    targets: np.ndarray,
    schedule: np.ndarray,
    batch_size: int,
) -> tuple[list[str], list[tuple[int, np.ndarray]], dict[str, np.ndarray]]:
    """Train with the default optimizer: the columns, what was yielded and the weights at the end."""
    both = package(side)
    model = new_model(side, shape, tensors)
    loss, optimizer = both.build_loss("mse"), both.build_optimizer(trained(side, model))
    yielded = list(both.train(model, loss, optimizer, inputs, targets, schedule, batch_size))
    return both.columns(model), yielded, both.to_canonical(model)


def stock_weights(side: str, cell: str, features: int, units: int, outputs: int) -> dict[str, np.ndarray]:
    """The weights that stock PyTorch's own modules start with, where it has two biases their sum."""
    assert side == "torch"
    import torch

    torch.manual_seed(0)
    recurrent = package(side).CELLS[cell](features, units)
    head = torch.nn.Linear(units, outputs)
    model = package(side).build(cell=cell, features=features, units=units, outputs=outputs)
    model.layers[0].load_state_dict(recurrent.state_dict())
    model.head.load_state_dict(head.state_dict())
    return package(side).to_canonical(model)


def narrowed_operations(side: str, dtype: str) -> list[str]:
    """Which operations Keras computes in a narrower precision than the given one."""
    package(side).set_precision(dtype)
    return package(side).narrowed_operations(dtype)


def adam_updates(side: str, gradients: list[np.ndarray], member: tuple[str, int] | None = None) -> list[np.ndarray]:
    """What the PyTorch side's Adam, or that of an ensemble's member (precision, seed), adds for each gradient."""
    assert side == "torch"
    import torch

    from torch_models import perturb_optimizer

    parameter = torch.nn.Parameter(torch.zeros(gradients[0].shape, dtype=torch.from_numpy(gradients[0]).dtype))
    optimizer = package(side).build_optimizer([parameter], learning_rate=0.01)
    if member is not None:
        perturb_optimizer(optimizer, *member)
    updates = []
    for gradient in gradients:
        parameter.detach().zero_()
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        updates.append(parameter.detach().numpy().copy())
    return updates


def perturbed_gradient(side: str, gradient: np.ndarray, precision: str, seed: int, rate: float = 1.0) -> np.ndarray:
    """The gradient that an ensemble member's optimizer applies, with a planted factor of its learning rate."""
    assert side == "torch"
    import torch

    from torch_models import perturb_optimizer

    parameter = torch.nn.Parameter(torch.zeros(gradient.shape, dtype=torch.from_numpy(gradient).dtype))
    optimizer = package(side).build_optimizer(
        [parameter], name="sgd", learning_rate=1.0, schedule="piecewise", boundaries=(5,), values=(1.0, 0.5)
    )
    optimizer.learning_rate = lambda group, learning_rate=optimizer.learning_rate: rate * learning_rate(group)
    perturb_optimizer(optimizer, precision, seed)
    parameter.grad = torch.from_numpy(gradient.copy())
    optimizer.step()
    return -parameter.detach().numpy()


def perturbed_weights(side: str, tensors: Tensors, precision: str, seed: int) -> dict[str, np.ndarray]:
    """The weights of an ensemble member."""
    assert side == "torch"
    from torch_models import perturb_weights

    return perturb_weights(tensors, precision, seed)
