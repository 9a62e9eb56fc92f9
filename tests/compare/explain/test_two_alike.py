"""Two sides of one framework: two PyTorch modules, two revisions, a Keras model on its backends or loaded again."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.pairs import pair_text

from compare.errors import InputError
from compare.explain.pair_file import read_pair
from compare.explain.two_alike import _moved, explain_against, explain_backends, explain_modules

OTHER = """
import numpy as np

batch_size = 16


def data():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((48, 7, 3)).astype("float32")
    return x, x.sum((1, 2))[:, None].astype("float32")


def make(last):
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 8, batch_first=True)
            self.fc = nn.Linear(8, 1)

        def forward(self, x):
            return self.fc(last(self.gru(x)[0]))

    net = Net()
    return net, nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.05)


def other_torch_side():
    return make(lambda out: out[:, -1])


def torch_side():
    return make(lambda out: out[:, LAST])
"""


def git(folder: Path, *arguments: str) -> None:
    """A git command of nobody's."""
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@e", "-C", str(folder), *arguments],  # noqa: S607 - as a user calls it
        check=True,
        capture_output=True,
    )


def repository(folder: Path) -> Path:
    """A repository with a pair file whose model is a local module's; returns the pair file."""
    text = OTHER.replace("import numpy as np", "import numpy as np\nfrom choice import LAST")
    pair = folder / "pair.py"
    pair.write_text(
        text.partition("def other_torch_side")[0] + "def torch_side" + text.partition("def torch_side")[2], "utf-8"
    )
    (folder / "choice.py").write_text("LAST = -1\n", "utf-8")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return pair


def test_a_file_of_one_framework_is_read(tmp_path: Path) -> None:
    """Two PyTorch sides need no Keras; one side alone is read only where it is asked for."""
    (tmp_path / "two.py").write_text(OTHER, "utf-8")
    assert read_pair(str(tmp_path / "two.py")).functions == {"data", "torch_side", "other_torch_side"}
    alone = tmp_path / "alone.py"
    alone.write_text(pair_text("correct_gru").partition("def torch_side")[0], "utf-8")
    assert read_pair(str(alone), alone=True).functions == {"data", "keras_side"}
    with pytest.raises(InputError, match="has no torch_side"):
        read_pair(str(alone))


def test_local_modules_come_from_the_revision(tmp_path: Path) -> None:
    """Folders of the import path inside the repository are those of the revision, all others as they were."""
    inside, tree = tmp_path / "repository" / "source", tmp_path / "tree"
    assert _moved(str(inside), tmp_path / "repository", tree) == str(tree / "source")
    assert _moved("/usr/lib", tmp_path / "repository", tree) == "/usr/lib"


@pytest.mark.parametrize(
    ("revision", "message"),
    [("nowhere", "nowhere"), ("--output=x", "is no revision"), ("HEAD", "is not in that revision")],
)
def test_a_revision_that_has_no_such_file_is_refused(tmp_path: Path, revision: str, message: str) -> None:
    """An unknown revision, an option in its place, and a revision without the pair file are refused."""
    new = repository(tmp_path).rename(tmp_path / "new.py")
    with pytest.raises(InputError, match=message):
        explain_against(read_pair(str(new), alone=True), revision)


def test_no_repository_is_refused(tmp_path: Path) -> None:
    """A pair file outside a repository has no revisions."""
    (tmp_path / "pair.py").write_text(OTHER, "utf-8")
    with pytest.raises(InputError, match="not a git repository"):
        explain_against(read_pair(str(tmp_path / "pair.py")), "HEAD")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "torch", "jax"], "give one"),
        (["--fix", "{pair}"], "is the pair file itself"),
        (["--against", "--fix"], "expected one argument"),
    ],
    ids=["two-backends", "fix-in-place", "no-revision"],
)
def test_bad_usage_is_refused(refused: Callable[..., str], tmp_path: Path, arguments: list[str], message: str) -> None:
    """What only a file of another kind takes ends with exit code 2."""
    pair = tmp_path / "pair.py"
    pair.write_text(pair_text("correct_gru"), "utf-8")
    assert message in refused("explain", str(pair), *(argument.replace("{pair}", str(pair)) for argument in arguments))


@pytest.mark.slow
@pytest.mark.parametrize(("last", "differs"), [("-1", False), ("-2", True)], ids=["same", "timestep"])
def test_two_modules_are_compared(tmp_path: Path, last: str, differs: bool) -> None:
    """Two PyTorch sides agree; another timestep on one is named with its line."""
    file = tmp_path / "pair.py"
    file.write_text(OTHER.replace("LAST", last), "utf-8")
    comparison = explain_modules(read_pair(str(file)))
    assert comparison.status == ("differs" if differs else "agrees"), comparison.error
    assert (comparison.runner, comparison.reference) == ("other_torch_side", "torch_side")
    if differs:
        assert comparison.first_difference is not None
        assert comparison.first_difference.source is not None
        assert comparison.first_difference.source["text"] == "return make(lambda out: out[:, -2])"


@pytest.mark.slow
def test_a_change_since_a_revision_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local module that a pair file imports is the revision's on one side and today's on the other."""
    pair = repository(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    assert explain_against(read_pair(str(pair), alone=True), "HEAD").status == "agrees"
    (tmp_path / "choice.py").write_text("LAST = 0\n", "utf-8")
    comparison = explain_against(read_pair(str(pair), alone=True), "HEAD")
    assert comparison.status == "differs", comparison.error


@pytest.mark.slow
@pytest.mark.parametrize(
    "backends", [["torch"], ["torch", "jax"], ["tensorflow", "torch"]], ids=["reloaded", "jax", "tf"]
)
def test_a_keras_model_agrees_with_itself(tmp_path: Path, backends: list[str]) -> None:
    """On two backends, or saved and loaded, every step is the same up to rounding."""
    alone = tmp_path / "alone.py"
    alone.write_text(pair_text("correct_gru").partition("def torch_side")[0], "utf-8")
    comparison = explain_backends(read_pair(str(alone), alone=True), backends)
    assert comparison.status == "agrees", (comparison.error, comparison.differences[:2])
    assert comparison.checks > 20


@pytest.mark.slow
def test_a_backend_that_computes_otherwise_is_found(tmp_path: Path) -> None:
    """A model that is another one on one of its backends differs in its first loss."""
    alone = tmp_path / "alone.py"
    text = pair_text("correct_gru").partition("def torch_side")[0]
    alone.write_text(text.replace('"mse"', '"mse" if keras.backend.backend() == "jax" else "mae"'), "utf-8")
    comparison = explain_backends(read_pair(str(alone), alone=True), ["torch", "jax"])
    assert comparison.status == "differs"
    assert comparison.first_difference is not None
    assert (comparison.first_difference.step, comparison.first_difference.phase) == (0, "loss")
