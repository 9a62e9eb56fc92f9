"""The command `explain`."""

import argparse
import json
from pathlib import Path
from typing import Any

from compare.cli.run import folder_of_now
from compare.errors import InputError
from compare.workers.backends import machine


def add_explain(commands: Any) -> None:
    """Add the command and its options."""
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

    from compare.explain.entry import explain_pair
    from compare.explain.pair_file import read_pair
    from compare.judge.verdict import Verdict
    from compare.report.explain_page import print_explanation, write_explanation
    from compare.storage import new_folder, write_json
    from compare.workers.backends import choose_backends

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
