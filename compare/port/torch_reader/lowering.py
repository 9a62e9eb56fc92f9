"""A program's steps as calls of Keras's layers and operations.

Axes are permuted where a value is used and not where the user permuted it: a convolution wants the channels last, a
recurrent layer the batch first, so most of the user's transposes have nothing to do in Keras and vanish.
"""

import builtins
import keyword
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.port.graph import Call, Graph, Layer, Tensor, leaves
from compare.port.torch_reader.held import (
    BATCH,
    BatchIndex,
    Fixed,
    Handler,
    Held,
    Last,
    Packed,
    Stack,
    Sym,
    Turned,
    WeightMap,
    dtype_of,
    pattern_of,
)
from compare.port.torch_reader.program import Constant, Parameter, Program, Size, Step, Value

# Names that written code has another use for.
RESERVED = {"keras", "layers", "ops", "np", "build", *dir(builtins), *"lOI"}


@dataclass
class Lowering:
    """Lowers one program; `maps` says for every weight of every layer where it comes from."""

    program: Program
    graph: Graph
    values: dict[tuple[int, int], Held] = field(default_factory=dict)
    maps: dict[tuple[str, str], WeightMap] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    # Rows of embeddings that are not trained.
    padding: dict[str, int] = field(default_factory=dict)
    # For each output of the graph, which of PyTorch's axes is the batch's.
    output_axes: list[int] = field(default_factory=list)
    # By the name of a call: the user's line and the name that it is assigned to.
    lines: dict[str, tuple[int, str]] = field(default_factory=dict)
    uses: dict[tuple[int, int], list[Any]] = field(default_factory=dict)
    # What Bidirectional gives, by the last states of its two directions.
    both: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)
    _laid: dict[Any, Tensor] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)
    _standing: dict[int, int] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    step: Step = field(default_factory=lambda: Step(""))

    # -- the whole ---------------------------------------------------------------------------------------------

    def run(self, functions: dict[str, Handler], modules: dict[str, Handler]) -> None:
        """Lower every step that an output needs; raises InputError, with the place, for what has no counterpart."""
        needed = self._needed()
        for number, step in enumerate(self.program.steps):
            if number not in needed or step.name == "input":
                continue
            self.step = step
            if step.name == "arange" and self._grows(step):
                self.values[number, 0] = BatchIndex()
                continue
            if step.constants and all(each is not None for each in step.constants):
                for output, array in enumerate(step.constants):
                    self.values[number, output] = Fixed(np.asarray(array), step.shapes[output])
                continue
            handler = (modules if step.module is not None else functions).get(self.key(step))
            if handler is None:
                raise self.refusal(f"no counterpart in Keras is known for {self.told(step)}")
            arguments = [self.resolved(argument) for argument in step.arguments]
            keywords = {name: self.resolved(value) for name, value in step.keywords.items()}
            try:
                result = handler(self, *arguments, **keywords)
            except TypeError as error:
                raise self.refusal(f"{self.told(step)} is called in a way that is not known ({error})") from error
            results = result if isinstance(result, list) else [result]
            for output, held in enumerate(results):
                self.values[number, output] = held

    @staticmethod
    def key(step: Step) -> str:
        """A function's name, that of one in place without its underscore."""
        name = step.name
        return name[:-1] if name.endswith("_") and not name.endswith("__") else name

    @staticmethod
    def _grows(step: Step) -> bool:
        return any(isinstance(size, Size) for size in step.shapes[0])

    def told(self, step: Step) -> str:
        """A step in words: its name, the shapes of what it is given, its settings."""
        shapes = [self._told_shape(value) for value in step.values]
        given = f" of {', '.join(shapes)}" if shapes else ""
        settings = {**step.config, **step.keywords} if step.module is not None else step.keywords
        skipped = {"parameters", "buffers", "training", "_stacklevel"}
        plain = {n: v for n, v in settings.items() if n not in skipped and isinstance(v, bool | int | float | str)}
        configured = f" with {', '.join(f'{name}={value!r}' for name, value in plain.items())}" if plain else ""
        what = f"the module {step.module or '(itself)'}, a {step.name}" if step.module is not None else f"{step.name}()"
        return f"{what}{given}{configured}"

    def _told_shape(self, value: Value) -> str:
        shape = self.program.steps[value.step].shapes[value.output]
        return f"({', '.join('batch' if size == BATCH else str(size) for size in shape)})"

    def refusal(self, message: str) -> InputError:
        """What cannot be ported, with the user's line."""
        return InputError(f"{self.step.place}: {message}")

    def _needed(self) -> set[int]:
        for leaf in leaves(self.program.outputs):
            if isinstance(leaf, Value):
                self.uses.setdefault((leaf.step, leaf.output), []).append("output")
        needed: set[int] = set()
        waiting = [leaf.step for leaf in leaves(self.program.outputs) if isinstance(leaf, Value)]
        while waiting:
            number = waiting.pop()
            if number in needed:
                continue
            needed.add(number)
            waiting += [value.step for value in self.program.steps[number].values]
        for number in sorted(needed):
            for value in self.program.steps[number].values:
                self.uses.setdefault((value.step, value.output), []).append(number)
        return needed

    def used(self, number: int, output: int) -> list[Any]:
        """The steps, or "output", that use a step's output."""
        return self.uses.get((number, output), [])

    @property
    def number(self) -> int:
        """The number of the step that is being lowered."""
        known = self._standing.get(id(self.step))
        return next(i for i, step in enumerate(self.program.steps) if step is self.step) if known is None else known

    def resolved(self, argument: Any) -> Any:
        """An argument's held value; trees of them stay trees."""
        if isinstance(argument, Value):
            return self.values[argument.step, argument.output]
        if isinstance(argument, Constant):
            return Fixed(argument.array, argument.array.shape)
        if isinstance(argument, list | tuple):
            return type(argument)(map(self.resolved, argument))
        return argument

    # -- the graph ---------------------------------------------------------------------------------------------

    def unique(self, name: str) -> str:
        """A name that no call has yet, fit for a variable."""
        name = re.sub(r"\W", "_", name).strip("_") or "x"
        name = f"_{name}" if name[0].isdigit() else name
        name = f"{name}_" if keyword.iskeyword(name) or name in RESERVED else name
        candidate, number = name, 1
        while candidate in self._taken:
            candidate, number = f"{name}_{number}", number + 1
        self._taken.add(candidate)
        return candidate

    def emit(self, kind: str, *arguments: Any, layer: str | None = None, named: str = "", **keywords: Any) -> Tensor:
        """Add a call; returns its first tensor."""
        target = named or _assigned(self.step.place.text)
        single = target if "," not in target else ""
        name = self.unique(layer or single or kind.rpartition(".")[2])
        self.lines[name] = (self.step.place.line, target)
        # Shapes are those of the step; Keras works out its own.
        self.graph.calls.append(Call(name, kind, arguments, keywords, layer))
        return Tensor(name)

    def apply(self, layer: Layer, *arguments: Any, **keywords: Any) -> Tensor:
        """Call a layer."""
        self.graph.layers.setdefault(layer.name, layer)
        return self.emit(layer.kind, *arguments, layer=layer.name, **keywords)

    def layer(self, kind: str, config: dict[str, Any], path: str | None = None, suffix: str = "") -> Layer:
        """The layer for a module: made once, though the module may be called often."""
        path = self.step.module if path is None else path
        name = re.sub(r"\W", "_", (path or kind.lower()) + suffix)
        known = self.graph.layers.get(name)
        if known is not None and (known.kind, known.config) == (kind, config):
            return known
        while name in self.graph.layers:
            name += "_"
        made = Layer(name, kind, config)
        self.graph.layers[name] = made
        return made

    def weight(
        self, layer: Layer, name: str, names: Sequence[str], function: Callable[..., np.ndarray], summed: bool = False
    ) -> None:
        """Say where a layer's weight comes from, in Keras's order of the weights."""
        if (layer.name, name) in self.maps:
            return
        self.maps[layer.name, name] = WeightMap(tuple(names), function, summed)
        layer.weights[name] = function(*(self.program.parameters[each] for each in names))
        if all(each in self.program.frozen for each in names):
            layer.frozen = (*layer.frozen, name)

    def path(self, name: str) -> str:
        """The whole name of one of the module's own parameters."""
        return f"{self.step.module}.{name}" if self.step.module else name

    def as_function(self, name: str) -> Step:
        """The step that is being lowered as a call of a function."""
        made = replace(self.step, name=name, module=None)
        self._standing[id(made)] = self.number
        return made

    def step_rank(self, held: Held) -> int:
        """How many axes PyTorch sees."""
        if isinstance(held, Stack):
            return 1 + self.step_rank(next(part for part in held.parts if part is not None))
        return self.sym(held).rank

    def note(self, text: str) -> None:
        """What is to be said of the port."""
        if text not in self.notes:
            self.notes.append(text)

    # -- layouts -----------------------------------------------------------------------------------------------

    def sym(self, held: Held) -> Sym:
        """A value as one tensor."""
        if isinstance(held, Sym):
            return held
        if isinstance(held, Stack):
            parts = [self.sym(part) for part in held.parts]
            if len(parts) == 1:
                tensor = self.emit("ops.expand_dims", self.plain(parts[0]), 1)
                shape = (parts[0].seen[0], 1, *parts[0].seen[1:])
                return Sym(tensor, shape, (1, 0, *range(2, len(shape))))
            tensor = self.emit("ops.stack", [self.plain(part) for part in parts], axis=1)
            shape = (parts[0].seen[0], len(parts), *parts[0].seen[1:])
            return Sym(tensor, shape, (1, 0, *range(2, len(shape))))
        if isinstance(held, Parameter):
            return self.parameter(held.name)
        if isinstance(held, Turned):
            return replace(self.parameter(held.name), axes=(1, 0))
        if isinstance(held, Fixed):
            return self.filled(held)
        if isinstance(held, Last):
            raise AssertionError("a last state is used as a sequence")
        if isinstance(held, Packed):
            raise self.refusal(
                "a packed sequence is used by something else than a recurrent layer or pad_packed_sequence"
            )
        raise self.refusal(f"{self.told(self.step)} is given {type(held).__name__} where a tensor is due")

    def laid(self, held: Held, axes: Sequence[int]) -> Tensor:
        """A tensor in which PyTorch's axis i is `axes[i]`."""
        sym = self.sym(held)
        inverse = np.argsort(axes)
        order = tuple(sym.axes[int(axis)] for axis in inverse)
        if order == tuple(range(len(order))):
            return sym.tensor
        key = (sym.tensor, order)
        if key not in self._laid:
            self._laid[key] = self.emit("ops.transpose", sym.tensor, order)
        return self._laid[key]

    def plain(self, held: Held) -> Tensor:
        """A tensor in PyTorch's own layout."""
        sym = self.sym(held)
        return self.laid(sym, range(sym.rank))

    def new(self, tensor: Tensor, seen: Sequence[Any], axes: Sequence[int] | None = None) -> Sym:
        """A value that PyTorch sees with a shape."""
        order = tuple(range(len(seen))) if axes is None else tuple(axes)
        shape: list[Any] = [None] * len(seen)
        for axis, size in zip(order, seen, strict=True):
            shape[axis] = size
        return Sym(tensor, tuple(shape), order)

    def result(self, tensor: Tensor, axes: Sequence[int] | None = None, output: int = 0) -> Sym:
        """The value of the step that is being lowered."""
        return self.new(tensor, self.step.shapes[output], axes)

    # -- constants and parameters ------------------------------------------------------------------------------

    def some_input(self) -> Tensor:
        """The first input, whose batch others follow."""
        return Tensor(self.graph.calls[0].name)

    def members(self, dtype: str = "float32") -> Tensor:
        """A zero for each member of the batch."""
        key = ("members", dtype)
        if key not in self._laid:
            rank = len(self.graph.calls[0].shapes[0])
            first: Any = self.some_input()
            if rank > 1:
                first = self.emit("ops.get_item", first, (slice(None), *(0 for _ in range(rank - 1))))
            self._laid[key] = self.emit("ops.zeros_like", first, dtype=dtype)
        return self._laid[key]

    def filled(self, fixed: Fixed) -> Sym:
        """A constant as a tensor of its whole shape."""
        grows = [axis for axis, size in enumerate(fixed.shape) if isinstance(size, Size)]
        if not grows:
            return self.new(self.literal(fixed.array), fixed.shape)
        if len(grows) > 1 or fixed.shape[grows[0]] != BATCH:
            raise self.refusal(f"a constant of shape {tuple(map(str, fixed.shape))} has not one row for each member")
        key = ("filled", fixed.shape, fixed.number, str(fixed.array.dtype))
        if key not in self._laid:
            rest = tuple(size for axis, size in enumerate(fixed.shape) if axis != grows[0])
            member = self.emit("ops.reshape", self.members(), (-1, *(1 for _ in rest)))
            if len(rest) == 1 and not fixed.number:
                self._laid[key] = self.emit("ops.repeat", member, rest[0], axis=1)
            else:
                full = self.emit("ops.full", (1, *rest), float(fixed.number))
                self._laid[key] = self.emit("ops.add", member, full)
            if fixed.array.dtype.kind in "iub":
                self._laid[key] = self.emit("ops.cast", self._laid[key], str(fixed.array.dtype))
        rank = len(fixed.shape)
        axes = [*range(1, grows[0] + 1), 0, *range(grows[0] + 1, rank)]
        return self.new(self._laid[key], fixed.shape, axes)

    def literal(self, array: np.ndarray) -> Tensor:
        """A constant that does not grow: written down where small or regular, else a weight that is not trained."""
        key = ("literal", array.dtype.str, array.shape, array.tobytes())
        if key in self._laid:
            return self._laid[key]
        pattern = pattern_of(array)
        if pattern is not None:
            kind, arguments, keywords = pattern
            if kind in ("ops.tril", "ops.triu"):
                arguments = (self.emit("ops.ones", array.shape, dtype=dtype_of(array)), *arguments)
            self._laid[key] = self.emit(kind, *arguments, **keywords)
        elif array.size <= 64:
            self._laid[key] = self.emit("ops.array", array.tolist(), dtype=dtype_of(array))
        else:
            name = f"constant_{sum(k[0] == 'literal' for k in self._laid)}"
            self.program.parameters[name] = array.astype(np.float32)
            self._laid[key] = self.parameter(name, trained=False).tensor
        return self._laid[key]

    def parameter(self, name: str, trained: bool = True) -> Sym:
        """A parameter that no layer has: the only row of an embedding, which every backend can load."""
        array = self.program.parameters[name]
        config: dict[str, Any] = {"input_dim": 1, "output_dim": int(array.size)}
        if name in self.program.frozen or not trained or name in self.program.buffers:
            config["trainable"] = False
        layer = self.layer("Embedding", config, path=name)
        self.weight(layer, "embeddings", [name], lambda value: np.asarray(value, np.float32).reshape(1, -1))
        key = ("parameter", name)
        if key not in self._laid:
            flat = self.emit("ops.reshape", self.some_input(), (1, -1))
            first = self.emit("ops.get_item", flat, (slice(None), 0))
            row = self.apply(layer, self.emit("ops.zeros_like", first, dtype="int32"))
            self._laid[key] = self.emit("ops.reshape", row, array.shape)
        return self.new(self._laid[key], array.shape)


def expanded(low: Lowering, sym: Sym, dim: int) -> Sym:
    """A value with an axis of size 1 more, at PyTorch's `dim`."""
    dim = dim % (sym.rank + 1)
    if sym.axes == tuple(range(sym.rank)):
        tensor = low.emit("ops.expand_dims", sym.tensor, dim)
        return low.new(tensor, (*sym.shape[:dim], 1, *sym.shape[dim:]))
    tensor = low.emit("ops.expand_dims", sym.tensor, sym.rank)
    return Sym(tensor, (*sym.shape, 1), (*sym.axes[:dim], sym.rank, *sym.axes[dim:]))


def _assigned(text: str) -> str:
    """The name, or the names, that a line assigns to."""
    match = re.match(r"([a-zA-Z_]\w*(?:, *[a-zA-Z_]\w*)*)\s*=[^=]", text)
    return match[1] if match else ""
