"""The command `power`."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from compare.cli.options import add_backend_option, add_timeout_option
from compare.errors import InputError


def add_power(commands: Any) -> None:
    """Add the command and its options."""
    power = commands.add_parser("power", help="plant every fault, train null runs, count what the judge finds")
    power.set_defaults(command=_power)
    power.add_argument("--quick", action="store_true", help="a selection, under 3 minutes")
    null_runs = "trainings with nothing planted (default: 300, quick 12)"
    power.add_argument("--null-runs", type=int, metavar="N", help=null_runs)
    power.add_argument("--clean", dest="null_runs", type=int, help=argparse.SUPPRESS)  # its earlier name
    power.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first null run (default 0)")
    add_backend_option(power)
    power.add_argument("--out", default="runs/power", metavar="DIR", help="where to resume (default: runs/power)")
    power.add_argument("--write", metavar="FILE", help="the Markdown table (default: benchmarks/power.md, quick: none)")
    add_timeout_option(power)
    power.add_argument("--json", action="store_true", help="the counts on standard output, nothing else there")


def _power(options: argparse.Namespace) -> int:
    from rich.console import Console

    from compare.calibration import power
    from compare.report.power_table import markdown, print_power
    from compare.run.folder import locked
    from compare.storage import file_to_write, read_json, write_text
    from compare.workers.backends import choose_backends, machine
    from compare.workers.pool import Pool

    backends = choose_backends(options.backend)
    default = power.QUICK_NULL_RUNS if options.quick else power.NULL_RUNS
    count = default if options.null_runs is None else options.null_runs
    if count < 0:
        raise InputError(f"--null-runs {count} must not be negative")
    faults = [fault for fault in power.read_catalogue(power.faults_folder()) if fault.quick or not options.quick]
    trials = power.fault_trials(faults, backends) + power.null_trials(count, backends, options.first)
    target = options.write or (None if options.quick else power.faults_folder().parents[1] / "benchmarks" / "power.md")
    file = file_to_write("--write", target) if target else None
    out = Path(options.out)
    done = 0

    def say(outcome: power.Outcome) -> None:
        nonlocal done
        done += 1
        print(f"[{done}] {outcome.name} on {outcome.runner}: {outcome.status}", file=sys.stderr, flush=True)

    def on_damage(message: str) -> None:
        print(f"rnn-parity: {message}", file=sys.stderr, flush=True)

    out.mkdir(parents=True, exist_ok=True)
    with locked(out), Pool(out / "logs", os.cpu_count() or 1, options.timeout) as pool:
        table = power.Power(list(power.run_trials(trials, out, pool, say, on_damage)))
    if options.json:
        print(json.dumps(table.as_json(), indent=1))
    else:
        print_power(Console(highlight=False), table)
    if file is not None:
        held_out = read_json(power.faults_folder().parents[1] / "benchmarks" / "held_out.json")
        write_text(file, markdown(table, machine(), power.read_reasons(), held_out))
    return table.exit_code
