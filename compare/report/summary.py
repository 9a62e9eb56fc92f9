"""The summary of a run as Markdown, for a pull request."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from compare.effect.equivalence import Effect
from compare.judge.verdict import Comparison, Verdict
from compare.report.console import SHOWN_METRICS, metric
from compare.report.effect import sentences
from compare.report.html import MARKS
from compare.report.wording import METRICS, conclusion, explain, figure, next_step, status, tolerance_ratio
from compare.storage import write_text

# What GitHub and others would take for markup.
MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~@&])")


def write_summary(verdict: Verdict, environment: Mapping[str, str], path: Path, effects: Sequence[Effect] = ()) -> None:
    """Write the conclusion, the table of comparisons, what differs with its causes, and the environment."""
    differing = [comparison for comparison in verdict.comparisons if comparison.status != "agrees"]
    parts = [
        f"### rnn-parity: {_plain(conclusion(verdict))}",
        _table(verdict.comparisons),
        *map(_difference, differing),
        *(f"- {_plain(' on '.join(place))}: {_plain(text)}" for place, text in sentences(effects).items()),
        _plain(next_step(verdict)),
        _details("Environment", [f"{_plain(name)}: {_plain(value)}" for name, value in environment.items()]),
    ]
    write_text(path, "\n\n".join(parts) + "\n")


def _table(comparisons: Sequence[Comparison]) -> str:
    metrics = [name for name in SHOWN_METRICS if any(name in c.metrics.get(c.runner, {}) for c in comparisons)]
    heads = ["case", "runner", "verdict", "steps", "loss", "error / tolerance", *(METRICS[name] for name in metrics)]
    rows = [heads, ["---", "---", "---", *["---:"] * (len(heads) - 3)]]
    for comparison in comparisons:
        figures = [figure(comparison.max_relative_loss_difference), tolerance_ratio(comparison)]
        figures += [metric(comparison, name) for name in metrics]
        name = status(comparison)
        rows.append([comparison.case, comparison.runner, f"{MARKS[name]} {name}", str(comparison.steps), *figures])
    escaped = [rows[0], rows[1], *([_plain(cell) for cell in row] for row in rows[2:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def _difference(comparison: Comparison) -> str:
    lines = [f"**{_plain(comparison.case)} on {_plain(comparison.runner)}**: {_plain(explain(comparison))}"]
    for cause in comparison.causes:
        proof = "confirmed" if cause.confirmed else "not confirmed"
        lines.append(f"- {_plain(cause.name)} ({proof}): {_plain(cause.message)}\n\n{_code(cause.fix)}")
    return "\n\n".join(lines)


def _details(title: str, lines: Sequence[str]) -> str:
    listed = "\n".join(f"- {line}" for line in lines)
    return f"<details><summary>{title}</summary>\n\n{listed}\n\n</details>"


def _code(text: str) -> str:
    """A block of code, within a fence that is longer than any in it."""
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _plain(text: str) -> str:
    """A text on one line, nothing in it markup."""
    return MARKUP.sub(r"\\\1", " ".join(text.split()))
