"""The command `power`."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from compare.errors import InputError
from compare.workers.backends import machine


def add_power(commands: Any) -> None:
    """Add the command and its options."""
    power = commands.add_parser("power", help="plant every fault, run clean cases, count what the judge finds")
    power.set_defaults(command=_power)
    power.add_argument("--quick", action="store_true", help="a selection, under 3 minutes")
    power.add_argument("--clean", type=int, metavar="N", help="how many clean runs (default: 300, quick 12)")
    power.add_argument("--backend", nargs="+", metavar="NAME", help="default: KERAS_BACKEND, else all installed")
    power.add_argument("--out", default="runs/power", metavar="DIR", help="where to resume (default: runs/power)")
    power.add_argument("--write", metavar="FILE", help="the Markdown table (default: benchmarks/power.md, quick: none)")
    power.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="longest silence of a runner")
    power.add_argument("--json", action="store_true", help="the counts on standard output, nothing else there")


def _power(options: argparse.Namespace) -> int:
    from compare.calibration import power
    from compare.storage import file_to_write
    from compare.workers.backends import choose_backends
    from compare.workers.pool import Pool

    backends = choose_backends(options.backend)
    count = (
        options.clean if options.clean is not None else power.QUICK_CLEAN_RUNS if options.quick else power.CLEAN_RUNS
    )
    if count < 0:
        raise InputError(f"--clean {count} must not be negative")
    faults = [fault for fault in power.read_catalogue(power.faults_folder()) if fault.quick or not options.quick]
    trials = power.fault_trials(faults, backends) + power.clean_trials(count, backends)
    target = options.write or (None if options.quick else power.faults_folder().parents[1] / "benchmarks" / "power.md")
    written = file_to_write("--write", target) if target else None
    out = Path(options.out)
    done = 0

    def say(outcome: power.Outcome) -> None:
        nonlocal done
        done += 1
        print(f"[{done}] {outcome.name} on {outcome.runner}: {outcome.status}", file=sys.stderr, flush=True)

    with Pool(out / "logs", os.cpu_count() or 1, options.timeout) as pool:
        table = power.Power(list(power.run_trials(trials, out, pool, say)))
    _report_power(options, table, written)
    return table.exit_code


def _report_power(options: argparse.Namespace, table: Any, target: Path | None) -> None:
    from rich.console import Console

    from compare.calibration.power import read_reasons
    from compare.report.power_table import markdown, print_power

    if options.json:
        print(json.dumps(table.as_json(), indent=1))
    else:
        print_power(Console(highlight=False), table)
    if target is not None:
        target.write_text(markdown(table, machine(), read_reasons()), "utf-8")
