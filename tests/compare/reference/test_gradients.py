"""The reference's step, its gradients written by hand, is the PyTorch side's, which autograd differentiates."""

from dataclasses import replace

import pytest
from helpers.framework_processes import FrameworkProcesses
from helpers.model_options import OPTIONS, check_same, example
from helpers.reference_steps import reference_step

from compare.reference import layers
from compare.reference.activations import ACTIVATIONS

# In float64 both are sums in other orders.
TOLERANCE = 1e-12


def check_step(frameworks: FrameworkProcesses, name: str) -> None:
    """Raise AssertionError where the reference's step of an option is not the PyTorch side's."""
    drawn = example(name)
    obtained = frameworks.call("torch", "model_probes.single_step", drawn)
    check_same(obtained=obtained, expected=reference_step(drawn), tolerance=TOLERANCE)


@pytest.mark.parametrize("name", OPTIONS)
def test_networks_are_what_autograd_differentiates(name: str, frameworks: FrameworkProcesses) -> None:
    """What every part computes, the loss, every gradient and the non-trainable state are those of the PyTorch side."""
    check_step(frameworks, name)


def test_a_wrong_derivative_is_caught(frameworks: FrameworkProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """A derivative that is off by one part in a thousand million is no rounding, and no output shows it."""
    wrong = replace(ACTIVATIONS["tanh"], derivative=lambda x, y: 1 - (1 + 1e-9) * y**2)
    monkeypatch.setitem(ACTIVATIONS, "tanh", wrong)
    with pytest.raises(AssertionError, match="gradient/"):
        check_step(frameworks, "lstm alone")


@pytest.mark.parametrize(
    ("constant", "value", "name", "tensor"),
    [
        ("NORMALIZATION_EPSILON", 1e-5, "lstm layer normalization last_state", "forward/head"),
        ("BATCH_MOMENTUM", 0.9, "lstm batch normalization last_state", "non_trainable/normalization0/moving_mean"),
    ],
    ids=["epsilon", "momentum"],
)
def test_a_wrong_constant_is_caught(
    frameworks: FrameworkProcesses, monkeypatch: pytest.MonkeyPatch, constant: str, value: float, name: str, tensor: str
) -> None:
    """PyTorch's own constants of normalisation, in the reference, are not those of the PyTorch side."""
    monkeypatch.setattr(layers, constant, value)
    with pytest.raises(AssertionError, match=tensor):
        check_step(frameworks, name)
