"""What the names of layers and parameters say: which layer of the other side is meant, and which gate."""

import re
from collections.abc import Sequence

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
SAME = {
    "fw": "forward",
    "fwd": "forward",
    "bw": "backward",
    "bwd": "backward",
    "rev": "backward",
    "reverse": "backward",
    "src": "source",
    "trg": "target",
    "tgt": "target",
    "q": "query",
    "wq": "query",
    "k": "key",
    "wk": "key",
    "v": "value",
    "wv": "value",
}
# What a layer is, not which: of these words the order of use knows more.
KINDS = {
    "activation",
    "attention",
    "batch",
    "bidirectional",
    "cell",
    "conv",
    "dense",
    "distributed",
    "embed",
    "embedding",
    "embeddings",
    "emb",
    "fc",
    "functional",
    "gru",
    "head",
    "hidden",
    "kernel",
    "layer",
    "layers",
    "linear",
    "lstm",
    "model",
    "module",
    "mlp",
    "multi",
    "net",
    "norm",
    "normalization",
    "out",
    "output",
    "proj",
    "projection",
    "rnn",
    "sequential",
    "simple",
    "stacked",
    "time",
}
# Shorter words are no beginnings of others.
SHORTEST = 3

GATES = {
    4: {"input": 0, "in": 0, "forget": 1, "candidate": 2, "cell": 2, "output": 3, "out": 3},
    3: {"update": 0, "reset": 1, "new": 2, "candidate": 2, "cand": 2},
}
LETTERS = {4: {"i": 0, "f": 1, "g": 2, "c": 2, "o": 3}, 3: {"z": 0, "u": 0, "r": 1, "h": 2, "n": 2, "c": 2}}
# Of the names of a matrix or bias, what stands before the letter of the gate: W_f, Uf, b_xf, W_if.
BEFORE_GATE = re.compile(r"(?:[wuvb]|[xhi]|[wub][xhi])?([a-z])")
INWARD = {"ih", "i", "x", "wx", "xh", "wi", "in", "input", "w"}
ONWARD = {"hh", "h", "wh", "uh", "u", "rec", "recurrent", "hidden", "state"}


def words(name: str) -> set[str]:
    """The words of a name but for kinds of layers, abbreviations as what they stand for."""
    lower = (word.lower() for word in WORD.findall(name) if not word.isdigit())
    return {SAME.get(word, word) for word in lower if word not in KINDS}


def likeness(name: str, others: Sequence[str], number: int) -> int:
    """How many words of a name are in `others[number]` and not in all of the others."""
    meant = words(others[number])
    rest = [words(other) for place, other in enumerate(others) if place != number]
    return sum(_in(word, meant) and not (rest and all(_in(word, other) for other in rest)) for word in words(name))


def _in(word: str, others: set[str]) -> bool:
    if word in others:
        return True
    return len(word) >= SHORTEST and any(
        len(other) >= SHORTEST and (other.startswith(word) or word.startswith(other)) for other in others
    )


def gate_of(name: str, count: int) -> int | None:
    """The number of the gate, in Keras's order, that a tensor's name says; None where it says none."""
    parts = [part for part in name.split(".") if part not in ("weight", "bias")]
    if not parts or count not in GATES:
        return None
    found = [word.lower() for word in WORD.findall(parts[-1]) if not word.isdigit()]
    told = [GATES[count][word] for word in found if word in GATES[count]]
    if told:
        return told[-1]
    letter = BEFORE_GATE.fullmatch(found[-1]) if found else None
    return LETTERS[count].get(letter[1]) if letter else None


def role_of(name: str) -> str | None:
    """Whether a tensor's name says that it takes the input or the state."""
    parts = [part for part in name.split(".") if part not in ("weight", "bias")]
    first = [
        word.lower() for word in WORD.findall(parts[-1] if parts else "") if word.lower() not in ("weight", "bias")
    ]
    if not first:
        return None
    if first[0] in INWARD:
        return "input"
    return "state" if first[0] in ONWARD else None
