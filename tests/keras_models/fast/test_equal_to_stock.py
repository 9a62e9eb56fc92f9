"""The fast layers compute what Keras's own do: outputs, states and every gradient, whatever the options."""

import pytest
from helpers.fast_probes import CELLS
from helpers.framework_processes import FrameworkProcesses

SIDE = "keras-torch"

FAULTS = {
    "SimpleRNN": ["bias-forgotten", "last-timestep-alone", "half-a-gradient"],
    "LSTM": ["bias-forgotten", "gates-exchanged", "states-exchanged"],
    "GRU": ["biases-exchanged", "gates-exchanged", "last-timestep-alone"],
}
FAULTS_OF_ALL = [
    "mask-ignored",
    "mask-turned-round",
    "initial-state-forgotten",
    "not-backwards",
    "states-gradient-lost",
]

# One cell is enough to see a mistake soon; the others take as long again.
MOSTLY_SLOW = [cell if cell == "GRU" else pytest.param(cell, marks=pytest.mark.slow) for cell in CELLS]


@pytest.mark.parametrize("cell", MOSTLY_SLOW)
def test_all_options_on_a_cpu(frameworks: FrameworkProcesses, cell: str) -> None:
    """Every combination of options and masks gives what the stock layer gives, and no layer falls back."""
    ran = frameworks.call(SIDE, "fast_probes.compare_with_stock", cell)
    assert ran.keys() == ({"onednn", "bptt"} if cell == "LSTM" else {"bptt"})
    assert sum(ran.values()) > 300


@pytest.mark.parametrize("cell", MOSTLY_SLOW)
def test_all_options_in_the_layers_of_torch(frameworks: FrameworkProcesses, cell: str) -> None:
    """What runs in cuDNN on CUDA, torch's own layers with packed sequences for masks, gives the same too."""
    ran = frameworks.call(SIDE, "fast_probes.compare_with_stock", cell, "torch")
    assert ran.keys() == {"cudnn", "bptt"}
    assert ran["cudnn"] > 150
    assert ran["bptt"] > 100


@pytest.mark.parametrize(("cell", "fault"), [(cell, fault) for cell in CELLS for fault in FAULTS[cell] + FAULTS_OF_ALL])
def test_planted_faults_are_caught(frameworks: FrameworkProcesses, cell: str, fault: str) -> None:
    """The comparison fails where a fast layer does something else."""
    with pytest.raises(AssertionError, match=f"{cell} .*: (output|gradient)"):
        frameworks.call(SIDE, "fast_probes.compare_with_stock", cell, "", fault)
