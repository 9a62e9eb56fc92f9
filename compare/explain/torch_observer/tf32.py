"""Whether float32 products are computed with fewer bits, and how not to; keras_observer/tf32.py is its mirror."""

import contextlib
from collections.abc import Iterator

import torch


def in_use(*devices: str) -> bool:
    """Whether torch was told that products may have fewer bits, or cuDNN computes, which takes TF32 unasked."""
    unasked = "cuda" in devices and torch.backends.cudnn.allow_tf32
    return torch.get_float32_matmul_precision() != "highest" or unasked


@contextlib.contextmanager
def without() -> Iterator[None]:
    """Compute float32 products in float32."""
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn
