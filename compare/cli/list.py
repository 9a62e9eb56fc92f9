"""The command `list`."""

import argparse
import json
from typing import Any


def add_list(commands: Any) -> None:
    """Add the command and its options."""
    listing = commands.add_parser("list", help="built-in cases, data sets and the backends found here")
    listing.set_defaults(command=_list)
    listing.add_argument("--json", action="store_true", help="as JSON")


def _list(options: argparse.Namespace) -> int:
    from compare.config.case import built_in_names, load_case
    from compare.data.datasets import DATASETS
    from compare.workers.backends import BACKENDS, version

    cases = [load_case(name) for name in built_in_names()]
    backends = {name: version(name) for name in BACKENDS}
    if options.json:
        content = {
            "cases": [{"name": case.name, "task": case.task} for case in cases],
            "backends": backends,
            "datasets": list(DATASETS),
        }
        print(json.dumps(content, indent=1))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=False)
    for case in cases:
        model = f"{case.model.cell}, {case.model.layers} × {case.model.units} units"
        table.add_row("case", case.name, f"{case.task}, {model}, {case.data.dataset}")
    for name, installed in backends.items():
        table.add_row("backend", name, installed or "not installed")
    for name, dataset in DATASETS.items():
        table.add_row("data set", name, dataset.description)
    Console(highlight=False).print(table)
    return 0
