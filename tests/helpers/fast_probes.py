"""What tests of `keras_models.fast` run inside the process of a framework; each takes a side first."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

CELLS = ("SimpleRNN", "LSTM", "GRU")
BATCH, STEPS, FEATURES, UNITS = 4, 5, 3, 6

# By the largest number of a tensor or by 1, whichever is more: the largest difference seen is 1.5e-6, and the smallest
# of the planted faults is 2e-2.
TOLERANCE = 1e-5


def masks(seed: int) -> dict[str, np.ndarray | None]:
    """Masks of every kind, (batch, time), True where a timestep counts."""
    generator = np.random.default_rng(seed)
    right = np.arange(STEPS) < generator.integers(1, STEPS + 1, size=BATCH)[:, None]
    return {
        "none": None,
        "right": right,
        "left": right[:, ::-1].copy(),
        "scattered": generator.random((BATCH, STEPS)) > 0.4,
        "nothing-left-of-one": right & (np.arange(BATCH) > 0)[:, None],
    }


def pair(cell: str, options: Mapping[str, Any], seed: int = 0, dtype: str = "float32") -> tuple[Any, Any]:
    """A layer of Keras and a fast one of the same options and weights."""
    import keras

    from keras_models import fast

    generator = np.random.default_rng(seed)
    layers = [getattr(package, cell)(UNITS, dtype=dtype, seed=3, **options) for package in (keras.layers, fast)]
    for layer in layers:
        layer.build((BATCH, STEPS, FEATURES))
    for stock, other in zip(*(layer.trainable_variables for layer in layers), strict=True):
        assert (stock.path.rpartition("/")[2], stock.shape) == (other.path.rpartition("/")[2], other.shape)
        stock.assign(generator.normal(0, 0.5, tuple(stock.shape)))
        other.assign(stock)
    return layers[0], layers[1]


def call(
    layer: Any, mask: np.ndarray | None = None, initial: bool = False, training: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    """What a layer returns for random inputs, and the gradients of a random sum of it, by name."""
    import torch

    generator = np.random.default_rng(seed)

    def tensor(*shape: int) -> torch.Tensor:
        return torch.tensor(generator.normal(size=shape).astype("float32"), requires_grad=True)

    inputs = tensor(BATCH, STEPS, FEATURES)
    states = [tensor(BATCH, UNITS) for _ in layer.state_size] if initial else []
    given_mask = None if mask is None else torch.tensor(mask)
    computed = layer(inputs, initial_state=states or None, mask=given_mask, training=training)
    outputs = list(computed) if isinstance(computed, list | tuple) else [computed]
    total = sum((output * tensor(*output.shape).detach()).sum() for output in outputs)
    by = {"inputs": inputs} | {f"state{index}": state for index, state in enumerate(states)}
    by |= {variable.name: variable.value for variable in layer.trainable_variables}
    gradients = torch.autograd.grad(total, list(by.values()), allow_unused=True)
    record = {f"output{index}": output for index, output in enumerate(outputs)}
    record |= {f"gradient/{name}": g for name, g in zip(by, gradients, strict=True) if g is not None}
    return {name: np.array(value.detach().double()) for name, value in record.items()}


def check_equal(*, obtained: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], what: str) -> None:
    """Raise AssertionError where the two differ, naming the tensor."""
    assert obtained.keys() == expected.keys(), what
    for name, value in expected.items():
        assert obtained[name].shape == value.shape, f"{what}: {name}"
        error = np.abs(obtained[name] - value).max() / max(np.abs(value).max(), 1)
        assert error <= TOLERANCE, f"{what}: {name} differs by {error:.1e}"


def options_of_all_kinds(cell: str) -> Iterator[tuple[dict[str, Any], str, bool]]:
    """Every combination of options, a mask's name and whether an initial state is given."""
    switches = ("use_bias", "return_sequences", "return_state", "go_backwards", "zero_output_for_mask")
    for values in itertools.product((False, True), repeat=len(switches)):
        for mask, initial in itertools.product(masks(0), (False, True)):
            yield dict(zip(switches, values, strict=True)), mask, initial
    for activation, mask in itertools.product(("tanh", "sigmoid", "relu", None), masks(0)):
        if cell == "SimpleRNN":
            yield {"activation": activation, "return_sequences": True}, mask, True
            continue
        for inner in ("sigmoid", "tanh", "relu"):
            if "tanh" in (activation, inner):  # what is bounded nowhere is soon infinite
                yield {"activation": activation, "recurrent_activation": inner, "return_sequences": True}, mask, True
    for implementation, unroll in itertools.product((1, 2), (False, True)):
        if cell != "SimpleRNN":
            yield {"implementation": implementation, "unroll": unroll, "return_state": True}, "none", True
            yield {"implementation": implementation, "unroll": unroll, "return_state": True}, "scattered", True


# What the stock layers give, which step through time in Python: once, for every kernel and fault compared with them.
_STOCK: dict[str, dict[str, np.ndarray]] = {}


def compare_with_stock(side: str, cell: str, kernels: str = "", fault: str | None = None) -> dict[str | None, int]:
    """Compare a fast layer with Keras's own in all options; count the kernels that ran.

    With `kernels` "torch" those of torch's own layers run wherever CUDA would run them. A fault is planted by name.
    Raises AssertionError naming the first combination in which they differ.
    """
    ran: Counter[str | None] = Counter()
    as_on_cuda = (
        mock.patch("torch.backends.cudnn.is_acceptable", return_value=True) if kernels == "torch" else nullcontext()
    )
    with as_on_cuda, planted(fault):
        for seed, (options, mask, initial) in enumerate(options_of_all_kinds(cell)):
            stock, layer = pair(cell, options, seed)
            keywords = {"mask": masks(seed)[mask], "initial": initial, "seed": seed}
            what = f"{cell} {options}, mask {mask}, initial state {initial}"
            if what not in _STOCK:
                _STOCK[what] = call(stock, **keywords)
            check_equal(obtained=call(layer, **keywords), expected=_STOCK[what], what=what)
            assert layer.execution.reason is None, what
            ran[layer.execution.kernel] += 1
    return dict(ran)


def planted(fault: str | None) -> AbstractContextManager[Any]:
    """Spoil what the fast layers compute from, or their way back."""
    from keras_models.fast import loops, on_torch

    gather, product = on_torch._arguments, loops._product

    def spoil(layer: Any, arguments: Any) -> dict[str, Any]:
        match fault:
            case "mask-ignored":
                return {"keep": None}
            case "mask-turned-round":
                return {"keep": None if arguments.keep is None else arguments.keep.flip(0)}
            case "initial-state-forgotten":
                return {"states": tuple(0 * state for state in arguments.states)}
            case "states-exchanged":
                return {"states": arguments.states[::-1]}
            case "not-backwards":
                return {"inputs": arguments.inputs.flip(1) if layer.go_backwards else arguments.inputs}
            case "bias-forgotten":
                return {"bias": 0 * arguments.bias}
            case "biases-exchanged":
                return {"bias": arguments.bias.flip(0)}
            case "gates-exchanged":
                return {"kernel": arguments.kernel.roll(UNITS, 1)}
            case "states-gradient-lost":
                return {"states": tuple(state.detach() + 0 * state for state in arguments.states)}
        raise ValueError(fault)

    def spoiled(layer: Any, *call: Any) -> Any:
        arguments = gather(layer, *call)
        return arguments._replace(**spoil(layer, arguments))

    match fault:
        case None:
            return nullcontext()
        case "last-timestep-alone":  # on the way back
            return mock.patch.object(loops._Backwards, "go_back", return_value=None)
        case "half-a-gradient":
            return mock.patch.object(loops, "_product", lambda left, by_sums: product(left, by_sums) / 2)
    return mock.patch.object(on_torch, "_arguments", spoiled)


def check_way_back(side: str, cell: str, fault: str | None = None) -> None:
    """Check a loop in float64, in many shapes: its results by the equations, its gradients by differences.

    So are the gradients of its gradients. With a fault the check must raise AssertionError.
    """
    import torch

    from keras_models.fast.activations import ACTIVATIONS
    from keras_models.fast.differentiable import Arguments, compute
    from keras_models.fast.on_torch import LOOPS

    names = list(ACTIVATIONS)
    phases = [Phase.generate] if fault else [Phase.generate, Phase.shrink]

    @settings(max_examples=25, database=None, deadline=None, derandomize=True, phases=phases)
    @given(
        shape=st.tuples(*[st.integers(1, 3)] * 4),
        activations=st.tuples(st.sampled_from(names), st.sampled_from(names)),
        masked=st.booleans(),
        sequence=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def check(
        shape: tuple[int, int, int, int], activations: tuple[str, str], masked: bool, sequence: bool, seed: int
    ) -> None:
        batch, steps, features, units = shape
        torch.manual_seed(seed)
        gates, states = {"simple_rnn": (1, 1), "lstm": (4, 2), "gru": (3, 1)}[cell]
        shapes = [(batch, steps, features), (features, gates * units), (units, gates * units)]
        shapes += [(2, gates * units) if cell == "gru" else (gates * units,), *[(batch, units)] * states]
        tensors = [torch.randn(shape, dtype=torch.float64).mul_(0.5).requires_grad_() for shape in shapes]
        keep = torch.rand(steps, batch, 1) > 0.4 if masked else None
        functions = [ACTIVATIONS[name] for name in activations[: 1 if cell == "simple_rnn" else 2]]
        kernel = LOOPS[cell](*functions)

        def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            inputs, *weights = tensors[:4]
            outputs, last = compute(kernel, Arguments(inputs, keep, *weights, tensors[4:]), sequence)
            return (outputs, *last) if sequence else tuple(last)

        expected, last = kernel.equations(Arguments(tensors[0], keep, *tensors[1:4], tuple(tensors[4:])))
        wanted = (expected.transpose(0, 1), *last) if sequence else last
        for obtained, value in zip(run(*tensors), wanted, strict=True):
            torch.testing.assert_close(obtained, value, rtol=1e-12, atol=1e-12)
        with planted(fault):
            assert torch.autograd.gradcheck(run, tensors, raise_exception=False), "gradients"
        assert torch.autograd.gradgradcheck(run, tensors, raise_exception=False), "gradients of gradients"

    check()


def onednn_beside_loop(side: str, shape: tuple[int, int, int, int]) -> dict[str, float]:
    """Compare oneDNN's LSTM with the loop, for (batch, time, features, units): the largest differences by tensor."""
    import torch

    from keras_models.fast.activations import ACTIVATIONS
    from keras_models.fast.differentiable import Arguments, compute
    from keras_models.fast.loops import LSTMLoop
    from keras_models.fast.onednn import OneDNNLSTM

    batch, steps, features, units = shape
    torch.manual_seed(0)
    names = ("inputs", "kernel", "recurrent_kernel", "bias", "h", "c")
    shapes = [(batch, steps, features), (features, 4 * units), (units, 4 * units), (4 * units,), *[(batch, units)] * 2]
    tensors = [torch.randn(shape).mul_(0.3).requires_grad_() for shape in shapes]
    computed = []
    functions = (ACTIVATIONS["tanh"], ACTIVATIONS["sigmoid"])
    for kernel in (LSTMLoop(*functions), OneDNNLSTM(*functions, returns=True)):
        arguments = Arguments(tensors[0], None, *tensors[1:4], tuple(tensors[4:]))
        outputs, last = compute(kernel, arguments, sequence=True)
        total = outputs[:, ::2].square().sum() + last[1].sum()
        computed.append([outputs, *last, *torch.autograd.grad(total, tensors)])
    pairs = zip(("outputs", "last h", "last c", *names), *computed, strict=True)
    return {name: float((stock - fast).abs().max() / max(1, stock.abs().max())) for name, stock, fast in pairs}
