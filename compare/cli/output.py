"""What commands that train cases print."""

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `--help` is quick
    from compare.config.case import Case
    from compare.effect.equivalence import Effect
    from compare.judge import Verdict

# The exit codes of what failed by a runner or the disk, and by this project itself.
FAILED, INTERNAL_ERROR = 3, 70


def internal_error(error: Exception, out: str | None = None, prefix: str = "") -> str:
    """Say that this project itself went wrong; the traceback is written into the folder of the results.

    Where there is none, it is written into a temporary one.
    """
    folder = Path(out) if out and Path(out).is_dir() else Path(tempfile.mkdtemp(prefix="rnn-parity-error-"))
    log = folder / "error.log"
    log.write_text("\n".join([" ".join(sys.argv), *traceback.format_exception(error)]), "utf-8")
    return f"{prefix}internal error: {type(error).__name__}: {error}; please report it with {log}"


def command_line() -> str:
    """Return the command as it was given."""
    return " ".join(["rnn-parity", *sys.argv[1:]])


def print_outcome(
    options: argparse.Namespace,
    verdict: "Verdict",
    out: Path | None = None,
    matched: "Sequence[Case]" = (),
    effects: "Sequence[Effect]" = (),
) -> None:
    """Print a verdict as `--json` and `--quiet` say, and how the two sides of the cases `matched` were matched."""
    from rich.console import Console

    from compare.report.console import print_known_differences, print_verdict
    from compare.report.effect import sentences
    from compare.report.wording import conclusion
    from compare.results import verdict_json

    for comparison in verdict.comparisons:
        if comparison.internal_error:
            print(f"rnn-parity: {comparison.case}, {comparison.runner}: {comparison.error}", file=sys.stderr)
    if options.json:
        print(json.dumps(verdict_json(verdict, effects), indent=1))
        return
    console = Console(highlight=False)
    if options.quiet:
        console.print(conclusion(verdict), markup=False, soft_wrap=True)
        return
    if matched:
        print_known_differences(console, matched)
        console.print()
    print_verdict(console, verdict, sentences(effects))
    console.print(f"Device: {options.device}", markup=False)
    if out is not None:
        console.print(f"Report: {out / 'report.html'}", markup=False, soft_wrap=True)
