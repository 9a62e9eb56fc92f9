"""The training of a case."""

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from compare.config.section import Section

CLIPPINGS = ("clipvalue", "clipnorm", "global_clipnorm")

# The fields that each schedule needs; no other schedule takes them.
SCHEDULE_FIELDS = {
    "constant": (),
    "exponential": ("decay_steps", "decay_rate"),
    "cosine": ("decay_steps",),
    "piecewise": ("boundaries", "values"),
}


class TrainingConfig(Section):
    """The training, the same on both sides.

    epochs, batch_size: the last batch of an epoch may be smaller.
    optimizer: Keras's rule, on both sides.
    learning_rate: constant, or where the schedule starts.
    momentum, nesterov: of sgd; momentum of rmsprop too.
    weight_decay: None is what Keras gives the optimizer by default: 0.004 for adamw, none for the others.
    clipvalue, clipnorm, global_clipnorm: gradients are clipped by value, by each tensor's norm or by their joint norm.
    schedule: how the learning rate goes on, by training step.
    decay_steps, decay_rate: of "exponential"; decay_steps of "cosine" too.
    boundaries, values: of "piecewise", which takes its learning rates from `values`, the next one after each boundary.
    loss: what is minimised.
    initial_weights: whose default initialisers the weights are drawn by.
    stock: each framework's own optimizer defaults and biases instead of the matched ones.
    keras_layers: "fast" trains the layers of `keras_models.fast` on the Keras side.
    engine: "fit" trains the Keras side by `model.fit`.
    record: "loss" leaves out the norms of each step's gradients and updates.
    """

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=32, ge=1, lt=2**31)
    optimizer: Literal["sgd", "rmsprop", "adam", "adamw", "adamax", "nadam", "adagrad", "adadelta"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0, ge=0, le=1)
    nesterov: bool = False
    weight_decay: float | None = Field(default=None, ge=0)
    clipvalue: float | None = Field(default=None, gt=0)
    clipnorm: float | None = Field(default=None, gt=0)
    global_clipnorm: float | None = Field(default=None, gt=0)
    schedule: Literal["constant", "exponential", "cosine", "piecewise"] = "constant"
    decay_steps: int | None = Field(default=None, ge=1, lt=2**31)
    decay_rate: float | None = Field(default=None, gt=0)
    boundaries: tuple[int, ...] = Field(default=(), strict=False)
    values: tuple[float, ...] = Field(default=(), strict=False)
    loss: Literal["mse", "mae", "huber", "sparse_categorical_crossentropy"] = "mse"
    initial_weights: Literal["keras", "torch"] = "keras"
    stock: bool = False
    keras_layers: Literal["stock", "fast"] = "stock"
    engine: Literal["compiled", "fit"] = "compiled"
    record: Literal["norms", "loss"] = "norms"

    @model_validator(mode="after")
    def _optimizer_makes_sense(self) -> Self:
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(f"momentum belongs to sgd and rmsprop, not to {self.optimizer}; leave it out")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov belongs to sgd, not to {self.optimizer}; leave it out")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, for example momentum = 0.9")
        clipping = [name for name in CLIPPINGS if getattr(self, name) is not None]
        if len(clipping) > 1:
            raise ValueError(f"{' and '.join(clipping)} exclude each other; keep one")
        return self

    @model_validator(mode="after")
    def _schedule_makes_sense(self) -> Self:
        needed = SCHEDULE_FIELDS[self.schedule]
        present = [name for name in ("decay_steps", "decay_rate", "boundaries", "values") if getattr(self, name)]
        if missing := [name for name in needed if name not in present]:
            raise ValueError(f"schedule {self.schedule!r} needs {' and '.join(missing)}")
        if unused := [name for name in present if name not in needed]:
            raise ValueError(f"schedule {self.schedule!r} does not use {' and '.join(unused)}; leave it out")
        if self.schedule == "piecewise":
            self._check_pieces()
        return self

    def _check_pieces(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"{len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, not {len(self.values)}"
            )
        if any(later <= earlier for earlier, later in pairwise((-1, *self.boundaries))):
            raise ValueError(f"boundaries must be steps that increase, not {list(self.boundaries)}")
        if min(self.values) <= 0:
            raise ValueError(f"values are learning rates and must be above 0, not {list(self.values)}")
        if self.learning_rate not in (self.values[0], TrainingConfig.model_fields["learning_rate"].default):
            raise ValueError("schedule 'piecewise' takes its learning rates from values; leave learning_rate out")
