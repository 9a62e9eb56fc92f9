"""Trains the same recurrent models in Keras 3 and in PyTorch and tells whether they agree.

    outcome = compare.run("lstm", backends=["torch"], fields={"training.epochs": 5})
    outcome.agree, outcome.comparisons[0].first_difference, outcome.report

    why = compare.explain("pair.py", backend="torch")
    why.agree, why.first_difference, why.causes

    compare.port("model.keras", to="ported").proved
    compare.tune("sweep.toml").best

Importing it imports no framework: these are imported in processes of their own.
"""

import importlib
from typing import Any

__all__ = [
    "Case", "ExplainResult", "InputError", "RunResult", "TuneResult", "Verdict",
    "explain", "load_case", "port", "read_trace", "run", "tune",
]  # fmt: skip

# Where the public names live. Packages that are called have no module: `compare.run` is the package itself.
_HOMES = {
    "Case": "compare.config.case",
    "ExplainResult": "compare.results",
    "InputError": "compare.errors",
    "RunResult": "compare.results",
    "TuneResult": "compare.results",
    "Verdict": "compare.judge",
    "load_case": "compare.config.case",
    "read_trace": "compare.trace.trace",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import compare` stays quick."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'compare' has no attribute {name!r}")
