"""Whether float32 products are computed with fewer bits, and how not to; torch_observer/tf32.py is its mirror."""

import contextlib
from collections.abc import Iterator

import keras


def in_use() -> bool:
    """Whether the backend may compute products with fewer bits: each does so on a GPU unasked, but torch's matmul."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        return on_gpu and tf.config.experimental.tensor_float_32_execution_enabled()
    if keras.backend.backend() == "jax":
        import jax

        exact = jax.config.jax_default_matmul_precision in ("float32", "highest")
        return jax.devices()[0].platform == "gpu" and not exact
    import torch

    from compare.explain.torch_observer import tf32 as of_torch

    return of_torch.in_use("cuda" if torch.cuda.is_available() else "cpu")


def without() -> contextlib.AbstractContextManager[None]:
    """Compute float32 products in float32 within."""
    return BACKENDS[keras.backend.backend()]()


@contextlib.contextmanager
def _without_on_tensorflow() -> Iterator[None]:
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _without_on_torch() -> contextlib.AbstractContextManager[None]:
    from compare.explain.torch_observer import tf32 as of_torch

    return of_torch.without()


def _without_on_jax() -> contextlib.AbstractContextManager[None]:
    import jax

    return jax.default_matmul_precision("highest")


BACKENDS = {"tensorflow": _without_on_tensorflow, "torch": _without_on_torch, "jax": _without_on_jax}
