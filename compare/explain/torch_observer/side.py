"""What the PyTorch side of a pair does when asked; `compare/explain/keras_observer/side.py` is its mirror."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from compare.explain.torch_observer import changes as counterfactuals
from compare.explain.torch_observer import tf32
from compare.explain.torch_observer.parts import settings
from compare.explain.torch_observer.session import Session
from compare.explain.torch_observer.update_rule import rule_of

# What a loss may be set to that Keras's loss is not.
LOSS_SETTINGS = ("reduction", "delta", "beta", "label_smoothing", "ignore_index")


class Side:
    """Keeps a user's `torch_side` and its data; every run starts from the beginning with a module of its own.

    Raises TypeError where what is returned is not (nn.Module, loss function, torch optimizer).
    """

    def __init__(self, make: Callable[[], Any], options: Mapping[str, Any]) -> None:
        self.make, self.options = make, options

    def _checked(self) -> Any:
        made = self.make()
        wanted = "return (nn.Module, loss function, torch optimizer)"
        if not isinstance(made, tuple | list) or len(made) != 3:
            raise TypeError(f"torch_side() returned {type(made).__name__}; {wanted}")
        for value, kind, name in zip(
            made,
            (nn.Module, Callable, torch.optim.Optimizer),
            ("nn.Module", "function", "torch optimizer"),
            strict=True,
        ):
            if not isinstance(value, kind):
                raise TypeError(f"torch_side() returned {type(value).__name__} where a {name} is due; {wanted}")
        return made

    def session(self, dropout: str) -> Session:
        """Start anew."""
        return Session(self._checked, self.options, dropout)

    def describe(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Say what the module, its loss and its optimizer are; dropout is off."""
        session = self.session("off")
        training = session.module.training
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            record = session.step(inputs, targets)
        if session.parts and not session.called:
            raise TypeError("torch_step() does not call the module; compute the loss of module(x)")
        held = {id(p) for group in session.optimizer.param_groups for p in group["params"]}
        names = {id(p): name for name, p in session.module.named_parameters()}
        known = {
            id(part.tensor(attribute)) for part in session.parts.values() for held_by in part.tensors.values()
            for attribute in held_by
        }  # fmt: skip
        described = {
            "parts": [self._part(session, key) for key in session.called],
            "unused": [self._part(session, key) for key in session.parts if key not in session.called],
            "unknown": [name for number, name in names.items() if number not in known],
            "frozen": [name for name, p in session.module.named_parameters() if not p.requires_grad],
            "not_held": [name for number, name in names.items() if number not in held],
            "two_biases": self._second_biases(session),
            "optimizer": type(session.optimizer).__name__,
            "rule": rule_of(session.optimizer),
            "groups": len(session.optimizer.param_groups),
            "decays": {
                names[id(p)]: float(group.get("weight_decay", 0.0))
                for group in session.optimizer.param_groups for p in group["params"] if id(p) in names
            },
            "scheduler": session.scheduler is not None,
            "own_step": bool(self.options.get("torch_step")),
            "clip_calls": session.clip_calls,
            "loss": self._loss(session),
            "dropout_calls": session.dropout_calls,
            "packed": sorted(session.seen_packed),
            "nonzero_states": sorted(session.nonzero_states),
            "training": training,
            "autocast": session.autocast_seen,
            "tf32": tf32.in_use(session.module),
            "reordered": "order" in record,
            "own_parameters": [k for k, v in (self.options.get("parameter_map") or {}).items() if callable(v)],
            "warnings": [str(warning.message) for warning in warned],
            "prediction_shape": list(record["prediction"].shape) if "prediction" in record else None,
            "target_shape": list(record["loss_target"].shape) if "loss_target" in record else None,
            "versions": {"torch": torch.__version__},
        }  # fmt: skip
        return described, {f"probe/{name}": value for name, value in record.items()}

    def _part(self, session: Session, key: str) -> dict[str, Any]:
        part = session.parts[key]
        return {
            "key": key,
            "path": part.path,
            "kind": part.kind,
            "layer": part.layer,
            "direction": part.direction,
            "shapes": {name: list(part.shape(name)) for name in part.tensors},
            "parameters": {
                name: [part.parameter_name(attribute) for attribute in attributes]
                for name, attributes in part.tensors.items()
            },
            **settings(part),
        }

    def _second_biases(self, session: Session) -> list[str]:
        """The biases that a Keras layer does not have, where both are trained."""
        found = []
        for part in session.parts.values():
            attributes = part.tensors.get("bias", [])
            if len(attributes) == 2 and all(part.tensor(attribute).requires_grad for attribute in attributes):
                found.append(part.parameter_name(attributes[1]))
        return found

    def _loss(self, session: Session) -> dict[str, Any]:
        loss = session.user_loss
        if isinstance(loss, nn.Module):
            weights = [name for name in ("weight", "pos_weight") if getattr(loss, name, None) is not None]
            held = {name: getattr(loss, name) for name in LOSS_SETTINGS if hasattr(loss, name)}
            return {"name": type(loss).__name__, "weights": weights, **held}
        return {"name": getattr(loss, "__name__", type(loss).__name__), "weights": []}

    def run(
        self,
        weights: Mapping[str, np.ndarray],
        batches: Sequence[tuple[np.ndarray, np.ndarray]],
        changes: Sequence[Mapping[str, Any]],
        recorded: Sequence[int],
        dropout: str,
        perturbed: int | None = None,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Train on the batches from given weights; the recorded steps are kept whole, of the others the loss."""
        session = self.session(dropout)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._load(session, weights, [change["path"] for change in changes if change["change"] == "load"])
            if perturbed is not None:
                counterfactuals.perturb(session, perturbed)
            counterfactuals.apply(session, changes)
            session.masks = dict(masks or {})
            found = {}
            if 0 in recorded:
                session._record_weights()
                found = {f"start/{name}": value for name, value in session.record.items()}
            losses, rates = [], []
            for number, (x, y) in enumerate(batches):
                record = session.step(x, y)
                losses.append(record.get("loss", np.nan))
                rates.append(record.get("learning_rate", np.nan))
                if number in recorded:
                    found |= {f"{number}/{name}": value for name, value in record.items()}
            found["losses"], found["learning_rates"] = np.array(losses, np.float64), np.array(rates, np.float64)
            return found | {f"end/{name}": value for name, value in session.evaluate(batches[0][0]).items()}

    def state(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the module's own parameters and buffers with weights loaded."""
        session = self.session("off")
        self._load(session, weights, [])
        return {
            f"torch/{name}": value.detach().cpu().numpy().copy() for name, value in session.module.state_dict().items()
        }

    def _load(self, session: Session, weights: Mapping[str, np.ndarray], standard: Sequence[str]) -> None:
        own = self.options.get("parameter_map") or {}
        of_keras = {name.removeprefix("keras:"): value for name, value in weights.items() if name.startswith("keras:")}
        named = dict(session.module.named_parameters())
        for part in session.parts.values():
            for name in part.tensors:
                if f"{part.key}/{name}" in weights:
                    part.write(name, weights[f"{part.key}/{name}"])
        for name, source in own.items():
            if callable(source) and name.rpartition(".")[0] not in standard:
                value = np.asarray(source(dict(of_keras)))
                if tuple(value.shape) != tuple(named[name].shape):
                    wanted = tuple(named[name].shape)
                    raise TypeError(f"parameter_map[{name!r}] returned shape {value.shape}, {name} has {wanted}")
                with torch.no_grad():
                    named[name].copy_(torch.from_numpy(np.ascontiguousarray(value)))
