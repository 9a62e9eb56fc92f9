"""`python -m compare sweep`: a grid of cases, on this machine or on Ray."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from compare.errors import InputError


def add_sweep(commands: Any) -> None:
    """Add the command and its options."""
    sweep = commands.add_parser(
        "sweep",
        help="a grid of cases, on this machine or on Ray",
        description="Train and judge every case of a grid. Given the same --out again, it goes on where it stopped.",
    )
    sweep.set_defaults(command=_sweep)
    sweep.add_argument("file", metavar="SWEEP.toml", help="the base case and lists of what is tried")
    sweep.add_argument("--on", choices=("local", "ray"), default="local", help="where (default: local)")
    sweep.add_argument("--address", metavar="ADDRESS", help="a running Ray cluster (default: one started here)")
    sweep.add_argument("--out", metavar="DIR", help="folder of the results (default: runs/<time>)")
    sweep.add_argument("--jobs", type=int, metavar="N", help="trainings at a time (default: the number of cores)")
    sweep.add_argument(
        "--timeout",
        type=float,
        default=600,
        metavar="SECONDS",
        help="longest silence of a runner, on Ray longest training (default: 600)",
    )
    sweep.add_argument("--json", action="store_true", help="the counts on standard output, nothing else there")
    sweep.add_argument("--quiet", action="store_true", help="no progress, only the conclusion")


def _sweep(options: argparse.Namespace) -> int:
    from compare.backends import machine
    from compare.report.sweep_page import sweep_conclusion, write_sweep_page
    from compare.run_command import folder_of_now
    from compare.sweep.grid import read_sweep
    from compare.sweep.running import Place, run_sweep
    from compare.sweep.table import write_table

    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs {options.jobs} must be at least 1")
    if not options.timeout > 0:
        raise InputError(f"--timeout {options.timeout:g} must be more than 0 seconds")
    if options.address is not None and options.on != "ray":
        raise InputError(f"--address {options.address} is of a Ray cluster; give --on ray too")
    sweep = read_sweep(Path(options.file))
    points = list(sweep.points())
    out = Path(options.out or folder_of_now())
    place = Place(options.on, options.jobs or os.cpu_count() or 1, options.timeout, options.address)
    done = 0

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def on_done(point: Any, status: str, found: bool) -> None:
        nonlocal done
        done += 1
        if not options.quiet:
            say(f"[{done}/{len(points)}] {sweep.label(point)}: {status}{', found done' if found else ''}")

    outcome = run_sweep(sweep, points, out, place, say, on_done)
    table = write_table(outcome.rows, out)
    page = out / "report.html"
    environment = {**machine(), "where": options.on, "command": " ".join(["rnn-parity", *sys.argv[1:]])}
    write_sweep_page(sweep, outcome, environment, table, page)
    if options.json:
        print(json.dumps(outcome.as_json()))
        return outcome.exit_code
    print(sweep_conclusion(outcome))
    if not options.quiet:
        print(f"Table: {table}\nReport: {page}")
    return outcome.exit_code
