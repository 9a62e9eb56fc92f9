"""What tests of optimizers run inside the process of a framework; each takes a side first, as in `probes.py`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
from helpers.probes import Tensors, new_model, package, trained

Options = Mapping[str, Any]


def new_optimizer(side: str, model: Any, options: Options) -> Any:
    """Build the optimizer of a side for a model."""
    return package(side).build_optimizer(trained(side, model), **options)


def optimizers(side: str) -> Any:
    """The module of a side's optimizers."""
    import importlib

    return importlib.import_module(f"{package(side).__name__}.optimizers")


def apply_steps(
    side: str,
    shape: Mapping[str, Any],
    tensors: Tensors,
    options: Options,
    gradients: list[Tensors],
    slots: Tensors | None = None,
    iterations: int = 0,
    fault: str | None = None,
) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Let the optimizer apply gradients, from given slots on if any: the weights and slots after each step.

    On the PyTorch side with one of `FAULTS` planted, if one is named.
    """
    model = new_model(side, shape, tensors)
    optimizer = new_optimizer(side, model, options)
    module = optimizers(side)
    if slots is not None:
        module.load_slots(model, optimizer, slots, iterations)
    apply = _apply_torch if side == "torch" else _apply_keras
    steps = []
    with FAULTS[fault](optimizer) if fault else nullcontext():
        for step in gradients:
            apply(side, model, optimizer, step)
            steps.append((package(side).to_canonical(model), module.read_slots(model, optimizer)))
        assert fault == "uncounted" or module.iterations(optimizer) == iterations + len(gradients)
    return steps


def _layouts(side: str, model: Any) -> list[Any]:
    import importlib

    return importlib.import_module(f"{package(side).__name__}.weights").layouts(model)


def _apply_torch(side: str, model: Any, optimizer: Any, gradients: Tensors) -> None:
    import torch

    for layout in _layouts(side, model):
        layout.variable.grad = torch.from_numpy(np.array(layout.join(dict(gradients))))
    kept = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    optimizer.step()
    now = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True)), "a step has changed the gradients"


def _apply_keras(side: str, model: Any, optimizer: Any, gradients: Tensors) -> None:
    import keras

    values = [keras.ops.convert_to_tensor(layout.join(dict(gradients))) for layout in _layouts(side, model)]
    if side == "keras-torch":
        import torch

        with torch.no_grad():
            optimizer.apply(values, model.trainable_variables)
    else:
        optimizer.apply(values, model.trainable_variables)


def learning_rates(side: str, options: Options, iterations: list[int]) -> list[float]:
    """The learning rate of Keras's own optimizer, or that of the PyTorch side, after numbers of steps."""
    shape = {"cell": "simple_rnn", "units": 1}
    model = new_model(side, shape)
    optimizer = new_optimizer(side, model, options)
    module = optimizers(side)
    rates = []
    for count in iterations:
        module.load_slots(model, optimizer, module.read_slots(model, optimizer), count)
        rates.append(module.learning_rate(optimizer))
    return rates


def slots(side: str, shape: Mapping[str, Any], options: Options, other: Tensors | None = None) -> tuple[Any, Any]:
    """The slots of an optimizer that has not taken a step, and what is read after others are loaded."""
    model = new_model(side, shape)
    optimizer, module = new_optimizer(side, model, options), optimizers(side)
    first = module.read_slots(model, optimizer)
    if other is not None:
        module.load_slots(model, optimizer, other, 7)
        assert module.iterations(optimizer) == 7
    return first, module.read_slots(model, optimizer)


def clipped(side: str, shape: Mapping[str, Any], options: Options, gradients: Tensors) -> dict[str, np.ndarray]:
    """What `clip_gradients` makes of gradients."""
    model = new_model(side, shape)
    optimizer = new_optimizer(side, model, options)
    layouts = _layouts(side, model)
    joined = [layout.join(dict(gradients)) for layout in layouts]
    if side == "torch":
        import torch

        obtained = optimizers(side).clip_gradients(optimizer, [torch.from_numpy(np.array(value)) for value in joined])
        values = [value.numpy() for value in obtained]
    else:
        import keras

        obtained = optimizers(side).clip_gradients(optimizer, [keras.ops.convert_to_tensor(value) for value in joined])
        values = [keras.ops.convert_to_numpy(value) for value in obtained]
    return {
        name: part for layout, value in zip(layouts, values, strict=True) for name, part in layout.split(value).items()
    }


def resumed_weights(side: str, options: Options, forgotten: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Weights after six steps, and after three, a `state_dict` loaded into a new optimizer and three more.

    `forgotten` is left out of the saved parameter groups.
    """
    assert side == "torch"
    import torch

    generator = np.random.default_rng(3)
    gradients = [torch.from_numpy(generator.normal(size=5)) for _ in range(6)]

    def new() -> tuple[torch.nn.Parameter, Any]:
        parameter = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
        return parameter, package(side).build_optimizer([("bias_ih_l0", parameter)], **options)

    def steps(parameter: torch.nn.Parameter, optimizer: Any, given: list[torch.Tensor]) -> None:
        for gradient in given:
            parameter.grad = gradient
            optimizer.step()

    through, through_optimizer = new()
    steps(through, through_optimizer, gradients)
    before, before_optimizer = new()
    steps(before, before_optimizer, gradients[:3])
    after, after_optimizer = new()
    with torch.no_grad():
        after.copy_(before)
    state = before_optimizer.state_dict()
    if forgotten is not None:
        state["param_groups"] = [
            group | {forgotten: after_optimizer.param_groups[0][forgotten]} for group in state["param_groups"]
        ]
    after_optimizer.load_state_dict(state)
    steps(after, after_optimizer, gradients[3:])
    return through.detach().numpy(), after.detach().numpy()


def grouped_weights(side: str, name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights of two parameters in two groups with own learning rates, and each in an optimizer of its own."""
    assert side == "torch"
    import torch

    rates = (0.1, 0.001)

    def train(groups: list[list[tuple[torch.nn.Parameter, float]]]) -> None:
        for group in groups:
            optimizer = optimizers(side).OPTIMIZERS[name]([{"params": [p], "lr": rate} for p, rate in group])
            generator = np.random.default_rng(1)
            for _ in range(4):
                gradient = torch.from_numpy(generator.normal(size=3))
                for parameter, _ in group:
                    parameter.grad = gradient
                optimizer.step()

    together, apart = (
        [(torch.nn.Parameter(torch.ones(3, dtype=torch.float64)), rate) for rate in rates] for _ in range(2)
    )
    train([together])
    train([[pair] for pair in apart])
    return [p.detach().numpy() for p, _ in together], [p.detach().numpy() for p, _ in apart]


def unnamed_clipnorm(side: str) -> None:
    """Ask for clipping by variable with parameters that have no names."""
    package(side).build_optimizer(new_model(side, {"cell": "gru", "units": 2}).parameters(), clipnorm=1.0)


def powers(side: str, base: float, exponents: list[int], dtype: str) -> list[float]:
    """Powers of a constant as the update rules compute them."""
    assert side == "torch"
    import torch

    optimizer = package(side).build_optimizer([torch.nn.Parameter(torch.zeros(1))], "adam")
    return [float(optimizer.power(base, exponent, np.dtype(dtype).type)) for exponent in exponents]


def stock_weights_and_own(side: str, options: Options, own: str, own_options: Options) -> list[np.ndarray]:
    """A parameter after each of five steps: of `build_optimizer(stock=True)`, then of torch.optim's own."""
    assert side == "torch"
    import torch

    clipping = {name: options[name] for name in ("clipvalue", "clipnorm", "global_clipnorm") if name in options}
    results = []
    for stock in (True, False):
        parameters = [torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(3))]
        if stock:
            named = [("a", parameters[0]), ("b", parameters[1])]
            optimizer = package(side).build_optimizer(named, **options, stock=True)
        else:
            optimizer = getattr(torch.optim, own)(parameters, **own_options)
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            if not stock and "global_clipnorm" in clipping:
                torch.nn.utils.clip_grad_norm_(parameters, clipping["global_clipnorm"])
            if not stock and "clipvalue" in clipping:
                torch.nn.utils.clip_grad_value_(parameters, clipping["clipvalue"])
            optimizer.step()
        results.append(torch.cat([parameter.detach() for parameter in parameters]).numpy())
    return results


def _exact_schedule(group: Mapping[str, Any]) -> float:
    from torch_models.schedules import scheduled_learning_rate

    return scheduled_learning_rate(group, group["iterations"] - 1, np.float64)


def _one_step_late(group: Mapping[str, Any]) -> dict[str, Any]:
    return {**group, "iterations": max(1, group["iterations"] - 1)}


def _biases_apart(names: Sequence[str]) -> list[str]:
    return [name.replace("bias_hh", "other") for name in names]


# Each plants a fault in an optimizer of the PyTorch side for a while. In turn: constants are not rounded to float32;
# the schedule is in float64, or a step late; weights do not decay; GRU's two biases are clipped as two variables;
# nothing is clipped; the small constant is not Keras's; Nesterov is forgotten; steps are counted from one.
FAULTS: dict[str, Callable[[Any], AbstractContextManager[Any]]] = {
    "exact-constants": lambda _: mock.patch("torch_models.update_rules.cast", float),
    "exact-schedule": lambda o: mock.patch.object(o, "learning_rate", _exact_schedule),
    "schedule-one-step-late": lambda o: mock.patch.object(
        o, "learning_rate", lambda group, of_step=o.learning_rate: of_step(_one_step_late(group))
    ),
    "no-weight-decay": lambda o: mock.patch.object(o, "decay"),
    "biases-clipped-apart": lambda o: mock.patch.object(
        o, "clip", lambda gradients, names, clip=o.clip: clip(gradients, _biases_apart(names))
    ),
    "no-clipping": lambda o: mock.patch.object(o, "clip", lambda gradients, names: gradients),
    "other-epsilon": lambda o: mock.patch.dict(o.param_groups[0], eps=1.1e-7),
    "plain-momentum": lambda o: mock.patch.dict(o.param_groups[0], nesterov=False),
    "uncounted": lambda o: mock.patch.dict(o.param_groups[0], iterations=1),
}
