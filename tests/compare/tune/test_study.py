"""A search finds what is best, whatever interrupts it and however many processes share it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.tune_runs import PretendedPool, search_of, tried_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compare.errors import InputError
from compare.tune.results import Outcome, importances
from compare.tune.study import STUDY_FILE, WORKERS, SharedStudy

UNITS = "[grid]\nmodel.units = [2, 3, 4, 5, 6, 7]\n"
RATES = "[tune.space]\ntraining.learning_rate = {low = 1e-3, high = 0.1, log = true}\n"


def off(case: Any) -> float:
    """Predictions are best with five units, and worse with a smaller learning rate."""
    return abs(case.model.units - 5) + 0.1 - case.training.learning_rate


@pytest.mark.parametrize(("metric", "best"), [("mse", 5), ("r2", 5), ("mae", 5)])
def test_a_grid_finds_the_best(tmp_path: Path, metric: str, best: int) -> None:
    """Every value of the grid is tried once, and the best comes first, whether small or large scores are better."""
    search = search_of(tmp_path, f"{UNITS}[tune]\nsampler = 'grid'\npruner = 'none'\nfolds = 2\nmetric = '{metric}'\n")
    pool = PretendedPool(off)
    trials = tried_all(search, tmp_path / "out", pool)
    assert sorted(trial.fields["model.units"] for trial in trials) == [2, 3, 4, 5, 6, 7]
    assert trials[0].fields["model.units"] == best
    assert {trial.fields["model.units"] for trial in trials[-1:]} == {2}
    assert len(pool.done) == 6 * 2, "each trial trains each fold once"


def test_what_cannot_win_is_pruned(tmp_path: Path) -> None:
    """A trial that is worse after its first fold than half of those before it is not trained further."""
    text = "[grid]\nmodel.units = [5, 6, 4, 7, 3, 2, 20, 8]\n[tune]\nsampler = 'grid'\nfolds = 3\n"
    pool = PretendedPool(off)
    trials = tried_all(search_of(tmp_path, text), tmp_path / "out", pool)
    states = {trial.fields["model.units"]: trial.state for trial in trials}
    assert states[20] == states[8] == "pruned"
    assert states[5] == "complete"
    folds = Counter(name.split("-")[0] for name in pool.done)
    assert folds["trial6"] == folds["trial7"] == 1
    unpruned = search_of(tmp_path / "other", text + "pruner = 'none'\n")
    assert {t.state for t in tried_all(unpruned, tmp_path / "other" / "out", PretendedPool(off))} == {"complete"}


@pytest.mark.parametrize("wrong", [None, float("nan")], ids=["fails", "diverges"])
def test_a_trial_that_fails_does_not_stop_the_others(tmp_path: Path, wrong: float | None) -> None:
    """A training that breaks or diverges fails its own trial, with the reason, and comes last."""
    search = search_of(tmp_path, f"{UNITS}[tune]\nsampler = 'grid'\nfolds = 2\n")
    pool = PretendedPool(lambda case: wrong if case.model.units == 4 else off(case))
    trials = tried_all(search, tmp_path / "out", pool)
    assert (trials[-1].fields["model.units"], trials[-1].state) == (4, "failed")
    assert trials[-1].error in ("torch: it broke", "torch: no mse in fold 1: the training diverged")
    assert len(trials) == 6


def test_without_a_whole_trial_nothing_is_best(tmp_path: Path) -> None:
    """Where every training fails there is no best case, and the exit code is that of runners which failed."""
    search = search_of(tmp_path, f"{UNITS}[tune]\nsampler = 'grid'\n")
    trials = tried_all(search, tmp_path / "out", PretendedPool(lambda case: None))
    outcome = Outcome(search, trials, {})
    assert (outcome.best, outcome.exit_code, outcome.count("failed")) == (None, 3, 6)


def test_both_sides_and_all_seeds_make_the_score(tmp_path: Path) -> None:
    """With both sides and several seeds each is trained in each fold, and the score is their mean."""
    text = f"{UNITS}[tune]\nsampler = 'grid'\nside = 'both'\nfolds = 2\ntrials = 1\n"
    search = search_of(tmp_path, text, top="seeds = [0, 1]\n")
    pool = PretendedPool(lambda case: 1.0 + case.seed)
    (trial,) = tried_all(search, tmp_path / "out", pool)
    assert Counter(name.split()[1] for name in pool.done) == {"torch": 4, "keras-torch": 4}
    assert [len(fold["keras-torch"]) for fold in trial.folds] == [2, 2]
    figures = [value for fold in trial.folds for values in fold.values() for value in values]
    assert trial.score == pytest.approx(sum(figures) / 8)
    assert len(set(figures)) > 1


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(0, 11), jobs=st.integers(1, 3), sampler=st.sampled_from(["tpe", "random", "grid"]))
def test_a_killed_search_goes_on_as_if_it_had_not_been(
    tmp_path_factory: pytest.TempPathFactory, limit: int, jobs: int, sampler: str
) -> None:
    """Killed after any training, a search has in the end the trials of one that was not, and repeats no fold."""
    folder = tmp_path_factory.mktemp("killed")
    text = UNITS + ("" if sampler == "grid" else RATES)
    search = search_of(folder, f"{text}[tune]\nsampler = '{sampler}'\nfolds = 2\ntrials = 6\npruner = 'none'\n")
    expected = tried_all(search, folder / "whole", PretendedPool(off, jobs))
    killed = PretendedPool(off, jobs, limit)
    with pytest.raises(KeyboardInterrupt):
        tried_all(search, folder / "out", killed)
    rest = PretendedPool(off, jobs)
    assert tried_all(search, folder / "out", rest) == expected
    assert Counter(killed.done + rest.done) == Counter(dict.fromkeys(killed.done + rest.done, 1))


def test_processes_share_a_search(tmp_path: Path) -> None:
    """Two that hold the same study take different trials with different values, and together as many as asked for."""
    search = search_of(tmp_path, f"{RATES}[tune]\nsampler = 'random'\ntrials = 5\n")
    with SharedStudy(tmp_path / "out", search) as first, SharedStudy(tmp_path / "out", search) as second:
        taken = [shared.next_trial() for shared in (first, second, first, second, first)]
        values = {first.fields(trial)["training.learning_rate"] for trial in taken if trial is not None}
        assert [trial.number for trial in taken if trial is not None] == [0, 1, 2, 3, 4]
        assert len(values) == 5
        assert first.next_trial() is None
        assert second.next_trial() is None


def test_trials_of_a_dead_process_are_taken_over(tmp_path: Path) -> None:
    """What a process had under way that was killed is taken by the next one, with the same number and values."""
    search = search_of(tmp_path, f"{RATES}[tune]\ntrials = 2\n")
    dead = SharedStudy(tmp_path / "out", search)
    trial = dead.next_trial()
    assert trial is not None
    fields = dead.fields(trial)
    with SharedStudy(tmp_path / "out", search) as other:
        second = other.next_trial()
        assert second is not None
        assert second.number == 1
        assert other.next_trial() is None, "the first is still at work"
        assert other.others() == 2
        dead._file.close()
        taken = other.next_trial()
        assert taken is not None
        assert taken.number == 0
        assert other.fields(taken) == fields
    assert [path.name for path in (tmp_path / "out" / WORKERS).iterdir()] == [dead.name]


def test_a_half_written_line_is_dropped(tmp_path: Path) -> None:
    """A process that is killed while it writes to the study leaves half a line, after which the study goes on."""
    search = search_of(tmp_path, f"{UNITS}[tune]\nsampler = 'grid'\nfolds = 2\n")
    with pytest.raises(KeyboardInterrupt):
        tried_all(search, tmp_path / "out", PretendedPool(off, limit=5))
    with (tmp_path / "out" / STUDY_FILE).open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    trials = tried_all(search, tmp_path / "out", PretendedPool(off))
    assert len(trials) == 6
    assert len(tried_all(search, tmp_path / "out", PretendedPool(off))) == 6


def test_more_trials_go_on_with_the_same_study(tmp_path: Path) -> None:
    """Asked for more trials, a search keeps those that it has."""
    text = f"{RATES}[tune]\nfolds = 2\n"
    before = tried_all(search_of(tmp_path, text, trials=3), tmp_path / "out", PretendedPool(off))
    pool = PretendedPool(off)
    after = tried_all(search_of(tmp_path, text, trials=5), tmp_path / "out", pool)
    assert len(after) == 5
    assert {trial.number: trial for trial in after}.items() >= {trial.number: trial for trial in before}.items()
    assert {name.split("-")[0] for name in pool.done} == {"trial3", "trial4"}


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        pytest.param({"metric": "mae"}, "another metric", id="metric"),
        pytest.param({"side": "both"}, "another runners", id="side"),
        pytest.param({"folds": 3}, "another folds, data", id="folds"),
        pytest.param({"seed": 1}, "another seed", id="seed"),
    ],
)
def test_another_search_is_refused(tmp_path: Path, changed: dict[str, Any], what: str) -> None:
    """A folder with a study of another search is left as it is."""
    text = f"{UNITS}[tune]\nfolds = 2\n"
    with SharedStudy(tmp_path / "out", search_of(tmp_path, text)):
        pass
    with pytest.raises(InputError, match=f"holds a study of another search .{what}.: give a new folder"):
        SharedStudy(tmp_path / "out", search_of(tmp_path, text, **changed))


def test_other_data_are_another_search(tmp_path: Path) -> None:
    """Where the content of a data file has changed its scores are not comparable: the study is refused."""
    text = 'case = "gru"\nbackends = ["torch"]\n[fields]\ndata.dataset = "csv"\ndata.csv = "x.csv"\ndata.target = "x"\n'
    from compare.tune.search import read_search

    (tmp_path / "sweep.toml").write_text(text + UNITS)
    for number, period in enumerate((7, 5)):
        (tmp_path / "x.csv").write_text("x\n" + "".join(f"{value % period}\n" for value in range(90)))
        search = read_search(tmp_path / "sweep.toml")
        if number:
            with pytest.raises(InputError, match="another data"):
                SharedStudy(tmp_path / "out", search)
        else:
            with SharedStudy(tmp_path / "out", search):
                pass


@pytest.mark.parametrize("name", ["tune.json", "note.txt"])
def test_a_foreign_folder_is_refused(tmp_path: Path, name: str) -> None:
    """A folder that holds something else, or a damaged search, is left as it is."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("{}")
    with pytest.raises(InputError, match="give a new folder"):
        SharedStudy(tmp_path / "out", search_of(tmp_path, UNITS))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_the_field_that_matters_is_named(tmp_path: Path) -> None:
    """The importance of a field on which the score depends is far above that of one which does nothing."""
    text = f"{UNITS}model.use_bias = [true, false]\n[tune]\nsampler = 'grid'\npruner = 'none'\nfolds = 2\n"
    search = search_of(tmp_path, text)
    tried_all(search, tmp_path / "out", PretendedPool(off))
    with SharedStudy(tmp_path / "out", search) as shared:
        parts = importances(shared.study)
    assert parts["model.units"] > 0.9
    assert sum(parts.values()) == pytest.approx(1)
