"""Keras models become PyTorch modules that train the same; whatever is written wrong is seen before it is kept."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compare.cli.main import main
from compare.errors import InputError
from compare.port import from_keras
from compare.port.from_keras import Work, port_with
from compare.port.ported import Options, Ported
from compare.port.proof import PortSides
from compare.port.source import read_source

GALLERY = Path(__file__).parent / "keras_gallery.py"
# Stateful models are proved on tensorflow, which is another process; the rest here on torch.
NAMES = (
    "sentiment translator tagger forecaster character_model convolution autoencoder siamese several_inputs own_cell "
    "spoken_characters"
)
QUICK = ("sentiment",)
HEAD = "import keras\nfrom keras import layers, ops\n\n\ndef model():\n    inputs = keras.Input((6, 3), name='x')\n"


@pytest.fixture(scope="module")
def sides() -> Iterator[PortSides]:
    """The two processes of all ports here."""
    with PortSides("torch", 300) as processes:
        yield processes


@pytest.fixture
def port(sides: PortSides, tmp_path: Path) -> Callable[..., Ported]:
    """Port a source and prove it."""

    def port_source(source: str | Path, **options: object) -> Ported:
        folder = tmp_path / f"port{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return port_with(sides, read_source(str(source)), folder, Options(**options), lambda what: None)

    return port_source


def written(tmp_path: Path, body: str) -> str:
    """A file with a function that makes a model; returns how `port` is given it."""
    file = tmp_path / "own.py"
    file.write_text(HEAD + "".join(f"    {line}\n" for line in body.strip().splitlines()), "utf-8")
    return f"{file}:model"


def statuses(ported: Ported) -> list[str]:
    """What came of the weights, the outputs and the training."""
    return [comparison.status for comparison in ported.comparisons]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES.split()]
)
def test_gallery_is_proved_and_well_written(port: Callable[..., Ported], name: str) -> None:
    """Each model of the gallery trains the same in PyTorch, in code that ruff has nothing to say against."""
    ported = port(f"{GALLERY}:{name}")
    assert statuses(ported) == ["agrees"] * 3, [c.as_json() for c in ported.comparisons]
    assert ported.comparisons[2].steps >= 5
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", str(ported.folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
    code = (ported.folder / "model.py").read_text("utf-8") + (ported.folder / "train.py").read_text("utf-8")
    assert "compare" not in code, "what is written needs nothing of this project"


def spoil(monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str) -> None:
    """Let what is written be wrong in one place."""
    original = from_keras.write

    def write(work: Work) -> None:
        original(work)
        path = work.folder / file
        text = path.read_text("utf-8")
        assert old in text, text
        path.write_text(text.replace(old, new), "utf-8")

    monkeypatch.setattr(from_keras, "write", write)


@pytest.mark.parametrize(
    ("file", "old", "new", "wrong"),
    [
        pytest.param("model.py", "nn.Dropout(0.3)", "nn.Dropout(0.4)", [2], id="rate"),
        pytest.param("model.py", "!= 0", "!= -1", [1, 2], id="mask"),
        pytest.param("model.py", "h[0], h[1]", "h[1], h[0]", [1, 2], id="directions", marks=pytest.mark.slow),
        pytest.param("model.py", "torch.sigmoid(", "torch.tanh(", [1, 2], id="activation", marks=pytest.mark.slow),
        pytest.param("train.py", "1e-07", "1e-03", [2], id="epsilon"),
        pytest.param("train.py", "1 - 0.999)", "1 - 0.99)", [2], id="beta", marks=pytest.mark.slow),
        pytest.param("train.py", "binary_cross_entropy(", "mse_loss(", [2], id="loss", marks=pytest.mark.slow),
        pytest.param("train.py", "lr=0.001", "lr=0.002", [2], id="learning-rate", marks=pytest.mark.slow),
    ],
)
def test_what_is_written_wrong_is_seen(
    port: Callable[..., Ported], monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, wrong: list[int]
) -> None:
    """A mistake planted in what is written shows in the proof of what it is about."""
    spoil(monkeypatch, file, old, new)
    found = statuses(port(f"{GALLERY}:sentiment"))
    assert [number for number, status in enumerate(found) if status != "agrees"] == wrong


def test_a_weight_off_by_a_bit_is_seen(port: Callable[..., Ported], monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights taken back are compared bit by bit."""
    original = from_keras.write

    def write(work: Work) -> None:
        original(work)
        file = work.folder / "weights.safetensors"
        weights = load_file(file)
        weights["dense.weight"] = np.nextafter(weights["dense.weight"], np.float32(9))
        save_file(weights, file)

    monkeypatch.setattr(from_keras, "write", write)
    ported = port(f"{GALLERY}:sentiment")
    first = ported.comparisons[0].first_difference
    assert ported.comparisons[0].status == "differs"
    assert first is not None
    assert first.tensor == "dense/kernel"


TRAINED = """
x = layers.LSTM(4, kernel_regularizer='l2')(inputs)
model = keras.Model(inputs, layers.Dense(2)(x), name='trained')
model.compile(keras.optimizers.{optimizer}, 'mse')
rng = __import__('numpy').random.default_rng()
for _ in range(3):
    model.train_on_batch(rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 2)))
return model
"""
OPTIMIZERS = (
    "Adam(0.01, amsgrad=True)",
    "AdamW(0.01, weight_decay=0.1)",
    "SGD(0.01, momentum=0.9)",
    "RMSprop(0.01, momentum=0.5, centered=True)",
    "Nadam(0.01)",
    "Adamax(0.01)",
    "Adagrad(0.01)",
    "Adadelta(0.1)",
    "Lion(0.001)",
)


@pytest.mark.parametrize(
    "optimizer",
    [name if name.startswith("Adam(") else pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS],
)
def test_training_goes_on_where_it_stopped(
    port: Callable[..., Ported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """What the optimizer has gathered goes with the weights: the next steps agree, and not without it."""
    source = written(tmp_path, TRAINED.format(optimizer=optimizer))
    ported = port(source)
    assert statuses(ported) == ["agrees"] * 3, [c.as_json() for c in ported.comparisons]
    state = load_file(ported.folder / "optimizer.safetensors")
    assert state["iterations"] == 3
    assert any(name.startswith("lstm.weight_ih_l0/") for name in state)
    original = from_keras.write

    def forget(work: Work) -> None:
        original(work)
        (work.folder / "optimizer.safetensors").unlink()
        save_file({"iterations": np.array(0)}, work.folder / "optimizer.safetensors")

    monkeypatch.setattr(from_keras, "write", forget)
    assert statuses(port(source))[2] != "agrees"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return keras.Model(inputs, layers.ConvLSTM1D(2, 2)(inputs[..., None]))", "(ConvLSTM1D)"),
        ("return keras.Model(inputs, ops.erfinv(inputs))", "keras.ops.erfinv"),
        ("return keras.Model(inputs, layers.LSTM(2, dtype='mixed_float16')(inputs))", "computes in float16"),
        ("return layers.LSTM(2)", "returned LSTM; return a keras.Model"),
        ("raise RuntimeError('no data')", "RuntimeError: no data"),
        (
            "m = keras.Model(inputs, layers.LSTM(2, kernel_constraint='max_norm')(inputs))\n"
            "m.compile('adam', 'mse')\nreturn m",
            "kernel has the constraint MaxNorm",
        ),
        (
            "m = keras.Model(inputs, layers.LSTM(2)(inputs))\n"
            "m.compile('adam', lambda a, b: ops.mean(a - b))\nreturn m",
            "is a function of your own",
        ),
        (
            "m = keras.Model(inputs, layers.LSTM(2, activation=lambda x: x * ops.tanh(x))(inputs))\nreturn m",
            "the activation",
        ),
    ],
    ids=["layer", "operation", "half", "no-model", "raises", "constraint", "own-loss", "own-activation"],
)
def test_what_is_not_known_is_refused(port: Callable[..., Ported], tmp_path: Path, body: str, message: str) -> None:
    """A layer, an operation or a training that has no counterpart is refused with its name and its place."""
    with pytest.raises(InputError) as refused:
        port(written(tmp_path, body))
    assert message in str(refused.value)


MAKE_FILES = """
import keras, zipfile
from keras import layers
@keras.saving.register_keras_serializable("mine")
class Scale(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), name="factor")
    def call(self, x):
        return x * self.factor
def save(name, *more):
    m = keras.Sequential([keras.Input((6, 3)), layers.LSTM(4), *more, layers.Dense(2)], name="saved")
    m.compile("adam", "mse")
    m.save(FOLDER + "/" + name)
    return m
FOLDER = __import__("sys").argv[1]
save("plain.keras")
save("old.h5")
save("lambda.keras", layers.Lambda(lambda x: x * 2))
save("own.keras", Scale())
m = save("again.keras")
m.save_weights(FOLDER + "/only.weights.h5")
"""
OWN = MAKE_FILES.split("def save")[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Files of saved models, written by Keras."""
    folder = tmp_path_factory.mktemp("saved")
    environment = {**environment, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", MAKE_FILES, str(folder)], env=environment, check=True, capture_output=True)
    (folder / "scale.py").write_text(OWN, "utf-8")
    content = (folder / "plain.keras").read_bytes()
    (folder / "short.keras").write_bytes(content[: len(content) // 2])
    (folder / "text.keras").write_text("no model", "utf-8")
    (folder / "text.h5").write_text("no model", "utf-8")
    with zipfile.ZipFile(folder / "other.keras", "w") as archive:
        archive.writestr("a.txt", "b")
    return folder


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("plain.keras", {}, id="keras", marks=pytest.mark.slow),
        pytest.param("old.h5", {}, id="h5"),
        pytest.param("lambda.keras", {"trust": True}, id="trusted-lambda"),
        pytest.param("own.keras", {"own": "scale.py"}, id="registered"),
    ],
)
def test_saved_models_are_read(port: Callable[..., Ported], files: Path, name: str, options: dict[str, object]) -> None:
    """Files of both forms are read; a Lambda's code where it is trusted, a user's own layer where it is registered."""
    given = {key: files / value if isinstance(value, str) else value for key, value in options.items()}
    assert statuses(port(files / name, **given)) == ["agrees"] * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lambda.keras", "--trust"),
        ("own.keras", "--with FILE.py"),
        ("short.keras", "cut short"),
        ("text.keras", "is no .keras file"),
        ("text.h5", "is no HDF5 file"),
        ("other.keras", "it holds a.txt"),
        ("only.weights.h5", "holds weights alone"),
    ],
    ids=["lambda", "own-layer", "cut-short", "text", "text-h5", "zip", "weights"],
)
def test_files_that_are_no_models_are_refused(
    port: Callable[..., Ported], files: Path, name: str, message: str
) -> None:
    """What cannot be read, or would run code, is refused with what to do."""
    with pytest.raises(InputError) as refused:
        port(files / name)
    assert message in str(refused.value)


def test_the_command_writes_what_is_proved(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`port` exits 0 with everything written, and 2 for bad input, with a sentence and no folder."""
    out = tmp_path / "out"
    assert main(["port", str(files / "plain.keras"), "--to", str(out), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["agree"]
    assert verdict["direction"] == "keras-to-torch"
    assert json.loads((out / "verdict.json").read_text("utf-8")) == verdict
    assert {"model.py", "train.py", "weights.safetensors", "verdict.json"} == {file.name for file in out.iterdir()}
    shutil.rmtree(out)
    assert main(["port", "weights.pkl", "--to", str(out)]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_the_command_keeps_nothing_that_is_not_proved(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs exits 1 and leaves nothing but with --unproved; what is refused halfway leaves nothing either."""
    out = tmp_path / "out"
    assert main(["port", str(files / "lambda.keras"), "--to", str(out)]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not out.exists()
    spoil(monkeypatch, "train.py", "lr=0.001", "lr=0.002")
    assert main(["port", str(files / "plain.keras"), "--to", str(out)]) == 1
    assert not out.exists()
    assert main(["port", str(files / "plain.keras"), "--to", str(out), "--unproved"]) == 1
    assert (out / "train.py").exists()
    assert "learning-rate" in capsys.readouterr().out


def test_a_subclassed_model_without_training_is_ported_as_it_trains(
    port: Callable[..., Ported], tmp_path: Path
) -> None:
    """Where call() takes no `training` Keras never drops: nor does what was written, in any of its layers."""
    body = """
class Own(keras.Model):
    def __init__(self):
        super().__init__(name='own')
        self.first, self.second = layers.Dropout(0.5), layers.Dropout(0.4)
        self.rnn, self.head = layers.LSTM(3), layers.Dense(2)
    def call(self, x):
        return self.head(self.second(self.rnn(self.first(x))))
m = Own()
m(ops.ones((2, 6, 3)))
m.compile('adam', 'mse')
return m
"""
    ported = port(written(tmp_path, body))
    assert statuses(ported) == ["agrees"] * 3
    assert "ropout" not in (ported.folder / "model.py").read_text("utf-8")
    assert any("takes no `training`" in note for note in ported.notes)
