"""What the PyTorch side of a pair file does when asked; keras_observer/side.py is its mirror."""

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from compare.explain.torch_observer.checked_steps import Training, Work
from compare.explain.torch_observer.investigation import Investigation
from compare.explain.torch_observer.recorder import array
from compare.explain.torch_observer.reference import same_names
from compare.explain.torch_observer.trials import Trials
from compare.workers.protocol import Doing

# What a PyTorch side can be asked for.
ACTIONS = ("investigate", "go_on", "state")


class Side:
    """Keeps a user's `torch_side`; every training starts from the beginning with a module of its own."""

    def __init__(self, user_file: Any) -> None:
        self.user_file = user_file
        self.trials = Trials(lambda _: None, ())
        self.work: Work
        self.investigation: Generator[dict[str, Any], Any, dict[str, Any]]

    def opened(self) -> None:
        """Nothing more than that the file could be read."""

    def investigate(
        self, report: Callable[[Doing], None], data: Sequence[Any], trace: Mapping[str, Any], excluded: Sequence[str]
    ) -> dict[str, Any]:
        """Compare the side with Keras's trace; the answer is what it needs of Keras first, or what it has found."""
        self.trials = Trials(report, excluded)
        self.work = Work(self.user_file.execute, data, trace, self.user_file.text)
        own_map = self.user_file.namespace.get("parameter_map") or {}
        if trace.get("reference") == "torch":  # the other side has no Keras in it
            own_map = same_names(Training(self.work).named, trace["variables"])
        self.investigation = Investigation(self.work, own_map, self.trials).run()
        return self._advance(None)

    def go_on(self, report: Callable[[Doing], None], answer: Any) -> dict[str, Any]:
        """Go on with what was needed."""
        self.trials.report = report
        return self._advance(answer)

    def _advance(self, answer: Any) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a program is warned of is none of the user's
            try:
                return {"need": self.investigation.send(answer)}
            except StopIteration as end:
                return {"done": end.value}

    def state(self, report: Callable[[Doing], None], step: int) -> dict[str, np.ndarray]:
        """The module's state with the weights that Keras had before a step."""
        training = Training(self.work)
        training.assign(self.work.steps[step]["before"])
        return {f"torch/{name}": array(value) for name, value in training.module.state_dict().items()}
