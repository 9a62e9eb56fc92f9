"""The command line: what it prints where, what it writes, and what it refuses."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers.paths import SUNSPOTS
from helpers.small_runs import TINY

import compare
from compare import api
from compare.cli.main import main
from compare.config.case import built_in_names
from compare.workers import backends
from compare.workers.pool import Pool

Refused = Callable[..., str]

# A run small enough to be made in a process of its own, with frameworks imported anew.
SMALL = [part for field, value in TINY.items() for part in ("--set", f"{field}={value}")]


def run_command(*arguments: object, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `python -m compare` in a folder."""
    command = [sys.executable, "-m", "compare", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def run_here(*arguments: object, folder: Path, pool: Pool) -> subprocess.CompletedProcess[str]:
    """Run a command in this process and a folder, with worker processes that are there already."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.chdir(folder)
        patch.setattr(api, "Pool", lambda *_, **__: nullcontext(pool))
        code = main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def read_junit(folder: Path) -> ElementTree.Element:
    """Read a run's JUnit file, which must be valid XML."""
    return ElementTree.parse(folder / "junit.xml").getroot()  # noqa: S314 - written by this test


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of this module run."""
    return tmp_path_factory.mktemp("command-line")


@pytest.fixture(scope="module")
def agreeing(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A run of two cases on the backend that KERAS_BACKEND names, with --json, into `agreeing`."""
    return run_command(
        "run", "lstm", "gru", *SMALL, "--json", "--out", "agreeing",
        folder=folder, environment={**environment, "KERAS_BACKEND": "torch"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def differing(folder: Path, pool: Pool) -> subprocess.CompletedProcess[str]:
    """A run of stock optimizers, which differ, with --quiet and the CSV file of this suite, into `differing`."""
    series = SUNSPOTS
    return run_here(
        "run", "lstm", *SMALL, "--stock", "--quiet", "--backend", "torch", "--epochs", 2,
        "--csv", series, "--target", "sunspots", "--features", "sunspots", "year", "--out", "differing",
        folder=folder, pool=pool,
    )  # fmt: skip


def test_json_is_the_verdict_and_nothing_else(agreeing: subprocess.CompletedProcess[str], folder: Path) -> None:
    """With --json standard output is the verdict that is also in the file, and the exit code is 0 if all agree."""
    assert agreeing.returncode == 0, agreeing.stderr
    verdict = json.loads(agreeing.stdout)
    assert verdict == json.loads((folder / "agreeing" / "verdict.json").read_text())
    assert verdict["agree"] is True
    assert [(c["case"], c["runner"], c["status"]) for c in verdict["comparisons"]] == [
        ("lstm", "keras-torch", "agrees"),
        ("gru", "keras-torch", "agrees"),
    ]
    for comparison in verdict["comparisons"]:
        assert comparison["reference"] == "torch"
        assert comparison["dtype"] == "float32"
        assert comparison["steps"] == 18
        assert comparison["checks"] > 0
        assert comparison["metrics"].keys() == {"torch", "keras-torch"}


def test_progress_goes_to_standard_error(agreeing: subprocess.CompletedProcess[str]) -> None:
    """Progress names every training, the ensemble's and the repetition included, on standard error."""
    lines = [line for line in agreeing.stderr.splitlines() if line.startswith("[")]
    assert len(lines) == 2 * 7
    assert lines[-1].startswith("[14/14] ")


def test_every_runner_leaves_its_trace(agreeing: subprocess.CompletedProcess[str], folder: Path) -> None:
    """Each runner's trace stands in the folder of its case and can be read."""
    assert agreeing.returncode == 0
    for case in ("lstm", "gru"):
        for runner in ("torch", "keras-torch"):
            assert compare.read_trace(folder / "agreeing" / case / runner).complete


def test_quiet_prints_the_conclusion_alone(differing: subprocess.CompletedProcess[str]) -> None:
    """With --quiet there is one line, the conclusion; the exit code is 1 if something differs."""
    assert differing.returncode == 1, differing.stderr
    assert differing.stdout == "1 of 1 differs: lstm on keras-torch.\n"
    assert "[" not in differing.stderr


def test_options_reach_the_case(differing: subprocess.CompletedProcess[str], folder: Path) -> None:
    """The case that was run is kept, with what the options changed."""
    assert differing.returncode == 1
    case = json.loads((folder / "differing" / "lstm" / "experiment" / "experiment.json").read_text())["case"]
    assert case["training"]["stock"] is True
    assert case["training"]["epochs"] == 2
    assert case["data"]["features"] == ["sunspots", "year"]
    assert case["model"]["units"] == TINY["model.units"]


@pytest.mark.parametrize("run", ["agreeing", "differing"])
def test_the_report_is_self_contained(run: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """The HTML report refers to nothing outside itself: no script, style, font or picture is fetched."""
    request.getfixturevalue(run)
    report = (folder / run / "report.html").read_text("utf-8")
    check_self_contained(report)
    assert report.count("<h4>Loss of both sides</h4>") == (2 if run == "agreeing" else 1)
    assert "lstm" in report
    assert "keras-torch" in report


def check_self_contained(report: str) -> None:
    """Raise AssertionError for a reference to the network, XML's names of namespaces aside.

    What scripts might fetch is forbidden to them by the page's policy.
    """
    assert "default-src 'none'" in report
    content = re.sub(r"(<script[^>]*>).*?</script>", r"\1</script>", report, flags=re.DOTALL)
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", content)
    assert re.findall(r"https?://[^\s\"'<]*", without_names) == []
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*""", without_names) == []
    assert re.findall(r"@import|url\((?!['\"]?(?:#|data:))", without_names) == []


@pytest.mark.parametrize(
    "planted",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="style.css">',
        "<style>@import 'x.css'</style>",
        "<style>p { background: url(picture.png) }</style>",
        "<img src='picture.png'>",
    ],
)
def test_references_are_found(planted: str) -> None:
    """The check of a report finds a script, a style sheet or a picture that is fetched."""
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
    check_self_contained(f'{policy}<svg xmlns="http://www.w3.org/2000/svg"><use xlink:href="#a"/></svg>')
    with pytest.raises(AssertionError):
        check_self_contained(f"{policy}{planted}")


@pytest.mark.parametrize(("run", "counts"), [("agreeing", ("2", "0", "0")), ("differing", ("1", "1", "0"))])
def test_junit_counts(run: str, counts: tuple[str, ...], folder: Path, request: pytest.FixtureRequest) -> None:
    """The JUnit file parses, counts comparisons, failures and errors, and has a test case for each."""
    request.getfixturevalue(run)
    suite = read_junit(folder / run)
    assert tuple(suite.attrib[name] for name in ("tests", "failures", "errors")) == counts
    assert len(suite.findall("testcase")) == int(counts[0])
    assert len(suite.findall("testcase/failure")) == int(counts[1])


def test_a_missing_backend_exits_3(folder: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for a backend that is not installed, the command says how to install it and exits 3."""
    monkeypatch.setitem(backends.BACKENDS, "jax", backends.Backend("no_such_module", ("no-such-module",)))
    done = run_here("run", "gru", *SMALL, "--backend", "jax", "--out", "missing", folder=folder, pool=pool)
    assert done.returncode == 3, done.stderr
    assert "backend jax is not installed; python -m pip install jax" in done.stdout
    suite = read_junit(folder / "missing")
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("0", "1")
    (error,) = suite.findall("testcase/error")
    assert "not installed" in error.attrib["message"]
    assert "not installed" in (folder / "missing" / "report.html").read_text("utf-8")


def test_help_names_every_command_and_exit_code(folder: Path, environment: dict[str, str]) -> None:
    """--help prints to standard output what there is, and exits 0; so does each command's own."""
    done = run_command("--help", folder=folder, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("run", "list", "Exit codes"):
        assert word in done.stdout
    done = run_command("run", "--help", folder=folder, environment=environment)
    assert done.returncode == 0
    for option in ("--backend", "--dtype", "--epochs", "--seed", "--set", "--csv", "--target", "--features", "--out",
                   "--jobs", "--timeout", "--stock", "--json", "--quiet"):  # fmt: skip
        assert option in done.stdout


def test_list_as_json(command: Callable) -> None:
    """`list --json` has the cases, the backends with their versions and the data sets, and nothing else printed."""
    code, output, errors = command("list", "--json")
    assert (code, errors) == (0, "")
    content = json.loads(output)
    assert [case["name"] for case in content["cases"]] == built_in_names()
    assert all(case["task"] for case in content["cases"])
    assert content["backends"].keys() == {"tensorflow", "torch", "jax"}
    assert all(content["backends"].values())
    assert {"sine", "csv"} <= set(content["datasets"])


def test_list_for_people(command: Callable) -> None:
    """`list` names every case, backend and data set."""
    code, output, _ = command("list")
    assert code == 0
    for word in (*built_in_names(), "tensorflow", "torch", "jax", "sine"):
        assert word in output


@pytest.mark.parametrize(
    ("arguments", "phrases"),
    [
        pytest.param(["rnu"], ["command 'rnu' is unknown; did you mean 'run'?"], id="command"),
        pytest.param(["lstm"], ["command 'lstm' is unknown", "a case goes after run"], id="case-as-command"),
        pytest.param(["run", "lsmt"], ["case 'lsmt' is unknown; did you mean 'lstm'?", "gru"], id="case"),
        pytest.param(["run", "lstm", "lstm"], ["two cases are named 'lstm'"], id="case-twice"),
        pytest.param(
            ["run", "--backend", "tensorflw"], ["--backend: backend 'tensorflw'", "mean 'tensorflow'?"], id="backend"
        ),
        pytest.param(["--dtype", "float46"], ["'float46' is unknown; did you mean 'float64'?"], id="dtype"),
        pytest.param(["run", "--set", "model.unist=3"], ["'model.unist'", "mean 'model.units'?"], id="field"),
        pytest.param(["run", "--epochs", "ten"], ["--epochs", "'ten'"], id="epochs-not-a-number"),
        pytest.param(["run", "--jobs", "0"], ["--jobs 0"], id="jobs"),
        pytest.param(["run", "--timeout", "0"], ["--timeout 0"], id="timeout"),
        pytest.param(["run", "--timeout", "nan"], ["--timeout nan"], id="timeout-not-a-number"),
        pytest.param(["run", "--frobnicate"], ["--frobnicate"], id="option"),
        pytest.param(["run", "--out"], ["--out"], id="option-without-value"),
    ],
)
def test_bad_usage_is_refused(refused: Refused, arguments: list[str], phrases: list[str]) -> None:
    """What is unknown or out of range is refused by name, with the nearest name and what is accepted."""
    message = refused(*arguments)
    for phrase in phrases:
        assert phrase in message


def test_an_unknown_backend_in_the_environment_is_refused(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """A KERAS_BACKEND that is none of the three is refused, with where it came from."""
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    assert refused("run", "lstm").startswith("KERAS_BACKEND: backend 'theano' is unknown; ")


@pytest.mark.parametrize("name", ["verdict.json", ".hidden", "folder/"], ids=["file", "hidden-file", "folder"])
def test_a_folder_that_holds_something_is_not_written_to(refused: Refused, name: str) -> None:
    """A run is refused where --out holds anything, so that no run is mixed with another."""
    out = Path("out")
    out.mkdir()
    if name.endswith("/"):
        (out / name).mkdir()
    else:
        (out / name).write_text("another run")
    assert refused("run", "lstm", "--out", out).startswith("--out out is not empty")


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_refused(refused: Refused, out: str) -> None:
    """A run is refused where --out is a file, or below one."""
    Path("file").write_text("not a folder")
    assert refused("run", "lstm", "--out", out).startswith(f"--out {out} cannot be written: ")
