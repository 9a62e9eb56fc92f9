"""What a report draws beside the curves: error / tolerance of each tensor over the steps, and a window's gates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compare.config.model_facts import PlainModel
from compare.experiment.experiment import Experiment
from compare.judge.drift import PhaseDrift
from compare.judge.ensemble import EnsembleDrift
from compare.judge.inference import NO_DROPOUT
from compare.judge.ratios import tolerance_ratios
from compare.judge.step_reference import in_float64
from compare.judge.verdict import Gates, RatioMap
from compare.reference.cells import gates_of
from compare.reference.network import Network
from compare.reference.recurrent import Bidirectional
from compare.trace.trace import Trace

# A picture is no wider than this many steps side by side; of more, the largest ratio stands for those beside it.
MOST_COLUMNS = 160

# What follows the first layer is left out; the head takes its outputs as they are.
FIRST_LAYER_ALONE = {**NO_DROPOUT, "layers": 1, "normalization": None, "head": "every_output"}


def ratio_map(drifts: Sequence[PhaseDrift], ensemble: EnsembleDrift) -> RatioMap:
    """Draw up error / tolerance of every recorded figure; the loss first, then the phases in their order."""
    steps = len(drifts[0].values)
    starts = np.unique(np.linspace(0, steps, min(steps, MOST_COLUMNS), endpoint=False).astype(int))
    tensors: list[str] = []
    rows: list[np.ndarray] = []
    for drift in drifts:
        ratios = tolerance_ratios(drift.values, ensemble.tolerance(drift.phase)[:steps, None])
        tensors += [f"{drift.phase} {tensor}".strip() for tensor in drift.tensors]
        rows.append(np.maximum.reduceat(ratios, starts, axis=0).T)
    return RatioMap(tuple(tensors), starts, np.concatenate(rows))


def gates_of_window(experiment: Experiment, traces: Mapping[str, Trace]) -> Gates | None:
    """Compute the gates from each side's last weights, in float64 and without dropout, for the first held-out window.

    None where a side has no last weights, or lacks one that the model has.
    """
    model: Any = PlainModel(**{**vars(experiment.case.model), **FIRST_LAYER_ALONE})
    arrays = experiment.test_inputs
    arrays = arrays if isinstance(arrays, Mapping) else {"sequence": arrays}
    window = {name: array[:1] for name, array in arrays.items()}
    states = {f"layer0/forward/state/{part}": np.zeros((1, model.units)) for part in ("h", "c")}
    activations: dict[str, dict[str, list[float]]] = {}
    for side, trace in traces.items():
        weights = trace.checkpoints.get(experiment.checkpoint_epochs[-1])
        if weights is None or weights.keys() != experiment.weights.keys():
            return None
        first = Network(model, in_float64(weights), window, states).recurrent[0]
        ahead = first.ahead if isinstance(first, Bidirectional) else first
        for step in ahead.steps:
            for name, values in gates_of(step).items():
                activations.setdefault(name, {}).setdefault(side, []).append(float(values[0].mean()))
    return Gates(
        {name: {side: np.array(means) for side, means in sides.items()} for name, sides in activations.items()}
    )
