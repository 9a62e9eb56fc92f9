"""Ensemble members differ from a training by rounding: in every number, and by no more than its last place."""

import numpy as np
import pytest
from helpers.framework_processes import FrameworkProcesses

WEIGHTS = {"a": np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32), "b": np.ones(5, np.float32)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_moves_by_a_last_place(frameworks: FrameworkProcesses, dtype: str) -> None:
    """A member's weights differ everywhere, up and down, by at most two ulps of their precision."""
    weights = {name: tensor.astype(dtype) for name, tensor in WEIGHTS.items()}
    member = frameworks.call("torch", "probes.perturbed_weights", weights, dtype, 1)
    assert member.keys() == weights.keys()
    for name, tensor in weights.items():
        assert member[name].dtype == tensor.dtype
        units = (member[name] - tensor) / np.spacing(np.abs(tensor))
        assert np.all(units != 0)
        assert np.abs(units).max() <= 2
        assert {-1.0, 1.0} <= set(np.sign(units).ravel().tolist())


def test_float64_weights_can_move_by_a_float32_place(frameworks: FrameworkProcesses) -> None:
    """For a runner that narrows float64, members in float64 differ by what float32 rounds."""
    weights = {name: tensor.astype(np.float64) for name, tensor in WEIGHTS.items()}
    member = frameworks.call("torch", "probes.perturbed_weights", weights, "float32", 1)
    for name, tensor in weights.items():
        relative = np.abs(member[name] / tensor - 1)
        np.testing.assert_allclose(relative, np.finfo(np.float32).eps, rtol=1e-6)


def test_members_are_seeded(frameworks: FrameworkProcesses) -> None:
    """The same seed moves the weights alike, another seed otherwise."""
    first, again, other = (
        frameworks.call("torch", "probes.perturbed_weights", WEIGHTS, "float32", seed)["a"] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize(("precision", "largest"), [("float32", 2e-4), ("float64", 1e-12)])
def test_updates_differ_by_rounding(frameworks: FrameworkProcesses, precision: str, largest: float, seed: int) -> None:
    """A member's Adam moves weights by another last digit, magnified by 1 - beta^t, as another library might."""
    gradients = [np.full(3, 0.7, dtype=precision)] * 50
    expected, obtained = (
        np.array(frameworks.call("torch", "probes.adam_updates", gradients, member))
        for member in (None, (precision, seed))
    )
    relative = np.abs(obtained / expected - 1)
    assert relative.any()
    assert relative.max() <= largest


def test_adams_of_members_are_seeded(frameworks: FrameworkProcesses) -> None:
    """The same seed lets Adam round alike, another seed otherwise."""
    gradients = [np.full(3, 0.7, dtype=np.float32)] * 50
    first, again, other = (
        np.array(frameworks.call("torch", "probes.adam_updates", gradients, ("float32", seed))) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_gradients_move_by_an_ulp_of_their_tensor(frameworks: FrameworkProcesses, precision: str) -> None:
    """Every number of a gradient, a tiny one too, moves by up to an ulp of the tensor's root mean square, seeded."""
    gradient = np.random.default_rng(1).normal(size=(40, 30))
    gradient[0] = 1e-12
    first, again, other = (
        frameworks.call("torch", "probes.perturbed_gradient", gradient, precision, seed) for seed in (1, 1, 2)
    )
    moved = np.abs(first - gradient) / (np.finfo(precision).epsneg * np.sqrt(np.mean(gradient**2)))
    assert 0.9 < moved.max() <= 1.5  # float64 has no digits below to see it by
    assert moved[0].max() > 0.5
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_member_keeps_a_fault_of_its_optimizer(frameworks: FrameworkProcesses) -> None:
    """A learning rate that a fault has changed stays so in a member: it rounds otherwise, and nothing else."""
    gradient = np.ones((3, 4), np.float32)
    moved = frameworks.call("torch", "probes.perturbed_gradient", gradient, "float32", 1, 2.0)
    np.testing.assert_allclose(moved, 2 * gradient, rtol=1e-6)
