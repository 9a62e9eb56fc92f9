"""Port a model from one framework to the other: what is given is read, written anew, proved, and only then kept."""

from collections.abc import Callable
from pathlib import Path

from compare.port.from_keras import port_keras
from compare.port.from_torch import port_torch
from compare.port.ported import Options, Ported
from compare.port.source import framework_of, read_source

# What ports a model of each framework to the other.
DIRECTIONS = {"keras": port_keras, "torch": port_torch}


def port_model(source: str, to: Path, options: Options, on_doing: Callable[[str], None] = lambda what: None) -> Ported:
    """Port a model file, or what `FILE.py:factory` returns, into a new folder; raises InputError for what cannot be."""
    checked = read_source(source)
    return DIRECTIONS[framework_of(checked)](checked, to, options, on_doing)


__all__ = ["Options", "Ported", "port_model"]
