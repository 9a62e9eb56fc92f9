"""The catalogue of pair files: correct ports, and what is replaced in them."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.paths import PAIRS

MUTATIONS: dict[str, dict[str, Any]] = tomllib.loads((PAIRS / "mutations.toml").read_text("utf-8"))
CAUSES: dict[str, list[str]] = {name: mutation["causes"] for name, mutation in MUTATIONS.items()}


def pair_text(name: str, seed: int | None = None) -> str:
    """The source of a pair file, where asked with data of another seed."""
    return mutated((PAIRS / "bases" / f"{MUTATIONS[name]['base']}.py").read_text("utf-8"), MUTATIONS[name], seed)


def write_pair(name: str, folder: Path, seed: int | None = None) -> Path:
    """Write a pair file into a folder; a seed is that of the data, the weights and the order of the windows."""
    file = folder / f"{name}.py"
    text = pair_text(name, None if seed is None else 1000 + seed)
    file.write_text(text if seed is None else f"{text}\n\nseed = {seed}\n", "utf-8")
    return file


def mutated(text: str, mutation: Mapping[str, Any], seed: int | None = None) -> str:
    """A base with its mutation made; ValueError where a text to be replaced does not stand in it exactly once."""
    seed = mutation.get("seed") if seed is None else seed
    if seed is not None:
        text = re.sub(r"default_rng\(\d+\)", f"default_rng({seed})", text)
    if "about" in mutation:
        text = re.sub('^""".*"""', lambda _: f'"""{mutation["about"]}"""', text)
    for old, new in mutation.get("edits", {}).items():
        text = _replaced(text, old, new)
    return text + (f"\n\n{mutation['append']}" if "append" in mutation else "")


def _replaced(text: str, old: str, new: str) -> str:
    """Replace a text; further lines of the new one are indented as its line, a line of which nothing is left goes."""
    if text.count(old) != 1:
        raise ValueError(f"{old!r} is in the pair file {text.count(old)} times; it must be there once")
    before, after = text.split(old)
    begin = before.rfind("\n") + 1
    indent = re.match(" *", before[begin:] + new)[0]
    if not new and not before[begin:].strip() and after.startswith("\n"):
        return before[:begin] + after[1:]
    first, *rest = new.split("\n")
    return before + "\n".join([first, *(line and indent + line for line in rest)]) + after
