"""What a sweep keeps on disk: whole lines, one folder for one sweep, one table."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from compare.errors import InputError
from compare.storage import CHECKSUM, sealed, write_json
from compare.sweep.results import LINES_FILE, SWEEP_FILE, Results
from compare.sweep.table import write_table


def test_records_are_found_again(tmp_path: Path) -> None:
    """What was kept is read by the next sweep in the folder, in order."""
    with Results(tmp_path / "out", ["torch"]) as results:
        assert list(results.read()) == []
        results.add({"case": "a", "status": "agrees"})
        results.add({"case": "b", "status": "failed"})
    with Results(tmp_path / "out", ["torch"]) as results:
        assert [record["case"] for record in results.read()] == ["a", "b"]


@pytest.mark.parametrize("cut", [1, 5, 20], ids="{}-bytes".format)
def test_a_line_that_was_cut_is_dropped(tmp_path: Path, cut: int) -> None:
    """A record of which a part was written is not read, and does not spoil the one written after it."""
    with Results(tmp_path / "out", ["torch"]) as results:
        for case in "ab":
            results.add({"case": case, "status": "agrees"})
    lines = tmp_path / "out" / LINES_FILE
    lines.write_bytes(lines.read_bytes()[:-cut])
    with Results(tmp_path / "out", ["torch"]) as results:
        assert [record["case"] for record in results.read()] == ["a"]
        results.add({"case": "c", "status": "agrees"})
    assert [json.loads(line)["case"] for line in lines.read_text().splitlines()] == ["a", "c"]


def test_two_sweeps_do_not_write_to_one_folder(tmp_path: Path) -> None:
    """A second sweep in a folder is refused while the first one runs, and welcome afterwards."""
    with Results(tmp_path / "out", ["torch"]), pytest.raises(InputError, match=r"is in use by process \d+ on"):
        Results(tmp_path / "out", ["torch"])
    with Results(tmp_path / "out", ["torch"]):
        pass


def test_another_sweeps_folder_is_refused(tmp_path: Path) -> None:
    """Verdicts on other backends or of other versions are not mixed, and a folder of something else is not touched."""
    with Results(tmp_path / "out", ["torch"]):
        pass
    with pytest.raises(InputError, match="other backends or versions"):
        Results(tmp_path / "out", ["jax"])
    made_with = json.loads((tmp_path / "out" / SWEEP_FILE).read_text())
    made_with["versions"]["keras"] = "3.0.0"
    del made_with[CHECKSUM]
    write_json(tmp_path / "out" / SWEEP_FILE, sealed(made_with))
    with pytest.raises(InputError, match="other backends or versions"):
        Results(tmp_path / "out", ["torch"])
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is not empty"):
        Results(tmp_path / "else", ["torch"])


def test_a_sweep_killed_at_its_first_file_can_go_on(tmp_path: Path) -> None:
    """The part of a first file that a killed sweep leaves does not make its folder one of something else."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sweep.partial").write_text("{")
    with Results(tmp_path / "out", ["torch"]) as results:
        assert list(results.read()) == []


@pytest.mark.parametrize("bit", range(0, 1600, 97))
def test_a_flipped_bit_is_never_a_verdict(tmp_path: Path, bit: int) -> None:
    """A record with a flipped bit is left out and counted, and no record is read that was not written."""
    written = [{"case": case, "status": "agrees"} for case in "abc"]
    with Results(tmp_path / "out", ["torch"]) as results:
        for record in written:
            results.add(record)
    lines = tmp_path / "out" / LINES_FILE
    content = bytearray(lines.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    lines.write_bytes(content)
    with Results(tmp_path / "out", ["torch"]) as results:
        records = list(results.read())
        assert results.damaged
    assert len(records) in (1, 2)
    assert all(record in written for record in records)


ROWS = [
    {"case": "a", "model.units": 4, "weight_decay": None, "error": None, "mse_keras": 0.25},
    {"case": "b", "model.units": 8, "weight_decay": 0.1, "error": 'broken, "badly"', "mse_keras": None},
]


@pytest.mark.parametrize("installed", [True, False], ids=["parquet", "csv"])
def test_the_table_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    """The table comes as Parquet, or as CSV where pyarrow is missing, with the same content."""
    if not installed:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = write_table(ROWS, tmp_path)
    assert path.suffix == (".parquet" if installed else ".csv")
    table = pd.read_parquet(path) if installed else pd.read_csv(path)
    assert table["model.units"].tolist() == [4, 8]
    assert table["error"].isna().tolist() == [True, False]
    assert table["error"][1] == ROWS[1]["error"]
    assert table["mse_keras"][0] == 0.25
