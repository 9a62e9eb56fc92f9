"""The two sides of a comparison as a worker drives them: models, optimizers and losses, built from an experiment."""

import gc
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from compare.experiment.experiment import Experiment
from compare.workers.backends import device_of_process

# `keras_models` or `torch_models`, which have the same functions; `tests/both_models/test_mirror.py` sees to it.
Package = Any

Arrays = np.ndarray | Mapping[str, np.ndarray]
Tensors = Mapping[str, np.ndarray]


class Side:
    """One side of a comparison. A planted fault changes its attributes after the experiment was hashed."""

    # Models, losses and optimizers are looked at through the package alone.
    optimizer: Any

    def __init__(self, package: Package, experiment: Experiment, sample: int) -> None:
        self.package = package
        self._take(experiment)
        case = experiment.case
        package.set_precision(case.dtype)
        self.narrowed = package.narrowed_operations(case.dtype)
        package.set_seed(case.seed, sample)
        self.model = package.build(**self.model_arguments())
        package.place(self.model, device_of_process())
        self.loss = package.build_loss(case.training.loss)
        # What is compiled, and what else can serve for the next case of the same shape.
        self.programs: dict[str, Any] = {}

    def _take(self, experiment: Experiment) -> None:
        """Have the data of an experiment before this side."""
        self.experiment = experiment
        self.inputs, self.targets = experiment.training_inputs, experiment.examples.training.targets
        self.schedule = experiment.schedule

    def model_arguments(self) -> dict[str, Any]:
        """The keywords that both packages' `build` take."""
        case, examples = self.experiment.case, self.experiment.examples
        others = ("initial_state", "sequence_first")
        return {name: value for name, value in vars(case.model).items() if name not in others} | {
            "features": examples.features or 1,
            "vocabulary": examples.vocabulary,
            "outputs": examples.outputs,
            "batch_size": case.training.batch_size if case.model.stateful else None,
            "masked": examples.training.mask is not None,
            "initial_state": case.model.initial_state == "given",
            "dtype": case.dtype,
        }

    def optimizer_arguments(self) -> dict[str, Any]:
        """The keywords that both packages' `build_optimizer` take."""
        training = self.experiment.case.training
        same = ("learning_rate", "momentum", "nesterov", "weight_decay", "clipvalue", "clipnorm", "global_clipnorm")
        of_schedule = ("schedule", "decay_steps", "decay_rate", "boundaries", "values")
        return {"name": training.optimizer} | {option: getattr(training, option) for option in same + of_schedule}

    def facts(self) -> dict[str, Any]:
        """What computes: versions, threads, precision."""
        return {
            "versions": self.package.versions(),
            "threads": self.package.threads(),
            "precision": "float32" if self.narrowed else self.experiment.case.dtype,
            "narrowed": self.narrowed,
        }

    def execution(self) -> dict[str, Any]:
        """What runs a training step."""
        if "execution" not in self.programs:
            self.programs["execution"] = self.package.execution(self.model, self.batch(0)[0])
        return self.programs["execution"]

    def columns(self) -> list[str]:
        """What is recorded at each step."""
        return self.package.columns(self.model, self.norms)

    @property
    def norms(self) -> bool:
        """Whether the norms of gradients and updates are recorded at each step."""
        return self.experiment.case.training.record == "norms"

    @property
    def pauses(self) -> Collection[int]:
        """Before which steps the training pauses, so that its state can be read."""
        return ()

    def load_weights(self, weights: Tensors) -> None:
        """Load canonical weights into the model."""
        self.package.load_canonical(self.model, weights)

    def train(self) -> Iterator[tuple[int, np.ndarray]]:
        """Train, yielding (epoch, rows)."""
        return self.package.train(**self._training(), pauses=self.pauses, programs=self.programs)

    def _training(self) -> dict[str, Any]:
        """What every way of training takes."""
        return {
            "model": self.model,
            "loss": self.loss,
            "optimizer": self.optimizer,
            "inputs": self.inputs,
            "targets": self.targets,
            "schedule": self.schedule,
            "batch_size": self.experiment.case.training.batch_size,
            "draw": self.draw if self.experiment.case.model.shared_masks else None,
            "norms": self.norms,
        }

    def slots(self) -> dict[str, np.ndarray]:
        """The optimizer's slots now, in the canonical form."""
        return self.package.read_slots(self.model, self.optimizer)

    def single_step(self) -> Callable[..., dict[str, np.ndarray]]:
        """Return what takes single steps with this side's model."""
        if "single step" not in self.programs:
            self.programs["single step"] = self.package.SingleStep(self.model, self.loss, self.optimizer)
        return self.programs["single step"]

    def draw(self, step: int, count: int) -> dict[str, np.ndarray]:
        """The dropout masks of a step, by name."""
        return self.experiment.draw(step, count)

    def batch(self, step: int) -> tuple[Any, np.ndarray]:
        """What this side trains a step on: inputs and targets, none where its schedule does not reach so far."""
        windows = self.experiment.batch_of(self.schedule, step)
        if not isinstance(self.inputs, Mapping):
            return self.inputs[windows], self.targets[windows]
        inputs = {name: array[windows] for name, array in self.inputs.items()}
        return inputs | self.draw(step, len(windows)), self.targets[windows]

    def non_trainable(self) -> dict[str, np.ndarray]:
        """What a step changes beside weights and slots, in the canonical form."""
        return self.package.read_non_trainable(self.model)

    def weights(self) -> dict[str, np.ndarray]:
        """The weights now, in the canonical form."""
        return self.package.to_canonical(self.model)

    def predict(self, inputs: Arrays) -> np.ndarray:
        """The model's outputs now."""
        return self.package.predict(self.model, inputs)

    def release(self) -> None:
        """Return the memory of this case."""
        self.package.release()
        gc.collect()


class TorchSide(Side):
    """The native PyTorch side; as an ensemble `member` it rounds otherwise, or repeats its training step by step."""

    def __init__(self, experiment: Experiment, member: dict[str, Any] | None, sample: int = 0) -> None:
        import torch_models

        super().__init__(torch_models, experiment, sample)
        self.torch_models = torch_models
        self.member: Any = member
        stock = experiment.case.training.stock
        if stock:
            torch_models.train_both_biases(self.model)
        self.optimizer = torch_models.build_optimizer(
            self.model.named_parameters(), **self.optimizer_arguments(), stock=stock
        )
        weights = experiment.weights
        if member is not None and not member["repeats"]:
            weights = torch_models.perturb_weights(weights, member["precision"], member["seed"])
        self.load_weights(weights)

    def train(self) -> Iterator[tuple[int, np.ndarray]]:
        if self.member is None:
            return super().train()
        if self.member["repeats"]:
            return self.torch_models.repeat(**self._training())
        # Last, so that it is what a planted fault has left that rounds otherwise.
        self.torch_models.perturb_optimizer(self.optimizer, self.member["precision"], self.member["seed"])
        return super().train()

    def model_arguments(self) -> dict[str, Any]:
        return super().model_arguments() | {"sequence_first": self.experiment.case.model.sequence_first}

    @property
    def pauses(self) -> Collection[int]:
        return self.experiment.recorded_steps


class KerasSide(Side):
    """The Keras side, on the backend that `KERAS_BACKEND` names."""

    def __init__(self, experiment: Experiment, member: dict[str, Any] | None, sample: int = 0) -> None:
        if member is not None:
            raise ValueError("the members of an ensemble are trained on the PyTorch side")
        import keras_models

        super().__init__(keras_models, experiment, sample)
        self.keras_models = keras_models
        if experiment.case.training.keras_layers == "fast":
            from keras_models import fast

            fast.enable(self.model)
        self.optimizer = keras_models.build_optimizer(self.model.trainable_variables, **self.optimizer_arguments())
        self.load_weights(experiment.weights)
        self.first_state = self.slots(), self.non_trainable()

    def restart(self, experiment: Experiment) -> None:
        """Begin another case with the same model, optimizer and compiled programs."""
        self._take(experiment)
        slots, non_trainable = self.first_state
        self.package.load_slots(self.model, self.optimizer, slots, iterations=0)
        self.package.load_non_trainable(self.model, non_trainable)
        if experiment.case.training.schedule == "constant":
            self.keras_models.set_learning_rate(self.optimizer, experiment.case.training.learning_rate)
        self.load_weights(experiment.weights)

    def train(self) -> Iterator[tuple[int, np.ndarray]]:
        if self.experiment.case.training.engine == "fit":
            return self.keras_models.fit(**self._training())
        return super().train()
