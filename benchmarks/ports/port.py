"""A port being written: Keras and PyTorch text side by side, the exact map of weights, the mistakes it admits."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

Slip = tuple[str | None, str] | tuple[str | None, str, str]
"""How a line goes wrong ("right→wrong" within it, a whole line, or None: forgotten), the names of causes that are then
right, and a pattern of further lines that may rightly be named."""


@dataclass(frozen=True)
class Line:
    """A line of text and its slips."""

    text: str
    slips: tuple[Slip, ...] = ()


@dataclass(frozen=True)
class Mutation:
    """One line of a port's text exchanged: the text then, the accepted names of causes, the lines that may be named."""

    text: str
    right: str
    wrong: str | None
    causes: tuple[str, ...]
    line: str


def block(text: str, *slips: Slip, indent: int = 0) -> list[Line]:
    """Return the lines of a text, each with the slips whose right part stands in it first."""
    rows = text.strip("\n").split("\n")
    mine: list[list[Slip]] = [[] for _ in rows]
    for edit, *rest in slips:
        right = (edit or "").split("→")[0] if edit is None or "→" in edit else ""
        at = next(number for number, row in enumerate(rows) if right in row)
        mine[at].append((edit, *rest))
    return [line(row and " " * indent + row, *some) for row, some in zip(rows, mine, strict=True)]


def line(text: str, *slips: Slip) -> Line:
    """Return a line, its slips written as whole lines."""
    return Line(text, tuple((_wrong(text, edit), *rest) for edit, *rest in slips))


def _wrong(text: str, edit: str | None) -> str | None:
    if edit is None or "→" not in edit:
        return edit
    right, wrong = edit.split("→")
    assert right in text, (text, edit)
    return text.replace(right, wrong, 1)


@dataclass
class Port:
    """What the blocks write into; `features`, `time` and `masked` describe the tensor `x` of both sides."""

    seed: int
    features: int = 0
    time: int = 0
    batch: int = 8
    rows: int = 32
    masked: bool = False
    data: list[str] = field(default_factory=list)
    top: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    keras: list[tuple[str, str]] = field(default_factory=list)
    classes: list[Line] = field(default_factory=list)
    init: list[Line] = field(default_factory=list)
    methods: list[Line] = field(default_factory=list)
    forward: list[Line] = field(default_factory=list)
    after: list[Line] = field(default_factory=list)
    end: list[Line] = field(default_factory=list)
    arguments: str = "x"
    result: str = "x"
    outputs: str = "x"
    weights: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    compile: str = ""
    kinds: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311
        self.named, self.sequential = self.chance(0.3), self.chance(0.7)
        self.folds = self.random.choice([0, 0, 1, 2, 3])
        self._counts: dict[str, int] = {}

    def pick(self, *choices: str) -> str:
        """Draw one of the choices."""
        return self.random.choice(choices)

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return self.random.random() < probability

    def unique(self, *names: str) -> str:
        """Return one of the names, with a number if it has been given away before."""
        name = self.pick(*names)
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name}{count}"

    def layer(self, kind: str, arguments: str = "", *, named: bool = False) -> tuple[str, str]:
        """Return the name and the text of a new Keras layer."""
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).replace("1_D", "1D").lower()
        count = self._counts[f"keras {snake}"] = self._counts.get(f"keras {snake}", -1) + 1
        name = f"{snake}_{count}" if count else snake
        if named or self.named:
            name = f"{snake}{count + 1}"
            arguments += f'{", " if arguments else ""}name="{name}"'
        return name, f"layers.{kind}({arguments})"

    def add(self, kind: str, arguments: str = "", *, named: bool = False) -> str:
        """Put a Keras layer on x, and return its name."""
        name, text = self.layer(kind, arguments, named=named)
        self.keras.append(("layer", text))
        return name

    def keras_line(self, text: str) -> None:
        """Write a line of a functional Keras model."""
        self.keras.append(("line", text))

    def make(self, text: str, *slips: Slip) -> None:
        """Write a line of __init__."""
        self.init.append(line(text, *slips))

    def say(self, text: str, *slips: Slip) -> None:
        """Write lines of forward."""
        self.forward += block(text, *slips)

    def then(self, text: str, *slips: Slip) -> None:
        """Write lines behind the making of the module."""
        self.after += block(text, *slips)

    def lines(self) -> list[Line]:
        """Return the pair file."""
        body = [row.text for row in (*self.classes, *self.init, *self.forward, *self.after, *self.methods)]
        rows = block("\n\ndef torch_side():\n    import torch\n    from torch import nn")
        rows = [Line(text) for text in self._head()] + [Line(""), Line("")] + rows
        functions = [f for f in ("pack_padded_sequence", "pad_packed_sequence") if any(f in text for text in body)]
        if functions:
            rows.append(Line(f"    from torch.nn.utils.rnn import {', '.join(functions)}"))
        rows += [Line(""), *_indented(self.classes, 4)]
        rows += block("class Net(nn.Module):\n    def __init__(self):\n        super().__init__()", indent=4)
        rows += [*_indented(self.init, 12), *_indented(self.methods, 8)]
        rows += [Line(""), Line(f"        def forward(self, {self.arguments}):")]
        rows += _indented(_folded([*self.forward, Line(f"return {self.result}")], self.folds), 12)
        return [*rows, Line(""), Line("    net = Net()"), *_indented(self._after(), 4), *self.end]

    def _after(self) -> list[Line]:
        """What follows the making of the module: a loop that freezes second biases passes by those of a GRU."""
        grus = re.findall(r"self\.(\w+) = nn\.GRU(?:Cell)?\(", "\n".join(row.text for row in self.init))
        names = ", ".join(f'"{name}."' for name in grus)
        spared = f" and not name.startswith({names if len(grus) == 1 else f'({names})'})" if grus else ""
        return [Line(re.sub(r'(?<="bias_hh" in name)', lambda _: spared, row.text), row.slips) for row in self.after]

    def _head(self) -> list[str]:
        rows = [f'"""Port {self.seed}."""', "", "import numpy as np", "", f"batch_size = {self.batch}", *self.top]
        if self.told:
            rows += ["", "parameter_map = {", *(f'    "{n}": lambda k: {e},' for n, e in self.told.items()), "}"]
        rows += ["", "", "def data():", *("    " + text for text in self.data)]
        rows += ["", "", "def keras_side():", "    import keras", "    from keras import layers", ""]
        if all(kind == "layer" for kind, _ in self.keras) and len(self.inputs) == 1 and self.sequential:
            rows += [
                "    model = keras.Sequential(",
                "        [",
                "            " + self.inputs[0].split(" = ")[1] + ",",
            ]
            rows += [f"            {text}," for _, text in self.keras] + ["        ]", "    )"]
        else:
            names = [text.split(" = ")[0] for text in self.inputs]
            rows += ["    " + re.sub("^x = ", "inputs = x = ", text) for text in self.inputs]
            rows += ["    " + (text if kind == "line" else f"x = {text}(x)") for kind, text in self.keras]
            shown = "inputs" if names == ["x"] else f"[{', '.join(names)}]"
            rows.append(f"    model = keras.Model({shown}, {self.outputs})")
        return [*rows, f"    model.compile({self.compile})", "    return model"]

    def text(self) -> str:
        """Return the text of the pair file."""
        return "\n".join(row.text for row in self.lines()) + "\n"

    def mutations(self) -> list[Mutation]:
        """Return every single mistake that the port admits."""
        rows = [row.text for row in self.lines()]
        return [_mutation(rows, number, slip) for number, row in enumerate(self.lines()) for slip in row.slips]


def _mutation(rows: Sequence[str], number: int, slip: Slip) -> Mutation:
    wrong, causes, *also = slip
    right = rows[number]
    indent = right[: len(right) - len(right.lstrip())]
    after = list(rows)
    after[number : number + 1] = [] if wrong is None else [indent + wrong.lstrip()]
    nameable = [rows[number - 1], rows[number + 1]] if wrong is None else [wrong]
    patterns = [re.escape(text.strip()) for text in nameable if text.strip()] + also
    if built := re.match(r"\s*(self\.\w+) = ", right):  # a line that builds a module may be named by one that calls it
        patterns.append(rf"{re.escape(built[1])}\b")
    return Mutation(
        "\n".join(after) + "\n", right.strip(), wrong and wrong.strip(), tuple(causes.split()), "|".join(patterns)
    )


def _indented(lines: list[Line], by: int) -> list[Line]:
    return [Line(" " * by + row.text if row.text else "", row.slips) for row in lines]


def _folded(lines: list[Line], most: int) -> list[Line]:
    """Write `x = f(x)` and `x = g(x)` as `x = g(f(x))`, as people do, up to `most` times from the end."""
    lines = list(lines)
    while len(lines) > 1 and most > 0:
        first, second = lines[-2:]
        inner = _assigned(first.text)
        if inner is None or not re.fullmatch(r"[\w.]+(\(.*\)|\[.*\])(\.\w+\(.*\))*", inner):
            break
        if not second.text.startswith(("x = ", "return ")) or not _single(second.text):
            break
        values = [("x" if wrong is None else _assigned(wrong), rest) for wrong, *rest in first.slips]
        slips = [(_put(second.text, value), *rest) for value, rest in values if value is not None]
        for wrong, *rest in second.slips:
            text = ("return x" if second.text.startswith("return") else "x = x") if wrong is None else wrong
            if _single(text):
                slips.append((_put(text, inner), *rest))
        lines[-2:] = [Line(_put(second.text, inner), tuple(slips))]
        most -= 1
    return lines


def _single(text: str) -> bool:
    return len(re.findall(r"\bx\b", text.removeprefix("x = "))) == 1


def _assigned(text: str) -> str | None:
    return text[4:] if text.startswith("x = ") else None


def _put(text: str, value: str) -> str:
    """The text with the value for its one use of x."""
    start = "x = " if text.startswith("x = ") else ""
    return start + re.sub(r"\bx\b", lambda _: value, text.removeprefix(start))
