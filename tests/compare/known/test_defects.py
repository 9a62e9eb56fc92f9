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
PADDED = {"data.dataset": "signals", "data.points": 1000, "data.examples": 60, "data.padding": "left"}
RULES = {
    "adam": {},
    "clipvalue": {"training.optimizer": "sgd", "training.clipvalue": 1e-3},
    "clipnorm": {"training.optimizer": "sgd", "training.clipnorm": 1e-3},
    "global_clipnorm": {"training.optimizer": "sgd", "training.global_clipnorm": 1e-3},
}
# What squares a gradient, alone and after each clipping; that by the norm of all makes a single gradient of the rows.
MORE_RULES = {name: {"training.optimizer": name} for name in ("adamw", "nadam", "adamax", "rmsprop", "adagrad")}
MORE_RULES |= {f"adam-{name}": {f"training.{name}": 1e-3} for name in ("clipvalue", "clipnorm", "global_clipnorm")}


@pytest.fixture(scope="module")
def repeated(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trainings on tokens that come again and again, by all that squares or clips, and one that does neither."""
    rules = RULES | {"sgd": {"training.optimizer": "sgd"}}
    cases = [tiny_case("gru", TOKENS | fields | {"name": name}) for name, fields in rules.items()]
    return run_cases_in(tmp_path_factory.mktemp("repeated") / "out", pool, cases, ["tensorflow"])


@pytest.fixture(scope="module")
def more_repeated(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trainings on such tokens by the other rules, in which the defect is expected."""
    expected = TOKENS | {"expected_defects": ("repeated-tokens-on-tensorflow",)}
    cases = [tiny_case("gru", expected | fields | {"name": name}) for name, fields in MORE_RULES.items()]
    return run_cases_in(tmp_path_factory.mktemp("more") / "out", pool, cases, ["tensorflow"])


@pytest.mark.slow
@pytest.mark.parametrize("rule", MORE_RULES)
def test_every_rule_is_repeated_as_the_defect_has_it(more_repeated: Run, rule: str) -> None:
    """The reference that takes the rows one by one is what Keras computes: nothing else differs."""
    comparison = more_repeated.comparison(rule, "keras-tensorflow")
    assert (comparison.status, comparison.expected) == ("differs", True), comparison.first_difference


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_repeated_tokens_are_told_from_a_mistake(repeated: Run, rule: str) -> None:
    """Keras on TensorFlow squares and clips an embedding's rows one by one: it differs, and why is said."""
    comparison = repeated.comparison(rule, "keras-tensorflow")
    assert comparison.status == "differs"
    assert [cause.name for cause in comparison.causes] == ["framework-defect"]
    assert not comparison.expected


@pytest.mark.slow
def test_repeated_tokens_alone_are_no_defect(repeated: Run) -> None:
    """Where nothing is squared or clipped the rows add up, one after the other, which is rounding."""
    comparison = repeated.comparison("sgd", "keras-tensorflow")
    assert comparison.status == "agrees"
    assert comparison.step_tolerance_ratio is not None
    assert comparison.step_tolerance_ratio < 0.5


@pytest.mark.slow
def test_what_comes_out_before_the_first_timestep_that_counts(pool: Pool, tmp_path: Path) -> None:
    """At padding that comes first Keras puts out zeros, but the given state on JAX; without a given state all agree."""
    states = {"given": "given", "without": "zeros"}
    cases = [
        tiny_case("gru", PADDED | {"name": name, "model.initial_state": state, "training.epochs": 1})
        for name, state in states.items()
    ]
    run = run_cases_in(tmp_path / "out", pool, cases, ["torch", "jax"])
    comparisons = {(c.case, c.runner): c for c in run.verdict.comparisons}
    assert [key for key, c in comparisons.items() if c.status != "agrees"] == [("given", "keras-jax")]
    assert [cause.name for cause in comparisons["given", "keras-jax"].causes] == ["framework-defect"]
    assert "initial state" in comparisons["given", "keras-jax"].causes[0].message


@pytest.mark.slow
def test_a_defect_excuses_no_mistake(pool: Pool, tmp_path: Path) -> None:
    """A mistake that shows before the defect does is not put down to it."""
    faults = {"keras-tensorflow": "wrong_data.py:samples_swapped_within_a_batch"}
    case = tiny_case("gru", TOKENS | {"expected_defects": ("repeated-tokens-on-tensorflow",)})
    run = run_cases_in(tmp_path / "out", pool, [case], ["tensorflow"], faults)
    (comparison,) = run.verdict.comparisons
    assert (comparison.status, comparison.expected, run.verdict.exit_code) == ("differs", False, 1)
    assert comparison.first_difference is not None
    assert comparison.first_difference.tensor == "inputs"


STATEFUL = {"model.stateful": True, "training.epochs": 1, "expected_defects": ("stateful-on-jax",)}
ROWS = TOKENS | {"expected_defects": ("repeated-tokens-on-tensorflow",)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "fields", "fault"),
    [
        pytest.param("keras-tensorflow", ROWS, None, id="tokens alone"),
        pytest.param("keras-tensorflow", ROWS, "wrong_optimizers.py:keras_epsilon_thousand_times", id="tokens"),
        pytest.param("keras-jax", STATEFUL, "wrong_optimizers.py:keras_epsilon_thousand_times", id="states"),
        pytest.param("keras-jax", STATEFUL, None, id="states alone"),
    ],
)
def test_a_second_fault_is_found_beside_a_defect(
    pool: Pool, tmp_path: Path, runner: str, fields: dict[str, object], fault: str | None
) -> None:
    """A defect excuses the tensors that it spoils: a second fault on the same side differs, and is what is told."""
    faults = {} if fault is None else {runner: fault}
    run = run_cases_in(tmp_path / "out", pool, [tiny_case("lstm", fields)], [runner.removeprefix("keras-")], faults)
    (comparison,) = run.verdict.comparisons
    assert [cause.name for cause in comparison.causes] == ["framework-defect"]
    assert comparison.status == "differs"
    assert comparison.expected is (fault is None), comparison.first_difference
    if fault is not None:
        first = comparison.first_difference
        assert first is not None
        assert (first.step, first.phase, first.off_side) == (0, "update", runner)
        assert "embedding" not in (first.tensor or "")
        assert "/state/" not in (first.tensor or "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "fields", "fault", "tensor"),
    [
        pytest.param(
            "keras-tensorflow",
            ROWS,
            "wrong_optimizers.py:keras_embedding_moves_further",
            "embedding/embeddings",
            id="tokens",
        ),
        pytest.param(
            "keras-jax",
            PADDED | {"model.initial_state": "given", "expected_defects": ("padded-start-on-jax",)},
            "wrong_cells.py:activation_relu",
            "layer0",
            id="padding",
        ),
    ],
)
def test_a_fault_in_a_defects_own_tensor_is_found(
    pool: Pool, tmp_path: Path, runner: str, fields: dict[str, object], fault: str, tensor: str
) -> None:
    """What the defect's own computation does not give is no doing of the defect, in its own tensor and phase too."""
    case = tiny_case("lstm", fields)
    run = run_cases_in(tmp_path / "out", pool, [case], [runner.removeprefix("keras-")], {runner: fault})
    (comparison,) = run.verdict.comparisons
    assert (comparison.status, comparison.expected) == ("differs", False), comparison.error
    assert comparison.first_difference is not None
    assert (comparison.first_difference.tensor, comparison.first_difference.off_side) == (tensor, runner)


@pytest.mark.slow
def test_a_stateful_simple_rnn_trains_on_torch(pool: Pool, tmp_path: Path) -> None:
    """A stateful SimpleRNN agrees on Keras's torch backend, where a GRU cannot be trained."""
    cases = [
        tiny_case(cell, {"model.stateful": True, "training.epochs": 1, "expected_defects": ("stateful-on-torch",)})
        for cell in ("simple_rnn", "gru")
    ]
    run = run_cases_in(tmp_path / "out", pool, cases, ["torch"])
    alone, gated = (run.comparison(case.name, "keras-torch") for case in cases)
    assert (alone.status, alone.causes) == ("agrees", ())
    assert (gated.status, gated.expected) == ("failed", True)
