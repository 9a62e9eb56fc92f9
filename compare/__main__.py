"""The command line: `python -m compare`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from compare.errors import InputError, nearest

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise InputError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 agree, 1 differ, 2 bad input, 3 a runner failed, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parse(given)
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except InputError as error:
        print(f"rnn-parity: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rnn-parity: interrupted; the traces written so far are kept", file=sys.stderr)
        return INTERRUPTED


def _parse(given: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="rnn-parity",
        description="Train the same recurrent models in Keras 3 and in PyTorch and tell whether they agree.",
        epilog="Without a command: run. Exit codes: 0 all agree, 1 something differs, 2 bad usage or input, "
        "3 a runner could not do its work, 130 interrupted.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    _add_run(commands)
    _add_list(commands)
    _add_power(commands)
    _add_explain(commands)
    names = list(commands.choices)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given = ["run", *given]
    if given[0] not in names and not given[0].startswith("-"):
        raise InputError(f"command {given[0]!r} is unknown; {nearest(given[0], names)} (a case goes after run)")
    return parser.parse_args(given)


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="train each case on both sides and judge",
        description="Train each case on both sides and judge.",
    )
    run.set_defaults(command=_run)
    run.add_argument("cases", nargs="*", metavar="CASE", help="a built-in name or a TOML file (default: the suite)")
    run.add_argument(
        "--backend",
        nargs="+",
        metavar="NAME",
        help="tensorflow, torch, jax (default: KERAS_BACKEND, else all installed)",
    )
    run.add_argument("--dtype", metavar="DTYPE", help="float32 or float64")
    run.add_argument("--epochs", type=int, metavar="N", help="epochs of training")
    run.add_argument("--seed", type=int, metavar="N", help="seed of data, schedule and weights")
    run.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of a case, repeatable"
    )
    run.add_argument("--csv", metavar="FILE", help="your own series, with a header line")
    run.add_argument("--target", metavar="COLUMN", help="the column to predict")
    run.add_argument(
        "--features", nargs="+", metavar="COLUMN", help="the columns to predict from (default: the target)"
    )
    run.add_argument("--all", action="store_true", help="every built-in case")
    run.add_argument(
        "--folds", type=int, metavar="K", help="cross-validate each series in time: K trainings, the past predicts"
    )
    run.add_argument("--out", metavar="DIR", help="folder of the results (default: runs/<time>)")
    run.add_argument("--jobs", type=int, metavar="N", help="trainings at a time (default: the number of cores)")
    run.add_argument(
        "--timeout", type=float, default=600, metavar="SECONDS", help="longest silence of a runner (default: 600)"
    )
    run.add_argument(
        "--require-kernel",
        action="append",
        default=[],
        metavar="[RUNNER=]NAME",
        help="exit 3 if a runner (default: every Keras runner) ran another recurrent kernel",
    )
    run.add_argument("--stock", action="store_true", help="each framework's own optimizer defaults and biases")
    run.add_argument("--json", action="store_true", help="the verdict on standard output, nothing else there")
    run.add_argument("--quiet", action="store_true", help="no progress, only the conclusion")


def _add_list(commands: Any) -> None:
    listing = commands.add_parser("list", help="built-in cases, data sets and the backends found here")
    listing.set_defaults(command=_list)
    listing.add_argument("--json", action="store_true", help="as JSON")


def _add_power(commands: Any) -> None:
    power = commands.add_parser("power", help="plant every fault, run clean cases, count what the judge finds")
    power.set_defaults(command=_power)
    power.add_argument("--quick", action="store_true", help="a selection, under 3 minutes")
    power.add_argument("--clean", type=int, metavar="N", help="how many clean runs (default: 300, quick 12)")
    power.add_argument("--backend", nargs="+", metavar="NAME", help="default: KERAS_BACKEND, else all installed")
    power.add_argument("--out", default="runs/power", metavar="DIR", help="where to resume (default: runs/power)")
    power.add_argument("--write", metavar="FILE", help="the Markdown table (default: benchmarks/power.md, quick: none)")
    power.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="longest silence of a runner")
    power.add_argument("--json", action="store_true", help="the counts on standard output, nothing else there")


def _add_explain(commands: Any) -> None:
    explain = commands.add_parser(
        "explain", help="why a Keras model and its PyTorch port train differently, with proof"
    )
    explain.set_defaults(command=_explain)
    explain.add_argument("pair", metavar="PAIR.py", help="a file with data(), keras_side() and torch_side()")
    explain.add_argument("--backend", metavar="NAME", help="default: KERAS_BACKEND, else the first that is installed")
    explain.add_argument("--out", metavar="DIR", help="folder of the report (default: runs/<time>)")
    explain.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="longest silence of a side")
    explain.add_argument("--json", action="store_true", help="the comparison on standard output, nothing else there")


def _run(options: argparse.Namespace) -> int:
    from compare.backends import choose_backends
    from compare.harness import create_out, prepare, run_cases
    from compare.runners import Pool

    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs {options.jobs} must be at least 1")
    if not options.timeout > 0:
        raise InputError(f"--timeout {options.timeout:g} must be more than 0 seconds")
    backends = choose_backends(options.backend)
    kernels = _required_kernels(options.require_kernel, backends)
    starts = prepare(_chosen_cases(options))
    out = Path(options.out or Path("runs") / datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S-%f"))
    create_out(out, [start.case for start in starts], backends)
    with Pool(out / "logs", options.jobs or os.cpu_count() or 1, options.timeout) as pool:
        with _progress(options, starts, backends) as on_event:
            verdict = run_cases(starts, backends, out, pool, on_event, kernels=kernels)
        threads = pool.threads
    _report(options, verdict, [start.case for start in starts], out, threads)
    return verdict.exit_code


def _required_kernels(given: Sequence[str], backends: Sequence[str]) -> dict[str, str]:
    from compare.backends import REFERENCE_RUNNER, keras_runner
    from compare.harness import KERNELS

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


def _chosen_cases(options: argparse.Namespace) -> list[Any]:
    from compare.case import DEFAULT_SUITE, built_in_names, fold_cases, load_case, parse_setting, with_fields

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


def _progress(options: argparse.Namespace, starts: Sequence[Any], backends: Sequence[str]) -> Any:
    from contextlib import nullcontext

    from compare.harness import plan
    from compare.report.console import ProgressBars, ProgressLines

    if options.quiet:
        return nullcontext(lambda event: None)
    tasks = sum(len(plan(start, backends, Path())) for start in starts)
    if sys.stderr.isatty():
        return ProgressBars(tasks, {start.case.name: start.case.training.epochs for start in starts})
    return ProgressLines(tasks)


def _report(options: argparse.Namespace, verdict: Any, cases: Sequence[Any], out: Path, threads: int) -> None:
    from rich.console import Console

    from compare.report.console import print_known_differences, print_verdict
    from compare.report.html import write_html
    from compare.report.junit import write_junit
    from compare.report.wording import conclusion

    versions = {name: version for c in verdict.comparisons for name, version in c.versions.items()}
    environment = {
        **_environment(),
        **versions,
        "threads for each runner": str(threads),
        "command": " ".join(["rnn-parity", *sys.argv[1:]]),
    }
    write_html(verdict, cases, environment, out / "report.html")
    write_junit(verdict, out / "junit.xml")
    if options.json:
        print(json.dumps(verdict.as_json(), indent=1))
        return
    console = Console(highlight=False)
    if options.quiet:
        console.print(conclusion(verdict), markup=False, soft_wrap=True)
        return
    print_known_differences(console, cases)
    console.print()
    print_verdict(console, verdict)
    console.print(f"Report: {out / 'report.html'}", markup=False, soft_wrap=True)


def _explain(options: argparse.Namespace) -> int:
    from rich.console import Console

    from compare.backends import choose_backends
    from compare.explain import explain_pair
    from compare.judge.verdict import Verdict
    from compare.pair import read_pair
    from compare.report.explain_page import print_explanation, write_explanation
    from compare.storage import new_folder, write_json

    if not options.timeout > 0:
        raise InputError(f"--timeout {options.timeout:g} must be more than 0 seconds")
    pair = read_pair(options.pair)
    backend = choose_backends([options.backend] if options.backend else None)[0]
    out = Path(options.out or Path("runs") / datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S-%f"))
    with new_folder(out):
        comparison = explain_pair(pair, backend, out, options.timeout)
    verdict = Verdict([comparison])
    write_json(out / "verdict.json", verdict.as_json())
    write_explanation(comparison, _environment(), out / "report.html")
    if options.json:
        print(json.dumps(comparison.as_json(), indent=1))
    else:
        console = Console(highlight=False)
        print_explanation(console, comparison)
        console.print(f"Report: {out / 'report.html'}", markup=False, soft_wrap=True)
    return verdict.exit_code


def _power(options: argparse.Namespace) -> int:
    from compare import power
    from compare.backends import choose_backends
    from compare.runners import Pool

    backends = choose_backends(options.backend)
    count = (
        options.clean if options.clean is not None else power.QUICK_CLEAN_RUNS if options.quick else power.CLEAN_RUNS
    )
    if count < 0:
        raise InputError(f"--clean {count} must not be negative")
    faults = [fault for fault in power.read_catalogue(power.faults_folder()) if fault.quick or not options.quick]
    trials = power.fault_trials(faults, backends) + power.clean_trials(count, backends)
    out = Path(options.out)
    done = 0

    def say(outcome: power.Outcome) -> None:
        nonlocal done
        done += 1
        print(f"[{done}] {outcome.name} on {outcome.runner}: {outcome.status}", file=sys.stderr, flush=True)

    with Pool(out / "logs", os.cpu_count() or 1, options.timeout) as pool:
        table = power.Power(list(power.run_trials(trials, out, pool, say)))
    _report_power(options, table)
    return table.exit_code


def _report_power(options: argparse.Namespace, table: Any) -> None:
    from rich.console import Console

    from compare.power import faults_folder, read_reasons
    from compare.report.power_table import markdown, print_power

    if options.json:
        print(json.dumps(table.as_json(), indent=1))
    else:
        print_power(Console(highlight=False), table)
    target = options.write or (None if options.quick else faults_folder().parents[1] / "benchmarks" / "power.md")
    if target:
        Path(target).write_text(markdown(table, _environment(), read_reasons()), "utf-8")


def _environment() -> dict[str, str]:
    import importlib.metadata
    import platform

    from compare.backends import BACKENDS, version

    versions = {name: version(name) or "not installed" for name in BACKENDS}
    return {
        "Python": platform.python_version(),
        "keras": importlib.metadata.version("keras"),
        **versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _list(options: argparse.Namespace) -> int:
    from compare.backends import BACKENDS, version
    from compare.case import built_in_names, load_case
    from compare.datasets import DATASETS

    cases = [load_case(name) for name in built_in_names()]
    backends = {name: version(name) for name in BACKENDS}
    if options.json:
        content = {
            "cases": [{"name": case.name, "task": case.task} for case in cases],
            "backends": backends,
            "datasets": list(DATASETS),
        }
        print(json.dumps(content, indent=1))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=False)
    for case in cases:
        model = f"{case.model.cell}, {case.model.layers} × {case.model.units} units"
        table.add_row("case", case.name, f"{case.task}, {model}, {case.data.dataset}")
    for name, found in backends.items():
        table.add_row("backend", name, found or "not installed")
    for name, dataset in DATASETS.items():
        table.add_row("data set", name, dataset.words)
    Console(highlight=False).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
