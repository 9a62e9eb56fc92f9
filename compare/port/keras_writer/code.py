"""Keras code for a graph: functional, with the user's names, in the form that `ruff format` gives it."""

import builtins
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compare.port.graph import Call, Graph, Layer, Tensor, leaves
from compare.port.keras_writer.rolling import rolled

# Names that written code has another use for.
RESERVED = {"keras", "layers", "ops", "np", "build", "loss", *keyword.kwlist, *dir(builtins), *"lOI"}
WIDTH = 88
# Stands for what is returned while loops are looked for.
RESULT = "_result"
# How long an expression within another may be.
NESTED = 60
# Settings that are written without their names.
POSITIONAL = {
    "Dense": ("units",),
    "LSTM": ("units",),
    "GRU": ("units",),
    "SimpleRNN": ("units",),
    "LSTMCell": ("units",),
    "GRUCell": ("units",),
    "SimpleRNNCell": ("units",),
    "Dropout": ("rate",),
    "SpatialDropout1D": ("rate",),
    "Embedding": ("input_dim", "output_dim"),
    "ReversibleEmbedding": ("input_dim", "output_dim"),
    "Conv1D": ("filters", "kernel_size"),
    "MaxPooling1D": ("pool_size",),
    "AveragePooling1D": ("pool_size",),
}
# Operators, how tightly they bind, and which of the operands may be a constant array of the backend's: none.
OPERATORS = {
    "ops.add": ("+", 4),
    "ops.subtract": ("-", 4),
    "ops.multiply": ("*", 5),
    "ops.divide": ("/", 5),
    "ops.matmul": ("@", 5),
    "ops.power": ("**", 7),
    "ops.less": ("<", 2),
    "ops.less_equal": ("<=", 2),
    "ops.greater": (">", 2),
    "ops.greater_equal": (">=", 2),
}
TIGHT = 9


class Writer:
    """Writes the statements of one graph; `lines` are the user's lines by the names of calls."""

    def __init__(self, graph: Graph, lines: Mapping[str, tuple[int, str]], indent: int = 4) -> None:
        self.graph, self.lines, self.indent = graph, lines, indent
        self.statements: list[str] = []
        # Whether these are the statements of a function that returns its only output.
        self.function = False
        self._texts: dict[Tensor, tuple[str, int]] = {}
        # Calls that stand within another's expression.
        self._inner: set[str] = set()
        self._calls = {call.name: call for call in graph.calls}
        self._uses = _uses(graph)
        self._times: dict[str | None, int] = {}
        self._defined: dict[str, str] = {}
        self._taken = {call.name for call in graph.calls if call.kind == "InputLayer" or call.layer is not None}
        self.variables = {name: name for name in self._taken}
        for call in graph.calls:
            self._times[call.layer] = self._times.get(call.layer, 0) + 1

    def text(self, tensor: Tensor, tight: int = 0) -> str:
        """A tensor in an expression that binds so tightly."""
        text, binding = self._texts[tensor]
        return f"({text})" if binding < tight else text

    def value(self, value: Any, tight: int = 0) -> str:
        """An argument as code."""
        if isinstance(value, Tensor):
            return self.text(value, tight)
        if isinstance(value, list):
            return f"[{', '.join(map(self.value, value))}]"
        if isinstance(value, tuple):
            return f"({', '.join(map(self.value, value))}{',' if len(value) == 1 else ''})"
        return literal(value)

    # -- statements --------------------------------------------------------------------------------------------

    def given(self) -> None:
        """The inputs are given by their names, and not made here."""
        for call in self.graph.calls:
            if call.kind == "InputLayer":
                self._texts[Tensor(call.name)] = (call.name, TIGHT)
        self.function = True

    def write(self) -> list[str]:
        """The statements, inputs first."""
        for call in self.graph.calls:
            if Tensor(call.name) in self._texts:
                continue
            if call.kind == "InputLayer":
                self._input(call)
            elif call.layer is not None:
                self._layer_call(call)
            else:
                self._operation(call)
        return self.statements

    def _input(self, call: Call) -> None:
        shape = self.value(tuple(call.shapes[0][1:]))
        dtype = "" if call.dtypes[0] == "float32" else f', dtype="{call.dtypes[0]}"'
        self._assign(call, f'keras.Input({shape}{dtype}, name="{call.name}")')

    def _assign(self, call: Call, text: str) -> None:
        name = self._variable(call)
        self._texts[Tensor(call.name)] = (name, TIGHT)
        statement = f"{name} = {text}"
        if len(statement) + self.indent > WIDTH and text.startswith("ops.") and text.endswith(")"):
            call_text = [self.value(argument) for argument in call.arguments]
            call_text += [f"{key}={self.value(value)}" for key, value in call.keywords.items()]
            statement = call_of(f"{name} = {call.kind}", call_text, self.indent)
        self.statements.append(statement)

    def _variable(self, call: Call) -> str:
        """The variable of a call: what the user assigned it to, where that is one name."""
        if call.name not in self.variables:
            target = self.lines.get(call.name, (0, ""))[1]
            wanted = target if target.isidentifier() else re.sub(r"_\d+$", "", call.name)
            self.variables[call.name] = self._free(f"{wanted}_" if wanted in RESERVED else wanted)
        return self.variables[call.name]

    def _operation(self, call: Call) -> None:
        numbers = sorted({number for owner, number in self._uses if owner == call.name})
        text, binding = self._fitting(call)
        if call.kind == "ops.split":
            names = self._part_names(call)
            for number, name in enumerate(names):
                self._texts[Tensor(call.name, number)] = (name, TIGHT)
            self.statements.append(f"{', '.join(names)} = {text}")
        elif numbers == [0] and self._inlined(call, text):
            self._texts[Tensor(call.name)] = (text, binding)
            self._inner.add(call.name)
        else:
            self._assign(call, text)

    def _fitting(self, call: Call) -> tuple[str, int]:
        """A call's expression; parts of it are given names where it is too long for a line."""
        while True:
            text, binding = self._expression(call)
            parts = [
                t for t in call.tensors() if t.number == 0 and self._texts[t][0] != t.call and t.call in self._inner
            ]
            if len(text) + len(call.name) + 3 + self.indent <= WIDTH or not parts:
                return text, binding
            longest = max(parts, key=lambda tensor: len(self._texts[tensor][0]))
            self._assign(self._calls[longest.call], self._texts[longest][0])

    def _is_inner(self, tensor: Tensor) -> bool:
        return self._texts[tensor][0] != tensor.call

    def _part_names(self, call: Call) -> list[str]:
        sections = call.arguments[1]
        count = sections if isinstance(sections, int) else len(sections) + 1
        wanted = self.lines.get(call.name, (0, ""))[1].replace(" ", "").split(",")
        if len(wanted) != count:
            wanted = [call.name] * count
        return [self._free(name) for name in wanted]

    def _inlined(self, call: Call, text: str) -> bool:
        users = self._uses[call.name, 0]
        if len(users) != 1 or len(text) > NESTED:
            return False
        user = users[0]
        if user is None:
            return self.function
        line = self.lines.get(call.name, (0, ""))[0]
        same_line = self.lines.get(user, (0, ""))[0] == line
        return same_line or call.kind in ("ops.get_item", "ops.arange", "ops.full") or not call.tensors()

    def _expression(self, call: Call) -> tuple[str, int]:
        arguments = call.arguments
        if call.kind == "ops.get_item":
            return f"{self.text(arguments[0], TIGHT)}[{index(arguments[1])}]", TIGHT
        if call.kind == "ops.negative":
            return f"-{self.text(arguments[0], 6)}", 6
        if call.kind in OPERATORS and self._symbolic(arguments):
            sign, binding = OPERATORS[call.kind]
            left, right = (binding, binding + 1) if sign != "**" else (binding + 1, binding)
            if binding == 2:
                left = 3
            return f"{self.value(arguments[0], left)} {sign} {self.value(arguments[1], right)}", binding
        given = [self.value(argument) for argument in arguments]
        given += [f"{name}={self.value(value)}" for name, value in call.keywords.items()]
        return f"{call.kind}({', '.join(given)})", TIGHT

    def _symbolic(self, arguments: Sequence[Any]) -> bool:
        """Whether an operator may stand between: not where one side is an array of the backend's own."""
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        return bool(tensors) and all(self._follows(tensor) for tensor in tensors)

    def _follows(self, tensor: Tensor) -> bool:
        call = self._calls[tensor.call]
        return call.kind == "InputLayer" or any(self._follows(each) for each in call.tensors())

    def _layer_call(self, call: Call) -> None:
        layer = self.graph.layers[str(call.layer)]
        given = [self.value(argument) for argument in call.arguments]
        given += [f"{name}={self.value(value)}" for name, value in call.keywords.items()]
        targets = self._targets(call, layer)
        pad = self.indent
        whole = f"{targets} = {construction(layer)}({', '.join(given)})"
        if self._times[call.layer] == 1 and len(whole) + pad <= WIDTH:
            self.statements.append(whole)
            return
        if layer.name not in self._defined:
            name = self._free(f"{layer.name}_layer")
            self._defined[layer.name] = name
            self.statements.append(call_of(f"{name} = layers.{layer.kind}", settings(layer), pad))
        self.statements.append(call_of(f"{targets} = {self._defined[layer.name]}", given, pad))

    def _free(self, name: str) -> str:
        wanted, number = name, 1
        while wanted in self._taken:
            wanted, number = f"{name}_{number}", number + 1
        self._taken.add(wanted)
        return wanted

    def _targets(self, call: Call, layer: Layer) -> str:
        count = outputs_of(layer, call)
        name = call.name
        if count == 1:
            self._texts[Tensor(call.name)] = (name, TIGHT)
            return name
        roles = roles_of(layer, count)
        names = []
        for number, role in enumerate(roles):
            used = (call.name, number) in self._uses
            own = "_" if not used else name if number == 0 else f"{name}_{role}"
            names.append(own)
            self._texts[Tensor(call.name, number)] = (own, TIGHT)
        if layer.kind == "LSTMCell":  # h and [h, c]
            self._texts[Tensor(call.name, 2)] = (f"{name}_states[1]", TIGHT)
            return f"{name}, {name}_states"
        return ", ".join(names)


def _uses(graph: Graph) -> dict[tuple[str, int], list[str | None]]:
    """Who uses each output; None for the model's outputs."""
    uses: dict[tuple[str, int], list[str | None]] = {}
    for call in graph.calls:
        for tensor in call.tensors():
            uses.setdefault((tensor.call, tensor.number), []).append(call.name)
    for leaf in leaves(graph.outputs):
        if isinstance(leaf, Tensor):
            uses.setdefault((leaf.call, leaf.number), []).append(None)
    return uses


def outputs_of(layer: Layer, call: Call) -> int:
    """How many outputs a call of a layer has."""
    own = layer.config.get("layer", layer.config)
    kind = own.get("kind", layer.kind)
    if kind == "LSTMCell":
        return 3
    if kind in ("GRUCell", "SimpleRNNCell") or call.keywords.get("return_attention_scores"):
        return 2
    if not own.get("return_state"):
        return 1
    states = 2 if kind == "LSTM" else 1
    return 1 + states * (2 if layer.kind == "Bidirectional" else 1)


def roles_of(layer: Layer, count: int) -> list[str]:
    """What the outputs of a layer are called."""
    if layer.kind == "MultiHeadAttention":
        return ["", "scores"]
    if count == 5:
        return ["", "h", "c", "back_h", "back_c"]
    if layer.kind == "Bidirectional":
        return ["", "h", "back_h"]
    return ["", "h", "c"][:count]


def literal(value: Any) -> str:
    """A plain value as code."""
    if isinstance(value, str):
        return '"' + repr(value)[1:-1].replace('"', '\\"') + '"'
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)


def index(item: Any) -> str:
    """What stands in brackets."""
    if isinstance(item, tuple | list):
        return ", ".join(map(index, item))
    if isinstance(item, slice):
        start, stop, step = ("" if end is None else str(end) for end in (item.start, item.stop, item.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return "..." if item is Ellipsis else str(item)


def settings(layer: Layer) -> list[str]:
    """The arguments of a layer's construction."""
    return [*_settings(layer.kind, layer.config), f'name="{layer.name}"']


def _settings(kind: str, config: Mapping[str, Any]) -> Iterable[str]:
    positional = POSITIONAL.get(kind, ())
    for name in positional:
        yield literal(config[name])
    for name, value in config.items():
        if name == "layer":
            own = {key: each for key, each in value.items() if key != "kind"}
            yield f"layers.{value['kind']}({', '.join(_settings(value['kind'], own))})"
        elif name not in positional:
            yield f"{name}={literal(value)}"


def construction(layer: Layer) -> str:
    """The code that makes a layer."""
    return f"layers.{layer.kind}({', '.join(settings(layer))})"


def call_of(head: str, arguments: Sequence[str], indent: int) -> str:
    """A statement that ends in a call, broken as `ruff format` breaks it."""
    line = f"{head}({', '.join(arguments)})"
    if len(line) + indent <= WIDTH:
        return line
    inner = " " * 4
    body = ", ".join(arguments)
    if len(body) + indent + 4 <= WIDTH:
        return f"{head}(\n{inner}{body}\n)"
    return "\n".join([f"{head}(", *(f"{inner}{argument}," for argument in arguments), ")"])


def model_code(graph: Graph, lines: Mapping[str, tuple[int, str]], title: str) -> tuple[str, dict[str, str]]:
    """The whole of model.py, and the variables that calls are assigned to."""
    writer = Writer(graph, lines)
    statements = writer.write()
    marks = [f"{RESULT} = {outputs_code(writer, graph.outputs)}"]
    statements, vanished = rolled([*statements, *marks], WIDTH)
    outputs = statements.pop().removeprefix(f"{RESULT} = ")
    inputs = [writer.text(tensor) for tensor in leaves(graph.inputs)]
    given = inputs[0] if len(inputs) == 1 else f"[{', '.join(inputs)}]"
    statements.append(call_of("return keras.Model", [given, outputs, f'name="{graph.name}"'], 4))
    body = "\n".join(statements).splitlines()
    needed = [name for name in ("layers", "ops") if any(f"{name}." in line for line in body)]
    imports = ["import keras", *([f"from keras import {', '.join(needed)}"] if needed else [])]
    text = [
        f'"""{title}"""',
        "",
        *imports,
        "",
        "",
        "def build() -> keras.Model:",
        '    """The model, with new weights."""',
    ]
    return "\n".join([*text, *(f"    {line}" for line in body), ""]), {
        call: variable for call, variable in writer.variables.items() if variable not in vanished
    }


def outputs_code(writer: Writer, outputs: Any) -> str:
    """The model's outputs, flat, as a dict where they are one."""
    if isinstance(outputs, Mapping):
        named = {name: tensor for name, tensor in outputs.items() if isinstance(tensor, Tensor)}
        return "{" + ", ".join(f'"{name}": {writer.text(tensor)}' for name, tensor in named.items()) + "}"
    flat = [writer.text(tensor) for tensor in leaves(outputs) if isinstance(tensor, Tensor)]
    return flat[0] if len(flat) == 1 and isinstance(outputs, Tensor) else f"[{', '.join(flat)}]"
