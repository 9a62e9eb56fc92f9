"""What the process of written Keras code does: builds the model, saves it with its weights, runs it for the proof."""

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.explain.nested import packed, unpacked
from compare.port.graph import Graph, graph_of
from compare.workers.backends import keep_tensorflow_out, keras_runner
from compare.workers.protocol import Answer, Doing, Failed, Request

keep_tensorflow_out(keras_runner(os.environ["KERAS_BACKEND"]))
import keras  # noqa: E402 - with the torch backend TensorFlow stays out

ACTIONS = ("build", "save_optimizer", "load", "observe", "train", "noise")
# Where Keras's optimizers keep PyTorch's slots.
SLOTS = {
    "momentum_buffer": ("momentums", "_momentums"),
    "exp_avg": ("_momentums", "_m"),
    "exp_avg_sq": ("_velocities",),
    "max_exp_avg_sq": ("_velocity_hats",),
    "square_avg": ("_velocities", "_accumulated_grads"),
    "grad_avg": ("_average_gradients",),
    "sum": ("_accumulators",),
    "acc_delta": ("_accumulated_delta_vars",),
    "exp_inf": ("_u",),
}


class KerasCode:
    """The service: `build`, or `load` for what was built in another process, comes first."""

    def __init__(self, runner: str) -> None:
        self.model: Any = None
        self.graph: Graph
        self.folder = Path()

    def __call__(self, request: Request, report: Callable[[Doing], None]) -> Answer | Failed:
        """Do what is asked for."""
        options = unpacked(request.options, request.tensors)
        if request.action not in ACTIONS:
            return Failed(f"there is no {request.action!r}", "defect")
        try:
            facts, arrays = packed(getattr(self, request.action)(**options))
            return Answer({"tree": facts}, {name: np.ascontiguousarray(array) for name, array in arrays.items()})
        except InputError as error:
            return Failed(str(error), "refused")
        except Exception as error:  # the frameworks raise anything
            traceback.print_exc()
            return Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:600]}", "raised")

    def build(self, folder: str, graph: Mapping[str, Any]) -> dict[str, Any]:
        """Build the model of model.py, give it its weights and save it; returns the paths of the weights."""
        self.folder, self.graph = Path(folder), graph_of(graph)
        self.local: dict[str, Any] = {}
        self.model = self._observed_build(_module(self.folder / "model.py").build)
        for name, layer in self.graph.layers.items():
            if layer.weights:
                self.model.get_layer(name).set_weights(list(layer.weights.values()))
        self.model.save(self.folder / "model.keras")
        unknown = {layer.name for layer in self.model.layers if layer.weights} - set(self.graph.layers)
        assert not unknown, f"layers {unknown} have weights that nobody gave them"
        loaded = keras.saving.load_model(self.folder / "model.keras", safe_mode=True)
        variables = self._variables(loaded)
        paths = {name: variable.path for name, variable in variables.items()}
        return {"paths": paths, "equal": self._equal(variables)}

    def _equal(self, variables: Mapping[str, Any]) -> bool:
        """Whether variables are the graph's weights bit by bit."""
        return all(np.array_equal(_array(variables[name]), value) for name, value in self.graph.all_weights())

    def _observed_build(self, build: Callable[[], Any]) -> Any:
        """Call build() and keep its local tensors, which are the graph's calls by their names."""

        def profile(frame: FrameType, event: str, _: Any) -> None:
            if event == "return" and frame.f_code is build.__code__:
                self.local = dict(frame.f_locals)

        sys.setprofile(profile)
        try:
            return build()
        finally:
            sys.setprofile(None)

    def _variables(self, model: Any) -> dict[str, Any]:
        """Keras's variables by "layer/weight" of the graph."""
        variables: dict[str, Any] = {}
        for name, layer in self.graph.layers.items():
            if layer.weights:
                own = _weights(model.get_layer(name))
                variables |= {f"{name}/{w}": v for w, v in zip(layer.weights, own, strict=True)}
        return variables

    def load(self, folder: str, graph: Mapping[str, Any]) -> dict[str, Any]:
        """Load the saved model, safe_mode on, in a process that has not built it."""
        self.folder, self.graph, self.local = Path(folder), graph_of(graph), {}
        self.model = keras.saving.load_model(self.folder / "model.keras", safe_mode=True)
        return {"equal": self._equal(self._variables(self.model))}

    # -- the proof ---------------------------------------------------------------------------------------------

    def observe(self, inputs: Sequence[np.ndarray], calls: Mapping[str, str], members: int = 1) -> list[dict[str, Any]]:
        """Outputs in evaluation, and the tensors of calls by build()'s variables, by an ensemble's members."""
        before = self.model.get_weights()
        answers = []
        for member in range(members):
            self.model.set_weights(perturbed(before, member))
            answers.append(self._observed(inputs, calls))
        self.model.set_weights(before)
        return answers

    def _observed(self, inputs: Sequence[np.ndarray], calls: Mapping[str, str]) -> dict[str, Any]:
        tensors = {call: self.local.get(variable) for call, variable in calls.items()}
        known = [call for call, tensor in tensors.items() if isinstance(tensor, keras.KerasTensor)]
        outputs = keras.tree.flatten(self.model(self._given(inputs), training=False))
        steps: dict[str, Any] = {}
        if known:
            watched = keras.Model(self.model.inputs, [tensors[call] for call in known])
            values = keras.tree.flatten(watched(self._given(inputs), training=False))
            steps = {call: _array(value) for call, value in zip(known, values, strict=True)}
        return {"outputs": [_array(output) for output in outputs], "steps": steps}

    def _given(self, inputs: Sequence[np.ndarray]) -> Any:
        tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
        return tensors[0] if len(tensors) == 1 else tensors

    def noise(self, inputs: Sequence[np.ndarray]) -> dict[str, Any]:
        """Whether two passes in training mode differ."""
        before = self.model.get_weights()
        passes = [keras.tree.flatten(self.model(self._given(inputs), training=True)) for _ in range(2)]
        self.model.set_weights(before)
        return {"noisy": [not np.array_equal(_array(a), _array(b)) for a, b in zip(*passes, strict=True)]}

    def save_optimizer(self, slots: Mapping[str, Any]) -> dict[str, Any]:
        """Write optimizer.npz: PyTorch's slots as the variables of the optimizer that train.py makes."""
        optimizer = _module(self.folder / "train.py").optimizer()
        model = keras.saving.load_model(self.folder / "model.keras")
        optimizer.build(model.trainable_variables)
        optimizer.iterations.assign(slots["steps"])
        variables = self._variables(model)
        for slot, arrays in slots["arrays"].items():
            attribute = next(name for name in SLOTS[slot] if getattr(optimizer, name, None))
            for name, array in arrays.items():
                variable = variables[name]
                if variable.trainable:
                    place = optimizer._get_variable_index(variable)
                    getattr(optimizer, attribute)[place].assign(array)
        if hasattr(optimizer, "_u_product"):
            optimizer._u_product.assign(slots["product"])
        np.savez(self.folder / "optimizer.npz", *map(_array, optimizer.variables))
        return {}

    def train(self, batches: Sequence[Mapping[str, Any]], members: int = 1) -> list[list[dict[str, Any]]]:
        """Train the model that train.py gives on some batches, without dropout; its weights after each, by members."""
        return [self._trained(batches, member) for member in range(members)]

    def _trained(self, batches: Sequence[Mapping[str, Any]], member: int) -> list[dict[str, Any]]:
        model = _module(self.folder / "train.py").trained_model()
        model.set_weights(perturbed(model.get_weights(), member))
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Dropout | keras.layers.SpatialDropout1D):
                layer.rate = 0.0
            elif isinstance(layer, keras.layers.MultiHeadAttention):
                layer._dropout = 0.0
        variables = self._variables(model)
        gradients: dict[str, np.ndarray] = {}
        optimizer, steps = model.optimizer, []
        update = optimizer.apply

        def noted(grads: Any, trainable_variables: Any = None, **options: Any) -> Any:
            names = {id(variable): name for name, variable in variables.items()}
            targets = model.trainable_variables if trainable_variables is None else trainable_variables
            for gradient, variable in zip(grads, targets, strict=True):
                if gradient is not None:
                    gradients[names[id(variable)]] = _array(gradient)
            return update(grads, trainable_variables, **options)

        if keras.backend.backend() == "torch":
            optimizer.apply = noted
        for batch in batches:
            gradients.clear()
            x = batch["inputs"][0] if len(batch["inputs"]) == 1 else list(batch["inputs"])
            loss = model.train_on_batch(x, batch["target"])
            weights = {name: _array(variable) for name, variable in variables.items()}
            steps.append({"loss": float(np.ravel(loss)[0]), "weights": weights, "gradients": dict(gradients)})
        return steps


def perturbed(weights: Sequence[np.ndarray], member: int) -> list[np.ndarray]:
    """Weights moved by an ulp for an ensemble's member; as they are for the first."""
    if not member:
        return list(weights)
    generator = np.random.default_rng(member)
    ulp = np.finfo(np.float32).eps
    return [
        (value * (1 + ulp * generator.choice([-1.0, 1.0], value.shape))).astype(value.dtype)
        if value.dtype.kind == "f"
        else value
        for value in weights
    ]


def _weights(layer: Any) -> list[Any]:
    """A layer's weights but the states of its random numbers."""
    return [variable for variable in layer.weights if "seed_generator" not in variable.path]


def _array(tensor: Any) -> np.ndarray:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach()
    return np.array(keras.ops.convert_to_numpy(tensor))


def _module(file: Path) -> Any:
    """Run a written file as a module, its neighbours within reach."""
    sys.path.insert(0, str(file.parent))
    try:
        for name in ("model", "train"):
            sys.modules.pop(name, None)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(file.parent))
