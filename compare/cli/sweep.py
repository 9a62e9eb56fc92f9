"""`python -m compare sweep`: a grid of cases, on this machine or on Ray."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from compare.cli.options import add_out_option, add_place_options, add_work_options
from compare.cli.output import command_line
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
    add_place_options(sweep)
    sweep.add_argument("--metric", metavar="NAME", help="what cases are ranked by (default: mse, of classes accuracy)")
    add_out_option(sweep)
    add_work_options(sweep, timeout="longest silence of a runner, on Ray longest training")


def _sweep(options: argparse.Namespace) -> int:
    from rich.console import Console

    from compare.api import check_work, checked_place
    from compare.report.sweep_page import print_ranking, sweep_conclusion, write_sweep_page
    from compare.run.folder import folder_of_now
    from compare.sweep.grid import read_sweep
    from compare.sweep.ranking import check_metric, rank
    from compare.sweep.running import run_sweep
    from compare.sweep.table import write_table
    from compare.workers.backends import machine

    check_work(options.jobs, options.timeout, options.device)
    jobs = options.jobs or os.cpu_count() or 1
    where = checked_place(options.on, options.address, jobs, options.timeout, options.device)
    sweep = read_sweep(Path(options.file))
    if sweep.tune.get("space"):
        raise InputError(f"{options.file}: the ranges of [tune.space] are for `tune`; a sweep takes lists, in [grid]")
    points = list(sweep.points())
    metric = check_metric(sweep.experiment(points[0]).case.task, options.metric)
    out = Path(options.out or folder_of_now())
    done = 0

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def on_done(point: Any, status: str, was_done: bool) -> None:
        nonlocal done
        done += 1
        if not options.quiet:
            say(f"[{done}/{len(points)}] {sweep.label(point)}: {status}{', found done' if was_done else ''}")

    outcome = run_sweep(sweep, points, out, where, say, on_done)
    table = write_table(outcome.rows, out)
    page = out / "report.html"
    environment = {**machine(), "where": options.on, "device": options.device, "command": command_line()}
    ranking = rank(sweep, outcome.rows, metric)
    write_sweep_page(sweep, outcome, environment, table, page, metric, ranking)
    if options.json:
        print(json.dumps(outcome.as_json()))
        return outcome.exit_code
    if not options.quiet:
        print_ranking(Console(highlight=False), metric, ranking)
    print(sweep_conclusion(outcome))
    if not options.quiet:
        print(f"Table: {table}\nReport: {page}")
    return outcome.exit_code
