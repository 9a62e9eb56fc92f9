"""The null runs of the power table are of everything that a case can say."""

from collections import defaultdict

import pytest

from compare.calibration.null_cases import DATASETS, MODEL, TRAINING, null_case
from compare.calibration.power import NULL_RUNS, null_trials
from compare.config.case import Case

BACKENDS = ("tensorflow", "torch", "jax")


@pytest.fixture(scope="module")
def drawn() -> list[tuple[str, Case]]:
    """All cases that `power` runs, with their backends."""
    return [(trial.backend, trial.case) for trial in null_trials(NULL_RUNS, BACKENDS)]


@pytest.mark.slow
def test_every_option_is_drawn(drawn: list[tuple[str, Case]]) -> None:
    """Each option of models and trainings, and each dataset, comes in some case."""
    seen: dict[str, set[object]] = defaultdict(set)
    for _, case in drawn:
        seen["data.dataset"].add(case.data.dataset)
        for name in (*MODEL, *TRAINING):
            section, _, field = name.partition(".")
            seen[name].add(getattr(getattr(case, section), field))
    assert seen["data.dataset"] == set(DATASETS)
    # Epochs follow from the steps, too, of a case that is drawn for many of them.
    assert {name: set(choices) - seen[name] for name, choices in (MODEL | TRAINING).items()} == {
        name: set() for name in (*MODEL, *TRAINING)
    }
    assert {case.task for _, case in drawn} == {"forecasting", "classification", "tagging"}
    assert any(case.model.independent_masks for _, case in drawn)
    assert {case.dtype for backend, case in drawn if backend == "tensorflow"} == {"float32", "float64"}


@pytest.mark.slow
def test_a_number_always_draws_the_same_case(drawn: list[tuple[str, Case]]) -> None:
    """An outcome that was kept is known again by its case, so the draw depends on the number and backend alone."""
    for index in (0, 7, 131):
        backend, case = drawn[index]
        assert null_case(index, backend) == case
    assert len({case.name for _, case in drawn}) == NULL_RUNS
