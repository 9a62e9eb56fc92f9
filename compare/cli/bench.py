"""The command `bench`."""

import argparse
import json
import sys
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
    table = file_to_write("--write", options.write) if options.write else None
    picture = file_to_write("--write", table.with_suffix(".svg")) if table else None

    def say(line: str) -> None:
        if not options.quiet:
            print(line, file=sys.stderr, flush=True)

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
