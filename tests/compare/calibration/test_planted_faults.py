"""From a fault in one runner to the verdict: every one is found where it first shows, and clean runs agree."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small_runs import BACKENDS, CELLS, STEPS, STEPS_PER_EPOCH, Run, run_cases_in, tiny_case

from compare.experiment.experiment import Experiment, make_experiment
from compare.judge import Comparison
from compare.storage import read_tensors
from compare.trace.trace import read_trace
from compare.workers.pool import Pool

# A first step's weights show in what it computes forward.
FIRST = ("forward", "loss")


def run_with(pool: Pool, folder: Path, runner: str, fault: str, cell: str) -> Comparison:
    """Run a tiny case with a fault planted in a runner; if that is the PyTorch side, against Keras on torch."""
    backend = "torch" if runner == "torch" else runner.removeprefix("keras-")
    run = run_cases_in(folder, pool, [tiny_case(cell)], [backend], {runner: fault})
    return run.comparison(cell, f"keras-{backend}")


@pytest.mark.parametrize("cell", CELLS)
def test_clean_runs_agree(clean_run: Run, cell: str) -> None:
    """With nothing planted every cell agrees on every backend, at every step, in everything that is kept."""
    assert clean_run.verdict.exit_code == 0
    for backend in BACKENDS:
        comparison = clean_run.comparison(cell, f"keras-{backend}")
        assert comparison.status == "agrees"
        assert comparison.error is None
        assert comparison.steps == STEPS
        assert comparison.max_relative_loss_difference is not None
        assert comparison.max_relative_loss_difference <= 1e-5
        assert comparison.max_prediction_difference is not None
        assert comparison.max_prediction_difference <= 1e-5


@pytest.mark.parametrize(
    ("runner", "cell", "fault"),
    [
        ("keras-jax", "gru", "wrong_weights.py:gru_update_and_reset_swapped"),
        ("keras-tensorflow", "lstm", "wrong_weights.py:lstm_input_and_forget_swapped"),
        ("keras-torch", "simple_rnn", "wrong_weights.py:recurrent_kernel_transposed"),
        ("keras-torch", "lstm", "wrong_weights.py:recurrent_kernel_transposed"),
        ("keras-torch", "gru", "wrong_weights.py:recurrent_kernel_transposed"),
        ("keras-torch", "lstm", "wrong_weights.py:forget_bias_dropped"),
        ("keras-torch", "lstm", "broken_runners.py:weights_not_a_number"),
        ("torch", "gru", "wrong_weights.py:gru_update_and_reset_swapped"),
        ("torch", "lstm", "wrong_weights.py:forget_bias_dropped"),
    ],
)
def test_wrong_weights_are_found_at_the_first_step(
    pool: Pool, tmp_path: Path, runner: str, cell: str, fault: str
) -> None:
    """A swapped gate, a transposed kernel, a dropped bias or NaN in the weights of either side differs at step 0."""
    comparison = run_with(pool, tmp_path / "out", runner, fault, cell)
    assert comparison.status == "differs"
    first = comparison.first_difference
    assert first is not None
    assert first.step == 0
    assert first.phase in FIRST


def step_of_window(experiment: Experiment, window: int) -> int:
    """The first step whose batch holds a window."""
    (position,) = (experiment.schedule[0] == window).nonzero()[0]
    return int(position) // experiment.case.training.batch_size


@pytest.mark.parametrize(
    ("runner", "fault", "step"),
    [
        ("keras-tensorflow", "batches_swapped_in_third_epoch", lambda experiment: 2 * STEPS_PER_EPOCH),
        ("keras-torch", "last_partial_batch_dropped", lambda experiment: STEPS_PER_EPOCH - 1),
        ("keras-torch", "one_epoch_missing", lambda experiment: 2 * STEPS_PER_EPOCH),
        ("keras-torch", "one_window_shifted", lambda experiment: step_of_window(experiment, 5)),
        ("keras-jax", "not_a_number", lambda experiment: step_of_window(experiment, 20)),
        ("torch", "batches_swapped_in_third_epoch", lambda experiment: 2 * STEPS_PER_EPOCH),
    ],
)
def test_wrong_data_are_found_at_their_step(
    pool: Pool, tmp_path: Path, runner: str, fault: str, step: Callable[[Experiment], int]
) -> None:
    """A reordered or missing batch, a wrong window or NaN in one differs at its step, and its side is named."""
    comparison = run_with(pool, tmp_path / "out", runner, f"wrong_data.py:{fault}", "lstm")
    assert comparison.status == "differs"
    first = comparison.first_difference
    assert first is not None
    assert (first.step, first.off_side) == (step(make_experiment(tiny_case("lstm"))), runner)


@pytest.mark.parametrize(("fault", "kind"), [("one_epoch_missing", "missing-steps"), ("not_a_number", "not-finite")])
def test_what_is_absent_is_said_to_be(pool: Pool, tmp_path: Path, fault: str, kind: str) -> None:
    """Missing steps and numbers that are none are named as such, with the side that has them."""
    comparison = run_with(pool, tmp_path / "out", "keras-torch", f"wrong_data.py:{fault}", "gru")
    (difference,) = [difference for difference in comparison.differences if difference.kind == kind]
    assert difference.off_side == "keras-torch"


def test_another_update_rule_is_found_at_the_first_update(pool: Pool, tmp_path: Path) -> None:
    """Adam with PyTorch's epsilon on the Keras side differs in the first update, though the loss is the same there."""
    fault = "wrong_optimizers.py:keras_epsilon_of_torch"
    comparison = run_with(pool, tmp_path / "out", "keras-torch", fault, "simple_rnn")
    assert comparison.first_difference is not None
    assert (comparison.first_difference.step, comparison.first_difference.phase) == (0, "update")


def test_a_fault_touches_its_own_runner_only(pool: Pool, tmp_path: Path) -> None:
    """With a fault in one runner the others agree as before, and the exit code says that something differs."""
    fault = {"keras-torch": "wrong_weights.py:forget_bias_dropped"}
    run = run_cases_in(tmp_path / "out", pool, [tiny_case("lstm")], ["torch", "tensorflow"], fault)
    assert run.comparison("lstm", "keras-torch").status == "differs"
    assert run.comparison("lstm", "keras-tensorflow").status == "agrees"
    assert run.verdict.exit_code == 1


def test_a_training_that_diverges_keeps_its_trace(pool: Pool, tmp_path: Path) -> None:
    """After a loss that is not finite the training stops; the steps before it and the one itself are kept."""
    run_with(pool, tmp_path / "out", "keras-torch", "wrong_data.py:not_a_number", "lstm")
    trace = read_trace(tmp_path / "out" / "lstm" / "keras-torch")
    step = step_of_window(make_experiment(tiny_case("lstm")), 20)
    assert len(trace.rows) == step + 1
    assert trace.losses[-1] != trace.losses[-1]
    assert trace.complete


def test_what_was_hashed_is_what_was_trained(clean_run: Run) -> None:
    """Both processes hashed what they held, to the same hashes; the weights kept are not the initial ones."""
    for cell in CELLS:
        folder = clean_run.folder / cell
        runners = ["torch", *(f"keras-{backend}" for backend in BACKENDS)]
        hashes = [read_trace(folder / runner).manifest["hashes"] for runner in runners]
        assert hashes[0].keys() == {"data", "schedule", "weights"}
        assert all(other == hashes[0] for other in hashes)
        initial = read_tensors(folder / "experiment" / "weights.safetensors")
        assert initial is not None
        for epoch, tensors in read_trace(folder / "torch").checkpoints.items():
            assert epoch in (1, 2, 3)
            assert all((tensors[name] != initial[name]).any() for name in initial)
