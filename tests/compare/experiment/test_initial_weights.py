"""Initial weights are drawn as the frameworks' own initialisers draw them."""

from collections.abc import Mapping

import numpy as np
import pytest
from helpers.framework_processes import FrameworkProcesses
from helpers.small_runs import CELLS
from helpers.spoiled_weights import without_biases
from hypothesis import given
from hypothesis import strategies as st

from compare.config.case import Case, load_case, with_fields
from compare.config.gates import GATES, gate_count, gated
from compare.experiment.initial_weights import draw_initial_weights

FEATURES, UNITS, OUTPUTS = 8, 64, 8
PREFIX = "layer0/forward"

# Of 512 uniform numbers, the fewest here, none is beyond this part of the bound once in 2e11 draws.
REACHED = 0.9

Tensors = Mapping[str, np.ndarray]


def case_of(cell: str, initial_weights: str, **fields: object) -> Case:
    """A case of a model that is large enough for its weights' distribution to be seen."""
    return with_fields(
        load_case(cell),
        {"model.units": UNITS, "training.initial_weights": initial_weights, "dtype": "float64", **fields},
    )


def whole(tensors: Tensors, name: str, cell: str) -> np.ndarray:
    """All gates of a kernel side by side, as they are drawn."""
    return np.concatenate([tensors[f"{PREFIX}/{gate}"] for gate in gated(name, cell)], axis=1)


def check_uniform(values: np.ndarray, bound: float) -> None:
    """Raise AssertionError unless values fill the range from -bound to bound and leave it nowhere."""
    assert np.abs(values).max() <= bound * (1 + 1e-6), "beyond the bound"
    assert values.max() >= REACHED * bound, "the range is not filled"
    assert values.min() <= -REACHED * bound, "the range is not filled"


def check_keras_weights(tensors: Tensors, cell: str) -> None:
    """Raise AssertionError unless weights are distributed as Keras's default initialisers draw them."""
    gates = gate_count(cell)
    check_uniform(whole(tensors, "kernel", cell), np.sqrt(6 / (FEATURES + gates * UNITS)))
    check_uniform(tensors["head/kernel"], np.sqrt(6 / (UNITS + OUTPUTS)))
    recurrent_kernel = whole(tensors, "recurrent_kernel", cell).astype(np.float64)
    np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(UNITS), atol=1e-5)
    for name, tensor in tensors.items():
        if "bias" in name:
            assert np.all(tensor == (1 if name.endswith("/forget") else 0)), name


def check_torch_weights(tensors: Tensors, cell: str) -> None:
    """Raise AssertionError unless weights are distributed as PyTorch's modules draw them, two biases added where so."""
    bound = 1 / np.sqrt(UNITS)
    for name in ("kernel", "recurrent_kernel"):
        check_uniform(whole(tensors, name, cell), bound)
    for name in ("head/kernel", "head/bias"):
        assert np.abs(tensors[name]).max() <= bound
    biases = np.concatenate([tensor for name, tensor in tensors.items() if name.startswith(PREFIX) and "bias" in name])
    assert np.abs(biases).max() <= (1 if cell == "gru" else 2) * bound
    # The variance of a uniform number is a third of its bound's square, and variances add up.
    expected = (1 if cell == "gru" else 2) * bound**2 / 3
    assert 0.6 * expected <= np.var(biases) <= 1.6 * expected
    assert tensors["head/bias"].any()


@pytest.mark.parametrize("cell", CELLS)
def test_keras_weights_have_kerass_distribution(frameworks: FrameworkProcesses, cell: str) -> None:
    """Kernels fill Glorot's bounds, recurrent kernels are orthogonal, biases zero but LSTM's forget: as Keras's own."""
    check_keras_weights(draw_initial_weights(case_of(cell, "keras"), FEATURES, OUTPUTS), cell)
    shape = {"cell": cell, "features": FEATURES, "units": UNITS, "outputs": OUTPUTS}
    check_keras_weights(frameworks.call("keras-torch", "probes.own_weights", shape), cell)


@pytest.mark.parametrize("cell", CELLS)
def test_torch_weights_have_pytorchs_distribution(frameworks: FrameworkProcesses, cell: str) -> None:
    """All weights fill 1/sqrt(units), and LSTM's and SimpleRNN's biases are sums of two: as stock PyTorch's own."""
    check_torch_weights(draw_initial_weights(case_of(cell, "torch"), FEATURES, OUTPUTS), cell)
    check_torch_weights(frameworks.call("torch", "probes.stock_weights", cell, FEATURES, UNITS, OUTPUTS), cell)


@pytest.mark.parametrize(
    "fault", ["kernel-too-large", "kernel-too-small", "recurrent-kernel-not-orthogonal", "no-forget-bias"]
)
def test_wrong_keras_weights_are_caught(fault: str) -> None:
    """The check fails for weights of another bound, that are not orthogonal, or whose forget bias is 0."""
    tensors = draw_initial_weights(case_of("lstm", "keras"), FEATURES, OUTPUTS)
    if fault == "no-forget-bias":
        tensors = without_biases(tensors)
    elif fault == "recurrent-kernel-not-orthogonal":
        tensors[f"{PREFIX}/recurrent_kernel/input"] *= 1.01
    else:
        for gate in GATES["lstm"]:
            tensors[f"{PREFIX}/kernel/{gate}"] *= 1.2 if fault == "kernel-too-large" else 0.8
    with pytest.raises(AssertionError):
        check_keras_weights(tensors, "lstm")


@pytest.mark.parametrize("fault", ["kernel-too-large", "kernel-too-small", "one-bias-only", "no-head-bias"])
def test_wrong_torch_weights_are_caught(fault: str) -> None:
    """The check fails for weights of another bound, for one bias where PyTorch has two, and for a missing one."""
    tensors = draw_initial_weights(case_of("lstm", "torch"), FEATURES, OUTPUTS)
    factors = {"kernel-too-large": 1.2, "kernel-too-small": 0.8, "one-bias-only": np.sqrt(0.5), "no-head-bias": 0}
    spoiled = {"one-bias-only": f"{PREFIX}/bias", "no-head-bias": "head/bias"}.get(fault, f"{PREFIX}/kernel")
    for name in tensors:
        if name.startswith(spoiled):
            tensors[name] *= factors[fault]
    with pytest.raises(AssertionError):
        check_torch_weights(tensors, "lstm")


def canonical_shapes(cell: str, features: int, units: int, layers: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a model's canonical tensors, from their definition."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        width = features if layer == 0 else units
        biases = ("input_bias", "recurrent_bias") if cell == "gru" else ("bias",)
        own = {"kernel": (width, units), "recurrent_kernel": (units, units)} | dict.fromkeys(biases, (units,))
        for name, size in own.items():
            shapes |= {f"layer{layer}/forward/{gate}": size for gate in gated(name, cell)}
    return shapes | {"head/kernel": (units, outputs), "head/bias": (outputs,)}


@given(
    cell=st.sampled_from(CELLS),
    features=st.integers(1, 4),
    units=st.integers(1, 6),
    layers=st.integers(1, 3),
    outputs=st.integers(1, 4),
    initial_weights=st.sampled_from(["keras", "torch"]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_names_shapes_and_dtype_are_the_definition(
    cell: str, features: int, units: int, layers: int, outputs: int, initial_weights: str, dtype: str
) -> None:
    """Whatever the model, its weights have the canonical names and shapes and the precision of the case."""
    case = case_of(cell, initial_weights, **{"model.units": units, "model.layers": layers, "dtype": dtype})
    tensors = draw_initial_weights(case, features, outputs)
    expected = canonical_shapes(cell=cell, features=features, units=units, layers=layers, outputs=outputs)
    assert {name: tensor.shape for name, tensor in tensors.items()} == expected
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(dtype)}
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("initial_weights", ["keras", "torch"])
@pytest.mark.parametrize("cell", CELLS)
def test_weights_follow_from_the_seed(cell: str, initial_weights: str) -> None:
    """The same seed gives the same weights to the last bit; another seed gives others."""
    first, again, other = (
        draw_initial_weights(case_of(cell, initial_weights, seed=seed), FEATURES, OUTPUTS) for seed in (3, 3, 4)
    )
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first if "bias" not in name)


def test_layers_do_not_start_alike() -> None:
    """Each layer of a stack has weights of its own."""
    tensors = draw_initial_weights(case_of("gru", "keras", **{"model.layers": 3}), UNITS, OUTPUTS)
    kernels = [tensors[f"layer{layer}/forward/recurrent_kernel/reset"].tobytes() for layer in range(3)]
    assert len(set(kernels)) == 3
