"""The process of the written module: what it holds and computes, and its side of a proof."""

import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.explain.nested import packed, unpacked
from compare.explain.pair_side import PairSide
from compare.workers.protocol import Answer, Doing, Failed, Request

ACTIONS = ("predict", "state")


class TorchSide(PairSide):
    """A pair's PyTorch side that can run a written module too."""

    def __call__(self, request: Request, report: Callable[[Doing], None]) -> Answer | Failed:
        if request.action not in ACTIONS:
            return super().__call__(request, report)
        options = unpacked(request.options, request.tensors)
        try:
            facts, tensors = packed(getattr(self, request.action)(**options))
        except InputError as error:
            return Failed(str(error), "refused")
        except Exception as error:  # what was written may be wrong
            traceback.print_exc()
            return Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:600]}", "raised")
        return Answer({"tree": facts}, tensors)

    def state(self, folder: str, class_name: str) -> dict[str, np.ndarray]:
        """All tensors of the module with the weights that were written."""
        return {name: value.detach().numpy() for name, value in module_of(folder, class_name).state_dict().items()}

    def predict(self, folder: str, class_name: str, inputs: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        """What the module makes of each of some inputs: its outputs in order."""
        import torch

        answers = []
        for arrays in inputs:
            module = module_of(folder, class_name).eval()
            with torch.no_grad():
                outputs = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
            answers.append([value.numpy() for value in flat(outputs)])
        return answers


def flat(tree: Any) -> list[Any]:
    """The tensors of what a module returns, as Keras orders them: dicts by their sorted keys."""
    if isinstance(tree, dict):
        return [part for key in sorted(tree) for part in flat(tree[key])]
    if isinstance(tree, list | tuple):
        return [part for item in tree for part in flat(item)]
    return [tree]


def imported(folder: str, name: str) -> Any:
    """A file of a folder as a module, read anew."""
    for known in ("model", "train"):
        sys.modules.pop(known, None)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        return importlib.import_module(name)
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(folder)


def module_of(folder: str, class_name: str) -> Any:
    """The module with its weights."""
    from safetensors.torch import load_file

    module = getattr(imported(folder, "model"), class_name)()
    module.load_state_dict(load_file(f"{folder}/weights.safetensors"))
    return module


def training_of(folder: str) -> tuple[Any, Any, Any]:
    """The module, its loss and its optimizer, as a pair file's torch_side() returns them."""
    train = imported(folder, "train")
    module, optimizer = train.build()

    def loss(outputs: Any, targets: Any) -> Any:
        return train.loss_function(module, outputs, targets)

    loss.train = train  # type: ignore[attr-defined]
    return module, loss, optimizer
