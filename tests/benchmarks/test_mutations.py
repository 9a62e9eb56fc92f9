"""The generator of mutations that the judge is measured with, and the rule that says what each of them does."""

import ast
import random
from pathlib import Path

import pytest
from helpers.damaged_traces import DamagedTraces
from helpers.paths import ROOT
from helpers.small_runs import Run

FILES = sorted((ROOT / "torch_models").glob("*.py"))

SAMPLE = """
def program(x, y):
    total = x + y + 3.0
    ratio = (x - y) / y
    if x < y:
        total = total * ratio
    else:
        total = total + y**2
    wide = total if ratio < 0 else -total
    return dict(first=wide, second=max(x, y, key=lambda value: value))
"""


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder benchmarks/ as a package, which is not installed."""
    monkeypatch.syspath_prepend(ROOT)


def mutants(source: str, *, preserving: bool) -> list[tuple[str, str]]:
    """Every mutation of a source, by its kind, with the text that it makes."""
    from benchmarks.mutation_kinds import mutations

    texts = []
    for index in range(len(mutations(ast.parse(source), preserving=preserving))):
        tree = ast.parse(source)
        mutation = mutations(tree, preserving=preserving)[index]
        mutation.change(random.Random(index))  # noqa: S311 - reproducible, no secret
        texts.append((mutation.kind, ast.unparse(ast.fix_missing_locations(tree))))
    return texts


@pytest.mark.parametrize("preserving", [False, True], ids=["faults", "preserving"])
def test_a_mutation_is_another_text_that_is_python(preserving: bool) -> None:
    """Each changes the source, and what it makes can be compiled."""
    for file in FILES[:4]:
        source = file.read_text("utf-8")
        original = ast.unparse(ast.parse(source))
        for kind, text in mutants(source, preserving=preserving):
            assert text != original, (file.name, kind)
            compile(text, file.name, "exec")


def outcome(source: str) -> list[object]:
    """What the sample makes of some numbers; an error is an outcome too."""
    names: dict[str, object] = {}
    exec(source, names)  # noqa: S102 - the text is of this file
    program = names["program"]
    outcomes: list[object] = []
    for x, y in ((1.0, 2.0), (3.0, 0.5), (-1.0, 4.0)):
        try:
            outcomes.append(program(x, y))
        except Exception as error:  # a fault may raise anything
            outcomes.append(type(error))
    return outcomes


def test_what_keeps_the_meaning_keeps_the_result() -> None:
    """Every change of that kind gives the same numbers, and all kinds are tried; a fault of every kind gives others."""
    preserving = mutants(SAMPLE, preserving=True)
    assert len({kind for kind, _ in preserving}) >= 8
    for kind, text in preserving:
        for before, after in zip(outcome(SAMPLE), outcome(text), strict=True):
            assert after == pytest.approx(before), kind
    changed = {kind for kind, text in mutants(SAMPLE, preserving=False) if outcome(text) != outcome(SAMPLE)}
    assert changed == {"constant", "operator"}


def test_the_effect_is_where_a_figure_first_changes(clean_run: Run, tmp_path: Path) -> None:
    """A trace has no effect on itself; one changed figure has its size, step and phase; a lost step is the largest."""
    from benchmarks.mutation_effects import effect_of

    traces = DamagedTraces(clean_run.folder / "lstm", tmp_path / "lstm")
    original = traces.read("expected")
    assert effect_of(original, original, traces.experiment, 1e-6).size == 0

    column = next(name for name in original.columns if name.startswith("gradient/"))
    figure = original.rows[7, original.columns.index(column)]
    traces.set_figure("expected", column, 7, 1.5 * figure)
    effect = effect_of(original, traces.read("expected"), traces.experiment, 1e-6)
    assert (effect.step, effect.phase) == (7, "gradient")
    assert 0 < effect.size < float("inf")

    traces.change_rows("expected", lambda columns, rows: (columns, rows[:-1]))
    assert effect_of(original, traces.read("expected"), traces.experiment, 1e-6).size == float("inf")


def test_a_side_is_right_by_the_package_that_was_mutated() -> None:
    """The side named is held against the file's package; the counts keep what was found apart from what was drawn."""
    from benchmarks.mutation_results import Result, counts_of, held_out

    planted = {"file": "torch_models/layers.py", "preserving": False}
    right = Result(planted, "", "differs", backend="torch", expected=(3, "loss"), said=(3, "loss", "torch"))
    wrong = Result(planted, "", "differs", backend="torch", expected=(3, "loss"), said=(4, "loss", "keras-torch"))
    missed, lost = Result(planted, "", "agrees"), Result(planted, "", "does not run")
    kept = Result(planted | {"preserving": True}, "", "differs", backend="torch")
    counts = counts_of([right, wrong, missed, lost, kept])
    assert held_out(counts) == {
        "faults detected": (2, 3),
        "side named": (1, 2),
        "exact step": (1, 2),
        "phase right": (1, 2),
        "meaning-preserving changes flagged": (1, 1),
    }
