"""A defect of a framework is named where it shows, and excuses nothing else."""

from pathlib import Path

import pytest
from helpers.small_runs import Run, run_cases_in, tiny_case

from compare.workers.pool import Pool

TOKENS = {
    "task": "classification",
    "data.dataset": "symbols",
    "data.points": 1000,
    "data.examples": 60,
    "data.window": 6,
    "model.embedding": 3,
    "training.loss": "sparse_categorical_crossentropy",
    "training.epochs": 1,
}
RULES = {
    "adam": {},
    "clipvalue": {"training.optimizer": "sgd", "training.clipvalue": 1e-3},
    "clipnorm": {"training.optimizer": "sgd", "training.clipnorm": 1e-3},
    "global_clipnorm": {"training.optimizer": "sgd", "training.global_clipnorm": 1e-3},
}


@pytest.fixture(scope="module")
def repeated(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trainings on tokens that come again and again, by all that squares or clips, and one that does neither."""
    rules = RULES | {"sgd": {"training.optimizer": "sgd"}}
    cases = [tiny_case("gru", TOKENS | fields | {"name": name}) for name, fields in rules.items()]
    return run_cases_in(tmp_path_factory.mktemp("repeated") / "out", pool, cases, ["tensorflow"])


@pytest.mark.parametrize("rule", RULES)
def test_repeated_tokens_are_told_from_a_mistake(repeated: Run, rule: str) -> None:
    """Keras on TensorFlow squares and clips an embedding's rows one by one: it differs, and why is said."""
    comparison = repeated.comparison(rule, "keras-tensorflow")
    assert comparison.status == "differs"
    assert [cause.name for cause in comparison.causes] == ["framework-defect"]
    assert not comparison.expected


def test_repeated_tokens_alone_are_no_defect(repeated: Run) -> None:
    """Where nothing is squared or clipped the rows add up, one after the other, which is rounding."""
    comparison = repeated.comparison("sgd", "keras-tensorflow")
    assert comparison.status == "agrees"
    assert comparison.step_tolerance_ratio is not None
    assert comparison.step_tolerance_ratio < 0.5


def test_what_comes_out_before_the_first_timestep_that_counts(pool: Pool, tmp_path: Path) -> None:
    """At padding that comes first Keras puts out zeros, but the given state on JAX; without a given state all agree."""
    padded = {"data.dataset": "signals", "data.points": 1000, "data.examples": 60, "data.padding": "left"}
    states = {"given": "given", "without": "zeros"}
    cases = [
        tiny_case("gru", padded | {"name": name, "model.initial_state": state, "training.epochs": 1})
        for name, state in states.items()
    ]
    run = run_cases_in(tmp_path / "out", pool, cases, ["torch", "jax"])
    comparisons = {(c.case, c.runner): c for c in run.verdict.comparisons}
    assert [key for key, c in comparisons.items() if c.status != "agrees"] == [("given", "keras-jax")]
    assert [cause.name for cause in comparisons["given", "keras-jax"].causes] == ["framework-defect"]
    assert "initial state" in comparisons["given", "keras-jax"].causes[0].message


def test_a_defect_excuses_no_mistake(pool: Pool, tmp_path: Path) -> None:
    """A mistake that shows before the defect does is not put down to it."""
    faults = {"keras-tensorflow": "wrong_data.py:samples_swapped_within_a_batch"}
    run = run_cases_in(tmp_path / "out", pool, [tiny_case("gru", TOKENS)], ["tensorflow"], faults)
    (comparison,) = run.verdict.comparisons
    assert (comparison.status, comparison.causes) == ("differs", ())
