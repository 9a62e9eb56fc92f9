"""The Python API: `compare.run` and `compare.explain`, whichever way their packages were imported before."""

import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.small_runs import TINY

import compare
from compare.judge import Comparison, Verdict
from compare.judge.verdict import Cause, Difference

RESULTS = {
    "run": compare.RunResult(
        [], Verdict([Comparison("lstm", "keras-torch", "torch", "float32", "agrees", steps=3)]), Path("out")
    ),
    "explain": compare.ExplainResult(
        Comparison(
            "pair", "keras-torch", "torch", "float32", "differs", steps=3,
            differences=[Difference("differs", 0, "forward", "The <b>two</b> sides differ.", "layer0", 0.1, 1e-6)],
            causes=[Cause("two-biases", True, "Two biases train twice.", "freeze one", 1.0, 1e-7)],
        ),
        Path("out"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "first",
    ["import compare", "import compare.run, compare.explain", "import compare.run.plan, compare.explain.pair_file"],
    ids=["alone", "packages", "modules"],
)
def test_packages_are_called_whatever_was_imported_before(first: str, environment: dict[str, str]) -> None:
    """The package and the function have one name, and both work in either order of import."""
    code = (
        f"{first}\nimport compare\n"
        "for call in (lambda: compare.run('lsmt'), lambda: compare.explain('no.py', 'torch')):\n"
        "    try:\n        call()\n    except compare.InputError as error:\n        print(error)\n"
        "import compare.run.plan, compare.explain.pair_file\n"
        "print(compare.run.plan.plan.__name__, compare.explain.pair_file.read_pair.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    bad_case, bad_pair, names = done.stdout.splitlines()
    assert bad_case.startswith("case 'lsmt' is unknown; did you mean 'lstm'?")
    assert bad_pair.startswith("no.py cannot be read")
    assert names == "plan read_pair"


@pytest.mark.parametrize("name", ["run", "explain", "port", "tune"])
def test_help_says_what_a_package_takes(name: str) -> None:
    """`help` and `inspect.signature` show the function that is called."""
    function = getattr(compare, name)
    signature = inspect.signature(function)
    assert signature == inspect.signature(getattr(sys.modules["compare.api"], name))
    text = pydoc.plain(pydoc.render_doc(function))
    for parameter in signature.parameters:
        assert f"{parameter}: " in text
    assert "Raises InputError" in text


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("run", "<RunResult: The comparison agrees. out/report.html>"),
        ("explain", "<ExplainResult of pair: The two sides differ: two-biases. out/report.html>"),
    ],
    ids=["run", "explain"],
)
def test_a_result_shows_itself(name: str, line: str) -> None:
    """In one line, and as HTML in which nothing that a framework said is taken for markup."""
    result = RESULTS[name]
    assert repr(result) == line
    html = result._repr_html_()
    assert html.startswith("<pre>")
    assert "keras-torch" in html or "two-biases" in html
    assert "<b>two</b>" not in html


def test_an_explanation_has_its_parts() -> None:
    """What is first different and why can be asked for by name."""
    result = RESULTS["explain"]
    assert not result.agree
    assert result.first_difference.tensor == "layer0"
    assert [cause.name for cause in result.causes] == ["two-biases"]


def test_a_run_trains_and_judges(tmp_path: Path) -> None:
    """A run gives its cases as they were trained, its verdict and its folder."""
    result = compare.run("lstm", "torch", TINY | {"training.epochs": 1}, seed=3, out=tmp_path / "out")
    assert result.agree, result
    assert [case.seed for case in result.cases] == [3]
    assert [(c.case, c.runner) for c in result.comparisons] == [("lstm", "keras-torch")]
    assert result.report.is_file()
    assert (tmp_path / "out" / "junit.xml").is_file()


def test_numbers_that_no_work_can_be_done_with_are_refused() -> None:
    """No jobs, and no time, are mistakes of the caller's."""
    with pytest.raises(compare.InputError, match="jobs 0"):
        compare.run("lstm", jobs=0)
    with pytest.raises(compare.InputError, match="timeout 0"):
        compare.explain("pair.py", timeout=0)
