"""Nothing passes because it is missing in a pair file's runs; rounding as large as a member's does."""

import numpy as np
import pytest

from compare.explain.comparing import ULP, Comparator, Stage
from compare.explain.matching import Match

KERNEL = np.linspace(0.5, 1.5, 12, dtype=np.float32).reshape(3, 4)
SHAPES = {"kernel": [3, 4]}
MATCH = Match("head", "dense", {"key": "k", "kind": "dense", "shapes": SHAPES}, {"key": "t", "shapes": SHAPES})


def run(side: str) -> dict[str, np.ndarray]:
    """One recorded step of a side, both sides' alike."""
    key = {"keras": "k", "torch": "t"}[side]
    experiment = f"{key}/kernel" if side == "keras" else f"start/weights/{key}/kernel"
    record = {experiment: KERNEL, f"0/weights/{key}/kernel": KERNEL - np.float32(0.01)}
    for name in ("gradient", "clip"):
        record[f"0/{name}/{key}/kernel"] = KERNEL / 4
    for prefix in ("0/", "end/evaluation/"):
        record |= {f"{prefix}in/{key}": KERNEL.T, f"{prefix}out/{key}": KERNEL @ KERNEL.T}
    return record | {"0/loss": np.float32(0.7), "losses": np.array([0.7])}


def stages(
    keras: dict[str, np.ndarray], torch: dict[str, np.ndarray], members: list[dict[str, np.ndarray]]
) -> list[Stage]:
    """Compare two runs."""
    return Comparator([MATCH], (), None, (keras, torch, members)).stages([0], 1)


def differing(compared: list[Stage]) -> list[tuple[str, str]]:
    """Where they differ."""
    return [(stage.phase, finding.location) for stage in compared for finding in stage.differing]


def test_equal_runs_agree() -> None:
    """Equal runs agree, in every phase, and something was compared in each."""
    compared = stages(run("keras"), run("torch"), [run("torch")])
    assert differing(compared) == []
    assert [stage.phase for stage in compared] == [
        "start",
        "forward",
        "loss",
        "gradient",
        "clip",
        "update",
        "evaluation",
    ]
    assert all(stage.findings for stage in compared)


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("start/weights/t/kernel", "start"),
        ("0/out/t", "forward"),
        ("0/loss", "loss"),
        ("0/gradient/t/kernel", "gradient"),
        ("0/clip/t/kernel", "clip"),
        ("0/weights/t/kernel", "update"),
        ("end/evaluation/in/t", "evaluation"),
    ],
)
@pytest.mark.parametrize("spoil", ["missing", "nan", "shape", "off"])
def test_what_is_missing_or_off_is_found(name: str, phase: str, spoil: str) -> None:
    """What is missing, not a number, of another shape or off by 1e-3 on one side differs in its own phase."""
    torch = run("torch")
    if spoil == "missing":
        del torch[name]
    else:
        value = torch[name]
        torch[name] = {"nan": value * np.nan, "shape": np.zeros((2, 2)), "off": value * np.float32(1.001)}[spoil]
    assert phase in {other for other, _ in differing(stages(run("keras"), torch, [torch]))}


def test_what_members_do_is_rounding() -> None:
    """A difference as large as that of an ensemble member is rounding; without the member it is not."""
    torch, member = run("torch"), run("torch")
    torch["0/gradient/t/kernel"] = torch["0/gradient/t/kernel"] + np.float32(200 * ULP)
    member["0/gradient/t/kernel"] = torch["0/gradient/t/kernel"] + np.float32(200 * ULP)
    assert differing(stages(run("keras"), torch, [member])) == []
    assert differing(stages(run("keras"), torch, [torch])) == [("gradient", "head/kernel")]


def test_the_factor_is_told() -> None:
    """Where one side moved twice as far the factor is 2."""
    torch = run("torch")
    torch["0/weights/t/kernel"] = KERNEL - np.float32(0.02)
    (finding,) = [finding for stage in stages(run("keras"), torch, []) for finding in stage.differing]
    assert finding.ratio == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize("off", [False, True], ids=["reordered", "reordered-and-off"])
def test_the_order_of_a_batch_is_no_difference(off: bool) -> None:
    """Where PyTorch computes the rows in another order they are compared in Keras's, and an error in them is found."""
    torch, order = run("torch"), np.array([2, 0, 3, 1])
    torch["0/in/t"] = torch["0/in/t"][order]
    assert differing(stages(run("keras"), torch, [torch])) == [("forward", "head input")]
    torch["0/order"] = order
    if off:
        torch["0/in/t"] = torch["0/in/t"] * np.float32(1.001)
    assert differing(stages(run("keras"), torch, [torch])) == ([("forward", "head input")] if off else [])
