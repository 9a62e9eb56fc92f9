"""One run of a step beside Keras's values: which outputs lie among them, which are good by what follows, which bad."""

from collections.abc import Callable

import numpy as np

from compare.explain.alignment import Alignment, trivial
from compare.explain.torch_observer.recorder import Key, Operation, Recorder


class View:
    """One run judged: which outputs lie among Keras's, which are good by what follows from them, which are bad."""

    def __init__(
        self,
        align: Callable[[Operation, int], Alignment | None],
        is_loss: Callable[[float], bool],
        recorder: Recorder,
    ) -> None:
        self.operations, self.loss = recorder.operations, recorder.loss
        self.aligned: dict[Key, Alignment | None] = {}
        self.used = self._ancestors()
        for operation in self.operations:  # what is not used may be what was meant
            for output in range(len(operation.outputs)):
                self.aligned[operation.number, output] = align(operation, output)
        self.agrees = is_loss(recorder.loss_value)
        if self.loss in self.aligned:
            self.aligned[self.loss] = Alignment("whole", "loss") if self.agrees else None
        users: dict[Key, list[Operation]] = {}
        for operation in self.operations:
            for key in set(operation.inputs):
                users.setdefault(key, []).append(operation)
        self.good: dict[Key, bool] = {}
        for key in sorted(self.used, reverse=True):
            hit = self.aligned[key]
            fed = any(
                self.good.get((user.number, k)) and not trivial(user.outputs[k])
                for user in users.get(key, ())
                for k in range(len(user.outputs))
                if (user.number, k) in self.used
            )
            self.good[key] = bool((hit is not None and hit.good) or fed)
        bad = [key for key in sorted(self.used) if not self.good[key] and not trivial(self.value(key))]
        # Whole numbers (lengths, an order of rows) have no counterparts: they count where they are made of the data.
        data = [key for key in bad if self.value(key).dtype.kind == "f" or _of_data(self.operations[key[0]])]
        bad = data or bad
        lone = [key for key in bad if self.value(key).size == 1]
        # Sums on the way to the loss have no counterparts of their own: the loss as a whole is judged.
        self.bad = [key for key in bad if key not in lone] or lone[:1]
        if not self.bad and not self.agrees and self.loss is not None and isinstance(self.loss[0], int):
            self.bad = [self.loss]
        if self.agrees:
            self.bad = []

    def _ancestors(self) -> set[Key]:
        ancestors: set[Key] = set()
        waiting = [self.loss] if self.loss is not None else []
        while waiting:
            key = waiting.pop()
            if key not in ancestors and isinstance(key[0], int):
                ancestors.add(key)
                waiting += self.operations[key[0]].inputs
        return ancestors

    def value(self, key: Key) -> np.ndarray:
        """The numbers of an output."""
        return self.operations[key[0]].outputs[key[1]]


def _of_data(operation: Operation) -> bool:
    return any(isinstance(key[0], str) and key[0][:1] == "y" for key in operation.inputs)
