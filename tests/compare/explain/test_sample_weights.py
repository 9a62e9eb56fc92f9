"""A loss that weighs its examples, on both sides or on one."""

from pathlib import Path

import pytest
from helpers.pairs import pair_text

from compare.explain.entry import explain_with
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides

DATA = 'return windows[..., None].astype("float32"), series[10:82, None].astype("float32")'
WEIGHED = f'{DATA}, np.linspace(0.2, 1.8, 72, dtype="float32")'
LOSS = "lambda p, y, w: (w * ((p - y) ** 2).mean(-1)).mean()"


@pytest.mark.parametrize(("loss", "status"), [(LOSS, "agrees"), (LOSS.replace("w * ", ""), "differs")], ids=str)
def test_examples_are_weighed_in_training_and_evaluation(sides: Sides, tmp_path: Path, loss: str, status: str) -> None:
    """Where both sides weigh their examples they agree, the evaluation too; where one does not they differ."""
    text = pair_text("correct_gru")
    assert DATA in text
    file = tmp_path / "weighed.py"
    file.write_text(text.replace(DATA, WEIGHED).replace("nn.MSELoss()", loss), "utf-8")
    comparison = explain_with(sides, read_pair(str(file)))
    assert (comparison.status, comparison.error) == (status, None)
