"""Products of float32 that a framework computes with fewer bits are recognised, and confirmed by whole ones."""

from pathlib import Path

import pytest
from helpers.framework_processes import SIDES, FrameworkProcesses
from helpers.pairs import pair_text

from compare.explain.entry import explain_with
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides

PAIR = pair_text("correct_lstm")
HEAD = "nn.Linear("
assert PAIR.count(HEAD) == 1

# No processor of a test machine has TF32: this layer rounds as one would, where torch was told that it may.
ROUNDING = """
    class Linear(nn.Linear):
        def forward(self, x):
            if torch.get_float32_matmul_precision() == "highest":
                return super().forward(x)
            bits = x.detach().view(torch.int32)
            rounded = ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
            return super().forward(x + (rounded - x.detach()))
"""


@pytest.mark.slow
def test_tf32_is_confirmed(tmp_path: Path) -> None:
    """Where torch was told that products may have fewer bits, and the head's have, that is the cause, and the fix."""
    text = PAIR.replace(HEAD, "Linear(").replace("    class ", f"{ROUNDING}\n    class ", 1)
    text = text.replace("    return model, ", '    torch.set_float32_matmul_precision("high")\n    return model, ')
    assert "set_float32" in text
    (tmp_path / "told.py").write_text(text, "utf-8")
    with Sides("torch") as sides:  # of its own: what a process was told it keeps
        comparison = explain_with(sides, read_pair(str(tmp_path / "told.py")))
    assert [(cause.name, cause.confirmed) for cause in comparison.causes] == [("tf32", True)]
    assert 'torch.set_float32_matmul_precision("highest")' in comparison.causes[0].fix


@pytest.mark.parametrize("side", SIDES)
def test_products_are_whole_within(frameworks: FrameworkProcesses, side: str) -> None:
    """A framework that was told to take TF32 does not take it meanwhile, and afterwards does as it was told."""
    before, within, after = frameworks.call(side, "observer_probes.told_tf32")
    assert (before, within, after) == (True, False, True)
