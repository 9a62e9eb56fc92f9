"""Sequences of different length are read from an NPZ file as they are, or refused with what is wrong where."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compare.config.case import Case, make_case
from compare.data.datasets import load_data
from compare.data.examples import Examples, Part
from compare.data.sequences import standardise

Refused = Callable[..., str]
Arrays = dict[str, np.ndarray]

TASKS = ("forecasting", "classification", "tagging")


def sequences_case(task: str = "classification", **data: object) -> Case:
    """A case of sequences."""
    fields = {"name": "a", "task": task, "model": {"cell": "gru"}}
    return make_case({**fields, "data": {"dataset": "sequences", "padding": "right", **data}}, "a")


def load(case: Case) -> Examples:
    """The examples of a case."""
    examples = load_data(case)
    assert isinstance(examples, Examples)
    return examples


def arrays(task: str = "classification", **changed: Any) -> Arrays:
    """Twenty sequences of 1 to 5 timesteps and 2 features, with NaN where nothing is to be looked at."""
    generator = np.random.default_rng(0)
    lengths = 1 + np.arange(20) % 5
    real = np.arange(5) < lengths[:, None]
    inputs = np.where(real[:, :, None], generator.normal([3, -40], [1, 20], (20, 5, 2)), np.nan)
    targets = {
        "forecasting": np.arange(20) * 0.5,
        "classification": np.arange(20) % 4,
        "tagging": np.where(real, np.arange(100).reshape(20, 5) % 3, -99),
    }[task]
    return {"inputs": inputs, "lengths": lengths, "targets": targets} | changed


def without(name: str) -> Arrays:
    """The arrays without one."""
    return {key: value for key, value in arrays().items() if key != name}


def put(name: str, position: Any, value: float, task: str = "classification") -> Arrays:
    """The arrays with one value replaced."""
    changed = arrays(task)
    changed[name] = changed[name].copy()
    changed[name][position] = value
    return changed


def saved(folder: Path, content: Arrays) -> str:
    """Write an NPZ file and give its path."""
    np.savez(folder / "speech.npz", **content)
    return str(folder / "speech.npz")


def parts(examples: Examples) -> tuple[Part, Part]:
    """Both parts."""
    return examples.training, examples.test


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("task", TASKS)
def test_every_sequence_keeps_its_values_and_targets(tmp_path: Path, task: str, padding: str) -> None:
    """Each example is a sequence of the file, standardised and padded, with the target that the file gives it."""
    content = arrays(task)
    examples = load(sequences_case(task, file=saved(tmp_path, content), window=7, padding=padding))
    assert (examples.features, examples.outputs) == (2, {"forecasting": 1, "classification": 4, "tagging": 3}[task])
    rows = [content["inputs"][row, :length] for row, length in enumerate(content["lengths"])]
    trained = [part.mask.sum(axis=1).tolist() for part in parts(examples) if part.mask is not None]
    assert sorted(trained[0] + trained[1]) == sorted(content["lengths"])
    seen = []
    # The figures of the training part, found from which sequences were put there.
    rows_of_parts = [match(part, rows) for part in parts(examples)]
    scaled = standardise([rows[row] for row in rows_of_parts[0] + rows_of_parts[1]], training=len(rows_of_parts[0]))
    for part, numbers in zip(parts(examples), rows_of_parts, strict=True):
        assert part.mask is not None
        assert not part.inputs[~part.mask].any()
        for position, row in enumerate(numbers):
            length = content["lengths"][row]
            real = np.arange(7) < length if padding == "right" else np.arange(7) >= 7 - length
            assert np.array_equal(part.mask[position], real)
            np.testing.assert_allclose(part.inputs[position][real], scaled[len(seen)], rtol=1e-5)
            target = content["targets"][row]
            if task == "tagging":
                assert np.array_equal(part.targets[position][real], target[:length])
                assert not part.targets[position][~real].any()
            else:
                assert part.targets[position] == target
            seen.append(row)
    assert sorted(seen) == list(range(20))
    assert seen != sorted(seen), "files are often sorted; what is held out is drawn"


def match(part: Part, rows: list[np.ndarray]) -> list[int]:
    """The number of each example's sequence in the file, by its length and the shape of its first feature."""
    assert part.mask is not None
    numbers = []
    for inputs, mask in zip(part.inputs, part.mask, strict=True):
        values = inputs[mask]
        # Standardised values are the file's times a factor plus a shift, the same for all: compare the features' ratio.
        candidates = [row for row, original in enumerate(rows) if len(original) == len(values)]
        errors = [_distance(values, rows[row], rows) for row in candidates]
        numbers.append(candidates[int(np.argmin(errors))])
    return numbers


def _distance(values: np.ndarray, original: np.ndarray, rows: list[np.ndarray]) -> float:
    everything = np.concatenate(rows)
    return float(np.abs((original - everything.mean(axis=0)) / everything.std(axis=0) - values).max())


def test_scaling_is_the_training_parts(tmp_path: Path) -> None:
    """Over the training part's timesteps each feature has mean 0 and deviation 1; padding counts for nothing."""
    training = load(sequences_case(file=saved(tmp_path, arrays()))).training
    assert training.mask is not None
    values = training.inputs[training.mask]
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=0), 1, rtol=1e-6)


def test_held_out_sequences_do_not_leak() -> None:
    """Held-out sequences change no figure of the scaling; those trained on do."""
    rows = [np.array([[1.0], [2.0]]), np.array([[5.0]]), np.array([[3.0], [9.0]])]
    before = standardise(rows, training=2)
    after = standardise([rows[0], rows[1], rows[2] * 100], training=2)
    assert np.array_equal(np.concatenate(before[:2]), np.concatenate(after[:2]))
    moved = standardise([rows[0], rows[1] * 100, rows[2]], training=2)
    assert not np.array_equal(before[0], moved[0])


def test_what_stands_beyond_a_length_changes_nothing(tmp_path: Path) -> None:
    """The file may hold anything beyond the end of a sequence."""
    content = arrays("tagging")
    first = load(sequences_case("tagging", file=saved(tmp_path, content)))
    beyond = np.arange(5) >= content["lengths"][:, None]
    content["inputs"][beyond] = 1e30
    content["targets"][beyond] = 7
    second = load(sequences_case("tagging", file=saved(tmp_path, content)))
    for part, other_part in zip(parts(first), parts(second), strict=True):
        assert np.array_equal(part.inputs, other_part.inputs)
        assert np.array_equal(part.targets, other_part.targets)
    assert first.outputs == second.outputs == 3


def test_labels_name_the_classes(tmp_path: Path) -> None:
    """Names in the file say how many classes there are; without them the targets or data.classes do."""
    names = np.array(["yes", "no", "left", "right", "stop"])
    examples = load(sequences_case(file=saved(tmp_path, arrays(labels=names))))
    assert (examples.outputs, examples.labels) == (5, ("yes", "no", "left", "right", "stop"))
    assert load(sequences_case(file=saved(tmp_path, arrays()), classes=9)).outputs == 9


def test_several_values_may_be_predicted(tmp_path: Path) -> None:
    """Targets with an axis of outputs are values to predict side by side."""
    targets = np.arange(40.0).reshape(20, 2)
    examples = load(sequences_case("forecasting", file=saved(tmp_path, arrays("forecasting", targets=targets))))
    assert examples.outputs == 2
    assert sorted(np.concatenate([part.targets for part in parts(examples)])[:, 1]) == sorted(targets[:, 1])


def test_sequences_of_one_length_need_no_padding(tmp_path: Path) -> None:
    """Without padding, sequences of one length have no mask; those of different length are refused."""
    content = arrays(lengths=np.full(20, 1))
    examples = load(sequences_case(file=saved(tmp_path, content), padding="none"))
    assert examples.training.inputs.shape == (16, 1, 2)
    assert examples.training.mask is None


@pytest.mark.parametrize("task", TASKS)
def test_generated_speech(task: str) -> None:
    """Without a file, words are spoken at different speeds, each sound by its own spectrum."""
    examples = load(sequences_case(task, window=24, examples=60))
    training = examples.training
    assert training.mask is not None
    assert len(set(training.mask.sum(axis=1))) > 5
    assert examples.features == 13
    if task == "tagging":
        means = [training.inputs[training.mask & (training.targets == sound)].mean(axis=0) for sound in range(5)]
        nearest = np.linalg.norm(training.inputs[:, :, None] - np.array(means), axis=3).argmin(axis=2)
        assert (nearest == training.targets)[training.mask].mean() > 0.9
    if task == "classification":
        assert set(training.targets) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("task", "content", "phrases"),
    [
        pytest.param("classification", without("lengths"), ["has no lengths; expected inputs"], id="no-lengths"),
        pytest.param("classification", {"x": np.zeros(3)}, ["has no inputs and no lengths and no"], id="no-arrays"),
        pytest.param("classification", put("lengths", 3, 6), ["example 3", "has length 6, expected 1 to 5"], id="long"),
        pytest.param("classification", put("lengths", 3, 0), ["example 3", "has length 0"], id="no-length"),
        pytest.param("classification", put("lengths", 3, -1), ["example 3", "has length -1"], id="negative-length"),
        pytest.param("classification", arrays(lengths=np.ones(20)), ["lengths are float64[20]"], id="real-lengths"),
        pytest.param("classification", arrays(lengths=np.ones(19, int)), ["lengths are int64[19]"], id="few-lengths"),
        pytest.param("classification", arrays(inputs=np.zeros((20, 5))), ["inputs are float64[20, 5]"], id="flat"),
        pytest.param("classification", arrays(inputs=np.zeros((0, 5, 2))), ["inputs are float64[0, 5, 2]"], id="empty"),
        pytest.param("classification", arrays(inputs=np.full((20, 5, 2), "a")), ["inputs are <U1"], id="text"),
        pytest.param("classification", put("inputs", (7, 1, 0), np.nan), ["example 7 at timestep 1 are not"], id="nan"),
        pytest.param("classification", put("targets", 5, -1), ["label of example 5", "is -1, expected 0"], id="below"),
        pytest.param("classification", arrays("forecasting"), ["targets are float64[20]"], id="values-for-classes"),
        pytest.param("classification", arrays("tagging"), ["targets are int64[20, 5]"], id="tags-for-classes"),
        pytest.param(
            "classification", arrays(labels=np.array(["a", "b"])), ["is 2, expected 0 to 1"], id="label-out-of-range"
        ),
        pytest.param("tagging", arrays(), ["targets are int64[20]", "for tagging"], id="classes-for-tags"),
        pytest.param(
            "tagging", put("targets", (4, 2), -3, "tagging"), ["example 4, timestep 2", "is -3"], id="tag-below"
        ),
        pytest.param(
            "forecasting", put("targets", 4, np.inf, "forecasting"), ["example 4", "not a finite number"], id="infinite"
        ),
        pytest.param("forecasting", arrays("forecasting", targets=np.zeros(7)), ["targets are float64[7]"], id="few"),
        pytest.param(
            "classification",
            arrays(targets=np.array([{}] * 20)),
            ["cannot be read", "allow_pickle=False"],
            id="objects",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(
    tmp_path: Path, refused: Refused, task: str, content: Arrays, phrases: list[str]
) -> None:
    """A command with arrays that are missing, of another form or out of range says which and where."""
    case = tmp_path / "mine.toml"
    case.write_text(sequences_case(task, file="speech.npz").to_toml())
    saved(tmp_path, content)
    message = refused("run", case)
    assert "speech.npz" in message
    for phrase in phrases:
        assert phrase in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.window=4"], "example 4 (the first is 0) has length 5, more than data.window = 4; give data.window = 5"),
        (["data.classes=3"], "the label of example 3 (the first is 0) is 3, expected 0 to 2"),
        (['data.padding="none"'], 'the examples have 1 to 5 timesteps; give data.padding = "right" or "left"'),
        (["data.examples=21"], "data.examples = 21, but there are 20"),
        (["data.test_fraction=0.01"], "20 examples with data.test_fraction 0.01 leave 20 to train on and 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, refused: Refused, settings: list[str], message: str
) -> None:
    """Settings that do not fit the file are refused with what fits."""
    case = tmp_path / "mine.toml"
    case.write_text(sequences_case(file="speech.npz").to_toml())
    saved(tmp_path, arrays())
    assert message in refused("run", case, *[part for setting in settings for part in ("--set", setting)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04" + b"\0" * 50, "cannot be read"),
        (b"year,value\n1,2\n", "cannot be read"),
        (None, "cannot be read: No such file"),
    ],
    ids=["empty", "damaged", "csv", "missing"],
)
def test_files_that_are_no_npz_are_refused(
    tmp_path: Path, refused: Refused, content: bytes | None, message: str
) -> None:
    """A file that is missing, damaged or of another kind is refused."""
    case = tmp_path / "mine.toml"
    case.write_text(sequences_case(file="speech.npz").to_toml())
    if content is not None:
        (tmp_path / "speech.npz").write_bytes(content)
    assert message in refused("run", case)


def test_one_array_is_no_npz(tmp_path: Path, refused: Refused) -> None:
    """An NPY file, and an NPZ cut in the middle, are refused."""
    case = tmp_path / "mine.toml"
    case.write_text(sequences_case(file="speech.npz").to_toml())
    np.save(tmp_path / "one.npy", np.zeros((3, 4, 5)))
    (tmp_path / "one.npy").rename(tmp_path / "speech.npz")
    assert "holds one array; expected inputs" in refused("run", case)
    saved(tmp_path, arrays())
    whole = (tmp_path / "speech.npz").read_bytes()
    (tmp_path / "speech.npz").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in refused("run", case)
    (tmp_path / "speech.npz").write_bytes(whole.replace(b"NUMPY", b"NUMPI"))
    assert "cannot be read" in refused("run", case)
