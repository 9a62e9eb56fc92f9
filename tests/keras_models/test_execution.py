"""What ran is told layer by layer, from the operations that were dispatched."""

import pytest
from helpers.framework_processes import FrameworkProcesses

SIDE = "keras-torch"
KERNELS = {"model/fast": "bptt", "model/fallen": "python-loop", "model/lstm": "onednn", "model/stock": "python-loop"}


def test_every_layers_kernel_is_named(frameworks: FrameworkProcesses) -> None:
    """A stack's kernels are those of its layers, with the reason where a fast layer ran Keras's own code."""
    execution = frameworks.call(SIDE, "fast_switch_probes.execution_of")
    assert execution["kernels"] == KERNELS
    assert execution["kernel"] == "bptt+onednn+python-loop"
    assert execution["fallbacks"] == {"model/fallen": "reset_after=False"}
    assert execution["dtypes"] == dict.fromkeys(("fast", "fallen", "lstm", "stock"), "float32")


@pytest.mark.parametrize("kernel", ["onednn", "cudnn"])
def test_a_kernel_that_was_not_dispatched_is_not_believed(frameworks: FrameworkProcesses, kernel: str) -> None:
    """A layer that says it ran in a library's kernel, and did not, is taken to have run Keras's loop."""
    execution = frameworks.call(SIDE, "fast_switch_probes.execution_of", kernel)
    assert execution["kernels"] == KERNELS | {"model/fast": "python-loop"}
