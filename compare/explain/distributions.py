"""What initial weights are drawn from, told by their numbers alone, and how PyTorch draws the same."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

# The largest of n uniform draws is within so many n-ths of the limit in all but e^-8 of the cases.
SHORT_OF_LIMIT = 8.0

CODES = {
    "glorot uniform": "nn.init.xavier_uniform_({0})",
    "glorot normal": "nn.init.xavier_normal_({0})",
    "he uniform": 'nn.init.kaiming_uniform_({0}, nonlinearity="relu")',
    "orthogonal": "nn.init.orthogonal_({0})",
    "uniform ±0.05": "nn.init.uniform_({0}, -0.05, 0.05)",
    "zeros": "nn.init.zeros_({0})",
    "ones": "nn.init.ones_({0})",
    "zeros, the forget gate's ones": "nn.init.zeros_({0}); nn.init.ones_({0}.chunk(4)[1])",
}


def distribution(values: np.ndarray) -> str:
    """What an initial weight in PyTorch's shape, (outputs, inputs), is drawn from, as far as its numbers tell."""
    numbers = np.asarray(values, np.float64)
    if not numbers.any():
        return "zeros"
    if (numbers == 1).all():
        return "ones"
    if np.isin(numbers, (0, 1)).all() and numbers.mean() == 0.25:
        return "zeros, the forget gate's ones"
    if numbers.ndim == 2 and min(numbers.shape) > 1 and _orthogonal(numbers):
        return "orthogonal"
    largest, deviation = float(np.abs(numbers).max()), float(numbers.std())
    if 0.8 < deviation * math.sqrt(3) / largest < 1.25:
        for name, limit in sorted(_limits(numbers.shape).items(), key=lambda limit: limit[1]):
            if limit * (1 - SHORT_OF_LIMIT / numbers.size) <= largest <= limit * (1 + 1e-5):
                return name
        return f"uniform ±{largest:.3g}"
    return f"normal, {deviation:.2g}"


def _orthogonal(weight: np.ndarray) -> bool:
    gram = weight.T @ weight if weight.shape[0] >= weight.shape[1] else weight @ weight.T
    return bool(np.abs(gram - np.eye(len(gram))).max() < 1e-3)


def _limits(shape: Sequence[int]) -> Mapping[str, float]:
    """The limits of uniform draws that the frameworks make of a weight by themselves."""
    limits: dict[str, float] = {"uniform ±0.05": 0.05}
    if len(shape) > 1:
        field = math.prod(shape[2:])
        limits["glorot uniform"] = math.sqrt(6 / ((shape[0] + shape[1]) * field))
        limits["he uniform"] = math.sqrt(6 / (shape[1] * field))
        limits["PyTorch's default, uniform ±1/√inputs"] = 1 / math.sqrt(shape[1] * field)
    for gates in (1, 3, 4):
        if shape[0] % gates == 0:
            limits.setdefault(f"PyTorch's default, uniform ±1/√{shape[0] // gates}", 1 / math.sqrt(shape[0] // gates))
    return limits
