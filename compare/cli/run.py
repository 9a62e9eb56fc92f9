"""The command `run`, and what the commands that train cases have in common."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from compare.errors import InputError, nearest
from compare.workers.backends import REFERENCE_RUNNER, choose_backends, keras_runner, machine


def add_run(commands: Any) -> None:
    """Add `run` to the command line."""
    run = commands.add_parser(
        "run",
        help="train each case on both sides and judge",
        description="Train each case on both sides and judge.",
    )
    run.set_defaults(command=_run)
    add_case_options(run)
    run.add_argument("--out", metavar="DIR", help="folder of the results (default: runs/<time>)")
    run.add_argument(
        "--require-kernel",
        action="append",
        default=[],
        metavar="[RUNNER=]NAME",
        help="exit 3 if a runner (default: every Keras runner) ran another recurrent kernel",
    )
    add_work_options(run)


def add_case_options(command: argparse.ArgumentParser) -> None:
    """Add what says which cases are trained, on which backends."""
    command.add_argument("cases", nargs="*", metavar="CASE", help="a built-in name or a TOML file (default: the suite)")
    command.add_argument(
        "--backend",
        nargs="+",
        metavar="NAME",
        help="tensorflow, torch, jax (default: KERAS_BACKEND, else all installed)",
    )
    command.add_argument("--dtype", metavar="DTYPE", help="float32 or float64")
    command.add_argument("--epochs", type=int, metavar="N", help="epochs of training")
    command.add_argument("--seed", type=int, metavar="N", help="seed of data, schedule and weights")
    command.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of a case, repeatable"
    )
    command.add_argument("--csv", metavar="FILE", help="your own series, with a header line")
    command.add_argument("--target", metavar="COLUMN", help="the column to predict")
    command.add_argument(
        "--features", nargs="+", metavar="COLUMN", help="the columns to predict from (default: the target)"
    )
    command.add_argument("--all", action="store_true", help="every built-in case")
    command.add_argument(
        "--folds", type=int, metavar="K", help="cross-validate each series in time: K trainings, the past predicts"
    )
    command.add_argument("--stock", action="store_true", help="each framework's own optimizer defaults and biases")


def add_work_options(command: argparse.ArgumentParser, timeout: str = "longest silence of a runner") -> None:
    """Add what says how the work is done and what is printed; `timeout` says what is timed."""
    command.add_argument("--jobs", type=int, metavar="N", help="trainings at a time (default: the number of cores)")
    command.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help=f"{timeout} (default: 600)")
    command.add_argument("--json", action="store_true", help="the outcome on standard output, nothing else there")
    command.add_argument("--quiet", action="store_true", help="no progress, only the conclusion")


def check_work_options(options: argparse.Namespace) -> None:
    """Raise InputError for numbers that no work can be done with."""
    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs {options.jobs} must be at least 1")
    if not options.timeout > 0:
        raise InputError(f"--timeout {options.timeout:g} must be more than 0 seconds")


def folder_of_now() -> Path:
    """Name the folder of a run after the time."""
    return Path("runs") / datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S-%f")


def _run(options: argparse.Namespace) -> int:
    from compare.run.harness import create_out, prepare, run_cases
    from compare.workers.pool import Pool

    check_work_options(options)
    backends = choose_backends(options.backend)
    kernels = _required_kernels(options.require_kernel, backends)
    experiments = prepare(chosen_cases(options))
    out = Path(options.out or folder_of_now())
    create_out(out, [experiment.case for experiment in experiments], backends)
    with Pool(out / "logs", options.jobs or os.cpu_count() or 1, options.timeout) as pool:
        with progress(
            options, planned(experiments, backends), [experiment.case for experiment in experiments]
        ) as on_event:
            verdict = run_cases(experiments, backends, out, pool, on_event, kernels=kernels)
        threads = pool.threads
    report(options, verdict, [experiment.case for experiment in experiments], out, threads)
    return verdict.exit_code


def planned(experiments: Sequence[Any], backends: Sequence[str]) -> int:
    """Count the trainings of a run."""
    from compare.run.harness import plan

    return sum(len(plan(experiment, backends, Path())) for experiment in experiments)


def _required_kernels(given: Sequence[str], backends: Sequence[str]) -> dict[str, str]:
    from compare.run.harness import KERNELS

    keras_runners = [keras_runner(backend) for backend in backends]
    required: dict[str, str] = {}
    for text in given:
        runner, _, kernel = text.rpartition("=")
        if kernel not in KERNELS:
            raise InputError(f"--require-kernel {text!r}: kernel {kernel!r} is unknown; {nearest(kernel, KERNELS)}")
        if runner and runner not in (REFERENCE_RUNNER, *keras_runners):
            accepted = nearest(runner, [REFERENCE_RUNNER, *keras_runners])
            raise InputError(f"--require-kernel {text!r}: runner {runner!r} does not take part; {accepted}")
        required |= dict.fromkeys([runner] if runner else keras_runners, kernel)
    return required


def chosen_cases(options: argparse.Namespace) -> list[Any]:
    """Read the cases that the options of `add_case_options` say; raises InputError."""
    from compare.config.case import DEFAULT_SUITE, built_in_names, fold_cases, load_case, parse_setting, with_fields

    fields: dict[str, Any] = dict(parse_setting(text) for text in options.set)
    for field, value in {
        "dtype": options.dtype,
        "seed": options.seed,
        "training.epochs": options.epochs,
        "training.stock": True if options.stock else None,
    }.items():
        if value is not None:
            fields[field] = value
    if options.csv is not None:
        if options.target is None:
            raise InputError("--csv needs --target COLUMN, the column to predict")
        fields |= {"data.dataset": "csv", "data.csv": options.csv, "data.target": options.target}
        fields["data.features"] = tuple(options.features or ())
    elif options.target is not None or options.features is not None:
        raise InputError("--target and --features need --csv FILE")
    if options.all and options.cases:
        raise InputError(f"--all runs every built-in case; leave {', '.join(options.cases)} or --all out")
    names = built_in_names() if options.all else options.cases or DEFAULT_SUITE
    cases = [with_fields(load_case(name), fields) for name in names]
    return cases if options.folds is None else [fold for case in cases for fold in fold_cases(case, options.folds)]


def progress(options: argparse.Namespace, tasks: int, cases: Sequence[Any]) -> Any:
    """Show on standard error how a number of trainings goes; as a context, it gives what events are told to."""
    from contextlib import nullcontext

    from compare.report.console import ProgressBars, ProgressLines

    if options.quiet:
        return nullcontext(lambda event: None)
    if sys.stderr.isatty():
        return ProgressBars(tasks, {case.name: case.training.epochs for case in cases})
    return ProgressLines(tasks)


def write_reports(verdict: Any, cases: Sequence[Any], out: Path, threads: int, command: str) -> None:
    """Write a run's reports into its folder."""
    from compare.report.html import write_html
    from compare.report.junit import write_junit

    versions = {name: version for c in verdict.comparisons for name, version in c.versions.items()}
    conditions = {**machine(), **versions, "threads for each runner": str(threads), "command": command}
    write_html(verdict, cases, conditions, out / "report.html")
    write_junit(verdict, out / "junit.xml")


def report(
    options: argparse.Namespace, verdict: Any, cases: Sequence[Any], out: Path, threads: int, both_sides: bool = True
) -> None:
    """Write a run's reports into its folder and print its verdict, and how both sides were matched if there are two."""
    from rich.console import Console

    from compare.report.console import print_known_differences, print_verdict
    from compare.report.wording import conclusion

    write_reports(verdict, cases, out, threads, " ".join(["rnn-parity", *sys.argv[1:]]))
    if options.json:
        print(json.dumps(verdict.as_json(), indent=1))
        return
    console = Console(highlight=False)
    if options.quiet:
        console.print(conclusion(verdict), markup=False, soft_wrap=True)
        return
    if both_sides:
        print_known_differences(console, cases)
        console.print()
    print_verdict(console, verdict)
    console.print(f"Report: {out / 'report.html'}", markup=False, soft_wrap=True)
