"""The harness judges fast layers as it judges Keras's own, and says what ran."""

from pathlib import Path

import pytest
from helpers.small_runs import CELLS, STEPS, run_cases_in, tiny_case

from compare.run.kernels import KERNELS
from compare.trace.trace import read_trace
from compare.workers.pool import Pool

FAST = {"training.keras_layers": "fast"}
KERNEL = {"simple_rnn": "bptt", "lstm": "onednn", "gru": "bptt"}


def test_fast_layers_agree_on_torch(pool: Pool, tmp_path: Path) -> None:
    """Every cell, two layers deep too, agrees at every step, and in the single-step checks."""
    cases = [tiny_case(cell, FAST) for cell in CELLS]
    cases.append(tiny_case("gru", FAST | {"name": "deep", "model.layers": 2}))
    run = run_cases_in(tmp_path / "out", pool, cases, ["torch"])
    assert run.verdict.exit_code == 0
    for case in cases:
        comparison = run.comparison(case.name, "keras-torch")
        assert comparison.status == "agrees"
        assert comparison.steps == STEPS
        execution = read_trace(run.folder / case.name / "keras-torch").manifest["execution"]
        kernel = KERNEL[case.model.cell]
        layers = [f"layer{index}" for index in range(case.model.layers)]
        assert execution["kernel"] == kernel
        assert execution["kernels"] == dict.fromkeys(layers, kernel)
        assert execution["fallbacks"] == {}
        assert kernel in KERNELS


@pytest.mark.parametrize("fault", ["way_back_scaled", "way_back_ends_early"])
def test_a_wrong_way_back_differs(pool: Pool, tmp_path: Path, fault: str) -> None:
    """The judge finds a wrong gradient of a fast layer in the first step, on the right side."""
    faults = {"keras-torch": f"wrong_fast_layers.py:{fault}"}
    run = run_cases_in(tmp_path / "out", pool, [tiny_case("gru", FAST)], ["torch"], faults)
    comparison = run.comparison("gru", "keras-torch")
    assert comparison.status == "differs"
    first = comparison.first_difference
    assert first is not None
    assert (first.step, first.phase, first.off_side) == (0, "gradient", "keras-torch")
