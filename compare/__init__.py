"""The harness: trains the same recurrent models in Keras 3 and in PyTorch and tells whether they agree.

Importing it imports no framework.
"""

from typing import Any

__all__ = ["Case", "InputError", "Pool", "Verdict", "load_case", "prepare", "read_trace", "run_cases"]

_HOMES = {
    "Case": "compare.config.case",
    "InputError": "compare.errors",
    "Pool": "compare.workers.pool",
    "Verdict": "compare.judge",
    "load_case": "compare.config.case",
    "prepare": "compare.run.harness",
    "read_trace": "compare.trace.trace",
    "run_cases": "compare.run.harness",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import compare` stays quick."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'compare' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
