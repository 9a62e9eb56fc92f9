"""What a counterfactual training has otherwise than the user wrote it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from compare.explain.torch_observer.recorder import Patch


@dataclass(frozen=True)
class Setup:
    """Counterfactuals; empty for the user's own training.

    `patches` give other results by operation, `freeze` and `train` name parameters, `rule` are choices of an update
    rule, `clip` is Keras's clipping, `momentum` of normalisations by module, `penalties` are coefficients of Σw² in the
    loss by parameter, `flags` name what is left out or done. `by_value`: a patch is Keras's own value.
    """

    patches: Mapping[Any, Patch] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    rule: Mapping[str, Any] = field(default_factory=dict)
    clip: Mapping[str, Any] | None = None
    momentum: Mapping[str, float] = field(default_factory=dict)
    penalties: Mapping[str, float] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    by_value: bool = False

    def with_patches(self, patches: Mapping[Any, Patch]) -> "Setup":
        """The same with more patches."""
        return replace(self, patches={**self.patches, **patches})

    def without_values(self) -> "Setup":
        """The same without what was put in by value, which is right at one step alone."""
        patches = {place: patch for place, patch in self.patches.items() if not getattr(patch, "by_value", False)}
        return replace(self, patches=patches)

    def merged(self, *others: "Setup") -> "Setup":
        """All together; the last one's choices count."""
        setup = self
        for other in others:
            setup = Setup(
                {**setup.patches, **other.patches},
                setup.freeze + other.freeze,
                setup.train + other.train,
                {**setup.rule, **other.rule},
                other.clip or setup.clip,
                {**setup.momentum, **other.momentum},
                {**setup.penalties, **other.penalties},
                setup.flags | other.flags,
                setup.by_value or other.by_value,
            )
        return setup


def clip_factors(gradients: Mapping[str, np.ndarray], clip: Mapping[str, Any]) -> dict[str, float]:
    """What clipping by norm multiplies each of Keras's gradients with; 1 for other kinds of clipping."""
    kind, limit = clip["kind"], clip["limit"]
    norms = {name: float(np.sqrt(np.sum(np.square(value, dtype=np.float64)))) for name, value in gradients.items()}
    if kind == "global_norm":
        norms = dict.fromkeys(norms, float(np.sqrt(sum(norm**2 for norm in norms.values()))))
    elif kind != "norm":
        return dict.fromkeys(gradients, 1.0)
    return {name: min(1.0, limit / norm) if norm else 1.0 for name, norm in norms.items()}


def clipped(gradients: Mapping[str, np.ndarray], clip: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Keras's gradients as its optimizer clips them."""
    if clip["kind"] == "value":
        return {name: np.clip(value, -clip["limit"], clip["limit"]) for name, value in gradients.items()}
    factors = clip_factors(gradients, clip)
    return {name: value * factors[name] for name, value in gradients.items()}
