"""What counterfactuals change in a session; keras_observer/changes.py is its mirror."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.explain.torch_observer.update_rule import UpdateRule


@dataclass
class LayerChanges:
    """What is changed in how a recurrent module is computed."""

    zero_state: bool = False
    reset_before: bool = False
    step_by_step: bool = False
    masked: bool = False
    return_last: bool = False

    @property
    def own_loop(self) -> bool:
        """Whether the equations are computed timestep by timestep instead of by PyTorch's fused layer."""
        return self.reset_before or self.step_by_step or self.masked


@dataclass
class Changes:
    """What differs from the user's own code; nothing but `dropout` at first.

    `dropout` is "shared", "rows" or "off"; `layers` and `rewire` are by path and part, `dropout_rates` by the number of
    the call, `masks` (Keras's, boolean, (batch, time)) by step.
    """

    dropout: str
    layers: dict[str, LayerChanges] = field(default_factory=dict)
    rewire: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropout_rates: dict[int, float] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    keep_gradient: bool = False
    plain_step: bool = False
    always_training: bool = False
    reset_state: bool = False
    own_target: bool = False
    restore_order: bool = False
    no_autocast: bool = False
    no_tf32: bool = False
    no_dropout_in_evaluation: bool = False
    target_like_prediction: bool = False
    loss: Callable[[Any, Any], Any] | None = None
    loss_divisor: str | None = None
    penalty: Callable[[], Any] | None = None
    clip: dict[str, Any] | None = None
    rule: UpdateRule | None = None
