"""How a module is trained: its loss as operations, its optimizer's rule and state."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from compare.errors import InputError
from compare.port.graph import Call, Graph, Tensor, leaves
from compare.port.torch_reader.elementwise import FUNCTIONS
from compare.port.torch_reader.layers import MODULES
from compare.port.torch_reader.lowering import Lowering
from compare.port.torch_reader.program import Program, Value, merged
from compare.port.torch_reader.reading import BATCHES, batch_axis
from compare.port.torch_reader.tracer import trace_call

CLASSES = ("cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss")
TRUTHS = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "BCELoss", "BCEWithLogitsLoss")
# The settings of a rule that its code has, by Keras's names; what must be as it is by default, since no code has it.
SETTINGS: dict[str, dict[str, str]] = {
    "SGD": {"momentum": "momentum", "nesterov": "nesterov"},
    "Adam": {"betas": "betas", "eps": "epsilon", "amsgrad": "amsgrad"},
    "AdamW": {"betas": "betas", "eps": "epsilon", "amsgrad": "amsgrad"},
    "RMSprop": {"alpha": "rho", "eps": "epsilon", "momentum": "momentum", "centered": "centered"},
    "Adagrad": {"eps": "epsilon", "initial_accumulator_value": "initial_accumulator_value"},
    "Adadelta": {"rho": "rho", "eps": "epsilon"},
    "Adamax": {"betas": "betas", "eps": "epsilon"},
    "NAdam": {"betas": "betas", "eps": "epsilon", "momentum_decay": "momentum_decay"},
}
WANTED = {"maximize": False, "dampening": 0, "lr_decay": 0, "differentiable": False}
# What PyTorch calls its slots.
SLOTS = {
    "SGD": ("momentum_buffer",),
    "Adam": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "AdamW": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "RMSprop": ("square_avg", "momentum_buffer", "grad_avg"),
    "Adagrad": ("sum",),
    "Adadelta": ("square_avg", "acc_delta"),
    "Adamax": ("exp_avg", "exp_inf"),
    "NAdam": ("exp_avg", "exp_avg_sq"),
}


Shape = tuple[int, ...]

# -- the loss --------------------------------------------------------------------------------------------------


class Target:
    """The targets that a loss takes: found by trying what targets usually are for such outputs."""

    def __init__(
        self, kind: str, high: int = 0, shape: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None
    ) -> None:
        self.kind, self.high = kind, high
        self._shape = shape or (lambda output: output)

    def array(self, output: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        """Random targets for outputs of a shape."""
        shape = self._shape(output)
        if self.kind == "int":
            return generator.integers(0, self.high, shape, dtype=np.int64)
        if self.kind == "truth":
            return generator.integers(0, 2, shape).astype(np.float32)
        return generator.standard_normal(shape).astype(np.float32)


def _candidates(shape: tuple[int, ...]) -> list[Target]:
    whole = [Target("float"), Target("truth")]
    if len(shape) < 2:
        return whole
    return [
        *whole,
        Target("int", shape[1], lambda output: (output[0], *output[2:])),
        Target("int", shape[-1], lambda output: output[:-1]),
        Target("int", shape[-1], lambda output: (int(np.prod(output[:-1])),)),
        Target("float", shape=lambda output: output[:-1]),
    ]


def read_loss(module: nn.Module, loss: Any, inputs: Mapping[int, list[np.ndarray]]) -> tuple[Lowering, Target]:
    """The loss as a graph of `y_pred` (or several) and `y_true`, and its targets; raises InputError."""
    outputs = {batch: _outputs(module, arrays) for batch, arrays in inputs.items()}
    first = next(leaf for leaf in tree_leaves(outputs[BATCHES[0]]) if isinstance(leaf, torch.Tensor))
    failures: list[str] = []
    for target in _candidates(tuple(first.shape)):
        try:
            program = merged(*(_traced(loss, outputs[batch], target, batch) for batch in BATCHES))
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            failures.append(" ".join(str(error).split())[:200])
            continue
        names = {step.name for step in program.steps}
        wanted = "int" if names & set(CLASSES) else "truth" if names & set(TRUTHS) else None
        if wanted is not None and target.kind != wanted:
            continue
        return _lowered(program), target
    raise InputError(
        f"the loss takes none of the targets that outputs of shape {tuple(first.shape)} usually have (the same shape; "
        f"class numbers): {failures[-1] if failures else 'it returned no tensor'}"
    )


def _outputs(module: nn.Module, arrays: list[np.ndarray]) -> Any:
    training = module.training
    try:
        with torch.no_grad():
            result = module.eval()(*(torch.tensor(array) for array in arrays))
    finally:
        module.train(training)
    return tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf, result)


def _traced(loss: Any, outputs: Any, target: Target, batch: int) -> Program:
    tensors = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    wanted = torch.tensor(target.array(tuple(tensors[0].shape), np.random.default_rng(0)))
    root = loss if isinstance(loss, nn.Module) else nn.Module()
    return trace_call(root, lambda: loss(outputs, wanted), [*tensors, wanted], batch)


def _lowered(program: Program) -> Lowering:
    low = Lowering(program, Graph("loss"))
    count = program.inputs - 1
    for number in range(program.inputs):
        step = program.steps[number]
        name = "y_true" if number == count else "y_pred" if count == 1 else f"y_pred_{number}"
        name = low.unique(name)
        seen = low.new(Tensor(name), step.shapes[0])
        axis = batch_axis(seen)
        axes = (*range(1, axis + 1), 0, *range(axis + 1, len(step.shapes[0])))
        low.values[number, 0] = low.new(Tensor(name), step.shapes[0], axes)
        low.graph.calls.append(Call(name, "InputLayer"))
    low.graph.inputs = [Tensor(call.name) for call in low.graph.calls]
    low.run(FUNCTIONS, MODULES)
    (leaf,) = [leaf for leaf in leaves(program.outputs) if isinstance(leaf, Value)]
    low.graph.outputs = low.plain(low.values[leaf.step, leaf.output])
    return low


# -- the optimizer ---------------------------------------------------------------------------------------------


def read_optimizer(optimizer: torch.optim.Optimizer, low: Lowering, module: nn.Module) -> dict[str, Any]:
    """The rule, its settings, what single weights train at, and the slots in Keras's shapes; raises InputError."""
    name = type(optimizer).__name__
    if name not in SETTINGS:
        known = ", ".join(SETTINGS)
        raise InputError(f"the optimizer {name} has no code in Keras here; {known} have: port the module without it")
    group = optimizer.param_groups[0]
    for setting, wanted in WANTED.items():
        if any(each.get(setting, wanted) != wanted for each in optimizer.param_groups):
            raise InputError(f"the optimizer {name} has {setting}={group[setting]}; no code in Keras has that here")
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    rates: dict[str, float] = {}
    for each in optimizer.param_groups:
        if any(each[setting] != group[setting] for setting in [*SETTINGS[name], "weight_decay"]):
            raise InputError(f"the optimizer {name} has groups of other settings than their learning rates")
        for parameter in each["params"]:
            rates[names.get(id(parameter), "")] = each["lr"] / group["lr"] if parameter.requires_grad else 0.0
    decoupled = name == "AdamW" or bool(group.get("decoupled_weight_decay"))
    return {
        "rule": name,
        "learning_rate": float(group["lr"]),
        "settings": {keras: _plain(group[own]) for own, keras in SETTINGS[name].items()},
        "coupled_decay": 0.0 if decoupled else float(group.get("weight_decay") or 0),
        "decoupled_decay": float(group["weight_decay"]) if decoupled else 0.0,
        "rates": _factors(low, rates),
        "slots": _slots(optimizer, low, names),
    }


def _plain(value: Any) -> Any:
    return [float(each) for each in value] if isinstance(value, tuple | list) else value


def _factors(low: Lowering, rates: Mapping[str, float]) -> dict[str, float]:
    """At how many times the learning rate a weight of Keras's trains: the sum of two biases at twice of it."""
    factors: dict[str, float] = {}
    for (layer, weight), weight_map in low.maps.items():
        own = [rates.get(low.program.tied.get(name, name), 0.0) for name in weight_map.names]
        if all(name in low.program.buffers or name in low.program.frozen for name in weight_map.names):
            continue
        if not weight_map.summed and len(set(own)) > 1:
            raise InputError(f"{', '.join(weight_map.names)} train at different rates and are one weight in Keras")
        factor = sum(own) if weight_map.summed else own[0]
        if factor != 1:
            factors[f"{layer}/{weight}"] = factor
    return factors


def _slots(optimizer: torch.optim.Optimizer, low: Lowering, names: Mapping[int, str]) -> dict[str, Any]:
    """Step counts and slots; empty where no step has been taken."""
    states = {names[id(parameter)]: state for parameter, state in optimizer.state.items() if id(parameter) in names}
    steps = {int(state["step"]) for state in states.values() if "step" in state}
    if len(steps) > 1:
        raise InputError("the optimizer's parameters have taken different numbers of steps; Keras counts once for all")
    if not any(
        isinstance(value, torch.Tensor) and value.dim() for state in states.values() for value in state.values()
    ):
        return {}
    own = SLOTS[type(optimizer).__name__]
    slots: dict[str, Any] = {"steps": steps.pop() if steps else 0, "arrays": {}, "product": 1.0}
    for state in states.values():
        if "mu_product" in state:
            slots["product"] = float(state["mu_product"])
    for slot in own:
        arrays = {name: state[slot].detach().numpy() for name, state in states.items() if state.get(slot) is not None}
        if arrays:
            slots["arrays"][slot] = linear(low, arrays)
    return slots


def linear(low: Lowering, arrays: Mapping[str, np.ndarray], sums: bool = False) -> dict[str, np.ndarray]:
    """Arrays of the module's names in Keras's shapes: `sums`, of two that are summed the sum, else the first."""
    result: dict[str, np.ndarray] = {}
    for (layer, weight), weight_map in low.maps.items():
        own = [arrays.get(name, arrays.get(low.program.tied.get(name, name))) for name in weight_map.names]
        if weight_map.summed and not sums:  # both have the same, unless one of them decays otherwise or is not trained
            trained = [array for array in own if array is not None]
            mean: Any = sum(trained) / len(trained) if trained else None
            own = [mean, None if mean is None else np.zeros_like(mean)]
        if any(array is None for array in own):
            continue
        result[f"{layer}/{weight}"] = np.ascontiguousarray(weight_map.function(*own))
    return result
