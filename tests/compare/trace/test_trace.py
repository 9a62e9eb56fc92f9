"""A trace is read as it was written, up to the last whole record, and nothing is invented."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.trace.trace import Trace, TraceError, TraceWriter, damaged_files, keep_steps, read_trace

COLUMNS = ("loss", "gradient/head/kernel", "update/head/kernel")
RECORDS = [np.arange(6.0).reshape(2, 3), np.array([[0.1, -0.0, 1e-310]]), np.array([[7.5, np.inf, 8.25], [3, 2, 1]])]


def write(folder: Path, records: list[np.ndarray], *, finished: bool = True) -> None:
    """Write a trace of the given records, a checkpoint and predictions."""
    with TraceWriter(folder, {"case": "lstm", "runner": "torch"}, COLUMNS) as trace:
        for rows in records:
            trace.append(rows)
        trace.checkpoint(1, {"head/kernel": np.float32([[1, 2]])})
        if finished:
            trace.finish({"predictions": np.float32([[5], [6]])}, {"seconds": 1.5})


def check_rows(trace: Trace, records: list[np.ndarray]) -> None:
    """Raise AssertionError unless a trace holds exactly these records, to the last bit."""
    expected = np.concatenate([np.empty((0, 3)), *records])
    assert trace.rows.shape == expected.shape
    assert trace.rows.tobytes() == expected.tobytes()


def test_round_trip(tmp_path: Path) -> None:
    """Everything written is read again: manifest, columns, figures, checkpoints and predictions."""
    write(tmp_path / "trace", RECORDS)
    trace = read_trace(tmp_path / "trace")
    check_rows(trace, RECORDS)
    assert trace.columns == COLUMNS
    assert trace.manifest["runner"] == "torch"
    assert trace.complete
    assert not trace.truncated
    assert np.array_equal(trace.losses, np.concatenate(RECORDS)[:, 0])
    assert list(trace.checkpoints) == [1]
    assert trace.checkpoints[1]["head/kernel"].tolist() == [[1, 2]]
    assert trace.predictions is not None
    assert trace.predictions.tolist() == [[5], [6]]


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(0, 5), max_size=5), seed=st.integers(0, 99))
def test_records_of_any_size_are_read(sizes: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Records of any number of steps, none included, are read in the order in which they were written."""
    generator = np.random.default_rng(seed)
    records = [generator.normal(size=(steps, 3)) for steps in sizes]
    folder = tmp_path_factory.mktemp("trace") / "trace"
    write(folder, records)
    check_rows(read_trace(folder), records)


@pytest.mark.parametrize("fault", ["a-bit", "a-step", "the-order"])
def test_check_of_rows_catches_faults(tmp_path: Path, fault: str) -> None:
    """The check of what was read fails for a changed last bit, a lost step and another order."""
    write(tmp_path / "trace", RECORDS)
    other = {
        "a-bit": [RECORDS[0], np.nextafter(RECORDS[1], 1), RECORDS[2]],
        "a-step": [RECORDS[0], RECORDS[1], RECORDS[2][:1]],
        "the-order": [RECORDS[1], RECORDS[0], RECORDS[2]],
    }
    with pytest.raises(AssertionError):
        check_rows(read_trace(tmp_path / "trace"), other[fault])


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    """A file cut anywhere in its last record gives all records before it and none of the last, and says so."""
    folder = tmp_path / "trace"
    write(folder, RECORDS)
    steps = folder / "steps.bin"
    whole = steps.read_bytes()
    write(tmp_path / "shorter", RECORDS[:-1])
    start = (tmp_path / "shorter" / "steps.bin").stat().st_size
    assert start < len(whole)
    for length in range(start, len(whole)):
        steps.write_bytes(whole[:length])
        trace = read_trace(folder)
        check_rows(trace, RECORDS[:-1])
        # Cut between two records it is a whole file, of too few steps: for the judge to notice, who knows how many.
        assert trace.truncated == (length > start), f"cut after {length} bytes"
        assert not (trace.truncated and trace.complete)


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """A byte changed anywhere ends the reading before its record, and the trace says so."""
    folder = tmp_path / "trace"
    write(folder, RECORDS)
    steps = folder / "steps.bin"
    whole = steps.read_bytes()
    ends = []
    for count in range(len(RECORDS)):
        write(tmp_path / f"first-{count}", RECORDS[: count + 1])
        ends.append((tmp_path / f"first-{count}" / "steps.bin").stat().st_size)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        steps.write_bytes(damaged)
        trace = read_trace(folder)
        check_rows(trace, RECORDS[: sum(end <= position for end in ends)])
        assert trace.truncated, f"flipped byte {position}"
        assert not trace.complete


def test_bytes_after_the_last_record_are_noticed(tmp_path: Path) -> None:
    """What follows the last record and is none is not read, and the trace says so."""
    write(tmp_path / "trace", RECORDS)
    with (tmp_path / "trace" / "steps.bin").open("ab") as steps:
        steps.write(b"\0")
    trace = read_trace(tmp_path / "trace")
    check_rows(trace, RECORDS)
    assert trace.truncated


def test_a_trace_is_readable_at_any_time(tmp_path: Path) -> None:
    """Every record can be read as soon as it was written, and a trace without an end is not complete."""
    folder = tmp_path / "trace"
    with TraceWriter(folder, {}, COLUMNS) as writer:
        check_rows(read_trace(folder), [])
        for count, rows in enumerate(RECORDS):
            writer.append(rows)
            check_rows(read_trace(folder), RECORDS[: count + 1])
        assert not read_trace(folder).complete
        assert read_trace(folder).predictions is None


@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 4), (1, 2, 3)], ids=str)
def test_rows_of_another_width_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Figures that do not fit the columns raise ValueError, and nothing is written."""
    with (
        TraceWriter(tmp_path / "trace", {}, COLUMNS) as trace,
        pytest.raises(ValueError, match=r"expected \(steps, 3\)"),
    ):
        trace.append(np.zeros(shape))
    check_rows(read_trace(tmp_path / "trace"), [])


def test_a_trace_is_never_overwritten(tmp_path: Path) -> None:
    """Writing into the folder of a trace is refused, and the trace is left as it is."""
    write(tmp_path / "trace", RECORDS)
    with pytest.raises(FileExistsError):
        write(tmp_path / "trace", RECORDS[:1])
    check_rows(read_trace(tmp_path / "trace"), RECORDS)


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param('{"schema": 2, "colu', id="cut"),
        pytest.param("[]", id="list"),
        pytest.param("null", id="null"),
        pytest.param('{"schema": 2}', id="no-columns"),
        pytest.param('{"schema": 2, "columns": 3}', id="columns-are-a-number"),
        pytest.param('{"schema": 999, "columns": ["loss"]}', id="another-schema"),
        pytest.param('{"columns": ["loss"]}', id="no-schema"),
    ],
)
def test_folders_without_a_manifest_are_no_traces(tmp_path: Path, manifest: str | None) -> None:
    """A folder without a manifest of a known schema raises TraceError with its path."""
    folder = tmp_path / "trace"
    write(folder, RECORDS)
    (folder / "manifest.json").unlink()
    if manifest is not None:
        (folder / "manifest.json").write_text(manifest)
    with pytest.raises(TraceError, match="trace holds"):
        read_trace(folder)


def test_missing_folders_are_no_traces(tmp_path: Path) -> None:
    """A path where there is nothing raises TraceError."""
    with pytest.raises(TraceError, match="nowhere holds no trace"):
        read_trace(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["cut", "missing", "empty"])
def test_damaged_tensors_count_as_missing(tmp_path: Path, damage: str) -> None:
    """A checkpoint or predictions that are not whole are not read at all."""
    folder = tmp_path / "trace"
    write(folder, RECORDS)
    for file in (folder / "predictions.safetensors", next((folder / "checkpoints").iterdir())):
        content = file.read_bytes()
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(content[: len(content) - 1] if damage == "cut" else b"")
    trace = read_trace(folder)
    assert trace.predictions is None
    assert trace.checkpoints == {}


def test_missing_steps_are_an_empty_trace(tmp_path: Path) -> None:
    """A trace whose steps are gone has no rows, of the right width."""
    write(tmp_path / "trace", RECORDS)
    (tmp_path / "trace" / "steps.bin").unlink()
    assert read_trace(tmp_path / "trace").rows.shape == (0, 3)


def test_manifest_keeps_what_it_was_given(tmp_path: Path) -> None:
    """The manifest on disk is JSON with the schema, the columns and every fact."""
    write(tmp_path / "trace", RECORDS)
    manifest = json.loads((tmp_path / "trace" / "manifest.json").read_text())
    assert manifest == {"schema": 2, "case": "lstm", "runner": "torch", "columns": list(COLUMNS)}


def write_states(folder: Path) -> None:
    """Write a finished trace with the states and records of three steps."""
    tensors = {"head/kernel": np.float32([[1, 2]])}
    with TraceWriter(folder, {"case": "lstm", "runner": "torch"}, COLUMNS) as trace:
        trace.append(RECORDS[0])
        for step in (0, 1, 2):
            trace.state(step, tensors, {}, {})
            trace.single_step(step, tensors)
        trace.finish({"predictions": np.float32([[5], [6]])}, {"seconds": 1.5, "stopped": None})


def flip(file: Path, bit: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@settings(max_examples=200)
@given(data=st.data())
def test_every_flipped_bit_is_told_with_its_file(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A bit that is flipped anywhere in a finished trace names its file, and back again nothing."""
    folder = tmp_path_factory.mktemp("trace") / "trace"
    write_states(folder)
    assert damaged_files(folder) == []
    file = data.draw(st.sampled_from(sorted(file for file in folder.rglob("*") if file.is_file())))
    bit = data.draw(st.integers(0, file.stat().st_size * 8 - 1))
    flip(file, bit)
    assert damaged_files(folder) == [str(file.relative_to(folder))]
    flip(file, bit)
    assert damaged_files(folder) == []


def test_a_file_that_is_gone_is_damage(tmp_path: Path) -> None:
    """A file of a finished trace that is missing is told, one of an unfinished trace is not."""
    write_states(tmp_path / "trace")
    (tmp_path / "trace" / "states" / "00000001.safetensors").unlink()
    assert damaged_files(tmp_path / "trace") == ["states/00000001.safetensors"]
    (tmp_path / "trace" / "end.json").unlink()
    assert damaged_files(tmp_path / "trace") == []


def test_steps_are_dropped_with_their_checksums(tmp_path: Path) -> None:
    """Of a trace that keeps some of its checked steps the rest is no damage; what came of the training stays."""
    write_states(tmp_path / "trace")
    keep_steps(tmp_path / "trace", [1])
    names = [str(file.relative_to(tmp_path / "trace")) for file in (tmp_path / "trace").glob("s*/*")]
    assert sorted(names) == ["single_step/00000001.safetensors", "states/00000001.safetensors"]
    assert damaged_files(tmp_path / "trace") == []
    assert json.loads((tmp_path / "trace" / "end.json").read_text())["seconds"] == 1.5
