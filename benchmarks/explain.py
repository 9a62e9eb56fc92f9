"""Explain every pair file of tests/pairs on a backend, warm, and write their section of benchmarks/explain.md.

PYTHONPATH=tests python benchmarks/explain.py torch jax tensorflow
PYTHONPATH=tests python benchmarks/explain.py torch --seeds 1 2     # other data, weights and order of windows
"""

import argparse
import importlib.metadata
import itertools
import json
import math
import tempfile
import time
from pathlib import Path

from helpers.pairs import CAUSES, write_pair

from compare.explain.entry import explain_with
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides
from compare.workers.backends import BACKENDS, version

ROOT = Path(__file__).parents[1]
HEADING = "## `tests/pairs`"


def explain_all(backend: str, seed: int | None) -> dict[str, dict]:
    """Explain every pair file with the same two processes."""
    rows = {}
    with Sides(backend) as sides, tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(["correct_lstm", *CAUSES]):  # the first: imports, and each framework's first step
            pair = read_pair(str(write_pair(name, Path(folder), seed)))
            began = time.perf_counter()
            row = explain_with(sides, pair).as_json() | {"seconds": time.perf_counter() - began}
            rows[name] = row
            names = [cause["name"] for cause in row["causes"]]
            mark = "" if names == CAUSES[name] else f"  expected {CAUSES[name]}"
            print(f"[{number}] {backend} {name}: {row['status']} {names}{mark} {row['seconds']:.1f} s", flush=True)
            for note in row["notes"][1:]:
                print(f"      {note}", flush=True)
    return rows


def right(row: dict, wanted: list[str]) -> bool:
    """Whether the first cause is named first and nothing is confirmed that is not in the pair."""
    names = [cause["name"] for cause in row["causes"]]
    if not wanted:
        return row["status"] == "agrees" and not names
    return bool(names) and names[0] == wanted[0] and set(names) <= set(wanted)


def markdown(results: dict[str, dict[str, dict]]) -> str:
    """The page: counts by backend, then a row for each pair."""
    whole = {backend: rows for backend, rows in results.items() if backend in BACKENDS}
    command = "PYTHONPATH=tests python benchmarks/explain.py " + " ".join(whole)
    lines = [HEADING, "", f"    {command}", ""]
    versions = ", ".join(f"{name} {version(name)}" for name in BACKENDS)
    lines += [f"keras {importlib.metadata.version('keras')}, {versions}.", ""]
    wrong = [name for name, wanted in CAUSES.items() if wanted]
    lines += [
        "| Keras on | pairs with mistakes | right cause first, confirmed | every cause | "
        "confirmed wrongly | correct pairs | explained away | error / tolerance, at most | by the smallest mistake | "
        "seconds a pair, median | most |",
        "|" + "---|" * 11,
    ]
    for backend, rows in results.items():
        names = {pair: [cause["name"] for cause in row["causes"]] for pair, row in rows.items()}
        first = sum(bool(names[pair]) and names[pair][0] == CAUSES[pair][0] for pair in wrong)
        every = sum(names[pair] == CAUSES[pair] for pair in wrong)
        extra = sum(len(set(confirmed) - set(CAUSES[pair])) for pair, confirmed in names.items())
        clean = [pair for pair in CAUSES if not CAUSES[pair]]
        away = sum(bool(names[pair]) or rows[pair]["status"] != "agrees" for pair in clean)
        shares = {pair: row["largest_share_of_allowed"] for pair, row in rows.items()}
        seconds = sorted(row["seconds"] for row in rows.values())
        lines.append(
            f"| {backend} | {len(wrong)} | {first} ({first / len(wrong):.0%}) | {every} | {extra} | {len(clean)} | "
            f"{away} | {_times(max(shares[pair] or 0.0 for pair in clean))} | "
            f"{_times(min(shares[pair] or math.inf for pair in wrong))} | "
            f"{seconds[len(seconds) // 2]:.1f} | {seconds[-1]:.1f} |"
        )
    lines += [
        "",
        "With a seed every pair has other data and weights, and its windows are shuffled. The machine did other work",
        "too, so the seconds are upper bounds.",
        "",
        "`before → after` is the largest relative difference at the place where the cause shows, with all else fixed,",
        "before and after the cause is taken away; – where the two sides cannot be compared there.",
        "",
        "| pair | Keras on | first difference | causes confirmed, before → after |",
        "|---|---|---|---|",
    ]
    for pair, wanted in CAUSES.items():
        for backend, rows in whole.items():
            row = rows[pair]
            location = row["first_difference"]
            where = "–" if location is None else f"step {location['step']}, {location['phase']}, {location['tensor']}"
            causes = "; ".join(
                f"`{c['name']}` {_figure(c['error_before'])} → {_figure(c['error_after'])}" for c in row["causes"]
            )
            said = causes or ("agrees" if row["status"] == "agrees" else f"**{row['status']}, no cause**")
            lines.append(
                f"| {pair} | {backend} | {where} | {said}{'' if right(row, wanted) else ' **not as it should be**'} |"
            )
    return "\n".join(lines) + "\n"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if 0 < ratio < 10 else f"{ratio:.0f}" if 0 < ratio < math.inf else "–"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def main() -> None:
    """Explain all pairs on each backend and write the table; the rows of other backends are kept.

    Without a backend only the table is written again.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("backends", nargs="*")
    parser.add_argument("--seeds", nargs="+", type=int, default=[None])
    arguments = parser.parse_args()
    file = ROOT / "runs" / "explain.json"
    results = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for backend, seed in itertools.product(arguments.backends, arguments.seeds):
        name = backend if seed is None else f"{backend}, seed {seed}"
        results[name] = explain_all(backend, seed)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(results), "utf-8")
    results = {backend: rows for backend, rows in results.items() if rows.keys() == CAUSES.keys()}
    page = ROOT / "benchmarks" / "explain.md"
    others = page.read_text("utf-8").split(HEADING)[0]
    page.write_text(others + markdown(results), "utf-8")


if __name__ == "__main__":
    main()
