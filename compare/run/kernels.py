"""The recurrent kernels that can be required of a runner."""

from collections.abc import Sequence

from compare.errors import InputError, nearest
from compare.workers.backends import REFERENCE_RUNNER, keras_runner

# What a runner's recurrent layers may run as; torch_models.execution and keras_models.execution tell which.
KERNELS = ("cudnn", "onednn", "bptt", "fused", "loop", "python-loop", "scan", "while-loop", "unrolled")


def required_kernels(requirements: Sequence[str], backends: Sequence[str]) -> dict[str, str]:
    """Read requirements, [RUNNER=]KERNEL each, as a kernel for each runner; without a runner for every Keras runner.

    Raises InputError for an unknown kernel, or a runner that does not take part.
    """
    keras_runners = [keras_runner(backend) for backend in backends]
    required: dict[str, str] = {}
    for text in requirements:
        runner, _, kernel = text.rpartition("=")
        if kernel not in KERNELS:
            raise InputError(f"--require-kernel {text!r}: kernel {kernel!r} is unknown; {nearest(kernel, KERNELS)}")
        if runner and runner not in (REFERENCE_RUNNER, *keras_runners):
            accepted = nearest(runner, [REFERENCE_RUNNER, *keras_runners])
            raise InputError(f"--require-kernel {text!r}: runner {runner!r} does not take part; {accepted}")
        required |= dict.fromkeys([runner] if runner else keras_runners, kernel)
    return required
