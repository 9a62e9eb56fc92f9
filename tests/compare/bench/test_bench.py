"""`bench` times every way of training beside the stock loop, in turn, and says what it measured."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.small_runs import tiny_case

from compare.bench.bench import ENGINES, Bench, BenchError, Child, check_case, run_bench
from compare.bench.cost import operations
from compare.config.case import built_in_names, load_case
from compare.errors import InputError
from compare.experiment.experiment import make_experiment
from compare.report.bench_table import draw_bench, markdown

PLAIN = ("simple_rnn", "lstm", "gru", "deep", "co2", "elnino")


# A process for each way of training imports a framework: of eight ways three stand for all every day.
QUICK = ("compiled, fast layers",)


@pytest.fixture(
    scope="module", params=[QUICK, pytest.param(tuple(ENGINES), marks=pytest.mark.slow)], ids=["few", "all"]
)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Two rounds of a tiny GRU on PyTorch and on Keras's torch backend."""
    engines = {name: fields for name, fields in ENGINES.items() if name in request.param}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compare.bench.bench.ENGINES", engines)
        yield run_bench([tiny_case("gru")], ["torch"], rounds=2)


def test_every_way_of_training_has_its_row(bench: Bench, request: pytest.FixtureRequest) -> None:
    """Each runner's stock loop comes first, then what is recorded here; only torch has fast layers."""
    ways = [(row.runner, row.engine) for row in bench.rows]
    engines = request.node.callspec.params["bench"]
    recorded = ["stock", *(way for way in engines if way in ("compiled", "compiled, losses alone"))]
    assert ways == [*(("torch", way) for way in recorded), *(("keras-torch", way) for way in ("stock", *engines))]
    assert {row.kernel for row in bench.rows if row.engine == "compiled, fast layers"} == {"bptt"}


def test_figures_of_a_row_belong_together(bench: Bench) -> None:
    """The median lies between the extremes, the stock loop is the measure of its runner, nothing is left out."""
    for row in bench.rows:
        middle, least, most = row.ms_per_step
        assert 0 < least <= middle <= most
        (stock,) = (other for other in bench.rows if (other.runner, other.engine) == (row.runner, "stock"))
        assert row.stock_ms_per_step == stock.ms_per_step[0]
        assert (row.ratio == 1) == (row.engine == "stock")
        assert row.first_step_s > 0
        assert row.peak_memory_mib > 10
        assert 0 < row.arithmetic < 1
        assert row.device == "cpu"
    assert bench.notes


def test_json_has_what_others_rely_on(bench: Bench) -> None:
    """The keys of the contract are there, as numbers and words."""
    rows = json.loads(json.dumps(bench.as_json()))["rows"]
    assert len(rows) == len(bench.rows)
    for row in rows:
        assert {"cell", "runner", "engine"} <= {key for key, value in row.items() if isinstance(value, str)}
        numbers = {key for key, value in row.items() if isinstance(value, float)}
        assert {"ms_per_step", "stock_ms_per_step", "ratio"} <= numbers


def test_table_and_picture_show_every_row(bench: Bench) -> None:
    """The Markdown has a line for each row and names the picture; the picture has a label for each."""
    table = markdown(bench, {"Python": "3"}, "speed.svg")
    assert "](speed.svg)" in table
    for row in bench.rows:
        assert f"| {row.runner} | {row.engine} |" in table
        assert f"{row.case}, {row.runner}, {row.engine}<" in draw_bench(bench)


def test_operations_are_those_of_the_matrix_products() -> None:
    """A GRU of 4 units on one feature: 3 gates of products (1 + 4) x 4 at each of 10 timesteps, and a head of 4 x 1."""
    experiment = make_experiment(tiny_case("gru"))
    assert operations(experiment) == 3 * (2 * 16 * 10 * 3 * 4 * (1 + 4) + 2 * 16 * 4 * 1)


@pytest.mark.parametrize("name", built_in_names())
def test_cases_whose_stock_loop_is_not_known_are_refused(name: str) -> None:
    """Plain forecasting is taken; anything that the stock loops would leave out is not."""
    if name in PLAIN:
        check_case(load_case(name))
    else:
        with pytest.raises(InputError, match="bench takes forecasting with plain layers, Adam and mse"):
            check_case(load_case(name))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dropout"], "case dropout: bench takes forecasting with plain layers"),
        (["--rounds", "0"], "--rounds 0 must be at least 1"),
        (["--write", "nowhere/speed.md"], "--write nowhere/speed.md cannot be written: there is no folder nowhere"),
        (["--write", "."], "--write . is a folder: give a file"),
    ],
    ids=["case", "rounds", "no folder", "a folder"],
)
def test_bad_input_is_refused(refused: Callable[..., str], arguments: list[str], words: str) -> None:
    """What cannot be timed is refused before anything is started."""
    assert words in refused("bench", *arguments)


def test_a_process_that_fails_is_named(tmp_path: Path) -> None:
    """A side that cannot train ends the bench with its own last words."""
    with pytest.raises(BenchError, match=r"torch, compiled: FileNotFoundError.*experiment.json"):
        Child("torch", "compiled", tmp_path / "nothing")


class FakeChild:
    """A way of training that takes a second."""

    def __init__(self, runner: str) -> None:
        self.runner, self.engine, self.peak_memory_mib = runner, "stock", 100.0
        self.seconds: list[float] = []
        execution = {"kernel": "fused", "device": "cpu"}
        self.facts = {"first_step_s": 1.0, "execution": execution} | ({SPEED: 1e9} if runner == "torch" else {})

    def train(self, epochs: int) -> None:
        """Train."""
        self.seconds.append(1.0)


SPEED = "operations_per_second"


@pytest.mark.parametrize(("error", "code"), [(KeyError("planted"), 70), (BenchError("planted"), 3)])
@pytest.mark.parametrize("fails", ["torch", "keras-torch"])
def test_what_goes_wrong_with_one_runner_loses_no_other_row(
    command: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, code: int, fails: str
) -> None:
    """The rows of the others are printed; an error of this project's own has a log and exits 70, a runner's exits 3."""

    @contextmanager
    def children(experiment: object, runner: str, device: str) -> Iterator[list[FakeChild]]:
        if runner == fails:
            raise error
        yield [FakeChild(runner)]

    monkeypatch.setattr("compare.bench.bench._children", children)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    outcome = command("bench", "lstm", "--backend", "torch", "--rounds", "1", "--json", "--quiet")
    measured = json.loads(outcome.output)
    assert outcome.code == code
    assert {row["runner"] for row in measured["rows"]} == {"torch", "keras-torch"} - {fails}
    assert [failure["of"] for failure in measured["failures"]] == [f"lstm {fails}"]
    assert f"rnn-parity: lstm {fails}: " in outcome.errors
    logs = list(tmp_path.glob("rnn-parity-error-*/error.log"))
    assert [str(log) in outcome.errors for log in logs] == [True] * (code == 70)
