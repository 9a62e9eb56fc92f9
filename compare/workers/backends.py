"""Which runners there are, which are installed here, and in which environment their processes run."""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compare.errors import InputError, nearest


@dataclass(frozen=True)
class Backend:
    """A Keras backend: the module to import, and the distributions that may hold it."""

    module: str
    distributions: tuple[str, ...]


BACKENDS = {
    "tensorflow": Backend("tensorflow", ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly")),
    "torch": Backend("torch", ("torch",)),
    "jax": Backend("jax", ("jax",)),
}

# What all runners of a comparison compute on, and by what a process is told.
DEVICES = ("cpu", "cuda")
DEVICE_VARIABLE = "RNN_PARITY_DEVICE"

# The native PyTorch runner, against which every Keras runner is compared.
REFERENCE_RUNNER = "torch"


def keras_runner(backend: str) -> str:
    """Name the runner that trains the Keras side on a backend."""
    return f"keras-{backend}"


def backend_of(runner: str) -> str:
    """Name the framework that a runner computes with."""
    return runner.removeprefix("keras-")


def version(backend: str) -> str | None:
    """Return a backend's installed version without importing it; None if it is not installed."""
    known = BACKENDS[backend]
    if importlib.util.find_spec(known.module) is None:
        return None
    for distribution in known.distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def versions_of(backends: Sequence[str]) -> dict[str, str]:
    """Return the versions of Keras, of native PyTorch and of the backends, without importing them."""
    keras = importlib.metadata.version("keras") if importlib.util.find_spec("keras") else "none"
    return {"keras": keras} | {name: version(name) or "none" for name in sorted({REFERENCE_RUNNER, *backends})}


def machine() -> dict[str, str]:
    """Return what a report says of where it was made: versions, without importing them, and the machine."""
    versions = {name: version(name) or "not installed" for name in BACKENDS}
    return {
        "Python": platform.python_version(),
        "keras": importlib.metadata.version("keras"),
        **versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def choose_backends(requested: list[str] | None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the backends asked for: those requested, else `KERAS_BACKEND`, else all that are installed.

    Raises InputError for an unknown name, or if none is installed.
    """
    if requested:
        source, names = "--backend", list(dict.fromkeys(requested))
    elif environment.get("KERAS_BACKEND"):
        source, names = "KERAS_BACKEND", [environment["KERAS_BACKEND"]]
    else:
        names = [name for name in BACKENDS if version(name) is not None]
        if not names:
            raise InputError(f"no backend is installed; install one of: {', '.join(BACKENDS)}")
        return names
    for name in names:
        if name not in BACKENDS:
            raise InputError(f"{source}: backend {name!r} is unknown; {nearest(name, BACKENDS)}")
    return names


def check_device(device: str) -> None:
    """Raise InputError for an unknown device."""
    if device not in DEVICES:
        raise InputError(f"--device {device!r} is unknown; {nearest(device, DEVICES)}")


def device_of_process(environment: Mapping[str, str] = os.environ) -> str:
    """Return the device on which this process, a runner's, is to compute."""
    return environment.get(DEVICE_VARIABLE, "cpu")


def worker_variables(
    runner: str, threads: int, environment: Mapping[str, str] = os.environ, device: str | None = None
) -> dict[str, str]:
    """Return what a runner's process has set: its Keras backend, number of threads, device (None: any), quiet logs."""
    changed = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": environment.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        # Each runner may be given a GPU that others use too.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PYTHONUNBUFFERED": "1",
    }
    if device is not None:
        # Keras's torch backend takes whatever accelerator there is, Apple's too, unless it is told.
        changed |= {DEVICE_VARIABLE: device, "KERAS_TORCH_DEVICE": device}
    if device == "cpu":
        changed |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    if threads == 1:
        changed["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    if runner != REFERENCE_RUNNER:
        changed["KERAS_BACKEND"] = backend_of(runner)
    return changed


def worker_environment(
    runner: str, threads: int, environment: Mapping[str, str] = os.environ, device: str | None = None
) -> dict[str, str]:
    """Return the environment of a runner's process: this one's, with what the runner has set."""
    inherited = {name: value for name, value in environment.items() if name != "KERAS_BACKEND"}
    return inherited | worker_variables(runner, threads, environment, device)


def keep_tensorflow_out(runner: str) -> None:
    """Let TensorFlow count as not installed in this process, where the runner is of another framework.

    Keras imports it wherever it is installed, to see whether an object is one of its own: `Bidirectional` and
    `model.predict` do so on torch, and the two are never to be in one process.
    """
    if backend_of(runner) != "tensorflow":
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # as the import system has it


def import_framework(runner: str) -> None:
    """Import what a runner computes with into this process."""
    keep_tensorflow_out(runner)
    importlib.import_module("torch_models" if runner == REFERENCE_RUNNER else "keras_models")
