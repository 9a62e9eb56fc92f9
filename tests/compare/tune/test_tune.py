"""`tune` as a user calls it: killed and resumed, its page, its best case."""

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers.sweep_runs import PATIENCE_SECONDS, start_counted, trainings
from helpers.tune_runs import SMALL

from compare.config.case import load_case

# Three trials of two folds on both sides: with the confirmation 12 + 7 trainings.
SEARCH = (
    SMALL
    + """
[grid]
model.units = [2, 4]
[tune]
trials = 3
folds = 2
side = "both"
[tune.space]
training.learning_rate = {low = 1e-3, high = 0.1, log = true}
"""
)
TRAININGS = 19

# A whole search, killed and given again; `test_study.py` kills it at every training without one.
pytestmark = pytest.mark.slow


class Finished(NamedTuple):
    """A search at its end: its folder, what it printed, and what it said."""

    folder: Path
    outcome: dict[str, Any]
    errors: str


def finish(process: subprocess.Popen[str], folder: Path) -> Finished:
    """Wait for a search that must succeed."""
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    return Finished(folder, json.loads(output), errors)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Finished:
    """A search that was killed after its fourth training and given the same command again."""
    folder = tmp_path_factory.mktemp("tune")
    process = start_counted(folder, environment, SEARCH, "tune", "--jobs", "1")
    end = time.monotonic() + PATIENCE_SECONDS
    while trainings(folder).total() < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return finish(start_counted(folder, environment, SEARCH, "tune", "--jobs", "1"), folder)


def test_a_killed_search_trains_nothing_twice(resumed: Finished) -> None:
    """Killed and resumed, a search has every trial, and at most what was under way was trained twice."""
    assert resumed.outcome["trials"] == 3
    assert resumed.outcome["complete"] == 3
    done = trainings(resumed.folder)
    assert len(done) == TRAININGS
    assert done.total() <= TRAININGS + 1
    assert not (resumed.folder / "out" / "trials").exists()


def test_both_sides_reach_the_same_score(resumed: Finished) -> None:
    """Fold by fold both sides score alike, and the best case is confirmed by the judge."""
    for trial in resumed.outcome["ranking"]:
        for fold in trial["folds"]:
            assert fold["torch"] == pytest.approx(fold["keras-torch"], rel=1e-4)
    scores = [trial["score"] for trial in resumed.outcome["ranking"]]
    assert scores == sorted(scores)
    (comparison,) = resumed.outcome["confirmation"]["comparisons"]
    assert comparison["status"] == "agrees"
    assert comparison["metrics"]["torch"]["mse"] == pytest.approx(comparison["metrics"]["keras-torch"]["mse"], rel=1e-4)


def test_the_best_case_is_ready_for_run(resumed: Finished) -> None:
    """The best values stand in a case's file that can be loaded, named after the case."""
    case = load_case(resumed.folder / resumed.outcome["best_case"])
    best = resumed.outcome["best"]["fields"]
    assert case.name == "lstm-tuned"
    assert (case.model.units, case.training.learning_rate) == (best["model.units"], best["training.learning_rate"])
    assert case.data.folds is None


def test_the_page_lists_every_trial(resumed: Finished) -> None:
    """The page has each trial, the verdict and the charts, and fetches nothing."""
    page = (resumed.folder / "out" / "report.html").read_text("utf-8")
    trials = page[page.index('<table class="trials">') :]
    assert trials[: trials.index("</table>")].count('<th scope="row"') == 3
    assert "the comparison agrees" in page
    assert page.count('class="chart"') == 4  # the scores, what matters, and one for each of two fields
    assert (resumed.folder / "out" / "confirmation" / "report.html").exists()


def test_two_processes_share_a_search(tmp_path: Path, environment: dict[str, str], resumed: Finished) -> None:
    """Two processes at one folder train each fold once, and both tell the result of the one that was killed."""
    pair = [start_counted(tmp_path, environment, SEARCH, "tune", "--jobs", "1") for _ in range(2)]
    finished = [finish(process, tmp_path) for process in pair]
    assert trainings(tmp_path) == Counter(dict.fromkeys(trainings(resumed.folder), 1))
    for one in finished:
        assert [t["trial"] for t in one.outcome["ranking"]] == [t["trial"] for t in resumed.outcome["ranking"]]


def test_ray_gives_the_same(tmp_path: Path, environment: dict[str, str], resumed: Finished) -> None:
    """On Ray the scores are the same to the last digit."""
    finished = finish(start_counted(tmp_path, environment, SEARCH, "tune", "--jobs", "1", "--on", "ray"), tmp_path)
    assert finished.outcome["ranking"] == resumed.outcome["ranking"]
