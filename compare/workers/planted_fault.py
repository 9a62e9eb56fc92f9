"""Planted faults, by which the judge is tested."""

import importlib.util
from typing import Any


def load_fault(location: str) -> Any:
    """Load a planted fault, a function of a side, from FILE.py:function."""
    file, _, name = location.rpartition(":")
    spec = importlib.util.spec_from_file_location("planted_fault", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"fault {location!r} is not FILE.py:function")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)
