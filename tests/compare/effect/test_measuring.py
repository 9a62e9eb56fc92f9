"""With other seeds the data stay, the weights change, and an effect is measured of what differs alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.small_runs import tiny_case
from helpers.tune_runs import PretendedPool

import compare
from compare.effect.measuring import CHEAP_SECONDS, measure_effects
from compare.experiment.experiment import make_experiment, read_experiment, write_experiment
from compare.judge import Comparison
from compare.storage import write_json
from compare.workers.tasks import Task

EXPERIMENT = make_experiment(tiny_case("lstm", {"training.epochs": 1}))
DIFFERS = Comparison("lstm", "keras-torch", "torch", "float32", "differs")


def off(case: Any) -> float:
    """Predictions that get worse with the seed, on both sides alike."""
    return 0.5 + 0.1 * (case.seed % 7)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run's folder, with the traces of both sides."""
    folder = tmp_path / "lstm"
    write_experiment(EXPERIMENT, folder / "experiment")
    tasks = [Task(name, "lstm", folder / "experiment", folder / name) for name in ("torch", "keras-torch")]
    assert [event.kind for event in PretendedPool(off).run(tasks)] == ["done", "done"]
    return tmp_path


def test_what_differs_is_trained_with_other_seeds(out: Path) -> None:
    """Both sides are trained with each other seed, from the same data and other weights, once."""
    pool = PretendedPool(off)
    (effect,) = measure_effects([EXPERIMENT], [DIFFERS], out, pool, 3)  # type: ignore[arg-type]
    assert (effect.case, effect.runner, effect.seeds) == ("lstm", "keras-torch", (0, 1, 2, 3))
    assert sorted(pool.done) == sorted(3 * ["lstm keras-torch", "lstm torch"])
    assert [figure.name for figure in effect.figures] == ["mse", "mae", "r2"]
    assert effect.answer == "negligible"
    other = read_experiment(out / "lstm" / "seeds" / "1" / "experiment")
    data, weights = EXPERIMENT.examples.arrays(), EXPERIMENT.weights
    assert all((other.examples.arrays()[name] == array).all() for name, array in data.items())
    assert any((other.weights[name] != array).any() for name, array in weights.items())
    again = PretendedPool(off)
    assert measure_effects([EXPERIMENT], [DIFFERS], out, again, 3) == [effect]  # type: ignore[arg-type]
    assert again.done == []


@pytest.mark.parametrize(
    ("comparison", "seeds"),
    [(replace(DIFFERS, status="agrees"), 3), (replace(DIFFERS, status="failed"), 3), (DIFFERS, 0)],
    ids=["agrees", "failed", "no-seeds"],
)
def test_nothing_is_trained_where_nothing_is_asked(out: Path, comparison: Comparison, seeds: int) -> None:
    """What agrees or failed has no effect to measure, and with no seeds none is."""
    pool = PretendedPool(off)
    assert measure_effects([EXPERIMENT], [comparison], out, pool, seeds) == []  # type: ignore[arg-type]
    assert pool.done == []


def test_long_trainings_are_not_repeated_unasked(out: Path) -> None:
    """Where other seeds would take long it is said how long, and how to have them; asked for, they are trained."""
    for side in ("torch", "keras-torch"):
        write_json(out / "lstm" / side / "end.json", {"seconds": CHEAP_SECONDS})
    pool = PretendedPool(off)
    (effect,) = measure_effects([EXPERIMENT], [DIFFERS], out, pool, None)  # type: ignore[arg-type]
    assert pool.done == []
    assert effect.note == "not measured: 5 other seeds take about 600 s; give --seeds 5"
    measure_effects([EXPERIMENT], [DIFFERS], out, pool, 1)  # type: ignore[arg-type]
    assert len(pool.done) == 2


def test_trainings_that_fail_are_told(out: Path) -> None:
    """Where the trainings of other seeds fail no figure is made of what is missing, and the reason is said."""
    (effect,) = measure_effects([EXPERIMENT], [DIFFERS], out, PretendedPool(lambda case: None), 2)  # type: ignore[arg-type]
    assert effect.figures == ()
    assert effect.note == "4 of 4 trainings failed: it broke"
    assert effect.as_json()["answer"] is None


def test_an_error_of_its_own_leaves_the_verdict(out: Path) -> None:
    """Whatever goes wrong here is said in a note: the verdict and the exit code are made already."""
    (out / "lstm" / "seeds").write_text("a file where a folder is to be")
    (effect,) = measure_effects([EXPERIMENT], [DIFFERS], out, PretendedPool(off), 2)  # type: ignore[arg-type]
    assert effect.note.startswith("not measured: NotADirectoryError")


def test_a_negative_number_is_refused(refused: Callable) -> None:
    """A number of seeds below zero is a mistake."""
    assert "--seeds -1 must not be negative" in refused("run", "lstm", "--seeds", "-1")


@pytest.mark.slow
def test_a_run_says_whether_its_difference_matters(tmp_path: Path) -> None:
    """Stock settings differ; the run says by how many seeds that matters or not, and its exit code stays."""
    fields = {"data.points": 120, "model.units": 4, "training.epochs": 2, "training.stock": True}
    result = compare.run(
        "lstm", backends=["torch"], fields=fields, out=tmp_path / "out", seeds=2, summary=tmp_path / "s.md"
    )
    assert result.verdict.exit_code == 1
    content = json.loads((tmp_path / "out" / "verdict.json").read_text())
    (effect,) = content["effects"]
    assert effect["seeds"] == [0, 1, 2]
    assert "last loss" in [figure["name"] for figure in effect["figures"]]
    assert "Does it matter?" in (tmp_path / "s.md").read_text()
    assert "Does it matter?" in result.report.read_text("utf-8")
    assert "Does it matter?" in result._repr_html_()
