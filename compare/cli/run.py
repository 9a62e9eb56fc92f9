"""The command `run`."""

import argparse
from typing import Any

from compare.cli.options import add_case_options, add_out_option, add_work_options, chosen_cases
from compare.cli.output import command_line, print_outcome


def add_run(commands: Any) -> None:
    """Add `run` to the command line."""
    run = commands.add_parser(
        "run",
        help="train each case on both sides and judge",
        description="Train each case on both sides and judge.",
    )
    run.set_defaults(command=_run)
    add_case_options(run)
    add_out_option(run)
    run.add_argument(
        "--require-kernel",
        action="append",
        default=[],
        metavar="[RUNNER=]NAME",
        help="exit 3 if a runner (default: every Keras runner) ran another recurrent kernel",
    )
    run.add_argument("--summary", metavar="FILE.md", help="write a summary for a pull request")
    run.add_argument("--tensorboard", metavar="DIR", help="write the curves for TensorBoard into a new folder")
    run.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="other seeds by which it is told whether a difference matters (default: 5 where cheap; 0: none)",
    )
    add_work_options(run)


def _run(options: argparse.Namespace) -> int:
    from compare import api

    result = api.run(
        chosen_cases(options),
        options.backend,
        out=options.out,
        jobs=options.jobs,
        timeout=options.timeout,
        device=options.device,
        kernels=options.require_kernel,
        progress=not options.quiet,
        command=command_line(),
        summary=options.summary,
        tensorboard=options.tensorboard,
        seeds=options.seeds,
    )
    print_outcome(options, result.verdict, result.out, result.cases, result.effects)
    return result.verdict.exit_code
