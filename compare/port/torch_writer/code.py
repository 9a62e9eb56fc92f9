"""A module's class as it is being written: lines of its two functions, names that a reader knows, and what it needs."""

import keyword
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compare.errors import InputError
from compare.port.graph import Call, Graph, Layer, Tensor, Weight, leaves
from compare.port.torch_writer.weights import WeightMap

# What an nn.Module calls its own, and what the written code uses.
MODULE_NAMES = """
T_destination add_module apply bfloat16 bool buffers call_super_init children compile cpu cuda double dump_patches eval
extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia
named_buffers named_children named_modules named_parameters parameters register_buffer register_forward_hook
register_full_backward_hook register_module register_parameter requires_grad_ reset_states set_extra_state
set_submodule share_memory state_dict to to_empty train training type xpu zero_grad mask output_masks torch nn self F
math"""
RESERVED = frozenset(MODULE_NAMES.split())
# An expression of so many characters may stand inside of another.
LONGEST_INLINED = 45
INFIX = re.compile(r" (\*\*|//|==|!=|>=|<=|[-+*/@%|&<>]) ")
GENERATED = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?$")


class Refused(InputError):
    """A layer or an operation that cannot be written."""

    def __init__(self, call: Call, reason: str, config: Mapping[str, Any] | None = None) -> None:
        given = "" if not config else f" with {', '.join(f'{name}={value!r}' for name, value in config.items())}"
        super().__init__(f"{call.name} ({call.kind}){given} cannot be written in PyTorch: {reason}")


@dataclass
class File:
    """What all classes of a file share: helpers by their names, imports, finished classes, the weights' places."""

    weights: WeightMap
    helpers: dict[str, str] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)
    classes: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def helper(self, name: str, text: str) -> str:
        """Have a function or a class of that text in the file; returns its name, numbered where it is taken."""
        text = text.strip("\n")
        for other, known in self.helpers.items():
            if known == _renamed(text, name, other):
                return other
        free = unique(name, {*self.helpers, *self.classes})
        self.helpers[free] = _renamed(text, name, free)
        return free


def _renamed(text: str, old: str, new: str) -> str:
    return re.sub(rf"\b{old}\b", new, text)


def identifier(name: str) -> str:
    """A name as Python and an nn.Module take it."""
    name = re.sub(r"\W", "_", name)
    if not name or name[0].isdigit():
        name = f"_{name}"
    return f"{name}_" if keyword.iskeyword(name) or name in RESERVED else name


def unique(name: str, taken: Any) -> str:
    """The name, numbered where it is taken."""
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


class Module:
    """One class: `init` and `forward` are the lines of its functions.

    `path` is where its layers' weights stand among Keras's, `prefix` where its own tensors stand in the whole module.
    """

    def __init__(self, graph: Graph, file: File, path: str = "", prefix: str = "") -> None:
        self.graph, self.file, self.path, self.prefix = graph, file, path, prefix
        self.init: list[str] = []
        self.forward: list[str] = []
        self.resets: list[str] = []
        self.attributes: dict[str, str] = {}
        self.variables: dict[Tensor, str] = {}
        self.frozen: set[str] = set()
        self.number = -1
        self._uses_of: Counter[Tensor] = Counter()
        self._inlined: dict[Tensor, list[Tensor]] = {}
        self._last_use = self._uses()

    def _uses(self) -> dict[Tensor, int]:
        last: dict[Tensor, int] = {}
        for number, call in enumerate(self.graph.calls):
            last |= dict.fromkeys(call.tensors(), number)
            self._uses_of.update(call.tensors())
        outputs = [*leaves(self.graph.outputs), *self.graph.masks]
        self._uses_of.update(leaf for leaf in outputs if isinstance(leaf, Tensor))
        return last | {leaf: len(self.graph.calls) for leaf in outputs if isinstance(leaf, Tensor)}

    # Tensors and their names

    def is_used(self, tensor: Tensor) -> bool:
        """Whether anything needs a tensor."""
        return tensor in self._last_use

    def bind(self, tensor: Tensor, preferred: str = "") -> str:
        """The name of the variable that a tensor is kept in from now on: short where nothing else has it."""
        if not self.is_used(tensor):
            return "_"
        call = self.graph.call(tensor.call)
        is_mask = bool(call.dtypes) and call.dtypes[min(tensor.number, len(call.dtypes) - 1)] == "bool"
        living = {
            name
            for other, name in self.variables.items()
            if self._last_use.get(other, -1) > self.number and other != tensor
        }
        first = preferred or ("mask" if is_mask else "x")
        name = first if first not in living else unique(identifier(call.name), living)
        self.variables[tensor] = name
        return name

    def alias(self, tensor: Tensor, text: str) -> None:
        """Let a tensor be known by what is written already."""
        self.variables[tensor] = text

    def text(self, value: Any) -> str:
        """An argument as it is written."""
        if isinstance(value, Tensor):
            return self.variables[value]
        if isinstance(value, Weight):
            return f"self.{self.parameter(value)}"
        if isinstance(value, list | tuple):
            inner = ", ".join(map(self.text, value))
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        if hasattr(value, "tolist"):
            self.file.imports.add("torch")
            return f"torch.tensor({value.tolist()!r}, dtype=torch.{value.dtype})"
        return literal(value)

    def shape(self, tensor: Any) -> tuple[int | None, ...]:
        """The shape of a tensor or of a weight."""
        if isinstance(tensor, Tensor):
            return self.graph.call(tensor.call).shapes[tensor.number]
        if isinstance(tensor, Weight):
            return self.graph.layers[tensor.layer].weights[tensor.name].shape
        return tuple(getattr(tensor, "shape", ()))

    def dtype(self, tensor: Any) -> str:
        """The dtype of a tensor."""
        return self.graph.call(tensor.call).dtypes[tensor.number] if isinstance(tensor, Tensor) else "float32"

    # Lines

    def line(self, text: str) -> None:
        """Write a line of forward()."""
        self.forward.append(without_double_parentheses(text))

    def assign(self, call: Call, text: str, number: int = 0) -> None:
        """Keep an output of a call; an operation that is used once, soon and is short stands where it is used."""
        tensor = Tensor(call.name, number)
        if call.kind.startswith("ops.") and self._uses_of[tensor] == 1 and len(text) <= LONGEST_INLINED:
            self.variables[tensor] = f"({text})" if is_infix(text) else text
            self._keep_until(call.tensors(), self._last_use[tensor])
            self._inlined[tensor] = call.tensors()
            return
        self.line(f"{self.bind(tensor)} = {without_outer(text)}")

    def _keep_until(self, tensors: Sequence[Tensor], number: int) -> None:
        """Let the variables of tensors stay as they are, since an expression with them is written later."""
        for tensor in tensors:
            self._last_use[tensor] = max(self._last_use.get(tensor, -1), number)
            self._keep_until(self._inlined.get(tensor, []), number)

    def temporary(self, name: str) -> str:
        """A variable's name that nothing living has."""
        living = {name for other, name in self.variables.items() if self._last_use.get(other, -1) >= self.number}
        return unique(name, living)

    # Layers and weights

    def layer_of(self, call: Call) -> Layer:
        """The layer that a call uses."""
        assert call.layer is not None
        return self.graph.layers[call.layer]

    def path_of(self, call: Call) -> str:
        """Where the weights of a call's layer stand among those of this class."""
        return self.layer_of(call).path or f"{call.layer}/"

    def attribute(self, name: str) -> str:
        """The attribute of a layer: its name, as far as Python allows."""
        if name not in self.attributes:
            self.attributes[name] = unique(identifier(name), self.attributes.values())
        return self.attributes[name]

    def submodule(self, name: str, make: Callable[[], str]) -> str:
        """Have a layer in the class, made by the text; returns `self.<attribute>`."""
        known = name in self.attributes
        attribute = self.attribute(name)
        if not known:
            self.init.append(f"self.{attribute} = {make()}")
        return f"self.{attribute}"

    def weight(
        self, tensor: str, paths: str | Sequence[str], function: Callable[[Any], Any] = lambda value: value
    ) -> None:
        """Say of which of Keras's weights a tensor is made; both by their names within this class."""
        paths = [paths] if isinstance(paths, str) else paths
        self.file.weights.add(f"{self.prefix}{tensor}", function, [f"{self.path}{path}" for path in paths])

    def zeros(self, tensor: str, *shape: int) -> None:
        """Say that a tensor is zero and is never trained."""
        self.file.weights.add_zeros(f"{self.prefix}{tensor}", *shape)

    def parameter(self, weight: Weight) -> str:
        """The attribute of a weight that the class itself holds."""
        key = f"{weight.layer}/{weight.name}"
        if key not in self.attributes:
            layer = self.graph.layers[weight.layer]
            single = len(self.graph.layers) == 1
            attribute = self.attributes[key] = unique(
                identifier(weight.name if single else f"{weight.layer}_{weight.name}"), self.attributes.values()
            )
            self.init.append(f"self.{attribute} = nn.Parameter(torch.empty({size(layer.weights[weight.name].shape)}))")
            self.file.imports.add("torch")
            self.weight(attribute, key)
        return self.attributes[key]


def only(call: Call) -> Any:
    """The one thing that a layer is given."""
    return call.arguments[0] if call.arguments else next(iter(call.keywords.values()))


def size(shape: Sequence[int]) -> str:
    """A shape as torch.empty takes it."""
    return ", ".join(map(str, shape)) or "()"


def literal(value: Any) -> str:
    """A number, a text or a slice as it is written."""
    if isinstance(value, slice):
        parts = ["" if part is None else str(part) for part in (value.start, value.stop)]
        return ":".join(parts if value.step is None else [*parts, str(value.step)])
    if value is Ellipsis:
        return "..."
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        return f"{value:.1f}"
    return repr(value).replace("'", '"') if isinstance(value, str) else repr(value)


def is_infix(text: str) -> bool:
    """Whether an expression must be in parentheses to be a part of another."""
    return text.startswith("-") or bool(INFIX.search(_flat(text)))


def _flat(text: str) -> str:
    """An expression without what stands in its parentheses."""
    depth, flat = 0, []
    for letter in text:
        depth -= letter in ")]"
        flat.append(letter if depth == 0 else "_")
        depth += letter in "(["
    return "".join(flat)


def without_outer(text: str) -> str:
    """An expression without parentheses around all of it."""
    whole = text.startswith("(") and _closing(text, 0) == len(text) - 1
    return text[1:-1] if whole and not _has_comma(text[1:-1]) else text


def without_parentheses(text: str, signs: str) -> str:
    """An operand without its parentheses, where it is made with nothing but some signs that bind as tightly."""
    bare = without_outer(text)
    found = INFIX.findall(_flat(bare))
    return bare if found and all(sign in tuple(signs) for sign in found) and not bare.startswith("-") else text


def without_double_parentheses(text: str) -> str:
    """A line in which no parentheses stand around an argument or around parentheses."""
    begin = text.find("(")
    while begin >= 0:
        end = _closing(text, begin)
        opens = text[:begin].endswith(("(", ", ", "[", "= ")) and end >= 0
        if opens and (text[end + 1 :] or ")")[0] in "),]" and not _has_comma(text[begin + 1 : end]):
            text = text[:begin] + text[begin + 1 : end] + text[end + 1 :]
            begin = text.find("(", begin)
        else:
            begin = text.find("(", begin + 1)
    return text


def _has_comma(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter in ",:" and depth == 0:
            return True
    return False


def _closing(text: str, begin: int) -> int:
    depth = 0
    for place in range(begin, len(text)):
        depth += (text[place] in "([") - (text[place] in ")]")
        if depth == 0:
            return place
    return -1
