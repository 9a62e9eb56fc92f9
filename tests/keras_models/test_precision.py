"""What is known of the precision in which Keras computes."""

import pytest
from helpers.framework_processes import KERAS_SIDES, FrameworkProcesses


@pytest.mark.parametrize("side", KERAS_SIDES)
def test_float32_is_kept(frameworks: FrameworkProcesses, side: str) -> None:
    """No operation is reported to narrow float32, on any backend."""
    assert frameworks.call(side, "probes.narrowed_operations", "float32") == []


def test_float64_is_kept_on_tensorflow(frameworks: FrameworkProcesses) -> None:
    """On TensorFlow, where float64 proves the semantics, no operation narrows it."""
    assert frameworks.call("keras-tensorflow", "probes.narrowed_operations", "float64") == []


def test_narrowing_of_float64_is_found(frameworks: FrameworkProcesses) -> None:
    """Keras 3.15 narrows float64 products on torch, and the probe finds it."""
    assert "matmul" in frameworks.call("keras-torch", "probes.narrowed_operations", "float64")
