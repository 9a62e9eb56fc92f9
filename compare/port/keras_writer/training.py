"""Keras code for how a PyTorch module is trained: train.py, with the optimizer's rule as PyTorch computes it."""

from collections.abc import Mapping, Sequence
from textwrap import indent
from typing import Any

from compare.port.graph import Graph, Tensor, graph_of, leaves
from compare.port.keras_writer.code import Writer, call_of, literal

# 1 - beta**t in float32, without the digits that the subtraction loses.
CORRECTIONS = (
    "t = ops.cast(self.iterations + 1, variable.dtype)",
    "c_1 = -ops.expm1(t * math.log(self.beta_1))",
    "c_2 = -ops.expm1(t * math.log(self.beta_2))",
)
# Each rule as PyTorch writes it; Keras's own put epsilon elsewhere, or have the learning rate in their momentum.
RULES = {
    "SGD": (
        "PyTorch's SGD: the learning rate is not in the momentum.",
        "m = self.momentums[i]",
        "m.assign(self.momentum * m + gradient)",
        "step = gradient + self.momentum * m if self.nesterov else m",
        "variable.assign(variable - learning_rate * step)",
    ),
    "Adam": (
        "PyTorch's Adam: epsilon is added after the bias correction.",
        "m, v = self._momentums[i], self._velocities[i]",
        *CORRECTIONS,
        "m.assign(self.beta_1 * m + (1 - self.beta_1) * gradient)",
        "v.assign(self.beta_2 * v + (1 - self.beta_2) * ops.square(gradient))",
        "root = ops.sqrt(v / c_2) + self.epsilon",
        "variable.assign(variable - learning_rate * m / c_1 / root)",
    ),
    "RMSprop": (
        "PyTorch's RMSprop: epsilon is added to the root.",
        "v = self._velocities[i]",
        "v.assign(self.rho * v + (1 - self.rho) * ops.square(gradient))",
        "step = gradient / (ops.sqrt(v) + self.epsilon)",
        "variable.assign(variable - learning_rate * step)",
    ),
    "Adagrad": (
        "PyTorch's Adagrad: epsilon is added to the root.",
        "total = self._accumulators[i]",
        "total.assign(total + ops.square(gradient))",
        "step = gradient / (ops.sqrt(total) + self.epsilon)",
        "variable.assign(variable - learning_rate * step)",
    ),
    "Adamax": (
        "PyTorch's Adamax: epsilon is added to the gradient's size.",
        "m, u = self._m[i], self._u[i]",
        *CORRECTIONS[:2],
        "m.assign(self.beta_1 * m + (1 - self.beta_1) * gradient)",
        "u.assign(ops.maximum(self.beta_2 * u, ops.abs(gradient) + self.epsilon))",
        "variable.assign(variable - learning_rate * m / c_1 / u)",
    ),
    "Adadelta": (
        "PyTorch's Adadelta.",
        "total, moved = self._accumulated_grads[i], self._accumulated_delta_vars[i]",
        "total.assign(self.rho * total + (1 - self.rho) * ops.square(gradient))",
        "root = ops.sqrt(total + self.epsilon)",
        "step = ops.sqrt(moved + self.epsilon) / root * gradient",
        "moved.assign(self.rho * moved + (1 - self.rho) * ops.square(step))",
        "variable.assign(variable - learning_rate * step)",
    ),
}
CENTERED = {
    "step = gradient / (ops.sqrt(v) + self.epsilon)": [
        "mean = self._average_gradients[i]",
        "mean.assign(self.rho * mean + (1 - self.rho) * gradient)",
        "step = gradient / (ops.sqrt(v - ops.square(mean)) + self.epsilon)",
    ]
}
MOMENTUM = {
    "variable.assign(variable - learning_rate * step)": [
        "m = self._momentums[i]",
        "m.assign(self.momentum * m + step)",
        "variable.assign(variable - learning_rate * m)",
    ]
}
AMSGRAD = {
    "root = ops.sqrt(v / c_2) + self.epsilon": [
        "top = self._velocity_hats[i]",
        "top.assign(ops.maximum(top, v))",
        "root = ops.sqrt(top / c_2) + self.epsilon",
    ]
}
BASES = {"AdamW": "Adam"}
RATES_TOLD = "At how many times the learning rate: PyTorch's two biases are one here."
PADDING_TOLD = "Rows of embeddings that are not trained: padding_idx."


def unwritten(training: Mapping[str, Any]) -> str | None:
    """Why a rule cannot be written; None where it can."""
    rule = training["optimizer"]["rule"]
    return f"the optimizer {rule} has no code in Keras here" if BASES.get(rule, rule) not in RULES else None


def training_code(
    training: Mapping[str, Any], rates: Mapping[str, float], padding: Mapping[str, int], trained: bool, title: str
) -> str:
    """The whole of train.py.

    `rates` and `padding` (rows that are not trained) are by the variables' paths; `trained`: there is a state to go on
    from.
    """
    rule = training["optimizer"]
    parts = [*_table("RATES", RATES_TOLD, rates), *_table("PADDING", PADDING_TOLD, padding)]
    parts += [*_optimizer_class(rule, rates, bool(padding)), *_loss(training), *_optimizer(rule)]
    parts += _model(trained)
    imports = [
        *(["import math"] if any("math." in part for part in parts) else []),
        "from pathlib import Path",
        "",
        "import keras",
        *(["import numpy as np"] if trained else []),
        "from keras import ops",
        "",
        "HERE = Path(__file__).parent",
    ]
    return "\n".join([f'"""{title}"""', "", *imports, *parts, ""])


def _table(name: str, told: str, entries: Mapping[str, Any]) -> list[str]:
    if not entries:
        return []
    lines = [f"    {literal(path)}: {value!r}," for path, value in entries.items()]
    return [f"# {told}", f"{name} = {{", *lines, "}"]


def _optimizer_class(rule: Mapping[str, Any], rates: Mapping[str, float], padded: bool) -> list[str]:
    name = BASES.get(rule["rule"], rule["rule"])
    docstring, *lines = RULES[name]
    settings = rule["settings"]
    for replaced, wanted in (
        (CENTERED, settings.get("centered")),
        (MOMENTUM, name == "RMSprop" and settings.get("momentum")),
        (AMSGRAD, settings.get("amsgrad")),
    ):
        if wanted:
            lines = [each for line in lines for each in replaced.get(line, [line])]
    for number, beta in enumerate(settings.get("betas", ()), 1):
        if not beta:
            lines = [f"c_{number} = 1.0" if line.startswith(f"c_{number} =") else line for line in lines]
    if name == "SGD" and not settings["momentum"]:
        lines = ["variable.assign(variable - learning_rate * gradient)"]
    before = ["gradient = ops.convert_to_tensor(gradient)"]
    if rates or padded or any("[i]" in line for line in lines):
        before.append("i = self._get_variable_index(variable)")
    if rates or padded:
        before.append("path = self._trainable_variables[i].path")
    if padded:
        before += [
            "if path in PADDING:",
            "    rows = ops.arange(variable.shape[0]) != PADDING[path]",
            "    gradient = gradient * ops.cast(rows[:, None], gradient.dtype)",
        ]
    decay = f"{rule['coupled_decay']!r} * variable"
    if rates:
        before += ["rate = RATES.get(path, 1.0)", "learning_rate = learning_rate * rate"]
        if 0.0 in rates.values():
            before[-1:-1] = ["if not rate:", "    return"]
        decay += " / rate"  # each of two biases decays as one half of their sum
    if rule["coupled_decay"]:
        before.append(f"gradient = gradient + {decay}")
    body = [
        f"class {rule['rule']}(keras.optimizers.{rule['rule']}):",
        f'    """{docstring}"""',
        "",
        "    def update_step(self, gradient, variable, learning_rate):",
        '        """Update one variable."""',
        *(f"        {line}" for line in [*before, *lines]),
    ]
    return ["", "", *body]


def _loss(training: Mapping[str, Any]) -> list[str]:
    graph: Graph = graph_of(training["loss"])
    lines = {name: (line, target) for name, (line, target) in training["lines"].items()}
    writer = Writer(graph, lines, indent=4)
    writer.given()
    statements = writer.write()
    predictions = [tensor.call for tensor in leaves(graph.inputs) if tensor.call != "y_true"]
    head = ["def loss(y_true, y_pred):", '    """The loss that is minimised."""']
    if len(predictions) > 1:
        used = {tensor.call for call in graph.calls for tensor in call.tensors()}
        names = ", ".join(name if name in used else "_" for name in predictions)
        head.append(f"    {names} = y_pred")
    result = writer.text(Tensor(graph.outputs.call))
    body = indent("\n".join([*statements, f"return {result}"]), "    ")
    return ["", "", *head, *body.split("\n")]


def _optimizer(rule: Mapping[str, Any]) -> list[str]:
    settings = dict(rule["settings"])
    given = [literal(rule["learning_rate"])]
    betas = settings.pop("betas", None)
    if betas is not None:
        given += [f"beta_1={betas[0]!r}", f"beta_2={betas[1]!r}"]
    given += [f"{name}={literal(value)}" for name, value in settings.items() if value not in (False, None)]
    if rule["rule"] in ("AdamW",) or rule["decoupled_decay"]:
        given.append(f"weight_decay={rule['decoupled_decay']!r}")
    statement = call_of(f"return {rule['rule']}", given, 4)
    head = [f"def optimizer() -> {rule['rule']}:", '    """The optimizer, with the settings that it had in PyTorch."""']
    return ["", "", *head, *indent(statement, "    ").split("\n")]


def _model(trained: bool) -> list[str]:
    lines = ["def trained_model() -> keras.Model:", '    """The model as it stands, ready to be trained further."""']
    lines.append('    model = keras.saving.load_model(HERE / "model.keras")')
    whole = [
        "class Trained(keras.Model):",
        '    """A model whose loss is one of all its outputs."""',
        "",
        "    def compute_loss(",
        "        self, x=None, y=None, y_pred=None, sample_weight=None, training=True",
        "    ):",
        '        """The loss of a batch."""',
        "        return loss(ops.convert_to_tensor(y), y_pred)",
    ]
    lines.append("    model = Trained(model.inputs, model.outputs)")
    lines.append("    model.compile(optimizer=optimizer())")
    if trained:
        lines += [
            "    model.optimizer.build(model.trainable_variables)",
            '    state = np.load(HERE / "optimizer.npz")',
            "    for i, variable in enumerate(model.optimizer.variables):",
            '        variable.assign(state[f"arr_{i}"])',
        ]
    return ["", "", *whole, "", "", *lines, "    return model"]


def weights_of(values: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """Values by the paths of Keras's variables."""
    return {paths[name]: value for name, value in values.items()}


__all__: Sequence[str] = ("training_code", "unwritten", "weights_of")
