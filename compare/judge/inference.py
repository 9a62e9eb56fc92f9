"""Predictions follow from a trace's own last weights: the reference predicts from them, in inference mode, exactly."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from compare.config.model_facts import PlainModel
from compare.experiment.experiment import Experiment
from compare.judge.margins import LINEAR_LIMIT, MONTE_CARLO_FLOOR_ULPS, MONTE_CARLO_MARGIN, MONTE_CARLO_SAMPLES, ulp
from compare.judge.step_errors import StepError
from compare.judge.step_reference import in_float64
from compare.reference.network import Network
from compare.reference.rounding import deviations, plain, working
from compare.trace.trace import Trace

# Of so many multiplications the reference makes predictions of every held-out example; of more, of some of them.
MULTIPLICATIONS = 1e8

# In inference nothing is dropped.
NO_DROPOUT = {"dropout": 0.0, "input_dropout": 0.0, "recurrent_dropout": 0.0}


def prediction_error(experiment: Experiment, trace: Trace) -> StepError | None:
    """Measure the predictions of a trace against those of the reference from its last checkpoint.

    The error is max|difference| by the root mean square of the predictions, the tolerance that of a single step's
    outputs. Of many examples some are taken, evenly, the first and the last among them. None where they do not follow
    from the weights alone, those of a stateful model or with running figures, and where weights or predictions are
    missing or of another shape, which is a difference already.
    """
    model, predictions = experiment.case.model, trace.predictions
    weights = trace.checkpoints.get(experiment.checkpoint_epochs[-1])
    if model.stateful or model.normalization == "batch" or weights is None or predictions is None:
        return None
    if {name: tensor.shape for name, tensor in weights.items()} != {
        name: tensor.shape for name, tensor in experiment.weights.items()
    }:
        return None
    inputs = experiment.test_inputs
    named = dict(inputs) if isinstance(inputs, Mapping) else {"sequence": inputs}
    # As in a step: token ids and masks stay what they are.
    chosen = _examples(len(predictions), named["sequence"].shape[1] * sum(w.size for w in weights.values()))
    if len(named["sequence"]) != len(predictions):
        return None
    named = {name: part[chosen] for name, part in named.items()}
    floats = {name: np.asarray(part, np.float64) if part.dtype.kind == "f" else part for name, part in named.items()}
    inference: Any = PlainModel(**{**vars(model), **NO_DROPOUT})
    precision = str(trace.manifest["precision"])
    arithmetic = working(precision, MONTE_CARLO_SAMPLES)
    outputs: Any = Network(inference, arithmetic.arrays(in_float64(weights)), arithmetic.arrays(floats)).outputs
    exact, predictions = plain(outputs), predictions[chosen]
    if exact.shape != predictions.shape:
        return None
    scale = float(np.sqrt(np.mean(np.square(exact)))) or 1.0
    rounding = float(np.max(np.abs(deviations(outputs, MONTE_CARLO_SAMPLES)))) / scale
    tolerance = MONTE_CARLO_MARGIN * max(rounding, MONTE_CARLO_FLOOR_ULPS * ulp(precision))
    tolerance = tolerance if tolerance < LINEAR_LIMIT else np.inf
    error = float(np.max(np.abs(np.float64(predictions) - exact))) / scale
    return StepError(experiment.steps, "forward", "head", error if np.isfinite(error) else np.inf, tolerance)


def _examples(count: int, multiplications: int) -> np.ndarray:
    """Choose of so many examples as many as can be predicted, given the multiplications that each takes."""
    affordable = max(16, int(MULTIPLICATIONS / max(1, multiplications)))
    return np.unique(np.linspace(0, count - 1, min(count, affordable)).astype(int))
