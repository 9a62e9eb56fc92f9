"""The PyTorch side's optimizers do what torch optimizers do, and round as Keras does."""

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from helpers.framework_processes import FrameworkProcesses

RULES = {
    "sgd-momentum": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "sgd-nesterov": {"name": "sgd", "momentum": 0.9, "schedule": "exponential", "decay_steps": 7, "decay_rate": 0.9},
    "sgd-clipnorm-decay": {"name": "sgd", "learning_rate": 0.05, "clipnorm": 0.05, "weight_decay": 0.01},
    "adam": {"name": "adam"},
    "nadam": {"name": "nadam"},
    "adadelta": {"name": "adadelta", "learning_rate": 1.0, "global_clipnorm": 0.1},
}


@pytest.mark.parametrize("rule", RULES)
def test_a_saved_optimizer_goes_on_as_if_never_saved(frameworks: FrameworkProcesses, rule: str) -> None:
    """`state_dict` and `load_state_dict` keep the slots, the number of steps and Nadam's product."""
    through, resumed = frameworks.call("torch", "optimizer_probes.resumed_weights", RULES[rule])
    assert through.tobytes() == resumed.tobytes()


@pytest.mark.parametrize(
    ("rule", "forgotten"), [("adam", "iterations"), ("nadam", "u_product"), ("sgd-nesterov", "iterations")]
)
def test_a_forgotten_count_shows_after_resuming(frameworks: FrameworkProcesses, rule: str, forgotten: str) -> None:
    """An optimizer that forgets its number of steps, or Nadam's product, goes on otherwise."""
    through, without = frameworks.call("torch", "optimizer_probes.resumed_weights", RULES[rule], forgotten)
    assert np.abs(through - without).max() > 1e-6


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw", "adamax", "nadam", "adagrad", "adadelta"])
def test_parameter_groups_have_their_own_learning_rates(frameworks: FrameworkProcesses, name: str) -> None:
    """Two groups in one optimizer are updated as two optimizers update them, and not both alike."""
    together, apart = frameworks.call("torch", "optimizer_probes.grouped_weights", name)
    assert [weights.tobytes() for weights in together] == [weights.tobytes() for weights in apart]
    assert not np.array_equal(together[0], together[1])


def correctly_rounded(base: float, exponent: int) -> np.float32:
    """The float32 nearest to a power of the float32 base, by exact decimal arithmetic."""
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(float(np.float32(base))) ** exponent
        near = np.float32(float(exact))
        candidates = [near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(2))]
        return min(candidates, key=lambda value: abs(Decimal(float(value)) - exact))


@pytest.mark.parametrize("base", [0.9, 0.999, 0.96])
def test_float32_powers_are_correctly_rounded(frameworks: FrameworkProcesses, base: float) -> None:
    """Each power is the nearest float32; NumPy's own powers of arrays are not, which the comparison notices."""
    exponents = list(range(1, 301))
    expected = [float(correctly_rounded(base, exponent)) for exponent in exponents]
    assert frameworks.call("torch", "optimizer_probes.powers", base, exponents, "float32") == expected
    repeated = np.cumprod(np.full(len(exponents), np.float32(base), dtype=np.float32))
    assert repeated.tolist() != expected


def test_clipping_by_variable_needs_names(frameworks: FrameworkProcesses) -> None:
    """Without names GRU's two biases could not be told from two variables, so it is refused."""
    with pytest.raises(ValueError, match=r"clipnorm needs the parameters' names: give model\.named_parameters\(\)"):
        frameworks.call("torch", "optimizer_probes.unnamed_clipnorm")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adma"}, "'adma' is unknown; accepted: sgd, rmsprop"),
        ({"name": "adam", "momentum": 0.9}, "momentum=0.9 is not an option of adam, only of sgd, rmsprop"),
        ({"name": "rmsprop", "momentum": 0.9, "nesterov": True}, "nesterov is not an option of rmsprop, only of sgd"),
    ],
    ids=["name", "momentum", "nesterov"],
)
@pytest.mark.parametrize("side", ["torch", "keras-tensorflow"])
def test_what_an_optimizer_does_not_take_is_refused(
    frameworks: FrameworkProcesses, side: str, options: dict[str, Any], message: str
) -> None:
    """Both sides refuse an unknown name and an option that the rule does not have, in the same words."""
    with pytest.raises(ValueError, match=message):
        frameworks.call(side, "optimizer_probes.slots", {"cell": "lstm", "units": 2}, options)


@pytest.mark.parametrize(
    ("options", "own", "own_options"),
    [
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, "SGD", {"lr": 1e-3, "momentum": 0.9, "nesterov": True}),
        ({"name": "rmsprop", "global_clipnorm": 0.5}, "RMSprop", {"lr": 1e-3}),
        ({"name": "adam", "weight_decay": 0.1}, "Adam", {"lr": 1e-3, "weight_decay": 0.1}),
        ({"name": "adamw", "clipvalue": 0.3}, "AdamW", {"lr": 1e-3}),
        ({"name": "adamax"}, "Adamax", {"lr": 1e-3}),
        ({"name": "nadam"}, "NAdam", {"lr": 1e-3}),
        ({"name": "adagrad"}, "Adagrad", {"lr": 1e-3}),
        ({"name": "adadelta"}, "Adadelta", {"lr": 1e-3}),
    ],
    ids=["sgd", "rmsprop", "adam", "adamw", "adamax", "nadam", "adagrad", "adadelta"],
)
def test_stock_is_what_a_pytorch_user_writes(
    frameworks: FrameworkProcesses, options: dict[str, Any], own: str, own_options: dict[str, Any]
) -> None:
    """With `stock` the optimizer is torch.optim's, to the last bit, with its own defaults and PyTorch's clipping."""
    stock, written = frameworks.call("torch", "optimizer_probes.stock_weights_and_own", options, own, own_options)
    assert stock.tobytes() == written.tobytes()
    other, _ = frameworks.call(
        "torch", "optimizer_probes.stock_weights_and_own", options | {"learning_rate": 2e-3}, own, own_options
    )
    assert other.tobytes() != written.tobytes()
