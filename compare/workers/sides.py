"""The two sides of a comparison as a worker drives them: models, optimizers and losses, built from a start."""

import gc
import os
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from compare.experiment.experiment import Experiment


class Side:
    """One side of a comparison. A planted fault changes its attributes after the start was hashed."""

    package: Any
    model: Any
    loss: Any
    optimizer: Any

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.inputs, self.targets = experiment.training_inputs, experiment.examples.training.targets
        self.schedule = experiment.schedule

    def model_arguments(self) -> dict[str, Any]:
        """The keywords that both packages' `build` take."""
        case, examples = self.experiment.case, self.experiment.examples
        own = ("initial_state", "sequence_first", "dropout_masks")
        return {name: value for name, value in vars(case.model).items() if name not in own} | {
            "dropout_masks": "given" if case.model.dropout_masks == "shared" else "own",
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
        raise NotImplementedError

    def execution(self) -> dict[str, Any]:
        """What runs a training step."""
        return self.package.execution(self.model, self.batch(0)[0])

    def columns(self) -> list[str]:
        """What is recorded at each step."""
        return self.package.columns(self.model, self.norms)

    @property
    def norms(self) -> bool:
        """Whether the norms of gradients and updates are recorded at each step."""
        return self.experiment.case.training.record == "norms"

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load canonical weights into the model."""
        self.package.load_canonical(self.model, dict(weights))

    @property
    def engine(self) -> Any:
        """What trains this side."""
        return self.package.train

    def train(self) -> Iterator[tuple[int, np.ndarray]]:
        """Train, yielding (epoch, rows)."""
        return self.engine(
            self.model,
            self.loss,
            self.optimizer,
            self.inputs,
            self.targets,
            self.schedule,
            self.experiment.case.training.batch_size,
            draw=self.draw if self.experiment.case.model.shared_masks else None,
            norms=self.norms,
            **self.training_arguments(),
        )

    def training_arguments(self) -> dict[str, Any]:
        """What this side's `train` takes beside what both take."""
        return {}

    def slots(self) -> dict[str, np.ndarray]:
        """The optimizer's slots now, in the canonical form."""
        return self.package.read_slots(self.model, self.optimizer)

    def single_step(self) -> Any:
        """Return what takes single steps with this side's model."""
        raise NotImplementedError

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

    def predict(self, inputs: Any) -> np.ndarray:
        """The model's outputs now."""
        return self.package.predict(self.model, inputs)

    def release(self) -> None:
        """Return the memory of this case."""
        gc.collect()


class TorchSide(Side):
    """The native PyTorch side; with `twin` its weights and its Adam differ in the last bit."""

    def __init__(self, experiment: Experiment, member: dict[str, Any] | None, sample: int = 0) -> None:
        import torch

        import torch_models
        from torch_models.ensemble import perturb_optimizer, perturb_weights

        super().__init__(experiment)
        self.torch, self.package = torch, torch_models
        case = experiment.case
        torch.manual_seed(case.seed + sample)
        self.model = torch_models.build(**self.model_arguments(), sequence_first=case.model.sequence_first)
        if case.training.stock:
            torch_models.train_both_biases(self.model)
        self.optimizer = torch_models.build_optimizer(
            self.model.named_parameters(), **self.optimizer_arguments(), stock=case.training.stock
        )
        self.loss = torch_models.build_loss(case.training.loss)
        weights = dict(experiment.weights)
        if member is not None:
            weights = perturb_weights(weights, member["precision"], member["seed"])
            perturb_optimizer(self.optimizer, member["precision"], member["seed"])
        self.load_weights(weights)

    def training_arguments(self) -> dict[str, Any]:
        return {"pauses": self.experiment.recorded_steps}

    def single_step(self) -> Any:
        return self.package.SingleStep(self.model, self.loss, self.optimizer)

    def facts(self) -> dict[str, Any]:
        return {
            "versions": {"torch": self.torch.__version__},
            "threads": self.torch.get_num_threads(),
            "precision": self.experiment.case.dtype,
            "narrowed": [],
        }


class KerasSide(Side):
    """The Keras side, on the backend that `KERAS_BACKEND` names."""

    def __init__(self, experiment: Experiment, member: dict[str, Any] | None, sample: int = 0) -> None:
        if member is not None:
            raise ValueError("twins are trained on the PyTorch side")
        case = experiment.case
        if os.environ["KERAS_BACKEND"] == "jax":
            import jax

            jax.config.update("jax_enable_x64", case.dtype == "float64")
        import keras

        import keras_models
        from keras_models.precision import narrowed_operations

        super().__init__(experiment)
        self.keras, self.package = keras, keras_models
        keras.config.set_floatx(case.dtype)
        self.narrowed = narrowed_operations(case.dtype)
        if keras.backend.backend() == "tensorflow":
            # Elsewhere this too would import TensorFlow, where it is installed, beside the backend.
            keras.utils.set_random_seed(case.seed)
        # Layers that draw numbers take their seeds from here.
        random.seed(case.seed + sample)
        self.model = keras_models.build(**self.model_arguments())
        if case.training.keras_layers == "fast":
            from keras_models import fast

            fast.enable(self.model)
        self.optimizer = keras_models.build_optimizer(**self.optimizer_arguments())
        self.loss = keras_models.build_loss(case.training.loss)
        self.load_weights(experiment.weights)
        # What training a model again can go on with, and what its variables go back to for that.
        self.programs: dict[str, Any] = {}
        self.optimizer.build(self.model.trainable_variables)
        state = [*self.model.non_trainable_variables, *self.optimizer.variables]
        self.first = [(variable, np.array(keras.ops.convert_to_numpy(variable))) for variable in state]

    def restart(self, experiment: Experiment) -> None:
        """Begin another case with the same model, optimizer and compiled programs."""
        super().__init__(experiment)
        for variable, value in self.first:
            variable.assign(value)
        if experiment.case.training.schedule == "constant":
            self.optimizer.learning_rate = experiment.case.training.learning_rate
        self.load_weights(experiment.weights)

    def training_arguments(self) -> dict[str, Any]:
        return {} if self.experiment.case.training.engine == "fit" else {"programs": self.programs}

    def execution(self) -> dict[str, Any]:
        if "execution" not in self.programs:
            self.programs["execution"] = super().execution()
        return self.programs["execution"]

    @property
    def engine(self) -> Any:
        return self.package.fit if self.experiment.case.training.engine == "fit" else self.package.train

    def single_step(self) -> Any:
        if "one step" not in self.programs:
            self.programs["one step"] = self.package.SingleStep(self.model)
        return self.programs["one step"]

    def facts(self) -> dict[str, Any]:
        import importlib.metadata

        backend = self.keras.backend.backend()
        return {
            "versions": {"keras": self.keras.__version__, backend: importlib.metadata.version(backend)},
            "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
            "precision": "float32" if self.narrowed else self.experiment.case.dtype,
            "narrowed": self.narrowed,
        }

    def release(self) -> None:
        self.keras.backend.clear_session(free_memory=True)
        super().release()
