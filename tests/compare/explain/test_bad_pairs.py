"""A mistake in a pair file is said with the file's own line; it is never a traceback, and never a finding."""

import re
from pathlib import Path

import pytest

from compare.errors import InputError
from compare.explain.entry import explain_with
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides

GOOD = """
import numpy as np

batch_size = 4


def data():
    return np.ones((8, 5, 2), "float32"), np.ones((8, 1), "float32")


def keras_side():
    import keras

    model = keras.Sequential([keras.Input((5, 2)), keras.layers.GRU(3), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    return model


def torch_side():
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(2, 3, batch_first=True)
            self.fc = nn.Linear(3, 1)

        def forward(self, x):
            return self.fc(self.gru(x)[0][:, -1])

    net = Net()
    return net, nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.01)
"""


def write(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the good pair file with parts of it replaced."""
    text = GOOD.lstrip()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / "pair.py"
    file.write_text(text, "utf-8")
    return file


def line_of(file: Path, text: str) -> int:
    """The number of the first line that holds a text."""
    lines = file.read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


# What is replaced, by what, the text of the line that must be named (None: any), and a text of the message.
UNREAD = {
    "no-torch-side": ("def torch_side", "def torch_sides", None, "torch_side() -> (nn.Module, loss function"),
    "no-data": ("def data", "def get_data", None, "data() -> inputs, targets"),
    "syntax": ("batch_size = 4", "batch_size = = 4", "= =", "invalid syntax"),
    "both-imports": (
        "import numpy as np",
        "import torch\nimport keras",
        "import keras",
        "TensorFlow and PyTorch in one",
    ),
    "one-import": (
        "import numpy as np",
        "import numpy as np\nfrom torch import nn",
        "from torch",
        "inside torch_side()",
    ),
    "guarded-import": (
        "import numpy as np",
        "try:\n    import keras\nexcept ImportError:\n    pass",
        "keras",
        "keras_side()",
    ),
}

RUN = {
    "data-raises": (
        "return np.ones((8, 5, 2)",
        'raise OSError("no file"); return np.ones((8, 5, 2)',
        "raise OSError",
        "no file",
    ),
    "data-one-value": (
        'return np.ones((8, 5, 2), "float32"), np.ones((8, 1), "float32")',
        "return np.ones(3)",
        "def data",
        "return inputs, targets",
    ),
    "data-list": ('np.ones((8, 1), "float32")', "[1] * 8", "def data", "targets as list"),
    "data-lengths": ("np.ones((8, 1)", "np.ones((7, 1)", "def data", "8 inputs and 7 targets"),
    "data-empty": ("np.ones((8, 5, 2)", "np.ones((0, 5, 2)", "def data", "nothing to train on"),
    "data-nan": ("np.ones((8, 1)", "np.full((8, 1), np.nan)\n    _ = (1", "def data", "NaN"),
    "data-text": ('np.ones((8, 1), "float32")', 'np.array(["a"] * 8)', "def data", "numbers are needed"),
    "batch-size": ("batch_size = 4", "batch_size = 0", "batch_size = 0", "at least 1"),
    "batch-size-text": ("batch_size = 4", 'batch_size = "4"', "batch_size =", "whole number"),
    "clip-norm": ("batch_size = 4", "batch_size = 4\nclip_norm = -1", "clip_norm", "above 0"),
    "scheduler": ("batch_size = 4", "batch_size = 4\nscheduler = 3", "scheduler", "must be a function"),
    "parameter-map": ("batch_size = 4", "batch_size = 4\nparameter_map = [1]", "parameter_map", "must map"),
    "keras-none": ("    return model", "    return None", None, "NoneType; return a compiled keras.Model"),
    "keras-uncompiled": ('    model.compile(optimizer="sgd", loss="mse")\n', "", None, "not compiled"),
    "keras-raises": ("keras.layers.GRU(3)", "keras.layers.GRU(-3)", "GRU(-3)", "units"),
    "torch-two-values": (
        "return net, nn.MSELoss(), torch",
        "return net, torch",
        None,
        "return (nn.Module, loss function",
    ),
    "torch-wrong-order": (
        "return net, nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.01)",
        "return net, torch.optim.SGD(net.parameters(), lr=0.01), nn.MSELoss()",
        None,
        "where a ",
    ),
    "torch-raises": ("self.gru(x)[0][:, -1]", "self.gru(x)[0][:, 99]", "99", "out of bounds"),
    "torch-exits": ("    net = Net()", "    raise SystemExit(3)\n    net = Net()", "raise SystemExit", "SystemExit: 3"),
    "step-without-module": (
        "batch_size = 4",
        "batch_size = 4\n\n\ndef torch_step(*_):\n    pass",
        "def torch_step",
        "torch_step() never calls backward()",
    ),
    "scheduler-of-nothing": (
        "batch_size = 4",
        "batch_size = 4\n\n\ndef scheduler(optimizer):\n    pass",
        "def scheduler",
        "scheduler() returned NoneType; return a torch scheduler",
    ),
    "torch-features": ("nn.GRU(2, 3", "nn.GRU(4, 3", "self.gru(x)", "data() gives inputs (8, 5, 2)"),
    "keras-features": ("keras.Input((5, 2))", "keras.Input((5, 4))", None, "data() gives inputs (8, 5, 2)"),
    "leftover": (
        "self.fc = nn.Linear(3, 1)",
        "self.fc = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))",
        None,
        "PyTorch's fc.0.weight (3, 3), fc.0.bias (3,); Keras has nothing more: make both models of the same sizes",
    ),
    "other-units": (
        "nn.GRU(2, 3, batch_first=True)\n            self.fc = nn.Linear(3, 1)",
        "nn.GRU(2, 6, batch_first=True)\n            self.fc = nn.Linear(6, 1)",
        None,
        "PyTorch's gru.weight_ih_l0 (18, 2)",
    ),
    "own-parameter": (
        "self.fc = nn.Linear(3, 1)",
        "self.fc = nn.Linear(3, 1)\n            self.scale = nn.Parameter(torch.ones(1))\n"
        "            self.register_forward_hook(lambda module, given, made: made * module.scale)",
        None,
        "no weights of the Keras model fit PyTorch's scale (1,)",
    ),
    "unknown-parameter": (
        "batch_size = 4",
        "batch_size = 4\nparameter_map = {'gru.weight': 'gru/kernel'}",
        None,
        "which the module has not; it has gru.weight_ih_l0",
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_refused_before_anything_runs(tmp_path: Path, name: str) -> None:
    """What can be seen without running the file is refused without running it."""
    old, new, where, text = UNREAD[name]
    file = write(tmp_path, (old, new))
    with pytest.raises(InputError) as refused:
        read_pair(str(file))
    message = str(refused.value)
    assert text in message
    assert "\n" not in message
    location = re.match(rf"{re.escape(str(file))}:(\d+): ", message)
    assert location is not None, message
    if where is not None:
        assert int(location[1]) == line_of(file, where)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00"], ids=["not-utf-8", "null-byte"])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no Python source is refused by name."""
    file = tmp_path / "pair.py"
    file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(file))):
        read_pair(str(file))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is refused by name."""
    with pytest.raises(InputError, match=r"nowhere\.py cannot be read"):
        read_pair(str(tmp_path / "nowhere.py"))


@pytest.mark.parametrize("name", RUN)
def test_refused_when_it_runs(tmp_path: Path, sides: Sides, name: str) -> None:
    """What shows only in the sides' processes is said with the file's line, and the processes go on."""
    old, new, where, text = RUN[name]
    file = write(tmp_path, (old, new))
    with pytest.raises(InputError) as refused:
        explain_with(sides, read_pair(str(file)))
    message = str(refused.value)
    assert message.startswith(str(file))
    assert text in message, message
    assert "\n" not in message
    if where is not None:
        location = re.match(rf"{re.escape(str(file))}:(\d+): ", message)
        assert location is not None, message
        assert int(location[1]) == line_of(file, where)


def test_the_good_file_is_not_refused(tmp_path: Path, sides: Sides) -> None:
    """The file that the others are made from agrees: it is their changes that are refused."""
    comparison = explain_with(sides, read_pair(str(write(tmp_path))))
    assert comparison.status == "agrees"


def test_a_side_that_dies_is_a_failure(tmp_path: Path, sides: Sides) -> None:
    """A process that ends is reported as failed, and the next pair file finds a new one."""
    file = write(tmp_path, ("    net = Net()", "    import os; os._exit(7)\n    net = Net()"))
    comparison = explain_with(sides, read_pair(str(file)))
    assert comparison.status == "failed"
    assert "exited with code 7" in str(comparison.error)
    assert explain_with(sides, read_pair(str(write(tmp_path)))).status == "agrees"
