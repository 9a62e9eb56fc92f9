"""PyTorch modules as Keras code: the gallery is proved, faults in what is written are not, bad input is refused."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.paths import ROOT

from compare.errors import InputError
from compare.port import from_torch
from compare.port.entry import port_model
from compare.port.examples import example, examples
from compare.port.from_torch import TorchSides, port_torch, port_with
from compare.port.ported import Options, Ported
from compare.port.source import read_source

GALLERY = ROOT / "tests" / "compare" / "port" / "torch_gallery"
MODELS = sorted(file.stem for file in GALLERY.glob("*.py"))
RUFF = [sys.executable, "-m", "ruff"]


@pytest.fixture(scope="module")
def sides() -> Iterator[TorchSides]:
    """Processes that port one module after the other."""
    with TorchSides(["torch"], 300, lambda what: None) as processes:
        yield processes


def some(names: Iterable[str], default: set[str]) -> list[Any]:
    """Parameters of which some are in every run of the tests, and the rest in the slow one."""
    return [name if name in default else pytest.param(name, marks=pytest.mark.slow) for name in names]


def shapes_of(file: Path) -> list[str]:
    """The examples that a file of the gallery names."""
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "EXAMPLE":
            return list(ast.literal_eval(node.value))
    raise AssertionError(f"{file} names no EXAMPLE")


def port(sides: TorchSides, file: Path, to: Path, shapes: list[str] | None = None) -> Ported:
    """Port a file's factory into a new folder."""
    to.mkdir(exist_ok=True)
    options = Options(examples=shapes_of(file) if shapes is None else shapes)
    return port_with(sides, read_source(f"{file}:factory"), to, options, lambda what: None)


@pytest.mark.parametrize("name", some(MODELS, {"forecaster", "sentiment", "language"}))
def test_the_gallery_is_proved(sides: TorchSides, tmp_path: Path, name: str) -> None:
    """Each model of the gallery computes and trains in Keras as in PyTorch; what is written needs no formatting."""
    ported = port(sides, GALLERY / f"{name}.py", tmp_path)
    (comparison,) = ported.comparisons
    assert comparison.status == "agrees", comparison.first_difference
    assert comparison.checks > 5
    assert (comparison.steps == 5) == (tmp_path / "train.py").exists() == (name != "characters")
    text = (tmp_path / "model.py").read_text("utf-8")
    assert "compare" not in text
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [*RUFF, *command, "--isolated", str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


# A fault in what is written, and the model in which it must be found.
FAULTS: dict[str, tuple[str, str, str, str]] = {
    "other way round": ("forecaster", "model.py", "layers.GRU(16, name", "layers.GRU(16, go_backwards=True, name"),
    "another activation": ("several_inputs", "model.py", "ops.relu(", "ops.gelu("),
    "first step": ("spoken_characters", "model.py", "rnn[:, :, :16] +", "rnn[:, :, 16:] +"),
    "no mask": ("sentiment", "model.py", "(embedding, mask=mask)", "(embedding)"),
    "mask by one": ("sentiment", "model.py", "ops.less(", "ops.less_equal("),
    "epsilon": ("several_inputs", "model.py", "epsilon=1e-05", "epsilon=0.001"),
    "momentum": ("convolution", "model.py", "momentum=0.9", "momentum=0.99"),
    "padding": ("convolution", "model.py", 'padding="same"', 'padding="causal"'),
    "no dropout": ("tagger", "model.py", "layers.Dropout(0.2", "layers.Dropout(0.0"),
    "axis": ("translator", "model.py", "ops.softmax(scores, axis=-1)", "ops.softmax(scores, axis=1)"),
    "no initial state": ("translator", "model.py", ", initial_state=encoder_gru_h", ""),
    "reduction": ("forecaster", "train.py", "ops.mean(", "ops.sum("),
    "learning rate": ("forecaster", "train.py", "Adam(0.01", "Adam(0.0101"),
    "Keras's own Adam": ("forecaster", "train.py", "    def update_step", "    def another_step"),
    "one bias's rate": ("autoencoder", "train.py", "RATES.get(path, 1.0)", "1.0"),
    "padding row": ("sentiment", "train.py", "if path in PADDING", "if False"),
    "weight decay": ("several_inputs", "train.py", "0.0001 * variable", "-0.0001 * variable"),
    "momentum of SGD": ("language", "train.py", "momentum=0.9", "momentum=0.8"),
}


@pytest.mark.parametrize(
    "fault", some(FAULTS, {"no mask", "no dropout", "one bias's rate", "Keras's own Adam", "padding"})
)
def test_a_fault_in_what_is_written_is_not_proved(
    sides: TorchSides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A wrong line in model.py or train.py makes the proof fail, with a difference that is named."""
    name, file, right, wrong = FAULTS[fault]
    function = "model_code" if file == "model.py" else "training_code"
    write = getattr(from_torch, function)

    def spoiled(*arguments: Any) -> Any:
        written = write(*arguments)
        text, *rest = [written] if isinstance(written, str) else written
        assert right in text, text
        text = text.replace(right, wrong)
        return (text, *rest) if rest else text

    monkeypatch.setattr(from_torch, function, spoiled)
    (comparison,) = port(sides, GALLERY / f"{name}.py", tmp_path).comparisons
    assert comparison.status == "differs"
    assert comparison.first_difference is not None
    phase = comparison.first_difference.phase
    assert (phase == "forward") == (file == "model.py" and fault != "momentum"), comparison.first_difference


def _swapped_gates(weights: dict[str, np.ndarray]) -> None:
    for name, value in weights.items():
        first, second, *rest = np.split(value, 3 if value.shape[-1] % 4 else 4, -1)
        weights[name] = np.concatenate([second, first, *rest], -1)


def _swapped_rows(weights: dict[str, np.ndarray]) -> None:
    weights["cell/bias"] = weights["cell/bias"][::-1].copy()


def _swapped_directions(weights: dict[str, np.ndarray]) -> None:
    for name in [name for name in weights if name.startswith("forward")]:
        other = name.replace("forward", "backward")
        weights[name], weights[other] = weights[other], weights[name]


def _one_number(weights: dict[str, np.ndarray]) -> None:
    first = next(iter(weights))
    weights[first] = weights[first].copy()
    weights[first].flat[1] += 1e-4


SPOILED: dict[str, tuple[str, str, Callable[[dict[str, np.ndarray]], None]]] = {
    "gates of a GRU": ("forecaster", "gru_l0", _swapped_gates),
    "gates of an LSTM": ("autoencoder", "encoder", _swapped_gates),
    "biases of a GRU": ("forecaster", "gru_l1", _swapped_rows),
    "directions": ("siamese", "encoder", _swapped_directions),
    "one number": ("several_inputs", "mean", _one_number),
}


@pytest.mark.parametrize("fault", some(SPOILED, {"gates of a GRU", "one number"}))
def test_weights_in_the_wrong_place_are_not_proved(
    sides: TorchSides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Gates in another order, rows or directions exchanged, or one number a little off: found in the forward pass."""
    name, layer, spoil = SPOILED[fault]
    write = from_torch.write

    def spoiled(folder: Path, answer: dict[str, Any], *rest: Any) -> bool:
        spoil(answer["graph"]["layers"][layer]["weights"])
        return write(folder, answer, *rest)

    monkeypatch.setattr(from_torch, "write", spoiled)
    (comparison,) = port(sides, GALLERY / f"{name}.py", tmp_path).comparisons
    assert comparison.first_difference is not None
    assert comparison.first_difference.phase == "forward"


@pytest.mark.parametrize(
    ("text", "shape", "kind", "axis"),
    [
        ("32,10,1", (32, 10, 1), "float", 0),
        ("32,10:int<5000", (32, 10), "int", 0),
        ("8:1<=int<11", (8,), "int", 0),
        ("10,32b,1", (10, 32, 1), "float", 1),
        ("4,3:bool", (4, 3), "bool", 0),
    ],
)
def test_examples_are_read(text: str, shape: tuple[int, ...], kind: str, axis: int) -> None:
    """A shape, what stands in it, and which axis is the batch's; arrays have them, with a batch of any size."""
    read = example(text)
    assert (read.shape, read.kind, read.batch_axis) == (shape, kind, axis)
    array = read.array(7, np.random.default_rng(0))
    assert array.shape == tuple(7 if i == axis else size for i, size in enumerate(shape))
    if kind == "int":
        assert array.min() >= read.low
        assert array.max() == read.high - 1


@pytest.mark.parametrize("text", ["", "32,x", "32,10:int", "32,0", "8:5<=int<5", "8b,3b", "32,10:double"])
def test_examples_that_are_none_are_refused(text: str) -> None:
    """What is no shape is refused with how one is written."""
    with pytest.raises(InputError, match="--example"):
        example(text)


def test_examples_of_other_batches_are_refused() -> None:
    """Inputs of one call have batches of one size."""
    with pytest.raises(InputError, match="different sizes"):
        examples(["32,10,1", "16,3"])


# The body of forward, and what the refusal says of it.
REFUSED: dict[str, tuple[str, str]] = {
    "data decides": ("return x if x.sum() > 0 else -x", "values of an input"),
    "number taken out": ("return x * x.mean().item()", "values of an input"),
    "loop over the batch": ("return torch.stack([row * 2 for row in x])", "batch's size decides"),
    "one member": ("return self.fc(x - x[0])", "one member of the batch"),
    "unknown function": ("return torch.linalg.svd(x)[1]", r"linalg_svd\(\).*\(batch, 4, 3\)"),
    "projection": ("return self.projected(x)[0]", "proj_size=2"),
    "training decides": ("return x if self.training else x * 2", "training than in evaluation"),
    "no tensor": ("return 3", "no tensor"),
    "weight in two uses": ("return F.linear(x, self.fc.weight) @ self.fc.weight", "trained apart|two ways"),
    "dropout in its weights": ("return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)", "dropout"),
    "user's mistake": ("return self.fc(x.transpose(1, 2))", r"module\.py:\d+: RuntimeError"),
    "module unknown": ("return self.odd(x.flatten(1))", "module odd, a Bilinear|no counterpart"),
}
MODULE = """
import torch
from torch import nn
import torch.nn.functional as F


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.projected = nn.LSTM(3, 4, proj_size=2, batch_first=True)
        self.odd = nn.CosineSimilarity() if False else nn.Hardshrink()

    def forward(self, x):
        {body}


def factory():
    return Odd()
"""


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_counterpart_is_refused_with_its_line(sides: TorchSides, tmp_path: Path, case: str) -> None:
    """The refusal names the user's line, what it is and why it cannot be; nothing is traced back."""
    body, told = REFUSED[case]
    file = tmp_path / "module.py"
    file.write_text(MODULE.format(body=body), "utf-8")
    with pytest.raises(InputError, match=told) as refusal:
        port(sides, file, tmp_path / "out", ["8,4,3"])
    assert "Traceback" not in str(refusal.value)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("3", "returned int"),
        ("(Odd(), nn.MSELoss())", "returned Odd, MSELoss"),
        ("1 / 0", r"module\.py:\d+: ZeroDivisionError"),
        ("(Odd(), nn.MSELoss(), 3)", "returned Odd, MSELoss, int"),
    ],
)
def test_a_factory_that_returns_something_else_is_refused(
    sides: TorchSides, tmp_path: Path, returned: str, told: str
) -> None:
    """What a factory has to return is said, with what it returned; what it raises, with its line."""
    file = tmp_path / "module.py"
    text = MODULE.format(body="return self.fc(x)").replace("return Odd()", f"return {returned}")
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=told):
        port(sides, file, tmp_path / "out", ["8,4,3"])


def test_an_input_is_to_have_a_shape(tmp_path: Path) -> None:
    """Without --example nothing is started."""
    file = GALLERY / "forecaster.py"
    with pytest.raises(InputError, match="--example 32,10,1"):
        port_torch(read_source(f"{file}:factory"), tmp_path, Options(), lambda what: None)


@pytest.mark.slow
def test_every_backend_loads_and_proves(tmp_path: Path) -> None:
    """model.keras and train.py are of no backend: built on one, they compute and train alike on all."""
    backends = ("torch", "tensorflow", "jax")
    with TorchSides(backends, 300, lambda what: None) as sides:
        for name in ("sentiment", "language", "convolution"):
            ported = port(sides, GALLERY / f"{name}.py", tmp_path / name)
            assert [comparison.runner for comparison in ported.comparisons] == [f"keras-{each}" for each in backends]
            assert ported.proved, ported.comparisons


ROUND_TRIP = """
import sys
import importlib.util
import torch
from safetensors.torch import load_file

spec = importlib.util.spec_from_file_location("gallery", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
made = module.factory()
before = (made[0] if isinstance(made, tuple) else made).state_dict()
after = load_file(sys.argv[2])


def name(parameter, layers):
    path, _, last = parameter.rpartition(".")
    path = path.replace(".", "_")
    number = last.split("_l")[-1].split("_")[0] if "_l" in last else ""
    if number and f"{path}_l{number}.{last.replace(f'_l{number}', '_l0')}" in after:
        return f"{path}_l{number}.{last.replace(f'_l{number}', '_l0')}"
    return f"{path}.{last}"


for parameter, value in before.items():
    if parameter.endswith("num_batches_tracked"):
        continue
    other = after[name(parameter, after)]
    if "bias_ih" in parameter:
        partner = parameter.replace("bias_ih", "bias_hh")
        value, other = value + before[partner], other + after[name(partner, after)]
    elif "bias_hh" in parameter:
        continue
    assert torch.equal(value, other), parameter
print(len(before))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forecaster", "tagger", "convolution", "translator"])
def test_the_round_trip_gives_the_weights_back(sides: TorchSides, tmp_path: Path, name: str) -> None:
    """From PyTorch to Keras and back, every weight has the same bits; of two biases their sum."""
    file = GALLERY / f"{name}.py"
    port(sides, file, tmp_path / "keras")
    back = tmp_path / "torch"
    back.mkdir()
    assert port_model(str(tmp_path / "keras" / "model.keras"), back, Options()).proved
    command = [sys.executable, "-c", ROUND_TRIP, str(file), str(back / "weights.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
