"""Sides that draw independent dropout masks are compared as distributions: rate, scale, placement, mean loss."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_runs import Run, run_cases_in, tiny_case

from compare.config.case import Case
from compare.experiment.experiment import read_experiment
from compare.judge.distribution import POWER, SIGNIFICANCE, _compare_means, detectable_effect, judge_samples
from compare.run.plan import SAMPLES
from compare.trace.trace import Trace, read_trace
from compare.workers.pool import Pool

DROPOUT = {"model.layers": 2, "model.dropout": 0.2, "model.input_dropout": 0.1, "model.dropout_masks": "independent"}


def case_of(fields: dict[str, Any] | None = None) -> Case:
    """A tiny case whose sides draw independent masks."""
    return tiny_case("gru", {**DROPOUT, "model.units": 8, **(fields or {})})


@pytest.fixture(scope="module")
def clean(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The case with nothing planted, on torch, which compiles nothing."""
    return run_cases_in(tmp_path_factory.mktemp("clean") / "out", pool, [case_of()], ["torch"])


def check_agreement(run: Run, backend: str) -> None:
    """Raise AssertionError unless the sides agree, and their mean losses and that other masks were drawn are told."""
    comparison = run.comparison("gru", f"keras-{backend}")
    assert (comparison.status, comparison.first_difference, comparison.error) == ("agrees", None, None)
    (note,) = comparison.notes
    assert note.startswith(f"mean loss of the last epoch over {SAMPLES} seeds: torch ")
    # Other masks were drawn: equal losses would mean that nothing is random.
    assert comparison.epoch_losses["torch"] != comparison.epoch_losses[f"keras-{backend}"]


def test_own_masks_agree(clean: Run) -> None:
    """With nothing planted the sides agree, and their mean losses with the interval of the difference are told."""
    check_agreement(clean, "torch")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_own_masks_agree_where_they_are_compiled(pool: Pool, tmp_path: Path, backend: str) -> None:
    """They agree on the backends that compile each of the sixteen trainings too."""
    check_agreement(run_cases_in(tmp_path / "out", pool, [case_of()], [backend]), backend)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "fault", "kind", "tensor"),
    [
        pytest.param("torch", "own_dropout_rate", "dropout-rate", "dropout0", id="rate"),
        pytest.param(
            "keras-torch", "keras_own_dropout_rate", "dropout-rate", "dropout0", id="Keras rate", marks=pytest.mark.slow
        ),
        pytest.param(
            "torch",
            "own_input_dropout_rate",
            "dropout-rate",
            "layer0.forward.input_dropout",
            id="rate of the inputs",
            marks=pytest.mark.slow,
        ),
        pytest.param("torch", "own_dropout_scale_forgotten", "dropout-scale", "dropout0", id="scale"),
        pytest.param("keras-torch", "keras_own_dropout_left_out", "dropout-rate", "dropout1", id="left out"),
    ],
)
def test_wrong_dropout_is_found(pool: Pool, tmp_path: Path, runner: str, fault: str, kind: str, tensor: str) -> None:
    """A rate, a scale or a location that is wrong on one side is found, with its location and the side that is off."""
    faults = {runner: f"wrong_models.py:{fault}"}
    comparison = run_cases_in(tmp_path / "out", pool, [case_of()], ["torch"], faults).comparison("gru", "keras-torch")
    first = comparison.first_difference
    assert first is not None
    assert (comparison.status, first.kind, first.tensor) == ("differs", kind, tensor)
    assert first.off_side == runner


# On each side: a step that is too large, a gradient that is lost, another constant, and predictions out of order.
FAULTS_OF_STEPS = [
    ("torch", "wrong_gradients.py:one_gate_zero", "gradient"),
    *(
        pytest.param(*fault, marks=pytest.mark.slow)
        for fault in (
            ("torch", "wrong_optimizers.py:learning_rate_by_a_twentieth", "update"),
            ("keras-torch", "wrong_optimizers.py:keras_learning_rate_by_a_twentieth", "update"),
            ("keras-torch", "wrong_gradients.py:keras_one_gate_zero", "gradient"),
            ("torch", "wrong_optimizers.py:epsilon_thousand_times", "update"),
            ("keras-torch", "wrong_optimizers.py:keras_epsilon_thousand_times", "update"),
            ("torch", "wrong_models.py:predictions_reversed", "forward"),
            ("keras-torch", "wrong_models.py:predictions_reversed", "forward"),
        )
    ),
]


@pytest.mark.parametrize(("runner", "fault", "phase"), FAULTS_OF_STEPS)
def test_a_wrong_step_is_found(pool: Pool, tmp_path: Path, runner: str, fault: str, phase: str) -> None:
    """What no dropout hides is found with independent masks as with shared ones, in its phase and on its side."""
    comparison = run_cases_in(tmp_path / "out", pool, [case_of()], ["torch"], {runner: fault}).comparison(
        "gru", "keras-torch"
    )
    first = comparison.first_difference
    assert first is not None, comparison.error
    assert (comparison.status, first.phase, first.off_side) == ("differs", phase, runner)


def test_one_loss_for_all_seeds_is_no_difference() -> None:
    """Where dropout changes nothing all seeds have one loss: what rounding moves it by is no difference, more is."""
    left = np.full(SAMPLES, 0.5)
    for apart, kinds in ((1 + 4e-8, []), (1 + 1e-3, ["distribution"])):
        _, differences = _compare_means(left, left * apart, "torch", "keras-torch", 18, 2e-6)
        assert [difference.kind for difference in differences] == kinds


@pytest.mark.slow
def test_the_stated_power_is_what_is_found() -> None:
    """Of samples that are apart by the effect that is told, as many are found as is told, and few of equal ones."""
    generator = np.random.default_rng(0)
    effect, trials = detectable_effect(SAMPLES), 2000

    def rate(apart: float) -> float:
        """How often samples with means that far apart are told to differ."""
        pairs = generator.normal(10, 1, (trials, 2, SAMPLES)) + np.array([[0.0], [apart]])
        found = [bool(_compare_means(left, right, "a", "b", 1, 0.0)[1]) for left, right in pairs]
        return float(np.mean(found))

    assert rate(effect) == pytest.approx(POWER, abs=0.03)
    assert rate(0.0) < 5 * SIGNIFICANCE


def without_random(trace: Trace, part: str) -> Trace:
    """A trace in which a part was not seen to be random."""
    dropout = trace.manifest["dropout"]
    seen = [name for name in dropout["random"] if name != part]
    return replace(trace, manifest={**trace.manifest, "dropout": {**dropout, "random": seen}})


@pytest.mark.parametrize(
    ("unseen", "kinds"), [(SAMPLES - 1, []), (SAMPLES, ["dropout-placement"])], ids=["one", "none"]
)
def test_one_sample_shows_what_is_random(clean: Run, unseen: int, kinds: list[str]) -> None:
    """A part is random where one sample of a side shows it, as masks that keep everything may hide it in the others."""
    folder = clean.folder / "gru"
    left, right = (
        [read_trace(file.parent) for file in sorted(folder.glob(f"{side}*/manifest.json"))]
        for side in ("torch", "keras-torch")
    )
    assert len(left) == len(right) == SAMPLES
    right[:unseen] = [without_random(trace, "layer0") for trace in right[:unseen]]
    comparison = judge_samples(left, right, read_experiment(folder / "experiment"))
    assert [difference.kind for difference in comparison.differences] == kinds
