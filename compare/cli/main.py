"""The command line: `python -m compare`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from compare.cli.bench import add_bench
from compare.cli.explain import add_explain
from compare.cli.golden import add_check, add_record
from compare.cli.list import add_list
from compare.cli.power import add_power
from compare.cli.run import add_run
from compare.cli.sweep import add_sweep
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
    add_run(commands)
    add_list(commands)
    add_power(commands)
    add_explain(commands)
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
