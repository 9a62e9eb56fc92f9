"""The process in which Keras reads a model, and is its side of a proof."""

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.explain.nested import packed, unpacked
from compare.explain.pair_side import PairSide
from compare.port.graph import as_tree
from compare.workers.protocol import Answer, Doing, Failed, Request

ERROR_CHARACTERS = 600
ACTIONS = ("read", "predict")


class KerasSide(PairSide):
    """A pair's Keras side that can read models too, and say what they compute."""

    def __call__(self, request: Request, report: Callable[[Doing], None]) -> Answer | Failed:
        if request.action not in ACTIONS:
            return super().__call__(request, report)
        options = unpacked(request.options, request.tensors)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Keras warns of is none of the port's
                return Answer(*_answer(getattr(self, request.action)(**options)))
        except InputError as error:
            return Failed(str(error), "refused")
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            traceback.print_exc()
            text = " ".join(str(error).split())[:ERROR_CHARACTERS]
            return Failed(f"{type(error).__name__}: {text}", "raised")

    def read(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """The graph of a model, and how it is trained."""
        import keras

        from compare.port.keras_reader.loading import SNAPSHOT, load
        from compare.port.keras_reader.reading import Reader
        from compare.port.keras_reader.training import read_training

        keras.backend.clear_session()
        self.model = load(**source)
        reader = Reader(self.model)
        SNAPSHOT.take(self.model, reader.variables)
        training = read_training(self.model, reader)
        return {"graph": as_tree(reader.graph), "training": training, "notes": reader.notes}

    def predict(self, inputs: Sequence[Any]) -> list[list[np.ndarray]]:
        """What the model that was read makes of each of some inputs: its outputs in order."""
        import keras

        answers = []
        for tree in inputs:
            for layer in self.model._flatten_layers():
                if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                    layer.reset_state()
            outputs = self.model(tree, training=False)
            answers.append([np.array(keras.ops.convert_to_numpy(part)) for part in keras.tree.flatten(outputs)])
        return answers


def _answer(tree: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    facts, tensors = packed(tree)
    return {"tree": facts}, tensors
