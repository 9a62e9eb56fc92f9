"""The options that several commands take."""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compare.errors import InputError

if TYPE_CHECKING:  # `--help` is quick
    from compare.config.case import Case


class _Field(argparse.Action):
    """An option that says what a field of every case is; kept in `options.fields`."""

    def __init__(self, *names: Any, field: str, **options: Any) -> None:
        super().__init__(*names, **options)
        self.field = field

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        namespace.fields = {**namespace.fields, self.field: True if self.nargs == 0 else value}


def add_case_options(command: argparse.ArgumentParser) -> None:
    """Add what says which cases are trained, on which backends; `chosen_cases` reads them."""
    command.set_defaults(fields={})
    add = command.add_argument
    cases = add("cases", nargs="*", metavar="CASE", help="a built-in name or a TOML file (default: the suite)")
    cases.completer = _complete_case  # type: ignore[attr-defined]  # as argcomplete wants it
    add("--all", action="store_true", help="every built-in case")
    add_backend_option(command)
    add("--dtype", action=_Field, field="dtype", metavar="DTYPE", help="float32 or float64")
    add("--epochs", action=_Field, field="training.epochs", type=int, metavar="N", help="epochs of training")
    add("--seed", action=_Field, field="seed", type=int, metavar="N", help="seed of data, schedule and weights")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field of a case, repeatable")
    add("--csv", action=_Field, field="data.csv", metavar="FILE", help="your own series, with a header line")
    add("--target", action=_Field, field="data.target", metavar="COLUMN", help="the column to predict")
    features = "the columns to predict from (default: the target)"
    add("--features", action=_Field, field="data.features", nargs="+", metavar="COLUMN", help=features)
    folds = "cross-validate each series in time: K trainings, the past predicts"
    add("--folds", type=int, metavar="K", help=folds)
    stock = "each framework's own optimizer defaults and biases"
    add("--stock", action=_Field, field="training.stock", nargs=0, help=stock)


def _complete_case(prefix: str, **_: Any) -> list[str]:
    """Name the cases that a shell can complete a word to."""
    from glob import glob

    from compare.config.case import built_in_names

    return [name for name in [*built_in_names(), *glob("*.toml")] if name.startswith(prefix)]


def chosen_cases(options: argparse.Namespace) -> "list[Case]":
    """Read the cases that the options of `add_case_options` say; raises InputError."""
    from compare.api import choose_cases
    from compare.config.case import built_in_names, parse_setting

    fields: dict[str, Any] = dict(map(parse_setting, options.set))
    if "data.csv" in options.fields:
        if "data.target" not in options.fields:
            raise InputError("--csv needs --target COLUMN, the column to predict")
        fields |= {"data.dataset": "csv", "data.features": ()}
    elif options.fields.keys() & {"data.target", "data.features"}:
        raise InputError("--target and --features need --csv FILE")
    if options.all and options.cases:
        raise InputError(f"--all runs every built-in case; leave {', '.join(options.cases)} or --all out")
    names: Sequence[str] | None = built_in_names() if options.all else options.cases or None
    return choose_cases(names, fields | options.fields, options.folds)


def add_backend_option(command: argparse.ArgumentParser, default: str = "all installed") -> None:
    """Add `--backend`; `default` says what is used without it and without KERAS_BACKEND."""
    names = f"tensorflow, torch, jax (default: KERAS_BACKEND, else {default})"
    backend = command.add_argument("--backend", nargs="+", metavar="NAME", help=names)
    backend.completer = lambda **_: ("tensorflow", "torch", "jax")  # type: ignore[attr-defined]


def add_out_option(command: argparse.ArgumentParser) -> None:
    """Add `--out`."""
    command.add_argument("--out", metavar="DIR", help="folder of the results (default: runs/<time>)")


def add_place_options(command: argparse.ArgumentParser) -> None:
    """Add what says where the cases of a file are run."""
    command.add_argument("--on", choices=("local", "ray"), default="local", help="where (default: local)")
    command.add_argument("--address", metavar="ADDRESS", help="a running Ray cluster (default: one started here)")


def add_work_options(command: argparse.ArgumentParser, timeout: str = "longest silence of a runner") -> None:
    """Add what says how the work is done and what is printed; `timeout` says what is timed."""
    command.add_argument("--jobs", type=int, metavar="N", help="trainings at a time (default: the number of cores)")
    add_device_option(command)
    add_limit_options(command)
    add_timeout_option(command, timeout)
    command.add_argument("--json", action="store_true", help="the outcome on standard output, nothing else there")
    command.add_argument("--quiet", action="store_true", help="no progress, only the conclusion")


def add_device_option(command: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    command.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda, of all runners (default: cpu)")


class _Limit(argparse.Action):
    """A limit, kept in the environment, where every process finds it."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        if not value > 0:
            raise InputError(f"{option} {value:g} must be more than 0")
        os.environ[str(self.const)] = str(value)


def add_limit_options(command: argparse.ArgumentParser) -> None:
    """Add the soft limits of what a case may take, estimated before anything is allocated."""
    for option, unit, variable, default in (
        ("--limit-memory", "GIB", "RNN_PARITY_LIMIT_MEMORY", "this machine's"),
        ("--limit-hours", "HOURS", "RNN_PARITY_LIMIT_HOURS", "24"),
    ):
        what = f"refuse cases that would take more (default: {default})"
        command.add_argument(option, action=_Limit, const=variable, type=float, metavar=unit, help=what)


def add_timeout_option(command: argparse.ArgumentParser, timed: str = "longest silence of a runner") -> None:
    """Add `--timeout`; `timed` says of what."""
    command.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help=f"{timed} (default: 600)")
