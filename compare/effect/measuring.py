"""Trains what differs with other seeds: the same data, other initial weights, batches and dropout masks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compare.config.case import with_fields
from compare.effect.equivalence import Effect, figures_of
from compare.errors import InputError
from compare.experiment.experiment import Experiment, experiment_of, load_checked, write_experiment
from compare.judge.metrics import epoch_losses, metrics_of
from compare.judge.verdict import Comparison
from compare.run.plan import remaining
from compare.storage import read_json
from compare.trace.trace import END, TraceError, read_trace
from compare.workers.pool import Pool
from compare.workers.tasks import Task

# How many other seeds there are where nobody asks for more, and what all their trainings may take then, in seconds.
SEEDS, CHEAP_SECONDS = 5, 60.0

# Where the trainings of other seeds are, in the folder of their case.
FOLDER = "seeds"

LAST_LOSS = "last loss"

# Said by another figure too.
LEFT_OUT = ("rmse",)

Figures = Mapping[str, float | None]


def check_seeds(seeds: int | None) -> None:
    """Raise InputError for a number of seeds that makes no sense."""
    if seeds is not None and seeds < 0:
        raise InputError(f"--seeds {seeds} must not be negative; 0 measures no effect")


def measure_effects(
    experiments: Sequence[Experiment],
    comparisons: Sequence[Comparison],
    out: Path,
    pool: Pool,
    seeds: int | None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Effect]:
    """Say of each comparison that differs whether it matters; without `seeds` by five others where that is cheap.

    Trainings that were done before are not repeated. What fails here fails nothing else: it is said in a note.
    """
    effects, left = [], CHEAP_SECONDS
    for experiment in experiments:
        differing = [c for c in comparisons if c.case == experiment.case.name and c.status == "differs"]
        if not differing or seeds == 0:
            continue
        folder = out / experiment.case.name
        runners = [differing[0].reference, *(comparison.runner for comparison in differing)]
        count = SEEDS if seeds is None else seeds
        needed = count * sum(_seconds(folder / runner) for runner in runners)
        if seeds is None and needed > left:
            told = f"not measured: {count} other seeds take about {needed:.0f} s; give --seeds {count}"
            effects += [Effect(c.case, c.runner, c.reference, note=told) for c in differing]
            continue
        left -= needed
        say(f"{experiment.case.name}: does it matter? {count} other seeds are trained")
        try:
            effects += _effects(experiment, differing, runners, folder, pool, count)
        except Exception as error:  # the verdict stands already, whatever becomes of this
            told = f"not measured: {type(error).__name__}: {error}"
            effects += [Effect(c.case, c.runner, c.reference, note=told) for c in differing]
    return effects


def _effects(
    experiment: Experiment,
    differing: Sequence[Comparison],
    runners: Sequence[str],
    folder: Path,
    pool: Pool,
    count: int,
) -> list[Effect]:
    own = experiment.case.seed
    data = load_checked(experiment.case)
    seeded = {own: experiment}
    places = {own: folder}
    tasks = []
    for seed in ((own + number) % 2**32 for number in range(1, count + 1)):
        seeded[seed] = experiment_of(with_fields(experiment.case, {"seed": seed}), data)
        places[seed] = folder / FOLDER / str(seed)
        write_experiment(seeded[seed], places[seed] / "experiment")
        tasks += [
            Task(runner, experiment.case.name, places[seed] / "experiment", places[seed] / runner) for runner in runners
        ]
    errors = [event.error for event in pool.run(remaining(tasks)) if event.kind == "failed"]
    figures = {
        runner: {seed: found for seed in seeded if (found := _figures(seeded[seed], places[seed] / runner))}
        for runner in runners
    }
    note = f"{len(errors)} of {len(tasks)} trainings failed: {errors[0]}" if errors else ""
    return [
        Effect(
            c.case,
            c.runner,
            c.reference,
            tuple(seed for seed in seeded if seed in figures[c.reference] and seed in figures[c.runner]),
            figures_of(figures[c.reference], figures[c.runner]),
            note,
        )
        for c in differing
    ]


def _figures(experiment: Experiment, folder: Path) -> Figures | None:
    """The test metrics and the mean loss of the last epoch of a training; None where it has no whole trace."""
    try:
        trace = read_trace(folder)
    except TraceError:
        return None
    predictions = trace.predictions
    if not trace.complete or predictions is None:
        return None
    losses = epoch_losses(trace, experiment)
    metrics = {name: value for name, value in metrics_of(experiment, predictions).items() if name not in LEFT_OUT}
    return {**metrics, LAST_LOSS: losses[-1] if losses else None}


def _seconds(trace: Path) -> float:
    return float((read_json(trace / END) or {}).get("seconds", 0.0))
