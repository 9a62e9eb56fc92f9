"""What tests of fast layers in models run inside the process of a framework; each takes a side first."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from helpers.fast_probes import BATCH, CELLS, FEATURES, STEPS, UNITS, call, pair


def fallback(
    side: str, cell: str, options: Mapping[str, Any], training: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str | None, str | None]:
    """What a fast layer gives and what the stock one does, the kernel, and the reason for none."""
    stock, layer = pair(cell, options)
    obtained, expected = (call(module, training=training) for module in (layer, stock))
    return obtained, expected, layer.execution.kernel, layer.execution.reason


def circumstances(side: str, name: str) -> tuple[float, str | None, str | None]:
    """Call a layer where no kernel can: how far it is from the stock layer, and how it ran."""
    import torch

    stock, layer = pair("GRU", {"return_sequences": True})
    inputs = torch.randn(BATCH, STEPS, FEATURES)
    marked = inputs.as_subclass(type("Marked", (torch.Tensor,), {}))
    mask = torch.ones(BATCH, STEPS, 1, dtype=torch.bool)
    ways: dict[str, Callable[[Any], Any]] = {
        "vmap": lambda module: torch.func.vmap(module)(inputs.unsqueeze(0)),
        "jvp": lambda module: torch.func.jvp(module, (inputs,), (inputs,))[1],
        "forward-mode": lambda module: _tangent(module, inputs),
        "subclass": lambda module: module(marked),
        "mask-of-three-axes": lambda module: module(inputs, mask=mask),
    }
    around: dict[str, AbstractContextManager[Any]] = {
        "compiling": mock.patch("torch.compiler.is_compiling", return_value=True),
        "tracing": mock.patch("torch.jit.is_tracing", return_value=True),
        "autocast": torch.autocast("cpu", torch.bfloat16),
    }
    assert name in ways.keys() | around.keys()
    run = ways.get(name, lambda module: module(inputs))
    with around.get(name, nullcontext()):
        obtained, expected = run(layer), run(stock)
    return float((obtained - expected).detach().abs().max()), layer.execution.kernel, layer.execution.reason


def _tangent(layer: Any, inputs: Any) -> Any:
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        return forward_ad.unpack_dual(layer(forward_ad.make_dual(inputs, inputs))).tangent


def precision(side: str, cell: str, dtype: str, masked: bool) -> tuple[dict[str, float], str | None]:
    """Largest relative differences from the stock layer in a dtype policy, and the kernel; dtypes must be the same."""
    import torch

    stock, layer = pair(cell, {"return_sequences": True}, dtype=dtype)
    inputs = torch.randn(BATCH, STEPS, FEATURES, generator=torch.Generator().manual_seed(5))
    mask = torch.arange(STEPS) < torch.tensor([[5], [3], [1], [4]]) if masked else None
    results = []
    for module in (layer, stock):
        outputs = module(inputs, mask=mask)
        gradients = torch.autograd.grad(outputs.float().square().sum(), [v.value for v in module.trainable_variables])
        results.append({"outputs": outputs, **{v.name: g for v, g in zip(module.variables, gradients, strict=False)}})
    differences = {}
    for name, value in results[1].items():
        assert results[0][name].dtype == value.dtype, name
        scale = value.double().abs().max()
        differences[name] = float(((results[0][name].double() - value.double()).abs().max() / scale).detach())
    return differences, layer.execution.kernel


def train_stateful(side: str, package: str, cell: str) -> tuple[list[float], dict[str, np.ndarray]]:
    """Train a stateful layer on four batches that follow one another: the losses, weights and last states."""
    import keras

    generator = np.random.default_rng(1)
    layer = getattr(_library(package), cell)(UNITS, stateful=True, return_sequences=True)
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, STEPS, FEATURES)), layer, keras.layers.Dense(1)])
    for variable in model.trainable_variables:
        variable.assign(generator.normal(0, 0.5, tuple(variable.shape)))
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
    batches = generator.normal(size=(4, BATCH, STEPS, FEATURES + 1)).astype("float32")
    losses = [float(model.train_on_batch(batch[..., 1:], batch[..., :1])) for batch in batches]
    named = {f"{index} {v.name}": v for index, v in enumerate([*model.trainable_variables, *layer.states])}
    return losses, {name: np.array(keras.ops.convert_to_numpy(v)) for name, v in named.items()}


def _library(package: str) -> Any:
    import keras

    if package == "stock":
        return keras.layers
    from keras_models import fast

    return fast


def new_model(package: str, cell: str, wrapped: bool = False) -> Any:
    """A model for random symbols padded with 0, of a stock or fast layer; `wrapped` in both directions."""
    import keras

    layer = getattr(_library(package), cell)(UNITS, return_sequences=True, name="recurrent")
    layers = [
        keras.layers.Embedding(9, FEATURES, mask_zero=True, name="embedding"),
        keras.layers.Bidirectional(layer, name="both") if wrapped else layer,
        keras.layers.TimeDistributed(keras.layers.Dense(2, name="dense"), name="head"),
    ]
    model = keras.Sequential([keras.Input((None,), dtype="int32", name="symbols"), *layers], name="model")
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(0, 0.5, tuple(variable.shape)))
    return model


def symbols() -> np.ndarray:
    """Sequences of symbols, padded at the end."""
    generator = np.random.default_rng(3)
    lengths = np.array([5, 2, 1, 4])
    return np.where(np.arange(STEPS) < lengths[:, None], generator.integers(1, 9, (BATCH, STEPS)), 0)


def outputs_and_gradients(model: Any) -> dict[str, np.ndarray]:
    """What a model of `new_model` gives for `symbols`, and the gradients of the sum of squares."""
    import torch

    outputs = model(torch.tensor(symbols()))
    values = [variable.value for variable in model.trainable_variables]
    gradients = torch.autograd.grad(outputs.square().sum(), values)
    named = {variable.path: g for variable, g in zip(model.trainable_variables, gradients, strict=True)}
    return {name: np.array(value.detach()) for name, value in ({"outputs": outputs} | named).items()}


def recurrent_classes(model: Any) -> list[str]:
    """Which classes the recurrent layers of a model are, as module and name."""
    import keras

    recurrent = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)]
    return [f"{type(layer).__module__}.{type(layer).__name__}" for layer in recurrent]


def kernels(model: Any) -> dict[str, str | None]:
    """Which kernels a model's fast layers ran in."""
    from keras_models import fast

    return {path: None if execution is None else execution.kernel for path, execution in fast.executions(model).items()}


def wrapped(side: str, cell: str) -> tuple[list[str], dict[str, str | None], dict[str, Any], dict[str, Any]]:
    """`Bidirectional` around a fast layer and around a stock one: classes, kernels, and what each gives."""
    stock, other = new_model("stock", cell, wrapped=True), new_model("fast", cell, wrapped=True)
    obtained, expected = outputs_and_gradients(other), outputs_and_gradients(stock)
    return recurrent_classes(other), kernels(other), obtained, expected


def two_given_directions(side: str) -> list[str]:
    """The classes in `Bidirectional` where it is given both layers, one fast and one not."""
    import keras

    from keras_models import fast

    results = []
    for forward, backward in ((fast, keras.layers), (keras.layers, fast)):
        both = keras.layers.Bidirectional(
            forward.GRU(UNITS, name="one"), backward_layer=backward.GRU(UNITS, go_backwards=True, name="two")
        )
        results += recurrent_classes(both)
    return results


def made_while_enabled(side: str, folder: Path) -> dict[str, list[str]]:
    """The classes of layers made in different ways before, while and after fast layers are enabled."""
    import keras
    from keras.layers import GRU as IMPORTED_BEFORE

    from keras_models import fast

    class Derived(keras.layers.LSTM):
        """A user's own layer."""

    model = new_model("stock", "LSTM", wrapped=True)
    model.save(folder / "stock.keras")

    def make() -> list[Any]:
        made = [getattr(keras.layers, cell)(UNITS) for cell in CELLS]
        made += [IMPORTED_BEFORE(UNITS), keras.layers.GRU.from_config(keras.layers.GRU(UNITS).get_config())]
        made += [Derived(UNITS), keras.layers.Bidirectional(keras.layers.LSTM(UNITS))]
        made += [keras.saving.load_model(folder / "stock.keras"), keras.models.clone_model(model)]
        assert all(isinstance(layer, getattr(keras.layers, cell)) for layer, cell in zip(made, CELLS, strict=False))
        return made

    def classes(layers: list[Any]) -> list[str]:
        return [name for layer in layers for name in recurrent_classes(layer)]

    try:
        before = make()
        results = {"before": classes(before)}
        fast.enable()
        fast.enable()  # as good as once
        results["while"] = classes(make())
        results["made before"] = classes(before)
    finally:
        fast.disable()
    fast.disable()
    return results | {"after": classes(make())}


def exchanged_in_training(side: str, cell: str) -> dict[str, Any]:
    """Train a model whose layers are made fast, and stock again, on the way, beside one that stays as it is."""
    import keras

    from keras_models import fast

    record: dict[str, Any] = {}
    models = {name: new_model("stock", cell, wrapped=True) for name in ("exchanged", "stock")}
    for model in models.values():
        model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse", jit_compile=False)
    exchanged = models["exchanged"]
    before = [id(variable.value) for variable in exchanged.trainable_variables]
    targets = np.random.default_rng(4).normal(size=(BATCH, STEPS, 2)).astype("float32")
    record["losses"] = {name: [] for name in models}
    record["classes"] = [recurrent_classes(exchanged)]
    for change in (None, fast.enable, None, fast.disable, None):
        if change is not None:
            change(exchanged)
            record["classes"].append(recurrent_classes(exchanged))
        for name, model in models.items():
            record["losses"][name].append(float(model.train_on_batch(symbols(), targets)))
    record["same variables"] = before == [id(variable.value) for variable in exchanged.trainable_variables]
    record["predictions"] = {name: np.array(model.predict_on_batch(symbols())) for name, model in models.items()}
    return record


def enable_wrong(side: str, function: str) -> None:
    """Give `enable`, `disable` or `executions` what is no layer."""
    from keras_models import fast

    getattr(fast, function)("lstm")


def save(side: str, package: str, cell: str, file: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Save a model: its configuration, and what it predicts."""
    import json

    model = new_model(package, cell, wrapped=True)
    model.save(file)
    return json.loads(model.to_json()), np.array(model.predict_on_batch(symbols()))


def load(side: str, file: Path, enabled: bool) -> tuple[list[str], np.ndarray]:
    """Load a model, with fast layers enabled or not: the classes of its layers, and what it predicts."""
    import keras

    from keras_models import fast

    if enabled:
        fast.enable()
    try:
        model = keras.saving.load_model(file)
    finally:
        fast.disable()
    return recurrent_classes(model), np.array(model.predict_on_batch(symbols()))


def on_this_backend(side: str, cell: str) -> tuple[dict[str, Any], bool, float]:
    """How a fast layer runs on a backend, whether torch is there, and how far its outputs are from the stock one's."""
    from keras_models import fast

    stock, other = new_model("stock", cell), new_model("fast", cell)
    difference = np.abs(np.subtract(*(np.array(model.predict_on_batch(symbols())) for model in (stock, other)))).max()
    return (
        {path: vars(execution) for path, execution in fast.executions(other).items()},
        "torch" in sys.modules,
        difference,
    )


def execution_of(side: str, claimed: str | None = None) -> dict[str, Any]:
    """What `keras_models.execution` says of a stack: fast, fast but not there, and stock; `claimed`: of the first."""
    import keras

    import keras_models
    from keras_models import fast
    from keras_models.fast import on_torch

    layers = [
        fast.GRU(UNITS, return_sequences=True, name="fast"),
        fast.GRU(UNITS, return_sequences=True, reset_after=False, name="fallen"),
        fast.LSTM(UNITS, return_sequences=True, name="lstm"),
        keras.layers.SimpleRNN(UNITS, name="stock"),
    ]
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), *layers], name="model")
    compute = on_torch._compute

    def lying(layer: Any, arguments: Any) -> Any:
        kernel, *computed = compute(layer, arguments)
        return claimed if layer.name == "fast" else kernel, *computed

    inputs = np.zeros((BATCH, STEPS, FEATURES), dtype="float32")
    with mock.patch.object(on_torch, "_compute", lying) if claimed else nullcontext():
        return keras_models.execution(model, inputs)
