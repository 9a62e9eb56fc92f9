"""Every part of a training is on the one device that was asked for."""

import pytest
from helpers.framework_processes import SIDES, FrameworkProcesses

SETTINGS = {
    "plain": {"cell": "lstm"},
    "masked": {"cell": "gru", "masked": True},
    "initial states": {"cell": "lstm", "initial_state": True, "recurrent_activation": "hard_sigmoid"},
    "batch normalisation": {"cell": "simple_rnn", "normalization": "batch", "bidirectional": "concat"},
    "stateful": {"cell": "gru", "stateful": True, "batch_size": 3},
    "dropout": {"cell": "gru", "dropout": 0.5, "recurrent_dropout": 0.2, "input_dropout": 0.1, "l2": 0.1},
}
OPTIMIZERS = {"adam": ("adam", False, True), "without norms": ("nadam", False, False), "stock": ("nadam", True, True)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_the_pytorch_side_mixes_no_devices(
    frameworks: FrameworkProcesses, settings: dict[str, object], optimizer: tuple[str, bool, bool]
) -> None:
    """A model that was placed trains, predicts and takes single steps where it is, all that it is given with it."""
    assert "meta" in frameworks.call("torch", "device_probes.train_off_the_cpu", settings, *optimizer)


def test_inputs_left_behind_are_noticed(frameworks: FrameworkProcesses) -> None:
    """Inputs that stay on the CPU, as all did when nothing was placed, are refused by the probe."""
    with pytest.raises(Exception, match=r"mixes cpu and meta|at cpu and parameter tensor at meta"):
        frameworks.call("torch", "device_probes.train_off_the_cpu", {"cell": "lstm"}, "adam", False, True, True)


@pytest.mark.parametrize("side", SIDES)
def test_a_gpu_that_is_not_there_is_not_replaced(frameworks: FrameworkProcesses, side: str) -> None:
    """A side that is asked for a GPU where it sees none says so, and does not train on the CPU."""
    assert "device cuda was asked for" in frameworks.call(side, "gpu_probes.error_of_missing_gpu")
