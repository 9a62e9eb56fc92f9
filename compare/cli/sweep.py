"""`python -m compare sweep`: a grid of cases, on this machine or on Ray."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from compare.cli.options import add_out_option, add_work_options
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
    sweep.add_argument("--on", choices=("local", "ray"), default="local", help="where (default: local)")
    sweep.add_argument("--address", metavar="ADDRESS", help="a running Ray cluster (default: one started here)")
    add_out_option(sweep)
    add_work_options(sweep, timeout="longest silence of a runner, on Ray longest training")


def _sweep(options: argparse.Namespace) -> int:
    from compare.api import check_work
    from compare.report.sweep_page import sweep_conclusion, write_sweep_page
    from compare.run.folder import folder_of_now
    from compare.sweep.grid import read_sweep
    from compare.sweep.running import Where, run_sweep
    from compare.sweep.table import write_table
    from compare.workers.backends import machine

    check_work(options.jobs, options.timeout, options.device)
    if options.address is not None and options.on != "ray":
        raise InputError(f"--address {options.address} is of a Ray cluster; give --on ray too")
    if options.device != "cpu" and options.on == "ray":
        raise InputError("on Ray every runner computes on the CPU; give --device cpu or --on local")
    sweep = read_sweep(Path(options.file))
    if sweep.tune.get("space"):
        raise InputError(f"{options.file}: the ranges of [tune.space] are for `tune`; a sweep takes lists, in [grid]")
    points = list(sweep.points())
    out = Path(options.out or folder_of_now())
    where = Where(options.on, options.jobs or os.cpu_count() or 1, options.timeout, options.address, options.device)
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
    write_sweep_page(sweep, outcome, environment, table, page)
    if options.json:
        print(json.dumps(outcome.as_json()))
        return outcome.exit_code
    print(sweep_conclusion(outcome))
    if not options.quiet:
        print(f"Table: {table}\nReport: {page}")
    return outcome.exit_code
