"""The command line: `python -m compare`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compare.backends import machine
from compare.bench_command import add_bench
from compare.errors import InputError, nearest
from compare.golden_command import add_check, add_record
from compare.run_command import add_run, folder_of_now
from compare.sweep_command import add_sweep

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
    add_run(commands)
    _add_list(commands)
    _add_power(commands)
    _add_explain(commands)
    add_record(commands)
    add_check(commands)
    add_bench(commands)
    add_sweep(commands)
    names = list(commands.choices)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given = ["run", *given]
    if given[0] not in names and not given[0].startswith("-"):
        raise InputError(f"command {given[0]!r} is unknown; {nearest(given[0], names)} (a case goes after run)")
    return parser.parse_args(given)


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
    out = Path(options.out or folder_of_now())
    with new_folder(out):
        comparison = explain_pair(pair, backend, out, options.timeout)
    verdict = Verdict([comparison])
    write_json(out / "verdict.json", verdict.as_json())
    write_explanation(comparison, machine(), out / "report.html")
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
    from compare.storage import file_to_write

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

    from compare.power import read_reasons
    from compare.report.power_table import markdown, print_power

    if options.json:
        print(json.dumps(table.as_json(), indent=1))
    else:
        print_power(Console(highlight=False), table)
    if target is not None:
        target.write_text(markdown(table, machine(), read_reasons()), "utf-8")


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
