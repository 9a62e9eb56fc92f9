"""The activations that the loops know: the function, the same in place, and its slope from its value."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An activation; `slope` maps what the function returned to its derivative there."""

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _itself(x: Tensor) -> Tensor:
    return x


# By Keras's names.
ACTIVATIONS = {
    "tanh": Activation(torch.tanh, torch.tanh_, lambda y: torch.addcmul(y.new_ones(()), y, y, value=-1)),
    "sigmoid": Activation(torch.sigmoid, torch.sigmoid_, lambda y: torch.addcmul(y, y, y, value=-1)),
    "relu": Activation(torch.relu, torch.relu_, lambda y: (y > 0).to(y.dtype)),
    "linear": Activation(_itself, _itself, torch.ones_like),
}
