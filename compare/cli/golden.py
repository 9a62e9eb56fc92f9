"""The commands `record` and `check`: golden traces, kept and compared with today's training."""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from compare.cli.run import (
    add_case_options,
    add_work_options,
    check_work_options,
    chosen_cases,
    folder_of_now,
    planned,
    progress,
    report,
)

GOLDEN_HELP = "the folder of the golden traces"
PYTHON_HELP = "another interpreter for a side: torch, keras-torch, tensorflow, jax; NumPy, safetensors, framework in it"


def add_record(commands: Any) -> None:
    """Add `record` to the command line."""
    command = commands.add_parser(
        "record",
        help="train cases and keep their traces, to compare later trainings with",
        description="Train each case on both sides, judge, and keep the traces.",
    )
    command.set_defaults(command=_record)
    add_case_options(command)
    command.add_argument("--golden", required=True, metavar="DIR", help=GOLDEN_HELP)
    command.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help=PYTHON_HELP)
    add_work_options(command)


def add_check(commands: Any) -> None:
    """Add `check` to the command line."""
    command = commands.add_parser(
        "check",
        help="train recorded cases again and compare each side with its golden trace",
        description="Train recorded cases again and compare each side with its golden trace.",
    )
    command.set_defaults(command=_check)
    command.add_argument("cases", nargs="*", metavar="CASE", help="a recorded case (default: all)")
    command.add_argument("--golden", required=True, metavar="DIR", help=GOLDEN_HELP)
    command.add_argument(
        "--backend", nargs="+", metavar="NAME", help="default: KERAS_BACKEND, else all that were recorded"
    )
    command.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help=PYTHON_HELP)
    command.add_argument("--out", metavar="DIR", help="folder of the results (default: runs/<time>)")
    add_work_options(command)


def _record(options: argparse.Namespace) -> int:
    from rich.console import Console

    from compare.golden.golden import record_golden
    from compare.report.console import print_verdict
    from compare.report.wording import conclusion
    from compare.run.harness import prepare
    from compare.workers.backends import choose_backends
    from compare.workers.interpreters import read_interpreters
    from compare.workers.pool import Pool

    check_work_options(options)
    backends = choose_backends(options.backend)
    experiments = prepare(chosen_cases(options))
    golden, interpreters = Path(options.golden), read_interpreters(options.python)
    jobs = options.jobs or os.cpu_count() or 1
    cases = [experiment.case for experiment in experiments]
    with (
        tempfile.TemporaryDirectory(prefix="rnn-parity-") as logs,
        Pool(Path(logs), jobs, options.timeout, interpreters=interpreters) as pool,
        progress(options, planned(experiments, backends), cases) as on_event,
    ):
        verdict, kept = record_golden(experiments, backends, golden, pool, on_event)
    if options.json:
        print(json.dumps(verdict.as_json(), indent=1))
    elif options.quiet:
        print(conclusion(verdict))
    else:
        print_verdict(Console(highlight=False), verdict)
    for case in cases:
        done = f"kept in {golden / case.name}" if case.name in kept else "not kept, since a runner failed"
        print(f"Golden trace of {case.name}: {done}", file=sys.stderr)
    return verdict.exit_code


def _check(options: argparse.Namespace) -> int:
    from compare.golden.golden import check_golden, choose_golden, trainings
    from compare.run.harness import create_folder
    from compare.workers.backends import choose_backends
    from compare.workers.interpreters import read_interpreters
    from compare.workers.pool import Pool

    check_work_options(options)
    asked = options.backend or os.environ.get("KERAS_BACKEND")
    found = choose_golden(Path(options.golden), options.cases, choose_backends(options.backend) if asked else None)
    interpreters = read_interpreters(options.python)
    out = Path(options.out or folder_of_now())
    create_folder(out)
    cases = [golden.experiment.case for golden in found]
    tasks = sum(len(trainings(golden, out)) for golden in found)
    jobs = options.jobs or os.cpu_count() or 1
    with Pool(out / "logs", jobs, options.timeout, interpreters=interpreters) as pool:
        with progress(options, tasks, cases) as on_event:
            verdict = check_golden(found, out, pool, on_event)
        threads = pool.threads
    report(options, verdict, cases, out, threads, both_sides=False)
    return verdict.exit_code
