"""Train the built-in cases of real and generated data on every backend and print their test metrics as Markdown.

python benchmarks/cases.py OUT     (a new folder; about a quarter of an hour on two idle cores)

Beside each case stands what costs nothing: for a series the last value as the forecast of all that follow, for classes
the most frequent one of the training part.
"""

import statistics
import sys
from pathlib import Path

import numpy as np

from compare.config.case import load_case, with_fields
from compare.experiment.experiment import Experiment
from compare.judge import Comparison
from compare.judge.metrics import forecast_metrics, judged
from compare.run.plan import prepare
from compare.run.training import run_cases
from compare.workers.backends import REFERENCE_RUNNER, choose_backends, keras_runner
from compare.workers.pool import Pool

# What each case is measured by, and how many seeds of weights and batches it is trained with.
CASES = {
    "sunspots": ("mse", 5),
    "co2": ("mse", 1),
    "elnino": ("mse", 1),
    "digits": ("accuracy", 5),
    "text": ("accuracy", 1),
    "tokens": ("accuracy", 1),
    "speech": ("accuracy", 1),
}


def baseline(experiment: Experiment) -> float:
    """Return the metric of the forecast or the class that needs no model."""
    training, test = experiment.examples.training, experiment.examples.test
    if experiment.scaling is not None:
        # The target is the first feature of these series, scaled alike.
        last = np.repeat(experiment.scaling.undo(test.inputs[:, -1:, 0]), test.targets.shape[1], axis=1)
        mse = forecast_metrics(experiment.scaling.undo(test.targets), last)["mse"]
        assert mse is not None
        return mse
    seen, _ = judged(training.targets, np.zeros((*training.targets.shape, 1)), training.mask)
    held_out, _ = judged(test.targets, np.zeros((*test.targets.shape, 1)), test.mask)
    return float((held_out == np.bincount(seen).argmax()).mean())


def figures(comparisons: list[Comparison], side: str, metric: str) -> str:
    """Write a side's metric over the seeds: its mean, and its standard deviation where there are several."""
    values = [comparison.metrics[side][metric] for comparison in comparisons if side in comparison.metrics]
    if not values or any(value is None for value in values):
        return "–"
    mean = statistics.mean(value for value in values if value is not None)
    spread = f" ± {statistics.stdev(value for value in values if value is not None):.3g}" if len(values) > 1 else ""
    return f"{mean:.4g}{spread}"


def main(out: Path) -> None:
    """Print the table."""
    backends = choose_backends(None)
    cases = {
        name: [with_fields(load_case(name), {"name": f"{name}-{seed}", "seed": seed}) for seed in range(seeds)]
        for name, (_, seeds) in CASES.items()
    }
    experiments = {
        experiment.case.name: experiment for experiment in prepare([case for group in cases.values() for case in group])
    }
    out.mkdir(parents=True)
    with Pool(out / "logs", jobs=2, timeout=600) as pool:
        verdict = run_cases(list(experiments.values()), backends, out, pool)
    runners = [keras_runner(backend) for backend in backends]
    print(f"| case | metric | seeds | without a model | {REFERENCE_RUNNER} | {' | '.join(runners)} | agree |")
    print("|---|---|---|---|---|" + "---|" * (len(runners) + 1))
    for name, (metric, seeds) in CASES.items():
        names = [case.name for case in cases[name]]
        of_case = {
            runner: [
                comparison
                for comparison in verdict.comparisons
                if comparison.case in names and comparison.runner == runner
            ]
            for runner in runners
        }
        cells = [figures(of_case[runners[0]], REFERENCE_RUNNER, metric)]
        cells += [figures(of_case[runner], runner, metric) for runner in runners]
        statuses = [comparison.status for comparisons in of_case.values() for comparison in comparisons]
        print(
            f"| {name} | {metric} | {seeds} | {baseline(experiments[names[0]]):.4g} | {' | '.join(cells)} | "
            f"{statuses.count('agrees')} of {len(statuses)} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
