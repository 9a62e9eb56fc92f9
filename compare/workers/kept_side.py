"""A Keras side that is kept for the next case, where everything that it was built and compiled from is the same.

To build and compile takes a hundred times as long as a tiny training. Kept are programs alone: every variable goes back
to what it was before the first step, and data, weights and learning rate are given anew.
"""

import json
from collections.abc import Mapping
from typing import Any

from compare.experiment.experiment import Experiment

# What a compiled step does not depend on: it is given a constant learning rate as a variable.
INPUTS = ("epochs", "learning_rate")


def program_of(experiment: Experiment) -> str:
    """Describe all that a Keras side is built and compiled from."""
    case, examples = experiment.case, experiment.examples
    inputs_of_step = INPUTS if case.training.schedule == "constant" else INPUTS[:1]
    training = {name: value for name, value in vars(case.training).items() if name not in inputs_of_step}
    inputs = experiment.training_inputs
    arrays = inputs if isinstance(inputs, Mapping) else {"sequence": inputs}
    shapes = {name: array.shape[1:] for name, array in arrays.items()}
    sizes = (examples.features, examples.vocabulary, examples.outputs, examples.training.targets.shape[1:])
    # On JAX a program has room for so many steps.
    batches = experiment.schedule.shape[1] // case.training.batch_size
    return json.dumps([vars(case.model), training, case.dtype, case.task, shapes, sizes, batches])


class KeptSide:
    """Room for one side between cases."""

    def __init__(self) -> None:
        self.side: Any = None
        self.program = ""

    def take(self, experiment: Experiment) -> Any:
        """Take the side that is kept, started anew, if it serves for a case; else release it and return None."""
        side, self.side = self.side, None
        if side is None:
            return None
        if self.program != program_of(experiment):
            side.release()
            return None
        side.restart(experiment)
        return side

    def keep(self, side: Any, experiment: Experiment) -> None:
        """Keep a side after its case; not one that draws its own numbers or carries states outside its variables."""
        if (
            experiment.case.model.independent_masks
            or experiment.case.model.stateful
            or experiment.case.training.engine == "fit"
        ):
            side.release()
            return
        self.side, self.program = side, program_of(experiment)
