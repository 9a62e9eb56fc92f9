"""Time a step of every matched optimizer beside torch.optim.Adam's, in turn, and print the ratios as Markdown.

python benchmarks/optimizer_steps.py
"""

import statistics
import time
from collections.abc import Callable

import torch

import torch_models
from torch_models.optimizers import OPTIMIZERS

SIZES = {"50 units": (50, 1), "64 units, 2 layers": (64, 2), "256 units, 2 layers": (256, 2)}
ROUNDS, STEPS = 15, 40


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
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) / STEPS


def torch_adam(model: torch.nn.Module) -> torch.optim.Optimizer:
    """torch's own Adam, on the same trained parameters."""
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], foreach=True)


def main() -> None:
    """Print the median ratio, and its range, for each rule and size."""
    torch.set_num_threads(1)
    print("| rule | " + " | ".join(SIZES) + " |\n|---|" + "---|" * len(SIZES))
    for name in OPTIMIZERS:
        cells = []
        for units, layers in SIZES.values():

            def matched(model: torch.nn.Module, name: str = name) -> torch.optim.Optimizer:
                return torch_models.build_optimizer(model.named_parameters(), name)

            ours, theirs = prepare(matched, units, layers), prepare(torch_adam, units, layers)
            ratios = [seconds(ours) / seconds(theirs) for _ in range(ROUNDS)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
