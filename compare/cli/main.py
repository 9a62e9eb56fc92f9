"""The command line: `python -m compare`."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from compare.cli.bench import add_bench
from compare.cli.explain import add_explain
from compare.cli.golden import add_check, add_record
from compare.cli.list import add_list
from compare.cli.output import FAILED, INTERNAL_ERROR, internal_error
from compare.cli.port import add_port
from compare.cli.power import add_power
from compare.cli.run import add_run
from compare.cli.sweep import add_sweep
from compare.cli.tune import add_tune
from compare.errors import InputError, nearest

INTERRUPTED, CLOSED_PIPE = 130, 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise InputError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 all agree, 1 something differs and nothing else, 2 bad input, 3 a runner failed or a disk is full, 70 an error of
    this project's own, 130 interrupted; 141, as of any program, where nobody reads the output any more.
    """
    options = None
    try:
        options = _parse(list(sys.argv[1:] if arguments is None else arguments))
        code: int = options.command(options)
        sys.stdout.flush()
        return code
    except InputError as error:
        return _end(2, str(error))
    except KeyboardInterrupt:
        return _end(INTERRUPTED, "interrupted; the traces written so far are kept")
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code != 1:  # with 1 rich ends where a pipe is closed
            raise
        _drop_output()
        return CLOSED_PIPE
    except Exception as error:
        from compare.storage import FULL  # `--help` is quick

        if isinstance(error, OSError) and error.errno in FULL:
            if error.filename is None:
                _drop_output()
            return _end(FAILED, f"{error.filename or 'standard output'} cannot be written: {error.strerror}")
        return _end(INTERNAL_ERROR, internal_error(error, getattr(options, "out", None)))


def _end(code: int, message: str) -> int:
    with contextlib.suppress(OSError):
        print(f"rnn-parity: {message}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Let Python's own flush at exit find a place to write to."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="rnn-parity",
        description="Train the same recurrent models in Keras 3 and in PyTorch and tell whether they agree.",
        epilog="Without a command: run. Exit codes: 0 all agree, 1 something differs, 2 bad usage or input, "
        "3 a runner could not do its work, 70 an error of this project's own, 130 interrupted, 141 closed output.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    add_run(commands)
    add_list(commands)
    add_power(commands)
    add_explain(commands)
    add_port(commands)
    add_record(commands)
    add_check(commands)
    add_bench(commands)
    add_sweep(commands)
    add_tune(commands)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks; else `--help` is quick
        import argcomplete

        argcomplete.autocomplete(parser)
    names = list(commands.choices)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["run", *arguments]
    if arguments[0] not in names and not arguments[0].startswith("-"):
        raise InputError(f"command {arguments[0]!r} is unknown; {nearest(arguments[0], names)} (a case goes after run)")
    return parser.parse_args(arguments)
