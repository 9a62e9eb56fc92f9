"""The pytest plugin, as a project outside this repository uses it; needs this package to be installed."""

import json
import os
import re
import subprocess
import sys

import pytest
from helpers.pairs import pair_text
from helpers.paths import ROOT
from helpers.small_runs import TINY, tiny_case

from compare.cli.main import _parse
from compare.cli.options import chosen_cases
from compare.config.case import load_case, with_fields
from compare.pytest_plugin.messages import settings

pytest_plugins = ["pytester"]

PROJECT = f"""
import sys

import pytest

TINY = {TINY | {"training.epochs": 1}!r}

def test_agrees(parity):
    verdict = parity.check("lstm", backends=["torch"], fields=TINY)
    (comparison,) = verdict.comparisons
    assert comparison.runner == "keras-torch"
    assert comparison.steps == 6
    assert comparison.max_relative_loss_difference < 1e-4
    assert not {{"keras", "torch", "tensorflow", "jax"}} & sys.modules.keys()

@pytest.mark.parity(["torch"], steps=7)
def test_differs(parity):
    parity.check("own.toml")

@pytest.mark.parity(backends=["torch"])
def test_pair_differs(parity):
    parity.check_pair("pair.py")
"""

MISSING = """
from compare.workers.backends import BACKENDS, Backend

def test_missing(parity, monkeypatch):
    monkeypatch.setitem(BACKENDS, "jax", Backend("no_such_module", ("no-such-module",)))
    parity.check("own.toml", backends=["jax"])
"""

OWN_CASE = """
name = "own"
[model]
cell = "gru"
units = 4
[data]
points = 120
[training]
batch_size = 16
stock = true
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with three tests that use the fixture."""
    pytester.makepyfile(test_models=PROJECT)
    pytester.path.joinpath("own.toml").write_text(OWN_CASE, "utf-8")
    pytester.path.joinpath("pair.py").write_text(pair_text("rnn_two_biases"), "utf-8")
    return pytester


@pytest.mark.slow
def test_a_project_checks_its_models(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """What agrees passes; what differs fails with location, figures and the command, and what is missing is no skip."""
    # One training at a time, as in one of very many processes of xdist: no second worker has a reason to start.
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "1024")
    project.makepyfile(test_missing=MISSING)
    result = project.runpytest_subprocess("-W", "error", "--parity-report", "reports", "-v")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines_random(
        [
            "*::test_agrees PASSED*",
            "1 of 1 differs: own on keras-torch.",
            "own on keras-torch: first at step *, update, *: relative error *, tolerance *",
            "To repeat it: python -m compare run own.toml --backend torch --set training.epochs=2",
            "keras-torch: first at step 0, update, */bias_ih_l0. *",
            "two-biases on keras-torch",
            "*.bias_hh_l0.requires_grad_(False)*",
            "Cause: two-biases",
            "To repeat it: python -m compare explain pair.py --backend torch",
            "own on keras-jax: keras-jax: backend jax is not installed; python -m pip install jax",
        ]
    )
    # A failure says what differs, not where in this package that was found.
    assert not re.search(r"^(Traceback|.*checks\.py:\d+)", result.stdout.str(), re.MULTILINE)
    reports = sorted(project.path.glob("reports/*/1/report.html"))
    assert len(reports) == 4
    verdicts = [json.loads(file.with_name("verdict.json").read_text("utf-8"))["agree"] for file in reports]
    assert sorted(verdicts) == [False, False, False, True]
    logs = [file.name.rpartition("-")[0] for file in project.path.rglob("logs/*.log")]
    assert sorted(logs) == ["keras-torch", "torch"], "the same processes work for all tests"


@pytest.mark.slow
def test_a_project_checks_its_models_side_by_side(project: pytest.Pytester) -> None:
    """Under xdist each process has workers of its own, and each test's report a folder of its own."""
    result = project.runpytest_subprocess("-W", "error", "-n", "2", "-k", "not pair", "--parity-report", "reports")
    result.assert_outcomes(passed=1, failed=1)
    statuses = {}
    for file in project.path.glob("reports/*/1/verdict.json"):
        (comparison,) = json.loads(file.read_text("utf-8"))["comparisons"]
        statuses[comparison["case"]] = comparison["status"]
    assert statuses == {"lstm": "agrees", "own": "differs"}


@pytest.mark.parametrize(
    ("marker", "check", "message"),
    [
        pytest.param("", "parity.check('lstn')", "case 'lstn' is unknown; did you mean 'lstm'?", id="case"),
        pytest.param("", "parity.check('no.toml')", "no.toml' cannot be read: No such file", id="file"),
        pytest.param("", "parity.check('lstm', fields={'model.unit': 3})", "'model.unit' is unknown; did", id="field"),
        pytest.param("", "parity.check('lstm', backends=['jaxx'])", "did you mean 'jax'?", id="backend"),
        pytest.param("", "parity.check_pair('no.py')", "no.py cannot be read: No such file", id="pair"),
        pytest.param("", "parity.check_golden('none')", "python -m compare record lstm --golden", id="golden"),
        pytest.param("", "parity.check_golden('none')", "check_golden('none', 'lstm'), and run: pytest", id="no-cases"),
        pytest.param("", "parity.check_golden('none', 'gru')", "record gru --golden", id="golden-of-a-case"),
        pytest.param("steps=0", "parity.check('lstm')", "steps = 0 must be a whole number", id="no-steps"),
        pytest.param("epochs=3", "parity.check('lstm')", "it takes backends and steps", id="marker"),
    ],
)
def test_what_cannot_be_checked_fails(pytester: pytest.Pytester, marker: str, check: str, message: str) -> None:
    """A user's mistake fails the test with one message, before anything is trained."""
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.parity({marker})\ndef test(parity):\n    {check}\n")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes in ({"failed": 1}, {"errors": 1}), "a marker is read before the test, the rest in it"
    result.stdout.fnmatch_lines([f"*{_literal(message)}*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*During handling*")


def _literal(message: str) -> str:
    """The message, nothing in it a pattern."""
    return re.sub(r"([\[?*])", r"[\1]", message)


def test_an_unknown_backend_ends_pytest(pytester: pytest.Pytester) -> None:
    """An option that names no backend is bad usage, whatever the tests are."""
    pytester.makepyfile("def test():\n    pass\n")
    result = pytester.runpytest_inprocess("--parity-backends", "torch,jaxx")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --parity-backends: backend 'jaxx' is unknown; did you mean 'jax'[?]*"])


def test_pytest_says_what_there_is(pytester: pytest.Pytester) -> None:
    """The fixture, the marker and the options are in pytest's own help."""
    pytester.makepyfile("def test():\n    pass\n")
    assert "parity -- " in pytester.runpytest_inprocess("--fixtures").stdout.str()
    assert "@pytest.mark.parity(backends, steps):" in pytester.runpytest_inprocess("--markers").stdout.str()
    options = pytester.runpytest_inprocess("--help").stdout.str()
    assert all(f"--parity-{name}" in options for name in ("backends", "regen", "regen-all", "report"))


def test_the_plugin_costs_nothing_where_it_is_not_used() -> None:
    """Importing the plugin imports nothing but its own package and `compare`, which imports nothing."""
    code = "import sys, pytest; before = {*sys.modules}; import compare.pytest_plugin; print(*{*sys.modules} - before)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert set(done.stdout.split()) == {"compare", "compare.pytest_plugin"}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"model.units": 7, "training.learning_rate": 1e-5, "seed": 3, "dtype": "float64"}, id="numbers"),
        pytest.param({"training.stock": True, "model.bidirectional": "concat", "name": "other"}, id="words"),
        pytest.param(
            {"training.schedule": "piecewise", "training.boundaries": (2, 4), "training.values": (0.1, 0.01, 1e-3)},
            id="lists",
        ),
        pytest.param({"data.dataset": "csv", "data.csv": "my file.csv", "data.target": "close"}, id="text"),
    ],
)
def test_the_command_that_repeats_a_check_makes_its_case(fields: dict) -> None:
    """What is printed makes the same case when it is given to the command line."""
    case = with_fields(load_case("lstm"), fields)
    texts = settings(load_case("lstm"), case)
    assert texts
    arguments = [part for text in texts for part in ("--set", text)]
    assert chosen_cases(_parse(["run", "lstm", *arguments])) == [case]


def test_a_field_that_is_taken_away_cannot_be_set() -> None:
    """The command line has no word for nothing, so that the case is written to a file instead."""
    clipped = tiny_case("lstm", {"training.clipnorm": 1.0})
    assert settings(clipped, tiny_case("lstm")) is None
