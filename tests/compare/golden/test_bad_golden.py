"""Golden traces that cannot be used are refused before anything is trained, in words and without a traceback."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.resealed import reseal_golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compare.errors import InputError
from compare.golden.store import INDEX, choose_golden
from compare.storage import CHECKSUM, read_json, sealed, write_json


def remove(name: str) -> Callable[[Path], None]:
    """A file is missing."""
    return lambda case: (case / name).unlink()


def truncate(name: str) -> Callable[[Path], None]:
    """A file has lost its end."""

    def cut(case: Path) -> None:
        (case / name).write_bytes((case / name).read_bytes()[:-3])

    return cut


def replace_json(name: str, **fields: object) -> Callable[[Path], None]:
    """Some fields of a JSON file are others; one that is None is missing."""

    def write(case: Path) -> None:
        content = {**read_json(case / name), **fields}
        content = {field: value for field, value in content.items() if value is not None and field != CHECKSUM}
        write_json(case / name, sealed(content) if name == INDEX else content)
        if name != INDEX:
            reseal_golden(case)

    return write


def earlier_schema(case: Path) -> None:
    """The golden trace is of before there were checksums, and before its experiment had that name."""
    (case / "experiment").rename(case / "start")
    index = {"schema": 1, "case": "lstm", "traces": {"torch": ["torch"]}, "files": ["start/start.json"]}
    write_json(case / INDEX, index)


def outside(field: str) -> Callable[[Path], None]:
    """The index names a file, or a trace, beside the folder of all recordings."""

    def write(case: Path) -> None:
        (case.parents[1] / "secret").touch()
        content = read_json(case / INDEX)
        del content[CHECKSUM]
        content[field] |= {"../../secret": ""} if field == "files" else {"torch": ["../../secret"]}
        write_json(case / INDEX, sealed(content))

    return write


def linked(case: Path) -> None:
    """A file is a link to one of the same content that lies elsewhere."""
    steps = case / "torch" / "steps.bin"
    steps.rename(case.parents[1] / "steps.bin")
    steps.symlink_to(case.parents[1] / "steps.bin")


def another_state(case: Path) -> None:
    """There is the state of a step that was not recorded."""
    states = case / "torch" / "states"
    (states / "00000001.safetensors").write_bytes((states / "00000000.safetensors").read_bytes())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(remove("golden.json"), "holds no golden traces", id="no-index"),
        pytest.param(truncate("golden.json"), "has a damaged golden.json", id="damaged-index"),
        pytest.param(replace_json("golden.json", files={}), "has a damaged golden.json", id="no-files"),
        pytest.param(replace_json("golden.json", traces={}), "has a damaged golden.json", id="no-traces"),
        pytest.param(replace_json("golden.json", traces=3), "has a damaged golden.json", id="odd-traces"),
        pytest.param(replace_json("golden.json", schema=7), "is of schema 7, this version reads 2", id="schema"),
        pytest.param(earlier_schema, "is of schema 1, this version reads 2", id="before-checksums"),
        pytest.param(outside("files"), "golden.json: ../../secret is outside of the folder", id="a-file-outside"),
        pytest.param(outside("traces"), "../../secret is outside of the folder", id="a-trace-outside"),
        pytest.param(linked, "torch/steps.bin is outside of the folder", id="a-link-outside"),
        pytest.param(another_state, "torch/states/00000001.safetensors, which was not recorded", id="not-recorded"),
        pytest.param(remove("torch/steps.bin"), "lacks torch/steps.bin", id="no-steps"),
        pytest.param(truncate("torch/steps.bin"), "has a damaged torch/steps.bin", id="damaged-steps"),
        pytest.param(remove("keras-torch/states/00000000.safetensors"), "lacks keras-torch/states", id="no-state"),
        pytest.param(
            truncate("torch/single_step/00000005.safetensors"), "has a damaged torch/single_step", id="tensors"
        ),
        pytest.param(truncate("torch/manifest.json"), "has a damaged torch/manifest.json", id="damaged-manifest"),
        pytest.param(replace_json("torch/manifest.json", schema=9), "schema 9", id="trace-schema"),
        pytest.param(
            replace_json("torch/manifest.json", versions=None), "manifest.json: versions: field", id="versions"
        ),
        pytest.param(replace_json("torch/manifest.json", steps="a"), "damaged torch/manifest.json: steps", id="steps"),
        pytest.param(replace_json("torch/manifest.json", runner="keras-jax"), "a trace of keras-jax in", id="side"),
        pytest.param(replace_json("golden.json", traces={"keras-jax": ["torch"]}), "no trace of torch", id="no-torch"),
        pytest.param(replace_json("golden.json", traces={"keras": ["torch"]}), "damaged golden.json: tr", id="runner"),
        pytest.param(lambda case: case.rename(case.with_name("old")), "is of case 'lstm'; a reco", id="renamed"),
        pytest.param(replace_json("experiment/experiment.json", case=None), "has a damaged experiment", id="no-case"),
        pytest.param(replace_json("experiment/experiment.json", scaling=4), "has a damaged experiment", id="odd-start"),
        pytest.param(
            replace_json("experiment/experiment.json", case={"name": "a"}), "field 'model' is missing", id="odd-case"
        ),
        pytest.param(truncate("experiment/schedule.npy"), "has a damaged experiment/schedule.npy", id="schedule"),
    ],
)
def test_damaged_traces_are_refused(golden: Path, refused: Callable, damage: Callable, message: str) -> None:
    """What was recorded must be there and whole."""
    damage(golden / "lstm")
    assert message in refused("check", "--golden", golden)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("--golden", "nowhere"), "--golden nowhere cannot be read", id="no-folder"),
        pytest.param(("--golden", "."), "--golden . holds no golden traces", id="empty-folder"),
        pytest.param((), "required: --golden", id="no-golden"),
    ],
)
def test_a_folder_without_traces_is_refused(refused: Callable, arguments: tuple, message: str) -> None:
    """No golden trace is no agreement."""
    assert message in refused("check", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("gru",), "holds no trace of case 'gru', only of lstm", id="case"),
        pytest.param(("--backend", "jax"), "holds none of keras-jax, only of torch, keras-torch", id="backend"),
        pytest.param(("--backend", "jaxx"), "did you mean 'jax'?", id="unknown-backend"),
        pytest.param(("--python", "torch"), "is not NAME=PATH", id="no-path"),
        pytest.param(("--python", "keras=python3"), "side 'keras' is unknown", id="unknown-side"),
        pytest.param(("--python", "torch=/no/python"), "is not a Python interpreter", id="no-interpreter"),
        pytest.param(("--python", "torch=/bin/true"), "is not a Python interpreter", id="another-program"),
        pytest.param(
            ("--python", f"jax={sys.executable}", "--python", f"keras-jax={sys.executable}"),
            "gives keras-jax two interpreters",
            id="twice",
        ),
        pytest.param(("--jobs", "0"), "--jobs 0 must be at least 1", id="jobs"),
    ],
)
def test_what_cannot_be_checked_is_refused(golden: Path, refused: Callable, arguments: tuple, message: str) -> None:
    """A case, a backend or an interpreter that there is not is no agreement."""
    assert message in refused("check", "--golden", golden, *arguments)


def test_a_golden_folder_that_cannot_be_made_is_refused(refused: Callable, tmp_path: Path) -> None:
    """A place that cannot be written to is said before anything is trained."""
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("record", "lstm", "--golden", tmp_path / "file" / "golden")


def test_an_interpreter_without_a_framework_is_refused(
    golden: Path, refused: Callable, make_interpreter: Callable
) -> None:
    """What an interpreter lacks is named, with the command that installs it there."""
    interpreter = make_interpreter(("keras", "safetensors"))
    message = refused("check", "--golden", golden, "--python", f"keras-torch={interpreter}")
    assert f"{interpreter} has no safetensors, keras" in message
    assert message.endswith(f"{interpreter} -m pip install safetensors keras")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_flipped_bit_is_refused_with_its_file(golden: Path, data: st.DataObject) -> None:
    """A bit that is flipped anywhere in a recording is refused, and the file is named.

    Of the index alone some bits have no effect, such as those of white space, and are not drawn here.
    """
    files = sorted(file for file in golden.rglob("*") if file.is_file() and file.name != INDEX)
    file = data.draw(st.sampled_from(files))
    bit = data.draw(st.integers(0, file.stat().st_size * 8 - 1))
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    file.write_bytes(flipped)
    try:
        with pytest.raises(InputError, match=re.escape(f"damaged {file.relative_to(golden / 'lstm')}")):
            choose_golden(golden)
    finally:
        file.write_bytes(content)
    assert len(choose_golden(golden)) == 1
