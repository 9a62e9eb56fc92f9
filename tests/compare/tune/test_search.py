"""The file of a search: what can be searched, and what is refused before anything is written."""

import importlib.util
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest
from helpers.tune_runs import SMALL, search_of
from hypothesis import given
from hypothesis import strategies as st

from compare.tune.search import Range


def written(text: str) -> Path:
    """Write the file of a search into this folder."""
    Path("sweep.toml").write_text(SMALL + text)
    return Path("sweep.toml")


@given(low=st.integers(-50, 50), span=st.integers(1, 40), step=st.integers(1, 40))
def test_a_range_of_whole_numbers_has_its_steps(low: int, span: int, step: int) -> None:
    """Every value of a range lies in it, a step from the next; no further value would."""
    if step > span:
        step = span
    values = Range(low=low, high=low + span, step=step).values()
    assert values == list(range(low, low + span + 1, step))


def test_a_range_of_decimal_steps_has_decimal_values() -> None:
    """Steps of a tenth add up to what is written, not to 0.30000000000000004."""
    assert Range(low=0.0, high=0.5, step=0.1).values() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_grid_has_every_point_once(sizes: list[int]) -> None:
    """The numbers of a grid's points stand for each combination of values, each once."""
    from compare.tune.search import Search, Table

    space = {f"field{index}": list(range(size)) for index, size in enumerate(sizes)}
    search = Search(None, space, Table(sampler="grid"), "mse", ("torch",))  # type: ignore[arg-type]
    points = {tuple(search.point(number).items()) for number in range(search.trials)}
    assert search.trials == len(points) == prod(sizes)


def test_ends_written_whole_are_of_the_fields_kind(tmp_path: Path) -> None:
    """A range of a field that is no whole number is one of such numbers though its ends are written without a point."""
    search = search_of(tmp_path, "[tune.space]\ndata.noise = {low = 0, high = 1}\nmodel.units = {low = 1, high = 3}\n")
    assert not search.space["data.noise"].whole  # type: ignore[union-attr]
    assert search.space["model.units"].whole  # type: ignore[union-attr]


RANGE = "model.units = {low = 2, high = 4}\n"


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        pytest.param("", ["nothing is to be tried", "[tune.space]"], id="nothing"),
        pytest.param("[tune]\nmetrik = 'mse'\n", ["'metrik' is unknown; did you mean 'metric'?"], id="key"),
        pytest.param(
            f"[tune]\nmetric = 'accuracy'\n[tune.space]\n{RANGE}", ["'accuracy' is none of task"], id="metric"
        ),
        pytest.param(
            f"[tune]\nside = 'kears-torch'\n[tune.space]\n{RANGE}", ["did you mean 'keras-torch'?"], id="side"
        ),
        pytest.param(f"[tune]\nsampler = 'tpee'\n[tune.space]\n{RANGE}", ["tpee"], id="sampler"),
        pytest.param(f"[tune]\nfolds = 1\n[tune.space]\n{RANGE}", ["folds = 1"], id="folds"),
        pytest.param(f"[tune]\ntrials = 0\n[tune.space]\n{RANGE}", ["trials = 0"], id="trials"),
        pytest.param(f"[tune]\nfolds = 60\n[tune.space]\n{RANGE}", ["fewer folds"], id="many-folds"),
        pytest.param(
            "[tune.space]\nmodel.unist = {low = 1, high = 2}\n", ["'model.unist' is unknown", "units"], id="field"
        ),
        pytest.param("[tune.space]\nmodel.units = [1, 2]\n", ["is no range", "[grid]"], id="list"),
        pytest.param("[tune.space]\nmodel.units = {low = 4, high = 2}\n", ["low = 4 must be below"], id="upside-down"),
        pytest.param("[tune.space]\nmodel.units = {low = 0, high = 2}\n", ["model.units = 0: input"], id="impossible"),
        pytest.param(
            "[tune.space]\nmodel.units = {low = 1, high = 2, lgo = true}\n", ["'lgo' is unknown"], id="option"
        ),
        pytest.param("[tune.space]\nmodel.dropout = {low = 0, high = 0.5, log = true}\n", ["log needs"], id="log-of-0"),
        pytest.param(
            "[tune.space]\ndata.horizon = {low = 1, high = 900}\n", ["data.horizon = 900", "horizon of 900"], id="data"
        ),
        pytest.param(f"[grid]\nmodel.units = [2, 3]\n[tune.space]\n{RANGE}", ["in tune.space and in grid"], id="twice"),
        pytest.param("[tune.space]\ndata.window = {low = 4, high = 6}\n", ["in fields too"], id="in-fields"),
        pytest.param("[grid]\ndata.fold = [1, 2]\n", ["give tune.folds"], id="own-folds"),
        pytest.param(
            "[tune]\nsampler = 'grid'\n[tune.space]\ntraining.learning_rate = {low = 0.001, high = 0.1}\n",
            ["needs a step"],
            id="grid-of-no-steps",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused(refused: Callable, text: str, phrases: list[str]) -> None:
    """What cannot be searched is refused by name before anything is trained or written."""
    text = text.replace("data.window", "training.batch_size") if "in fields" in phrases[0] else text
    message = refused("tune", written(text), "--out", "out")
    for phrase in phrases:
        assert phrase in message


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        pytest.param(["--metric", "accuracy"], "metric 'accuracy' is none of task 'forecasting'", id="metric"),
        pytest.param(["--side", "jax"], "tune.side 'jax' is unknown", id="side"),
        pytest.param(["--trials", "0"], "trials = 0", id="trials"),
        pytest.param(["--jobs", "0"], "--jobs 0", id="jobs"),
        pytest.param(["--on", "ray", "--device", "cuda"], "computes on the CPU", id="ray-on-a-gpu"),
    ],
)
def test_bad_options_are_refused(refused: Callable, arguments: list[str], phrase: str) -> None:
    """Options that make no sense are refused by name."""
    assert phrase in refused("tune", written(f"[tune.space]\n{RANGE}"), *arguments)


def test_a_sweep_takes_no_ranges(refused: Callable) -> None:
    """The same file with ranges is for `tune` alone, which `sweep` says."""
    assert "[tune.space] are for `tune`" in refused("sweep", written(f"[tune.space]\n{RANGE}"), "--out", "out")


def test_without_optuna_the_way_to_install_it_is_said(refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Optuna is missing the command says how to install it and exits 2."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else find_spec(name, *rest)
    )
    message = refused("tune", written(f"[tune.space]\n{RANGE}"), "--out", "out")
    assert "python -m pip install 'rnn-parity[tune]'" in message
