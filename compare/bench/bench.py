"""What a training step costs: every runner here beside the stock loop of its framework, in turn, in one run."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from compare.bench.cost import operations
from compare.config.case import Case, with_fields
from compare.config.model import ModelConfig
from compare.config.training import TrainingConfig
from compare.errors import InputError
from compare.experiment.experiment import Experiment, make_experiment, write_experiment
from compare.storage import FULL
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.process import ChildProcess, ProcessError
from compare.workers.protocol import Answer, Failed, Reply, Request
from compare.workers.temporary_folder import TemporaryFolder

SERVICE = "compare.bench.rounds:Rounds"

ROUNDS = 9
EPOCHS = 4  # in a round: about a hundred steps of a default case

# How each side is trained, beside "stock", by the fields of the case that make it so.
ENGINES: dict[str, dict[str, Any]] = {
    "compiled": {},
    "compiled, losses alone": {"training.record": "loss"},
    "fit": {"training.engine": "fit"},
    "compiled, fast layers": {"training.keras_layers": "fast"},
}


@dataclass(frozen=True)
class Row:
    """What one way of training cost: milliseconds a step, (median, least, most) over the rounds.

    `ratio` is the median over the rounds of this step's time by the stock step's in the same round, `arithmetic` the
    share of the step that its products of matrices would take at the speed measured here, None where it was not.
    """

    case: str
    cell: str
    runner: str
    engine: str
    ms_per_step: tuple[float, float, float]
    stock_ms_per_step: float
    ratio: float
    first_step_s: float
    peak_memory_mib: float
    arithmetic: float | None
    kernel: str
    device: str

    def as_json(self) -> dict[str, Any]:
        """The form in which `--json` has it."""
        middle, least, most = self.ms_per_step
        return {
            **{name: value for name, value in vars(self).items() if name != "ms_per_step"},
            "ms_per_step": middle,
            "ms_per_step_least": least,
            "ms_per_step_most": most,
        }


@dataclass(frozen=True)
class Bench:
    """What was measured: a row for each way of training, and what the machine is.

    `failures` says of which case and runner there are no rows, and why.
    """

    rows: Sequence[Row]
    operations_per_second: float
    rounds: int
    steps_in_a_round: int
    notes: Sequence[str]
    failures: Sequence[tuple[str, Exception]] = ()

    def as_json(self) -> dict[str, Any]:
        """The form in which `--json` has it."""
        facts = {
            "operations_per_second": self.operations_per_second,
            "notes": list(self.notes),
            "failures": [{"of": of, "error": f"{type(error).__name__}: {error}"} for of, error in self.failures],
        }
        return {"rows": [row.as_json() for row in self.rows], **facts}


class BenchError(RuntimeError):
    """A process that could not do its work: which, and the end of what it printed."""


class Child:
    """A process that trains one side in one way."""

    def __init__(self, runner: str, engine: str, experiment: Path, device: str = "cpu") -> None:
        self.runner, self.engine = runner, engine
        self.seconds: list[float] = []
        self.peak_memory_mib = 0.0
        self.process = ChildProcess(SERVICE, runner, os.cpu_count() or 1, device=device)
        self._answer()  # that it is ready
        self.facts = self._ask("prepare", engine=engine, folder=str(experiment))

    def train(self, epochs: int) -> None:
        """Train a round and keep how long it took."""
        facts = self._ask("train", epochs=epochs)
        self.seconds.append(facts["seconds"])
        self.peak_memory_mib = facts["peak_memory_mib"]

    def _ask(self, action: str, **options: Any) -> dict[str, Any]:
        self.process.send(Request(action, options))
        answer = self._answer()
        assert isinstance(answer, Answer)  # a round has no progress to tell
        return answer.facts

    def _answer(self) -> Reply:
        """Wait for a reply, however long a round takes."""
        try:
            reply = self.process.receive()
        except ProcessError as ended:
            last = ended.log.splitlines()[-1:]
            raise BenchError(f"{self.runner}, {self.engine}: the process {': '.join([ended.how, *last])}") from None
        if isinstance(reply, Failed):
            self.process.end()
            raise BenchError(f"{self.runner}, {self.engine}: {reply.error}")
        return reply


def run_bench(
    cases: Sequence[Case],
    backends: Sequence[str],
    rounds: int = ROUNDS,
    say: Callable[[str], None] = lambda line: None,
    device: str = "cpu",
) -> Bench:
    """Measure every way of training the cases; the ways of one runner take their rounds in turn.

    What goes wrong with one runner, a BenchError where a process fails, costs its own rows and no others. Raises
    InputError for a case that the stock loops do not train.
    """
    for case in cases:
        check_case(case)
    rows: list[Row] = []
    failures: list[tuple[str, Exception]] = []
    speed = 0.0
    experiments = [make_experiment(case) for case in cases]
    for experiment in experiments:
        for runner in (REFERENCE_RUNNER, *map(keras_runner, backends)):
            try:
                with _children(experiment, runner, device) as children:
                    speed = speed or children[0].facts.get("operations_per_second", 0.0)
                    for number in range(rounds):
                        for child in children:
                            child.train(EPOCHS)
                        say(f"{experiment.case.name} {runner}: round {number + 1} of {rounds}")
                    rows += [_row(experiment, child, children[0], speed) for child in children]
            except Exception as error:
                if isinstance(error, OSError) and error.errno in FULL:
                    raise
                failures.append((f"{experiment.case.name} {runner}", error))
    steps = EPOCHS * experiments[0].steps_per_epoch
    return Bench(rows, speed, rounds, steps, _notes(rows), failures)


def check_case(case: Case) -> None:
    """Raise InputError where a case is more than the stock loops train: plain sequences, Adam as it comes, MSE."""
    model = ModelConfig(cell=case.model.cell, units=case.model.units, layers=case.model.layers)
    training = TrainingConfig(epochs=case.training.epochs, batch_size=case.training.batch_size)
    if case.model != model or case.training != training or case.task != "forecasting" or case.data.padding != "none":
        raise InputError(
            f"case {case.name}: bench takes forecasting with plain layers, Adam and mse, whose stock loops are known; "
            "cell, units, layers, epochs, batch_size, dtype and data may be any"
        )


@contextmanager
def _children(experiment: Experiment, runner: str, device: str) -> Iterator[list[Child]]:
    with TemporaryFolder() as folder, ExitStack() as stack:
        children = []
        for number, (engine, fields) in enumerate({"stock": {}, **ENGINES}.items()):
            if runner == REFERENCE_RUNNER and {"training.engine", "training.keras_layers"} & fields.keys():
                continue
            if "training.keras_layers" in fields and runner != keras_runner("torch"):
                continue
            location = folder / str(number)
            write_experiment(replace(experiment, case=with_fields(experiment.case, fields)), location)
            child = Child(runner, engine, location, device)
            stack.callback(child.process.end)
            children.append(child)
        yield children


def _row(experiment: Experiment, child: Child, stock: Child, speed: float) -> Row:
    steps = EPOCHS * experiment.steps_per_epoch
    times = [seconds / steps * 1e3 for seconds in child.seconds]
    stock_times = [seconds / steps * 1e3 for seconds in stock.seconds]
    return Row(
        case=experiment.case.name,
        cell=experiment.case.model.cell,
        runner=child.runner,
        engine=child.engine,
        ms_per_step=(median(times), min(times), max(times)),
        stock_ms_per_step=median(stock_times),
        ratio=median(time / stock_time for time, stock_time in zip(times, stock_times, strict=True)),
        first_step_s=child.facts["first_step_s"],
        peak_memory_mib=child.peak_memory_mib,
        arithmetic=operations(experiment) / speed / (median(times) / 1e3) if speed else None,
        kernel=child.facts["execution"]["kernel"],
        device=child.facts["execution"]["device"],
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    if any(row.device == "cuda" for row in rows):
        return []
    return ["everything ran on the CPU, nothing was measured on a GPU (--device cuda)"]
