"""Port a model from one framework to the other: what is given is read, written anew, proved, and only then kept."""

from collections.abc import Callable
from pathlib import Path

from compare.errors import InputError
from compare.port.from_keras import port_keras
from compare.port.ported import Options, Ported
from compare.port.source import framework_of, read_source

# What ports a model of each framework to the other.
DIRECTIONS = {"keras": port_keras}


def port_model(source: str, to: Path, options: Options, on_doing: Callable[[str], None] = lambda what: None) -> Ported:
    """Port a model file, or what `FILE.py:factory` returns, into a new folder; raises InputError for what cannot be."""
    checked = read_source(source)
    framework = framework_of(checked)
    if framework not in DIRECTIONS:
        raise InputError(f"{source}: there is no port from {framework} yet")
    return DIRECTIONS[framework](checked, to, options, on_doing)


__all__ = ["Options", "Ported", "port_model"]
