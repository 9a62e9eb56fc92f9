"""What tests of `torch_models`' layers run inside the PyTorch process; all in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from helpers.model_options import Example
from helpers.probes import new_model, package

Arrays = dict[str, np.ndarray]


def layer_kind(side: str, cell: str, options: Mapping[str, Any]) -> str:
    """Whether a layer is torch's fused module or steps through time itself."""
    from torch_models.layers import Stepped

    return "stepped" if isinstance(_layer(cell, options), Stepped) else "fused"


def fused_and_stepped(side: str, cell: str, options: Mapping[str, Any], inputs: np.ndarray, state: Arrays) -> Any:
    """What torch's fused module and the layer that steps itself make of the same parameters."""
    import torch

    from torch_models.layers import Stepped

    fused = _layer(cell, options)
    assert not isinstance(fused, Stepped)
    stepped = Stepped(
        cell,
        inputs.shape[-1],
        fused.hidden_size,
        options.get("activation", "tanh"),
        "sigmoid",
        options.get("use_bias", True),
        reset_after=True,
        dtype=torch.float64,
    )
    own = dict(stepped.named_parameters())
    with torch.no_grad():
        for name, parameter in fused.named_parameters():
            if name in own:
                own[name].copy_(parameter)
    return _computed(fused, inputs, state), _computed(stepped, inputs, state)


def masked_layer(
    side: str, cell: str, options: Mapping[str, Any], inputs: np.ndarray, state: Arrays, mask: np.ndarray, **turned: Any
) -> tuple[Arrays, Arrays]:
    """What a layer makes of masked inputs, and what a loop does that skips the masked timesteps one by one."""
    layer = _layer(cell, options)
    return _computed(layer, inputs, state, mask, **turned), _computed(layer, inputs, state, mask, _skipping, **turned)


def _layer(cell: str, options: Mapping[str, Any]) -> Any:
    import torch

    from torch_models.layers import build_layer

    torch.manual_seed(3)
    layer = build_layer(cell, 2, 3, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.6)
    return layer


def _computed(
    layer: Any, inputs: np.ndarray, state: Arrays, mask: np.ndarray | None = None, how: Any = None, **turned: Any
) -> Arrays:
    """Outputs, last states, and the gradients of a weighted sum of both by inputs, given states and parameters."""
    import torch

    from torch_models.layers import run

    layer.zero_grad()
    x = torch.tensor(inputs, requires_grad=True)
    first = {part: torch.tensor(value, requires_grad=True) for part, value in state.items()}
    given = tuple(first.values()) or None
    outputs, last = (how or run)(layer, x, given, None if mask is None else torch.tensor(mask), **turned)
    generator = np.random.default_rng(9)
    total = sum((part * torch.tensor(generator.normal(size=part.shape))).sum() for part in (outputs, *last))
    total.backward()
    leaves = {"inputs": x, **first, **{name: p for name, p in layer.named_parameters() if p.requires_grad}}
    obtained = {"outputs": outputs, **{f"last/{index}": part for index, part in enumerate(last)}}
    obtained |= {f"gradient/{name}": leaf.grad for name, leaf in leaves.items()}
    return {name: tensor.detach().numpy().copy() for name, tensor in obtained.items()}


def _skipping(
    layer: Any, x: Any, state: Any, mask: Any, go_backwards: bool = False, zero_output_for_mask: bool = False
) -> Any:
    """Run one timestep after the other; where the mask is False keep state and output, or put out zeros."""
    import torch

    from torch_models.layers import run

    zeros = x.new_zeros(len(x), layer.hidden_size)
    output, outputs = zeros, []
    parts = 2 if isinstance(layer, torch.nn.LSTM) or getattr(layer, "cell", "") == "lstm" else 1
    state = (zeros,) * parts if state is None else state
    for time in reversed(range(x.shape[1])) if go_backwards else range(x.shape[1]):
        counts = mask[:, time, None]
        computed, moved = run(layer, x[:, time : time + 1], state)
        output = torch.where(counts, computed[:, 0], zeros if zero_output_for_mask else output)
        state = tuple(torch.where(counts, new, old) for new, old in zip(moved, state, strict=True))
        outputs.append(output)
    return torch.stack(outputs, dim=1), state


def normalized(side: str, kind: str, values: np.ndarray, running: Arrays, training: bool) -> Arrays:
    """What a normalisation makes of values, and its running figures afterwards; gamma 2 and beta 1."""
    import torch

    from torch_models.layers import NORMALIZATIONS

    layer = NORMALIZATIONS[kind](values.shape[-1], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.fill_(2)
        layer.bias.fill_(1)
        for name, value in running.items():
            getattr(layer, name).copy_(torch.tensor(value))
    layer.train(training)
    obtained = {"outputs": layer(torch.tensor(values))} | {name: getattr(layer, name) for name in running}
    return {name: tensor.detach().numpy().copy() for name, tensor in obtained.items()}


def penalty(side: str, example: Example) -> tuple[float, list[str]]:
    """What a model's penalty is, and which of its parameters are in it."""
    model = new_model(side, example.keywords, example.weights)
    value = model.penalty()
    value.backward()
    return value.item(), [name for name, parameter in model.named_parameters() if parameter.grad is not None]


def kept_states(side: str, example: Example, inputs: np.ndarray) -> dict[str, Any]:
    """Run a stateful model on a sequence in two parts, and again after a reset; its states and what has a gradient."""
    import torch

    from torch_models.training import reset_states

    model = new_model(side, example.keywords, example.weights)
    both = package(side)
    half = inputs.shape[1] // 2
    parts = [torch.tensor(inputs[:, :half]), torch.tensor(inputs[:, half:])]
    obtained: dict[str, Any] = {"parts": [model(part).detach().numpy().copy() for part in parts]}
    obtained["states"] = both.read_non_trainable(model)
    obtained["attached"] = [name for name, buffer in model.named_buffers() if buffer.requires_grad]
    reset_states(model)
    obtained["reset"] = both.read_non_trainable(model)
    obtained["again"] = model(parts[0]).detach().numpy()
    obtained["whole"] = both.predict(model, inputs)
    return obtained


def sequence_first_and_not(side: str, example: Example) -> list[Arrays]:
    """A step's record of a model that takes the sequence first, and of one that takes the batch first."""
    both, obtained = package(side), []
    for sequence_first in (True, False):
        model = new_model(side, {**example.keywords, "sequence_first": sequence_first}, example.weights)
        optimizer = both.build_optimizer(model.named_parameters(), "sgd")
        take = both.SingleStep(model, both.build_loss("mse"), optimizer)
        record = take(both.read_slots(model, optimizer), {}, 0, example.inputs["sequence"], example.targets)
        obtained.append(record | {"predictions": both.predict(model, example.inputs["sequence"])})
    return obtained


def seen_shape(side: str, example: Example, sequence_first: bool) -> tuple[int, ...]:
    """The shape in which a model's first layer is given a batch."""
    from torch_models.training import to_tensors

    model = new_model(side, {**example.keywords, "sequence_first": sequence_first}, example.weights)
    return tuple(to_tensors(model, example.inputs["sequence"]).shape)


def independent_masks(side: str, example: Example, name: str) -> np.ndarray:
    """The masks that a model draws itself for its cells."""
    import torch

    torch.manual_seed(0)
    model = new_model(side, {**example.keywords, "dropout_masks": "independent"}, example.weights)
    model.train()
    sequence = torch.zeros(2000, 3, example.inputs["sequence"].shape[-1], dtype=torch.float64)
    return model._cell_masks({}, name, sequence).numpy()
