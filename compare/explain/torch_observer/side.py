"""What the PyTorch side of a pair file does when asked; keras_observer/side.py is its mirror."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from compare.explain.observer import Batch, Facts, Observer, Tensors
from compare.explain.torch_observer import counterfactuals
from compare.explain.torch_observer.description import describe
from compare.explain.torch_observer.session import Session


class Side(Observer):
    """Keeps a user's `torch_side`; every run starts from the beginning with a module of its own.

    Raises TypeError where what is returned is not (nn.Module, loss function, torch optimizer).
    """

    def __init__(self, make: Callable[[], Any], options: Mapping[str, Any]) -> None:
        self.make, self.options = make, options

    def _checked(self) -> Any:
        returned = self.make()
        wanted = "return (nn.Module, loss function, torch optimizer)"
        if not isinstance(returned, tuple | list) or len(returned) != 3:
            raise TypeError(f"torch_side() returned {type(returned).__name__}; {wanted}")
        kinds = {"nn.Module": nn.Module, "function": Callable, "torch optimizer": torch.optim.Optimizer}
        for value, (name, kind) in zip(returned, kinds.items(), strict=True):
            if not isinstance(value, kind):
                raise TypeError(f"torch_side() returned {type(value).__name__} where a {name} is due; {wanted}")
        return returned

    def _session(self, dropout: str) -> Session:
        return Session(self._checked, self.options, dropout)

    def describe(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[Facts, Tensors]:
        session = self._session("off")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record = session.step(inputs, targets)
        if session.observed.parts and not session.observed.called:
            raise TypeError("torch_step() does not call the module; compute the loss of module(x)")
        return describe(session, record), {}

    def run(
        self,
        weights: Mapping[str, np.ndarray],
        batches: Sequence[Batch],
        changes: Sequence[Mapping[str, Any]],
        recorded: Sequence[int],
        dropout: str,
        perturbed: int | None = None,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> Tensors:
        """As `Observer.run`; `perturbed` is the seed of an ensemble member, `masks` are Keras's by step."""
        session = self._session(dropout)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._load(session, weights, [change["path"] for change in changes if change["change"] == "load"])
            if perturbed is not None:
                counterfactuals.perturb(session, perturbed)
            counterfactuals.apply(session, changes)
            session.changes.masks = dict(masks or {})
            run: Tensors = {}
            if 0 in recorded:
                session.observed.record_weights()
                run = {f"start/{name}": value for name, value in session.observed.record.items()}
            losses, rates = [], []
            for number, (x, y) in enumerate(batches):
                record = session.step(x, y)
                losses.append(record.get("loss", np.nan))
                rates.append(record.get("learning_rate", np.nan))
                if number in recorded:
                    run |= {f"{number}/{name}": value for name, value in record.items()}
            run["losses"], run["learning_rates"] = np.array(losses, np.float64), np.array(rates, np.float64)
            return run | {f"end/{name}": value for name, value in session.evaluate(batches[0][0]).items()}

    def state(self, weights: Mapping[str, np.ndarray], inputs: np.ndarray) -> Tensors:
        session = self._session("off")
        self._load(session, weights, [])
        state = session.module.state_dict()
        return {f"torch/{name}": value.detach().cpu().numpy().copy() for name, value in state.items()}

    def _load(self, session: Session, weights: Mapping[str, np.ndarray], standard: Sequence[str]) -> None:
        """Load weights, then what the user's own functions make of Keras's, but for the modules in `standard`."""
        for part in session.observed.parts.values():
            for name in part.tensors:
                if f"{part.key}/{name}" in weights:
                    part.write(name, weights[f"{part.key}/{name}"])
        keras = {name.removeprefix("keras:"): value for name, value in weights.items() if name.startswith("keras:")}
        parameters = dict(session.module.named_parameters())
        for name, source in (self.options.get("parameter_map") or {}).items():
            if callable(source) and name.rpartition(".")[0] not in standard:
                value, wanted = np.asarray(source(dict(keras))), tuple(parameters[name].shape)
                if tuple(value.shape) != wanted:
                    raise TypeError(f"parameter_map[{name!r}] returned shape {value.shape}, {name} has {wanted}")
                with torch.no_grad():
                    parameters[name].copy_(torch.from_numpy(np.ascontiguousarray(value)))
