"""A Keras side that is kept from case to case: the same trainings, bit for bit, as with one built anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_runs import BACKENDS, run_cases_in, tiny_case

from compare.config.case import with_fields
from compare.experiment.experiment import make_experiment
from compare.trace.trace import Trace, read_trace
from compare.workers.kept_side import KeptSide, program_of
from compare.workers.pool import Pool

# What differs between the first case and the second, which is trained with the first one's programs.
CHANGED = {"seed": 5, "training.learning_rate": 0.01, "training.epochs": 2}

# All that may be left over: slots, running figures, masks.
LEFT_OVER = {
    "training.optimizer": "nadam",
    "model.normalization": "batch",
    "model.dropout": 0.5,
    "model.recurrent_dropout": 0.25,
}
# Of sizes that no other test has, so that no side is kept from before.
KINDS = {"plain": {"model.units": 9}, "with-all-that-may-be-left-over": LEFT_OVER}


def same(left: Trace, right: Trace) -> bool:
    """Whether two traces have the same bits: figures of every step, weights, predictions, single-step checks."""
    files = [path.relative_to(left.folder) for path in left.folder.rglob("*.safetensors")]
    return np.array_equal(left.rows, right.rows) and all(
        (left.folder / file).read_bytes() == (right.folder / file).read_bytes() for file in files
    )


@pytest.fixture(
    scope="module",
    params=list(KINDS),
)
def trainings(pool: Pool, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A case trained with everything built anew, and again after another one of its kind."""
    first = tiny_case("gru", {**KINDS[request.param], "name": "first"})
    new = with_fields(first, {**CHANGED, "name": "new"})
    folder = tmp_path_factory.mktemp("kept") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "jobs", 1)  # one after the other, in one process of each runner
        cases = [new, first, with_fields(new, {"name": "kept"})]
        assert run_cases_in(folder, pool, cases, BACKENDS).verdict.exit_code == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_kept_side_trains_as_a_new_one(trainings: Path, backend: str) -> None:
    """A case trained after another of the same model has the trace that it has with everything built anew."""
    kept, new, first = (read_trace(trainings / case / f"keras-{backend}") for case in ("kept", "new", "first"))
    assert kept.complete
    assert same(kept, new)
    assert not same(kept, first), "the check sees another training"


class FakeSide:
    """What is kept, without a framework."""

    def __init__(self) -> None:
        self.released = False
        self.experiment: Any = None

    def release(self) -> None:
        """Note that the memory was given back."""
        self.released = True

    def restart(self, experiment: Any) -> None:
        """Note the new start."""
        self.experiment = experiment


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, True),
        ({"seed": 3}, True),
        ({"training.learning_rate": 0.5}, True),
        ({"training.epochs": 7}, True),
        ({"model.units": 5}, False),
        ({"training.optimizer": "sgd"}, False),
        ({"training.weight_decay": 0.1}, False),
        ({"data.window": 5}, False),
        ({"data.horizon": 2}, False),
        ({"data.points": 300}, False),
        ({"dtype": "float64"}, False),
        ({"training.schedule": "cosine", "training.decay_steps": 10}, False),
    ],
    ids=lambda value: ",".join(value) or "nothing" if isinstance(value, dict) else None,
)
def test_a_side_is_kept_for_the_same_program_alone(fields: dict[str, Any], kept: bool) -> None:
    """A side serves the next case only if nothing differs of what it was compiled from; else it is released."""
    room, side = KeptSide(), FakeSide()
    room.keep(side, make_experiment(tiny_case("lstm")))
    experiment = make_experiment(tiny_case("lstm", fields))
    assert room.take(experiment) is (side if kept else None)
    assert side.released is not kept
    assert (side.experiment is experiment) is kept
    assert room.take(experiment) is None, "it is taken once"


def test_a_scheduled_learning_rate_is_in_the_program() -> None:
    """Where the learning rate follows a schedule, which is compiled in, another one is another program."""
    schedule = {"training.schedule": "cosine", "training.decay_steps": 10}
    programs = {
        program_of(make_experiment(tiny_case("lstm", {**schedule, "training.learning_rate": r}))) for r in (0.1, 0.2)
    }
    assert len(programs) == 2


@pytest.mark.parametrize(
    "fields",
    [{"model.dropout": 0.5, "model.dropout_masks": "independent"}, {"training.engine": "fit"}],
    ids=["independent", "fit"],
)
def test_what_has_a_state_of_its_own_is_not_kept(fields: dict[str, Any]) -> None:
    """A side that draws its own numbers, or that model.fit compiled, is released after its case."""
    room, side = KeptSide(), FakeSide()
    experiment = make_experiment(tiny_case("lstm", fields))
    room.keep(side, experiment)
    assert side.released
    assert room.take(experiment) is None
