"""What a tried change does is judged by the rounding error of the run without it."""

from pathlib import Path

import pytest
from helpers.pairs import write_pair

from compare.explain.causes.candidates import Candidate
from compare.explain.investigation import Investigation
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides
from compare.explain.search import first_differing

KERAS_RATE = 0.05


@pytest.mark.parametrize(("rate", "fixed"), [(KERAS_RATE, True), (3 * KERAS_RATE, False)], ids=["right", "wrong"])
def test_a_change_allows_nothing_by_being_large(tmp_path: Path, sides: Sides, rate: float, fixed: bool) -> None:
    """The right learning rate takes the difference away; another wrong one does not, however far it moves PyTorch."""
    investigation = Investigation(sides, read_pair(str(write_pair("learning_rate", tmp_path))))
    first = first_differing(investigation.stages([], "off", []))
    assert first is not None
    tried = Candidate("learning-rate", "", torch=({"change": "update_rule", "learning_rates": [rate]},))
    rest = first_differing(investigation.stages([tried], "off", []))
    assert (rest is None or rest.order > first.order) is fixed
