"""A counterfactual that kills its side, hangs or eats memory is not tried, is said not to be, and the run goes on."""

from pathlib import Path

import pytest
from helpers.framework_processes import FrameworkProcesses
from helpers.pairs import pair_text

from compare.explain.entry import explain_with
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides

PAIR = pair_text("correct_lstm")
LAST = "self.fc(self.lstm(x)[0][:, -1])"
assert PAIR.count(LAST) == 1

# The first timestep is taken for the last. Where a counterfactual takes the last but one, the process ends.
DEADLY = """(self.checked(self.lstm(x)[0]))

        def checked(self, outputs):
            chosen = outputs[:, 0]
            if torch.equal(chosen, outputs[:, -2]):
                import os

                os.kill(os.getpid(), 9)
            return self.fc(chosen)"""


def test_a_side_killed_in_a_counterfactual(tmp_path: Path, sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """The side is started again, what it died in is not tried and said so, and the right cause is confirmed."""
    (tmp_path / "deadly.py").write_text(PAIR.replace(LAST, DEADLY), "utf-8")
    tried: list[str] = []
    monkeypatch.setattr(sides, "on_doing", tried.append)
    before = sides.torch.process
    comparison = explain_with(sides, read_pair(str(tmp_path / "deadly.py")))
    assert sides.torch.process is not before
    assert comparison.status == "differs", comparison.error
    assert ("last-step", True) in [(cause.name, cause.confirmed) for cause in comparison.causes]
    (cause,) = [cause for cause in comparison.causes if cause.name == "last-step"]
    assert cause.source is not None
    assert cause.source["text"] == "chosen = outputs[:, 0]"
    assert cause.fix == "outputs[:, -1]"
    deaths = [note for note in comparison.notes if "the process died in it" in note]
    assert deaths, comparison.notes
    assert any("outputs[:, -2]" in text for text in tried)


@pytest.mark.parametrize(
    ("greedy", "reason"),
    [("hangs", "it took more than 1 s"), ("eats", "GiB"), ("raises", None), ("excluded", "the process died in it")],
)
def test_a_budget_ends_a_trial(frameworks: FrameworkProcesses, greedy: str, reason: str | None) -> None:
    """What takes too long, too much memory, or killed a process before gives nothing; an exception needs no note."""
    result, reasons, after = frameworks.call("torch", "observer_probes.greedy_trial", greedy)
    assert result is None
    assert after == 7, "the next trial is tried"
    assert len(reasons) == (reason is not None)
    assert all(reason in text for text in reasons)
