"""Where no kernel computes the same thing, Keras's own code runs, and the layer says why."""

import re
from typing import Any

import pytest
from helpers.fast_probes import CELLS, check_equal
from helpers.framework_processes import FrameworkProcesses

SIDE = "keras-torch"

# What is asked for, whether it is a training step, and the reason for no kernel.
NOT_FAST: dict[str, tuple[str, dict[str, Any], bool, str]] = {
    "activation": ("LSTM", {"activation": "softplus"}, False, "activation='softplus'"),
    "recurrent-activation": (
        "GRU",
        {"recurrent_activation": "hard_sigmoid"},
        False,
        "recurrent_activation='hard_sigmoid'",
    ),
    "reset-before": ("GRU", {"reset_after": False}, False, "reset_after=False"),
    "recurrent-dropout": ("SimpleRNN", {"recurrent_dropout": 0.3}, True, "recurrent_dropout=0.3"),
    "all-dropped": ("LSTM", {"dropout": 1.0}, True, "dropout=1.0"),
}
FAST: dict[str, tuple[str, dict[str, Any], bool, str]] = {
    **{f"dropout-{cell}": (cell, {"dropout": 0.4, "return_sequences": True}, True, "bptt") for cell in CELLS},
    "dropout-LSTM": ("LSTM", {"dropout": 0.4}, True, "onednn"),
    "dropout-not-in-training": ("LSTM", {"dropout": 0.4}, False, "onednn"),
    "recurrent-dropout-not-in-training": ("GRU", {"recurrent_dropout": 0.3}, False, "bptt"),
    "dropout-backwards": ("GRU", {"dropout": 0.4, "go_backwards": True, "return_state": True}, True, "bptt"),
}


@pytest.mark.parametrize("case", NOT_FAST)
def test_what_no_kernel_computes_is_left_to_keras(frameworks: FrameworkProcesses, case: str) -> None:
    """The layer gives exactly what the stock layer does, and names the option that no kernel has."""
    *asked, reason = NOT_FAST[case]
    obtained, expected, kernel, computed = frameworks.call(SIDE, "fast_switch_probes.fallback", *asked)
    assert (kernel, computed) == (None, reason)
    assert obtained.keys() == expected.keys()
    assert all((obtained[name] == value).all() for name, value in expected.items())


@pytest.mark.parametrize("case", FAST)
def test_dropout_of_the_inputs_is_fast(frameworks: FrameworkProcesses, case: str) -> None:
    """Dropout of the inputs drops what it drops in the stock layer; dropout that is not at work hinders nothing."""
    *asked, kernel = FAST[case]
    obtained, expected, computed, reason = frameworks.call(SIDE, "fast_switch_probes.fallback", *asked)
    assert (computed, reason) == (kernel, None)
    check_equal(obtained=obtained, expected=expected, what=case)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("compiling", "tracing or compiling"),
        ("tracing", "tracing or compiling"),
        ("vmap", "torch.func"),
        ("jvp", "torch.func"),
        ("forward-mode", "forward-mode"),
        ("autocast", "autocast"),
        ("subclass", "the inputs are a Marked"),
        ("mask-of-three-axes", r"a mask of shape \[4, 5, 1\], not \[4, 5\]"),
    ],
)
def test_circumstances_that_no_kernel_knows_are_left_to_keras(
    frameworks: FrameworkProcesses, name: str, reason: str
) -> None:
    """Under a transform or with a tensor of another kind Keras's own code runs, with its own result."""
    difference, kernel, computed = frameworks.call(SIDE, "fast_switch_probes.circumstances", name)
    assert kernel is None
    assert re.search(reason, computed)
    assert difference == 0


# Twice the spacing of numbers below 1, times what a few roundings in a row come to.
@pytest.mark.parametrize(("dtype", "tolerance"), [("mixed_float16", 4e-3), ("mixed_bfloat16", 3e-2), ("float64", 1e-6)])
@pytest.mark.parametrize("masked", [False, True], ids=["no-mask", "mask"])
@pytest.mark.parametrize("cell", CELLS)
def test_other_precisions(
    frameworks: FrameworkProcesses, cell: str, masked: bool, dtype: str, tolerance: float
) -> None:
    """In mixed precision and float64 a fast layer computes and returns the stock layer's dtypes.

    In float64 Keras's own loop computes some of it in float32: the difference is Keras's.
    """
    differences, kernel = frameworks.call(SIDE, "fast_switch_probes.precision", cell, dtype, masked)
    assert kernel == "bptt"
    assert differences.keys() == {"outputs", "kernel", "recurrent_kernel", "bias"}
    assert max(differences.values()) <= tolerance, differences


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    CELLS,
)
@pytest.mark.parametrize("side", ["keras-tensorflow", "keras-jax"])
def test_other_backends_run_keras(frameworks: FrameworkProcesses, side: str, cell: str) -> None:
    """On another backend a fast layer is the stock layer, bit for bit, and torch is not imported."""
    ran, torch_imported, difference = frameworks.call(side, "fast_switch_probes.on_this_backend", cell)
    backend = side.removeprefix("keras-")
    assert ran == {"model/recurrent": {"kernel": None, "reason": f"the backend is {backend}"}}
    assert not torch_imported
    assert difference == 0
