"""`python -m compare tune`: a search for the best fields of a case, on this machine or on Ray."""

import argparse
import json
from typing import Any

from compare.cli.options import add_out_option, add_place_options, add_work_options
from compare.cli.output import command_line


def add_tune(commands: Any) -> None:
    """Add the command and its options."""
    tune = commands.add_parser(
        "tune",
        help="the best fields of a case, by cross-validation",
        description="Search for the best fields of a case by cross-validation, and confirm it on both sides. "
        "Given the same --out again, it goes on where it stopped; several processes may share it.",
    )
    tune.set_defaults(command=_tune)
    tune.add_argument("file", metavar="SWEEP.toml", help="as of a sweep, with a table [tune]")
    tune.add_argument("--trials", type=int, metavar="N", help="how many in all (default: 20, of a grid all)")
    tune.add_argument("--metric", metavar="NAME", help="the score (default: mse, of classes accuracy)")
    tune.add_argument("--side", metavar="NAME", help="torch, keras-<backend> or both (default: torch)")
    add_place_options(tune)
    add_out_option(tune)
    add_work_options(tune, timeout="longest silence of a runner, on Ray longest training")


def _tune(options: argparse.Namespace) -> int:
    from rich.console import Console

    from compare import api
    from compare.report.tune_page import print_tuning, tune_conclusion

    result = api.tune(
        options.file,
        trials=options.trials,
        metric=options.metric,
        side=options.side,
        out=options.out,
        on=options.on,
        address=options.address,
        jobs=options.jobs,
        timeout=options.timeout,
        device=options.device,
        progress=not options.quiet,
        command=command_line(),
    )
    outcome = result.outcome
    if options.json:
        print(json.dumps(outcome.as_json(), indent=1))
        return outcome.exit_code
    console = Console(highlight=False)
    if options.quiet:
        console.print(tune_conclusion(outcome), markup=False, soft_wrap=True)
        return outcome.exit_code
    print_tuning(console, outcome)
    if outcome.file is not None:
        console.print(f"Best case: {outcome.file}", markup=False, soft_wrap=True)
    console.print(f"Report: {result.report}", markup=False, soft_wrap=True)
    return outcome.exit_code
