"""The power table, on the console and in Markdown."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from compare.calibration.power import NULL, Outcome, Power, confidence_interval


def rows(power: Power) -> list[tuple[str, str, str]]:
    """Give each count with its 95 % interval."""
    counts = power.as_json()
    proportions = [
        ("faults detected", counts["detected"], counts["faults"]),
        ("phase right", counts["phase_right"], counts["faults"]),
        ("tensor and gate right", counts["tensor_right"], counts["tensor_known"]),
        ("false alarms in null runs", counts["false_alarms"], counts["clean_runs"]),
    ]
    lines = []
    for name, hits, trials in proportions:
        low, high = confidence_interval(hits, trials)
        lines.append((name, f"{hits} of {trials}", f"{low:.1%} to {high:.1%}"))
    return lines


def print_power(console: Console, power: Power) -> None:
    """Print the counts, and each trial that did not go as it should."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "count", "95 % interval"):
        table.add_column(name)
    for row in rows(power):
        table.add_row(*row)
    console.print(table)
    for outcome in wrong(power):
        console.print(
            f"{outcome.name} on {outcome.runner}: {outcome.status}; {outcome.said}", markup=False, soft_wrap=True
        )


def wrong(power: Power) -> list[Outcome]:
    """List the trials that were missed, misplaced, falsely alarmed, or could not be run."""
    return [
        outcome
        for outcome in power.outcomes
        if outcome.status == "failed"
        or (outcome.group == NULL) != (outcome.status == "agrees")
        or outcome.phase_right is False
        or outcome.tensor_right is False
    ]


def markdown(
    power: Power,
    environment: Mapping[str, str],
    reasons: Mapping[str, str],
    held_out: Mapping[str, Sequence[int]] | None = None,
) -> str:
    """Write the whole table; `reasons` say why a trial did not go as it should.

    `held_out` has hits and trials, by the names of the rows and others, of faults and changes that were drawn after the
    code was written.
    """
    held_out = held_out or {}
    lines = ["# Power of the judge", "", "Repeat with `python -m compare power`.", ""]
    lines += [f"- {name}: {value}" for name, value in environment.items()]
    lines += ["", "| | count | 95 % interval (Clopper–Pearson) | held out |", "|---|---|---|---|"]
    counted = {name: (count, interval) for name, count, interval in rows(power)}
    for name in dict.fromkeys((*counted, *held_out)):
        count, interval = counted.get(name, ("–", "–"))
        unseen = "{} of {}".format(*held_out[name]) if name in held_out else "–"
        lines.append(f"| {name} | {count} | {interval} | {unseen} |")
    if held_out:
        source = "`benchmarks/faults.md` says how they were drawn; `python -m benchmarks.mutations` repeats them."
        lines += ["", f"Held out: mutations of both packages that were drawn after the code was written. {source}"]
    lines += [
        "",
        "## Planted faults",
        "",
        "| fault | runner | verdict | phase | tensor | what the judge said |",
        "|---|---|---|---|---|---|",
    ]
    for outcome in power.faults:
        marks = [_mark(outcome.phase_right), _mark(outcome.tensor_right)]
        said = outcome.said.splitlines()[0] if outcome.said else ""
        tensor = f"{marks[1]} `{outcome.tensor}`" if outcome.tensor else marks[1]
        why = f" **{reasons[outcome.name]}**" if outcome.name in reasons else ""
        lines.append(f"| {outcome.name} | {outcome.runner} | {outcome.status} | {marks[0]} | {tensor} | {said}{why} |")
    drawn = "Drawn from every option of models, data and trainings (`compare/calibration/null_cases.py`)."
    lines += ["", "## Null runs", "", drawn]
    lines += ["The largest error / tolerance of each null run:", ""]
    lines += ["| | median | 90 % | 99 % | largest |", "|---|---|---|---|---|"]
    lines.append(
        _distribution("checked steps, against the reference", [outcome.step_share for outcome in power.null_runs])
    )
    lines.append(
        _distribution("trajectory, against the ensemble", [outcome.trajectory_share for outcome in power.null_runs])
    )
    alarms = [outcome for outcome in power.null_runs if outcome.status != "agrees"]
    lines += ["", *(f"- {outcome.name} on {outcome.runner}: {outcome.status}; {outcome.said}" for outcome in alarms)]
    return "\n".join(lines).rstrip() + "\n"


def _distribution(name: str, ratios: Sequence[float | None]) -> str:
    known = sorted(ratio for ratio in ratios if ratio is not None)
    if not known:
        return f"| {name} | – | – | – | – |"
    at = [known[min(len(known) - 1, int(part * len(known)))] for part in (0.5, 0.9, 0.99)]
    return f"| {name} | " + " | ".join(f"{value:.2f}" for value in (*at, known[-1])) + " |"


def _mark(right: bool | None) -> str:
    return {True: "right", False: "wrong", None: "–"}[right]
