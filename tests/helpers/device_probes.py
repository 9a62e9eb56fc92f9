"""Trains the PyTorch side off the CPU: on "meta", whose tensors have no numbers; no operation may mix devices."""

from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import torch_models
from torch_models import training

# Operations that bring numbers from one device to another, or make them.
MOVES = ("_to_copy", "copy_", "ones", "lift", "detach", "alias", "_pack_padded_sequence")

WINDOWS, TIME, FEATURES, UNITS = 6, 5, 2, 4


def train_off_the_cpu(
    side: str, settings: dict[str, Any], optimizer: str, stock: bool, norms: bool, left_behind: bool = False
) -> list[str]:
    """Build, train, predict and take a single step on "meta"; return the devices on which operations ran.

    Stock optimizers take no single steps. Raises RuntimeError where an operation mixes devices, as with the inputs
    `left_behind`.
    """
    assert side == "torch"
    devices = _Devices()
    before, device_of = torch.Tensor.cpu, training.device_of
    try:
        # What comes back has no numbers; those that count something must not be zero.
        if left_behind:
            training.device_of = lambda model: torch.device("cpu")
        torch.Tensor.cpu = lambda tensor: torch.ones(tensor.shape, dtype=tensor.dtype)
        with devices:
            _train(settings, optimizer, stock, norms)
    finally:
        torch.Tensor.cpu, training.device_of = before, device_of
    return sorted(devices.seen)


class _Devices(TorchDispatchMode):
    """Notes the devices of tensors that an operation computes with; scalars may be anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not any(name in str(function) for name in MOVES):
            tensors = [leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, torch.Tensor) and leaf.dim()]
            devices = {tensor.device.type for tensor in tensors}
            if len(devices) > 1:
                raise RuntimeError(f"{function} mixes {' and '.join(sorted(devices))}")
            self.seen |= devices
        return result


def _train(settings: dict[str, Any], name: str, stock: bool, norms: bool) -> None:
    model = torch_models.build(features=FEATURES, units=UNITS, **settings)
    torch_models.place(model, "meta")
    loss = torch_models.build_loss("mse")
    optimizer = torch_models.build_optimizer(model.named_parameters(), name, stock=stock)
    torch_models.load_canonical(model, torch_models.to_canonical(model))
    generator = np.random.default_rng(0)
    sequence = generator.normal(size=(WINDOWS, TIME, FEATURES)).astype("float32")
    inputs: Any = {"sequence": sequence}
    if settings.get("masked"):
        inputs["mask"] = np.ones((WINDOWS, TIME), bool)
    if settings.get("initial_state"):
        inputs |= {f"layer0.forward.{part}": np.zeros((WINDOWS, UNITS), "float32") for part in ("h", "c")}
    inputs = inputs if len(inputs) > 1 else sequence
    targets = np.zeros((WINDOWS, 1), "float32")
    schedule = np.array([range(WINDOWS)])
    for _ in torch_models.train(model, loss, optimizer, inputs, targets, schedule, WINDOWS // 2, norms=norms):
        pass
    torch_models.predict(model, inputs)
    if stock:  # which take no single steps
        return
    batch = {n: a[:3] for n, a in inputs.items()} if isinstance(inputs, dict) else inputs[:3]
    slots, state = torch_models.read_slots(model, optimizer), torch_models.read_non_trainable(model)
    torch_models.SingleStep(model, loss, optimizer)(slots, state, 2, batch, targets[:3])
