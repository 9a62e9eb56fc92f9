"""The command `bench`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compare.cli.options import add_backend_option, add_device_option
from compare.cli.output import FAILED, INTERNAL_ERROR, internal_error
from compare.errors import InputError


def add_bench(commands: Any) -> None:
    """Add `bench` to the command line."""
    bench = commands.add_parser(
        "bench",
        help="what a step costs beside the stock training loop of each framework",
        description="Time the runners here beside the stock training loop of each framework, in turn, in one run.",
    )
    bench.set_defaults(command=_bench)
    bench.add_argument("cases", nargs="*", metavar="CASE", help="a built-in name or a TOML file (default: the suite)")
    add_backend_option(bench)
    add_device_option(bench)
    bench.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field, repeatable")
    bench.add_argument("--rounds", type=int, metavar="N", help="rounds of each way of training (default: 9)")
    bench.add_argument("--write", metavar="FILE", help="write a Markdown table, and its plot beside it as SVG")
    bench.add_argument("--growth", action="store_true", help="how the cost of a verdict grows, of one built-in cell")
    bench.add_argument("--budget", type=float, metavar="SECONDS", help="of a value of --growth (default: 60)")
    bench.add_argument("--json", action="store_true", help="the rows on standard output, nothing else there")
    bench.add_argument("--quiet", action="store_true", help="no progress")


def _bench(options: argparse.Namespace) -> int:
    from rich.console import Console

    from compare.api import choose_cases
    from compare.bench.bench import ROUNDS, BenchError, run_bench
    from compare.config.case import parse_setting
    from compare.report.bench_table import draw_bench, markdown, print_bench
    from compare.storage import file_to_write, write_text
    from compare.workers.backends import check_device, choose_backends, machine

    rounds = ROUNDS if options.rounds is None else options.rounds
    if rounds < 1:
        raise InputError(f"--rounds {rounds} must be at least 1")
    check_device(options.device)
    cases = choose_cases(options.cases or None, dict(map(parse_setting, options.set)))
    backends = choose_backends(options.backend)
    if options.budget is not None and not options.growth:
        raise InputError("--budget is of --growth")
    table = file_to_write("--write", options.write) if options.write else None
    picture = file_to_write("--write", table.with_suffix(".svg")) if table else None

    def say(line: str) -> None:
        if not options.quiet:
            print(line, file=sys.stderr, flush=True)

    if options.growth:
        return _growth(options, backends, table, say)
    bench = run_bench(cases, backends, rounds, say, options.device)
    for of, error in bench.failures:
        message = f"{of}: {error}" if isinstance(error, BenchError) else internal_error(error, prefix=f"{of}: ")
        print(f"rnn-parity: {message}", file=sys.stderr)
    if options.json:
        print(json.dumps(bench.as_json(), indent=1))
    else:
        print_bench(Console(highlight=False), bench)
    if table and picture:
        write_text(table, markdown(bench, machine(), picture.name))
        write_text(picture, draw_bench(bench))
    if not bench.failures:
        return 0
    return FAILED if all(isinstance(error, BenchError) for _, error in bench.failures) else INTERNAL_ERROR


def _growth(
    options: argparse.Namespace, backends: Sequence[str], table: Path | None, say: Callable[[str], None]
) -> int:
    from rich.console import Console

    from compare.bench.growth import BUDGET, measure_growth
    from compare.config.case import DEFAULT_SUITE
    from compare.report.growth_table import draw_growth, markdown, print_growth
    from compare.storage import file_to_write, write_json, write_text
    from compare.workers.backends import machine

    if len(options.cases) != 1 or options.cases[0] not in DEFAULT_SUITE or options.set or options.rounds:
        raise InputError(
            f"--growth takes one of {', '.join(DEFAULT_SUITE)}, whose sizes it sets, and no --set or --rounds"
        )
    budget = BUDGET if options.budget is None else options.budget
    if not budget > 0:
        raise InputError(f"--budget {budget} must be positive")
    beside = [file_to_write("--write", table.with_suffix(suffix)) for suffix in (".svg", ".json")] if table else []
    growth = measure_growth(options.cases[0], backends, budget, say)
    if options.json:
        print(json.dumps(growth.as_json(), indent=1))
    else:
        print_growth(Console(highlight=False), growth)
    if table:
        write_text(table, markdown(growth, machine(), beside[0].name))
        write_text(beside[0], draw_growth(growth))
        write_json(beside[1], growth.model.as_json())
    return 0
