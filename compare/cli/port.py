"""The command `port`."""

import argparse
import json
from typing import Any

from compare.cli.options import add_timeout_option


def add_port(commands: Any) -> None:
    """Add the command and its options."""
    port = commands.add_parser("port", help="a Keras model as PyTorch code, a PyTorch module as Keras code, with proof")
    port.set_defaults(command=_port)
    add = port.add_argument
    add("source", metavar="SOURCE", help="a .keras or .h5 file, or FILE.py:factory of a Keras model or nn.Module")
    add("--to", required=True, metavar="DIR", help="a new folder for what is written")
    add("--weights", metavar="FILE", help="a .weights.h5 file for the model that the factory makes")
    add(
        "--example",
        action="append",
        metavar="SHAPE",
        help="an input of the PyTorch module, the batch first: 32,10,1; 32,10:int<5000; 8:1<=int<11; 10,32b,1",
    )
    add("--with", dest="own", metavar="FILE.py", help="registers your own Keras layers, for a saved model")
    add("--trust", action="store_true", help="let code that the model file holds run")
    add("--unproved", action="store_true", help="write what is not proved too; the verdict says where it differs")
    add("--backend", nargs="+", metavar="NAME", help="of Keras, on which it is proved (default: torch)")
    add_timeout_option(port, "longest silence of a side")
    add("--json", action="store_true", help="the verdict on standard output, nothing else there")


def _port(options: argparse.Namespace) -> int:
    from rich.console import Console

    from compare import api
    from compare.report.port_page import print_port

    result = api.port(
        options.source,
        options.to,
        weights=options.weights,
        example=options.example,
        own=options.own,
        trust=options.trust,
        unproved=options.unproved,
        backend=options.backend,
        timeout=options.timeout,
        progress=True,
    )
    if options.json:
        print(json.dumps(result.as_json(), indent=1))
    else:
        print_port(Console(highlight=False), result)
    return 0 if result.proved else 1
