"""Each cause names the user's expression, whatever phase it shows in."""

from pathlib import Path

import pytest
from helpers.pairs import CAUSES, mutated, write_pair
from helpers.paths import PAIRS

from compare.explain.entry import explain_with
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides
from compare.explain.source import argument_of, users_site

EXPRESSIONS = {
    "adam_betas_alone": "betas=(0.95, 0.999)",
    "adam_without_zero_grad": "optimizer.step()",
    "frozen_embedding": "self.embedding.weight.requires_grad",
    "learning_rate": "lr=0.025",
    "lengths_of_whole_rows": "torch.full((x.size(0),), x.size(1))",
    "two_biases": "nn.LSTM",
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_expression_is_named(sides: Sides, name: str, tmp_path: Path) -> None:
    """The cause that is in the pair file is confirmed alone, at the expression that has it."""
    (cause,) = explain_with(sides, read_pair(str(write_pair(name, tmp_path)))).causes
    assert cause.source is not None
    assert ([cause.name], cause.source["side"]) == (CAUSES[name], "torch")
    assert cause.source["expression"].startswith(EXPRESSIONS[name])


@pytest.mark.parametrize(
    ("names", "place", "expression"),
    [(("second",), None, "second=2"), (("third",), 0, "1"), (("third",), None, "call(1, second=2)")],
    ids=["by name", "by place", "not written"],
)
def test_an_argument_is_found(names: tuple[str, ...], place: int | None, expression: str) -> None:
    """An argument is found by its name or its place; where it is not written the whole call is named."""
    sites = []

    def call(first: int, second: int) -> None:
        sites.append(users_site(2))

    call(1, second=2)
    (site,) = sites
    assert site is not None
    assert argument_of(site, names, place).expression == expression


def test_a_layer_that_is_made_and_never_called(sides: Sides, tmp_path: Path) -> None:
    """Its weights are Keras's all the same: the line that should get what it makes is named."""
    edits = {
        "layers.Dense(1)": "layers.LayerNormalization(),\nlayers.Dense(1)",
        "self.fc =": "self.norm = nn.LayerNorm(10, eps=1e-3)\nself.fc =",
    }
    file = tmp_path / "not_called.py"
    file.write_text(mutated((PAIRS / "bases" / "lstm_features.py").read_text("utf-8"), {"edits": edits}), "utf-8")
    comparison = explain_with(sides, read_pair(str(file)))
    cause = comparison.causes[0]
    assert (cause.name, cause.confirmed) == ("forward-code", True)
    assert "self.fc(" in cause.source["text"]
    assert any("norm.weight, norm.bias is never used" in note for note in comparison.notes)
