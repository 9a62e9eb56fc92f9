"""The command `explain`."""

import argparse
import json
from typing import Any

from compare.cli.options import add_out_option, add_timeout_option


def add_explain(commands: Any) -> None:
    """Add the command and its options."""
    explain = commands.add_parser(
        "explain", help="why a Keras model and its PyTorch port train differently, with proof"
    )
    explain.set_defaults(command=_explain)
    explain.add_argument("pair", metavar="PAIR.py", help="a file with data(), keras_side() and torch_side()")
    explain.add_argument(
        "--backend",
        nargs="+",
        metavar="NAME",
        help="default: KERAS_BACKEND, else the first; two for keras_side() alone",
    )
    explain.add_argument("--against", metavar="REV", help="compare torch_side() with that of a git revision")
    explain.add_argument(
        "--fix", metavar="FILE", help="write the pair file with every confirmed fix made to FILE, and judge it"
    )
    add_out_option(explain)
    add_timeout_option(explain, "longest silence of a side")
    explain.add_argument("--json", action="store_true", help="the comparison on standard output, nothing else there")


def _explain(options: argparse.Namespace) -> int:
    from rich.console import Console

    from compare import api
    from compare.judge import Verdict
    from compare.report.explain_page import print_explanation

    result = api.explain(
        options.pair,
        options.backend,
        out=options.out,
        timeout=options.timeout,
        progress=True,
        against=options.against,
        fix=options.fix,
    )
    if options.json:
        fixed = {} if result.fixed is None else {"fixed": result.fixed.as_json()}
        print(json.dumps(result.comparison.as_json() | fixed, indent=1))
    else:
        console = Console(highlight=False)
        print_explanation(console, result.comparison)
        console.print(f"Report: {result.report}", markup=False, soft_wrap=True)
    return Verdict([result.comparison]).exit_code
