"""What a port came to, on the console."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from compare.report.explain_page import conclusion, print_explanation

if TYPE_CHECKING:
    from compare.port.ported import Ported


def print_port(console: Console, ported: "Ported") -> None:
    """Print what was written, what was proved, and where it differs."""
    for comparison in ported.comparisons:
        label = f"{comparison.case}, {comparison.runner}"
        if comparison.status == "agrees":
            told = conclusion(comparison) if comparison.steps else f"The same: {comparison.checks} checks."
            console.print(f"{label}: {told}", markup=False, soft_wrap=True)
        else:
            console.print(f"[bold]{escape(label)}[/]", soft_wrap=True)
            print_explanation(console, comparison)
    for note in ported.notes:
        console.print(f"[dim]{escape(note)}[/]", soft_wrap=True)
    if ported.folder is None:
        told = "Not proved, and not written: --unproved writes it nevertheless."
    else:
        told = f"{'Proved' if ported.proved else 'Not proved'}; written to {ported.folder}"
    console.print(f"[bold]{escape(told)}[/]", soft_wrap=True)
