"""Ports random models and counts what is proved, refused and wrong: `python benchmarks/port.py 0 100`.

Keras models to PyTorch; with `--from-torch` modules (`benchmarks/torch_architectures.py`) to Keras.

Each architecture (`benchmarks/port_architectures.py`) is read, written, and proved as the command does it: its weights
taken back, its outputs for random inputs, at least five training steps. `--out FILE` keeps a line of JSON for each.
"""

import argparse
import collections
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from torch_architectures import architecture

from compare.errors import InputError
from compare.port import from_torch
from compare.port.from_keras import port_with
from compare.port.from_torch import TorchSides
from compare.port.ported import Options
from compare.port.proof import PortSides
from compare.port.source import read_source

HERE = Path(__file__).resolve().parent
FACTORY = """import sys

sys.path.insert(0, {here!r})


def model():
    import keras  # noqa: F401
    import port_architectures

    return port_architectures.build({seed})
"""
# The processes are started anew after so many models: Keras keeps what it has traced.
MODELS_A_PROCESS = 40


def port_seed(sides: PortSides, seed: int, folder: Path) -> dict[str, Any]:
    """Port the model of a number; what came of it, and how long that took."""
    began = time.monotonic()
    file, out = folder / f"model_{seed}.py", folder / f"port_{seed}"
    file.write_text(FACTORY.format(here=str(HERE), seed=seed), "utf-8")
    out.mkdir()
    outcome: dict[str, Any] = {"seed": seed}
    try:
        ported = port_with(sides, read_source(f"{file}:model"), out, Options(), lambda what: None)
    except InputError as error:
        outcome |= {"outcome": "refused", "why": str(error).replace(str(folder), "")[:400]}
    except Exception as error:  # a crash is an outcome too
        outcome |= {"outcome": "crashed", "why": f"{type(error).__name__}: {error}"[:400]}
    else:
        wrong = [c for c in ported.comparisons if c.status != "agrees"]
        outcome["outcome"] = "not proved" if wrong else "proved"
        outcome["steps"] = ported.comparisons[-1].steps
        outcome["forward"] = ported.comparisons[1].step_tolerance_ratio
        outcome["why"] = [
            f"{c.case}: {c.error or c.first_difference}; {[cause.name for cause in c.causes]}"[:500] for c in wrong
        ]
    return outcome | {"seconds": round(time.monotonic() - began, 1)}


def port_torch_seed(sides: TorchSides, seed: int, folder: Path) -> dict[str, Any]:
    """Port the PyTorch module of a number; what came of it, and how long that took."""
    began = time.monotonic()
    text, examples = architecture(seed)
    file, out = folder / f"module_{seed}.py", folder / f"port_{seed}"
    file.write_text(text, "utf-8")
    out.mkdir()
    outcome: dict[str, Any] = {"seed": seed}
    try:
        source, options = read_source(f"{file}:factory"), Options(examples=examples)
        (comparison,) = from_torch.port_with(sides, source, out, options, lambda what: None).comparisons
    except InputError as error:
        outcome |= {"outcome": "refused", "why": str(error).replace(str(folder), "")[:400]}
    except Exception as error:  # a crash is an outcome too
        outcome |= {"outcome": "crashed", "why": f"{type(error).__name__}: {error}"[:400]}
    else:
        outcome["outcome"] = "proved" if comparison.status == "agrees" else "not proved"
        outcome |= {"steps": comparison.steps, "ratio": comparison.trajectory_tolerance_ratio}
        outcome["lines"] = len((out / "model.py").read_text("utf-8").splitlines()), len(text.splitlines())
        outcome["why"] = [] if comparison.status == "agrees" else [str(comparison.first_difference)[:500]]
    return outcome | {"seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    """Port the models of some numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--from-torch", action="store_true")
    options = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    seeds = list(range(options.first, options.end))
    lines = []
    for begin in range(0, len(seeds), MODELS_A_PROCESS):
        with _sides(options) as sides, tempfile.TemporaryDirectory() as folder:
            for seed in seeds[begin : begin + MODELS_A_PROCESS]:
                outcome = (port_torch_seed if options.from_torch else port_seed)(sides, seed, Path(folder))
                counts[outcome["outcome"]] += 1
                lines.append(json.dumps(outcome))
                print(
                    lines[-1] if outcome["outcome"] != "proved" else f"{seed} proved {outcome['seconds']}", flush=True
                )
                if options.out:
                    options.out.write_text("\n".join(lines) + "\n", "utf-8")
    print(dict(counts))


def _sides(options: argparse.Namespace) -> Any:
    if options.from_torch:
        return TorchSides([options.backend], 120, lambda what: None)
    return PortSides(options.backend, 120)


if __name__ == "__main__":
    main()
