"""The generator of random ports that `explain` is measured with."""

import difflib
from pathlib import Path

import pytest

SEEDS = range(0, 200, 4)


@pytest.fixture
def ports(monkeypatch):
    """The package of benchmarks/, which is not installed."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import ports.joined
    import ports.score

    return ports


def test_a_seed_always_writes_the_same_port(ports):
    """A seed writes one text, two seeds write two, and each is Python."""
    texts = [ports.joined.port(seed).text() for seed in SEEDS]
    assert texts == [ports.joined.port(seed).text() for seed in SEEDS]
    assert len(set(texts)) == len(texts)
    for text in texts:
        compile(text, "port", "exec")


def test_a_mutation_changes_one_line(ports):
    """Every mutation is Python, differs from its port in one line, and its pattern finds a line that still stands."""
    for seed in SEEDS:
        made = ports.joined.port(seed)
        right = made.text().splitlines()
        for mutation in made.mutations():
            compile(mutation.text, "mutation", "exec")
            changed = [row for row in difflib.ndiff(right, mutation.text.splitlines()) if row[0] in "+-"]
            assert len(changed) == (1 if mutation.wrong is None else 2), mutation
            answer = {"source": {"text": changed[-1][2:]}} if mutation.wrong is not None else {}
            assert mutation.wrong is None or ports.score._at({"line": mutation.line}, answer)


@pytest.mark.parametrize(
    ("causes", "line", "fix", "wrong"),
    [
        pytest.param([("last-step", "x = out[:, 0]")], True, True, [], id="right"),
        pytest.param([("forward-code", "x = out[:, 0]")], True, False, [], id="right line alone"),
        pytest.param([("last-step", "y = 1")], False, True, [], id="right name alone"),
        pytest.param([("activation", "y = 1")], False, False, ["activation"], id="wrong proof"),
        pytest.param([], False, False, [], id="nothing"),
    ],
)
def test_an_answer_is_judged_by_line_name_and_proof(ports, causes, line, fix, wrong):
    """The line, the cause's name, and a cause confirmed elsewhere under another name are told apart."""
    told = [{"name": name, "confirmed": True, "source": {"text": text}} for name, text in causes]
    answer = {"status": "differs", "agree": False, "causes": told, "first_difference": None}
    judged = ports.score.judge("m", answer, {"agree": False, "accept": ["last-step"], "line": r"out\[:, 0\]"})
    assert (judged.line, judged.fix, judged.wrong) == (line, fix, wrong)
