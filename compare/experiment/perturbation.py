"""Experiments that differ from another by rounding alone: what the members of an ensemble train on."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from compare.data.examples import Part
from compare.experiment.experiment import Experiment


def perturb_weights(tensors: Mapping[str, np.ndarray], precision: str, seed: int) -> dict[str, np.ndarray]:
    """Move every number up or down by one ulp of a precision, at random."""
    generator = np.random.default_rng([seed, 3])
    unit = float(np.finfo(precision).eps)
    return {
        name: (tensor * (1 + unit * generator.choice([-1.0, 1.0], tensor.shape))).astype(tensor.dtype)
        for name, tensor in tensors.items()
    }


def widened(experiment: Experiment) -> Experiment:
    """Return an experiment with the same numbers in float64: beside it, a training in float32 errs by all its rounding.

    What last bits of the weights do not show, as the rounding of gates near saturation, shows in it.
    """
    case: Any = copy.copy(experiment.case)
    case.dtype = "float64"
    wide = replace(experiment, case=case, weights=_wide(experiment.weights))
    examples = experiment.examples
    parts = (examples.training, examples.test)
    training, test = (Part(_wide(part.inputs), _wide(part.targets), part.mask) for part in parts)
    # Cached properties keep their values here; computed anew they would be drawn with other rounding.
    vars(wide).update(
        examples=replace(examples, training=training, test=test),
        training_inputs=_wide(experiment.training_inputs),
        test_inputs=_wide(experiment.test_inputs),
    )
    return wide


def _wide(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _wide(array) for name, array in values.items()}
    return values.astype(np.float64) if np.issubdtype(values.dtype, np.floating) else values
