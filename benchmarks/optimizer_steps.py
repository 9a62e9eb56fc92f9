"""Time a step of every matched optimizer beside torch.optim.Adam's, in turn, and print the ratios as Markdown.

    python benchmarks/optimizer_steps.py > benchmarks/optimizers.md

In the CPU time of one thread, which other work on the machine disturbs less than the clock on the wall.
"""

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import torch_models
from torch_models.optimizers import OPTIMIZERS

SIZES = {"50 units": (50, 1), "64 units, 2 layers": (64, 2), "256 units, 2 layers": (256, 2)}
ROUNDS, STEPS = 31, 20

CLIPPED = {f"adam, {limit}": {"name": "adam", limit: 1.0} for limit in ("clipvalue", "clipnorm", "global_clipnorm")}
MOMENTUM = {f"{name}, momentum": {"name": name, "momentum": 0.9} for name in ("sgd", "rmsprop")}
RULES: dict[str, dict[str, Any]] = {name: {"name": name} for name in OPTIMIZERS} | MOMENTUM | CLIPPED


def prepare(make: Callable[[torch.nn.Module], torch.optim.Optimizer], units: int, layers: int) -> Callable[[], None]:
    """Return a function that takes steps with gradients that are already there."""
    model = torch_models.build(cell="lstm", units=units, layers=layers)
    optimizer = make(model)
    model(torch.randn(32, 10, 1)).square().mean().backward()

    def run() -> None:
        for _ in range(STEPS):
            optimizer.step()

    run()
    return run


def seconds(run: Callable[[], None]) -> float:
    """Time one round."""
    began = time.thread_time()
    run()
    return (time.thread_time() - began) / STEPS


def torch_adam(model: torch.nn.Module) -> torch.optim.Optimizer:
    """torch's own Adam, on the same trained parameters."""
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], foreach=True)


def main() -> None:
    """Print the median ratio, and its range, for each rule and size."""
    torch.set_num_threads(1)
    print("# Steps of the matched optimizers\n")
    print(
        "A step of each update rule ÷ a step of torch.optim.Adam (foreach) on the same parameters of an LSTM, one "
        "thread:"
    )
    print(f"median of {ROUNDS} rounds of {STEPS} steps in turn, and the range. At most 1.3 is the aim.\n")
    print("Repeat with `python benchmarks/optimizer_steps.py > benchmarks/optimizers.md`.\n")
    print(f"- Python: {platform.python_version()}\n- torch: {torch.__version__}\n- machine: {platform.machine()}\n")
    print("| rule | " + " | ".join(SIZES) + " |\n|---|" + "---|" * len(SIZES))
    for rule, options in RULES.items():
        cells = []
        for units, layers in SIZES.values():

            def matched(model: torch.nn.Module, options: dict[str, Any] = options) -> torch.optim.Optimizer:
                return torch_models.build_optimizer(model.named_parameters(), **options)

            ours, theirs = prepare(matched, units, layers), prepare(torch_adam, units, layers)
            ratios = [seconds(ours) / seconds(theirs) for _ in range(ROUNDS)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
        print(f"| {rule} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
