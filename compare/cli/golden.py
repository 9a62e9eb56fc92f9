"""The commands `record` and `check`: golden traces, kept and compared with today's training."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from compare.cli.options import add_backend_option, add_case_options, add_out_option, add_work_options, chosen_cases
from compare.cli.output import command_line, print_outcome


def add_record(commands: Any) -> None:
    """Add `record` to the command line."""
    command = commands.add_parser(
        "record",
        help="train cases and keep their traces, to compare later trainings with",
        description="Train each case on both sides, judge, and keep the traces.",
    )
    command.set_defaults(command=_record)
    add_case_options(command)
    _add_golden_options(command)


def add_check(commands: Any) -> None:
    """Add `check` to the command line."""
    command = commands.add_parser(
        "check",
        help="train recorded cases again and compare each side with its golden trace",
        description="Train recorded cases again and compare each side with its golden trace.",
    )
    command.set_defaults(command=_check)
    command.add_argument("cases", nargs="*", metavar="CASE", help="a recorded case (default: all)")
    add_backend_option(command, "all that were recorded")
    add_out_option(command)
    _add_golden_options(command)


def _add_golden_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--golden", required=True, metavar="DIR", help="the folder of the golden traces")
    python = "another interpreter for a side: torch, keras-torch, tensorflow, jax; NumPy, safetensors, framework in it"
    command.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help=python)
    add_work_options(command)


def _record(options: argparse.Namespace) -> int:
    from compare.api import check_work, show_progress
    from compare.golden.record import record_golden
    from compare.run.plan import plan, prepare
    from compare.workers.backends import choose_backends
    from compare.workers.interpreters import read_interpreters
    from compare.workers.pool import Pool
    from compare.workers.temporary_folder import TemporaryFolder

    check_work(options.jobs, options.timeout, options.device)
    backends = choose_backends(options.backend)
    experiments = prepare(chosen_cases(options))
    golden, interpreters = Path(options.golden), read_interpreters(options.python)
    jobs = options.jobs or os.cpu_count() or 1
    cases = [experiment.case for experiment in experiments]
    trainings = sum(len(plan(experiment, backends, golden)) for experiment in experiments)
    with (
        TemporaryFolder() as logs,
        Pool(logs, jobs, options.timeout, interpreters=interpreters, device=options.device) as pool,
        show_progress(trainings, cases, not options.quiet) as on_event,
    ):
        verdict, recorded = record_golden(experiments, backends, golden, pool, on_event)
    print_outcome(options, verdict)
    for case in cases:
        outcome = f"kept in {golden / case.name}" if case.name in recorded else "not kept, since a runner failed"
        print(f"Golden trace of {case.name}: {outcome}", file=sys.stderr)
    return verdict.exit_code


def _check(options: argparse.Namespace) -> int:
    from compare.api import check_work, show_progress, write_reports
    from compare.golden.check import check_golden, trainings
    from compare.golden.store import held_golden
    from compare.run.folder import folder_of_now, results_folder
    from compare.workers.backends import choose_backends
    from compare.workers.interpreters import read_interpreters
    from compare.workers.pool import Pool

    check_work(options.jobs, options.timeout, options.device)
    chosen = choose_backends(options.backend) if options.backend or os.environ.get("KERAS_BACKEND") else None
    interpreters = read_interpreters(options.python)
    out = Path(options.out or folder_of_now())
    jobs = options.jobs or os.cpu_count() or 1
    with held_golden(Path(options.golden), options.cases, chosen) as goldens, results_folder(out):
        cases = [golden.experiment.case for golden in goldens]
        tasks = sum(len(trainings(golden, out)) for golden in goldens)
        with Pool(out / "logs", jobs, options.timeout, interpreters=interpreters, device=options.device) as pool:
            with show_progress(tasks, cases, not options.quiet) as on_event:
                verdict = check_golden(goldens, out, pool, on_event)
            threads = pool.threads
        write_reports(verdict, cases, out, threads, command_line(), options.device)
    print_outcome(options, verdict, out)
    return verdict.exit_code
