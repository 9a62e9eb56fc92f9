"""The file of a sweep: which cases it spans, and what it may not be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.paths import ROOT

from compare.sweep.grid import read_sweep

Refused = Callable[..., str]

SMALL = "[fields]\ndata.points = 60\ndata.window = 4\ntraining.epochs = 1\n"


def written(text: str) -> Path:
    """The text as a sweep's file in the current folder."""
    path = Path("sweep.toml")
    path.write_text(text, "utf-8")
    return path


def test_every_value_meets_every_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid has one case for each choice of one value from every list, each with its own name."""
    monkeypatch.chdir(tmp_path)
    text = 'case = "lstm"\nseeds = [0, 1, 2]\ndtypes = ["float32", "float64"]\nbackends = ["jax"]\n'
    sweep = read_sweep(written(text + SMALL + "[grid]\nmodel.units = [2, 3]\n"))
    points = list(sweep.points())
    assert len(points) == len(sweep) == 12
    assert len({point.name for point in points}) == 12
    chosen = {(p.fields["model.units"], p.fields["dtype"], p.fields["seed"]) for p in points}
    assert chosen == {(u, d, s) for u in (2, 3) for d in ("float32", "float64") for s in (0, 1, 2)}
    case = sweep.experiment(points[-1]).case
    assert (case.model.units, case.dtype, case.seed, case.data.points) == (3, "float64", 2, 60)
    assert sweep.backends == ["jax"]


def test_names_tell_cases_apart_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case keeps its name when the grid around it grows, and has another where its data have other content."""
    monkeypatch.chdir(tmp_path)
    Path("series.csv").write_text("x\n" + "".join(f"{value % 7}\n" for value in range(40)))
    fields = '[fields]\ndata.dataset = "csv"\ndata.csv = "series.csv"\ndata.target = "x"\n[grid]\nmodel.units = '
    (first,) = read_sweep(written(f'case = "gru"\n{fields} [2]\n')).points()
    assert first.name in [point.name for point in read_sweep(written(f'case = "gru"\n{fields} [3, 2]\n')).points()]
    Path("series.csv").write_text("x\n" + "".join(f"{value % 5}\n" for value in range(40)))
    (changed,) = read_sweep(written(f'case = "gru"\n{fields} [2]\n')).points()
    assert changed.name != first.name


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base case's file and data files that a sweep names are looked for beside it."""
    folder = tmp_path / "below"
    folder.mkdir()
    (folder / "base.toml").write_text('name = "mine"\n[model]\ncell = "gru"\n')
    (folder / "series.csv").write_text("x\n" + "1\n2\n4\n" * 20)
    text = 'case = "base.toml"\n[fields]\ndata.target = "x"\ndata.dataset = "csv"\n[grid]\ndata.csv = ["series.csv"]\n'
    (folder / "sweep.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    (point,) = read_sweep(Path("below/sweep.toml")).points()
    assert point.name.startswith("mine-")


BASE = 'case = "lstm"\n'


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        pytest.param("case = ", ["not valid TOML"], id="syntax"),
        pytest.param("seeds = [0]\n", ["key 'case' is missing"], id="no-case"),
        pytest.param(BASE + "sead = [0]\n", ["key 'sead' is unknown; did you mean 'seeds'?"], id="key"),
        pytest.param('case = "lsmt"\n', ["case 'lsmt' is unknown; did you mean 'lstm'?"], id="case"),
        pytest.param('case = "none.toml"\n', ["none.toml' cannot be read"], id="case-file"),
        pytest.param(BASE + "[grid]\nmodel.unist = [1]\n", ["'model.unist' is unknown; did you", "units"], id="field"),
        pytest.param(BASE + "[fields]\nmodel.unist = 1\n", ["'model.unist' is unknown; did you", "units"], id="set"),
        pytest.param(BASE + "[grid]\nmodel.units = []\n", ["model.units = [] is empty"], id="empty-list"),
        pytest.param(BASE + "seeds = []\n", ["seed = [] is empty"], id="no-seed"),
        pytest.param(BASE + "backends = []\n", ["backends = [] is empty"], id="no-backend"),
        pytest.param(BASE + "[grid]\nmodel.units = 3\n", ["model.units = 3 is no list", "[fields]"], id="no-list"),
        pytest.param(BASE + "[grid]\nmodel.units = [3, 3]\n", ["model.units has 3 twice"], id="twice"),
        pytest.param(
            BASE + "[grid]\nmodel.units = [4, 0]\n", ["with model.units = 0", "model.units = 0: input"], id="impossible"
        ),
        pytest.param(BASE + "[grid]\ndata.window = [4, 2000]\n", ["data.window = 2000", "1000 rows"], id="data"),
        pytest.param(BASE + "[grid]\nseed = [1]\n", ["grid.seed does not belong", "seeds = "], id="seed-in-grid"),
        pytest.param(BASE + 'dtypes = ["float46"]\n', ["'float46' is unknown", "float64"], id="dtype"),
        pytest.param(BASE + 'backends = ["jaks"]\n', ["backend 'jaks' is unknown; did you mean 'jax'?"], id="backend"),
        pytest.param(
            BASE + "[fields]\nmodel.units = 3\n[grid]\nmodel.units = [3]\n", ["model.units is in fields"], id="both"
        ),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(refused: Refused, text: str, phrases: list[str]) -> None:
    """What a sweep's file may not have is refused by name before anything is trained or written."""
    path = written(text)
    message = refused("sweep", path, "--out", "out")
    for phrase in phrases:
        assert phrase in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["missing.toml"], "'missing.toml' cannot be read", id="file"),
        pytest.param(["sweep.toml", "--on", "mars"], "--on", id="place"),
        pytest.param(["sweep.toml", "--address", "127.0.0.1:1"], "give --on ray too", id="address"),
        pytest.param(["sweep.toml", "--jobs", "0"], "--jobs 0", id="jobs"),
        pytest.param(["sweep.toml", "--timeout", "nan"], "--timeout nan", id="timeout"),
    ],
)
def test_bad_options_are_refused(refused: Refused, arguments: list[str], message: str) -> None:
    """Options that make no sense are refused by name."""
    written(BASE)
    assert message in refused("sweep", *arguments)


def test_the_example_can_be_read() -> None:
    """The committed example spans eight cases."""
    sweep = read_sweep(ROOT / "examples" / "sweep.toml")
    assert len(list(sweep.points())) == 8
