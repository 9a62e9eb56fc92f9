"""The PyTorch side's normalisations and penalty are Keras's, by their definitions."""

import numpy as np
import pytest
from helpers.framework_processes import FrameworkProcesses
from helpers.model_options import example

RUNNING = {"running_mean": np.array([0.3, -0.2]), "running_var": np.array([0.5, 2.0])}
SHAPES = {"last": (5, 2), "every": (5, 3, 2)}
EXACT = 1e-13


def values(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers whose variance is of the size of epsilon, so that epsilon matters."""
    return np.random.default_rng(8).normal(0.1, 0.05, shape)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_normalization_in_training(frameworks: FrameworkProcesses, shape: tuple[int, ...]) -> None:
    """Batch figures with epsilon 1e-3; running figures keep 99 per cent, and the variance is the biased one."""
    given = values(shape)
    obtained = frameworks.call("torch", "recurrence_probes.normalized", "batch", given, RUNNING, True)
    axes = tuple(range(len(shape) - 1))
    mean, variance = given.mean(axes), given.var(axes)
    np.testing.assert_allclose(obtained["outputs"], (given - mean) / np.sqrt(variance + 1e-3) * 2 + 1, rtol=EXACT)
    np.testing.assert_allclose(obtained["running_mean"], 0.99 * RUNNING["running_mean"] + 0.01 * mean, rtol=EXACT)
    expected = 0.99 * RUNNING["running_var"] + 0.01 * variance
    np.testing.assert_allclose(obtained["running_var"], expected, rtol=EXACT)
    unbiased = 0.99 * RUNNING["running_var"] + 0.01 * given.var(axes, ddof=1)
    assert np.abs(obtained["running_var"] / unbiased - 1).max() > 1e3 * EXACT


def test_batch_normalization_in_inference(frameworks: FrameworkProcesses) -> None:
    """Outside training the running figures are used, and stay what they are."""
    given = values((5, 3, 2))
    obtained = frameworks.call("torch", "recurrence_probes.normalized", "batch", given, RUNNING, False)
    deviation = np.sqrt(RUNNING["running_var"] + 1e-3)
    np.testing.assert_allclose(obtained["outputs"], (given - RUNNING["running_mean"]) / deviation * 2 + 1, rtol=EXACT)
    for name, value in RUNNING.items():
        np.testing.assert_array_equal(obtained[name], value)


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_layer_normalization(frameworks: FrameworkProcesses, training: bool) -> None:
    """Each row's own figures, biased, with epsilon 1e-3 and not torch's 1e-5."""
    given = values((5, 3, 4))
    obtained = frameworks.call("torch", "recurrence_probes.normalized", "layer", given, {}, training)["outputs"]
    mean, variance = given.mean(-1, keepdims=True), given.var(-1, keepdims=True)
    # Epsilon is so large beside the variance that torch's own would be far off.
    np.testing.assert_allclose(obtained, (given - mean) / np.sqrt(variance + 1e-3) * 2 + 1, rtol=1e-11)
    assert np.abs(obtained - ((given - mean) / np.sqrt(variance + 1e-5) * 2 + 1)).max() > 0.1


@pytest.mark.parametrize("name", ["lstm l2", "gru l2 of both directions and embedding"])
def test_penalty_is_of_kernels(frameworks: FrameworkProcesses, name: str) -> None:
    """The penalty is c times the sum of the squares of kernels: no biases, no embedding, no normalisation."""
    drawn = example(name)
    value, parameters = frameworks.call("torch", "recurrence_probes.penalty", drawn)
    kernels = [tensor for key, tensor in drawn.weights.items() if "kernel" in key]
    # Keras on TensorFlow makes the coefficient a float32.
    expected = float(np.float32(drawn.model.l2)) * sum(np.sum(tensor**2) for tensor in kernels)
    assert value == pytest.approx(expected, rel=EXACT)
    assert parameters
    assert all("weight" in parameter and "embedding" not in parameter for parameter in parameters)
