"""Whether written Keras code computes and trains as the module it was written from.

PyTorch computes everything in float64, where the user's code allows it, and in float32: once from the weights as they
are, and as an ensemble from weights moved in the last place. The error of Keras's float32 against float64 may be
`MARGIN` times the ensemble's, the largest of a tensor; `ULPS` ulps of the tensor's largest number are always allowed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.explain.processes import SideProcess
from compare.judge.verdict import Comparison, Difference
from compare.workers.backends import REFERENCE_RUNNER

BATCHES = (3, 8)
STEPS = 5
ULPS = 20.0
MARGIN = 8.0
UNIT = float(np.finfo(np.float32).eps)


@dataclass
class Observed:
    """Both processes, and what the module was read as; `trains`: train.py was written."""

    torch: SideProcess
    keras: SideProcess
    answer: Mapping[str, Any]
    trains: bool


class Proof:
    """The checks of one port, and the differences that they found."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        self.differences: list[Difference] = []
        self.checks = 0
        self.largest = 0.0
        self.loss_difference = 0.0
        self.sources = observed.answer["sources"]

    def compare(
        self, step: int, phase: str, tensor: str, obtained: Any, singles: Sequence[Any], double: Any, scale: float = 0.0
    ) -> None:
        """Compare Keras's tensor with PyTorch's in float32, by all members of the ensemble, and in float64."""
        self.checks += 1
        expected = np.asarray(singles[0] if double is None else double, np.float64)
        obtained = np.asarray(obtained, np.float64)
        if obtained.shape != expected.shape:
            shapes = f"Keras gives {obtained.shape}, PyTorch {expected.shape}"
            self.add(step, phase, tensor, shapes, None, None)
            return
        finite = np.isfinite(expected)
        if (
            not np.array_equal(expected[~finite], obtained[~finite], equal_nan=True)
            or not np.isfinite(obtained[finite]).all()
        ):
            self.add(step, phase, tensor, "one side is not finite where the other is", None, None)
            return
        if not finite.any():
            return
        size = max(float(np.abs(expected[finite]).max()), scale) or 1.0
        error = float(np.abs(obtained - expected)[finite].max()) / size
        own = max(float(np.abs(np.asarray(single, np.float64) - expected)[finite].max()) / size for single in singles)
        tolerance = max(ULPS * UNIT, MARGIN * own)
        self.largest = max(self.largest, error / tolerance)
        if error > tolerance:
            message = "Keras's differs from PyTorch's by more than rounding."
            self.add(step, phase, tensor, message, error, tolerance)

    def add(
        self, step: int, phase: str, tensor: str, message: str, error: float | None, tolerance: float | None
    ) -> None:
        """Note a difference, with the user's line where one is known."""
        source = self.sources.get(tensor)
        self.differences.append(
            Difference("differs", step, phase, message, tensor, error, tolerance, "keras", source=source)
        )

    # -- what is compared --------------------------------------------------------------------------------------

    def outputs(self) -> None:
        """Every layer and every output in evaluation, for batches of other sizes than the module was read with."""
        torch, keras = self.observed.torch, self.observed.keras
        for seed, batch in enumerate(BATCHES):
            theirs = torch.ask("observe", batch=batch, seed=seed)
            singles, double = theirs["float32"], theirs["float64"]
            ours = keras.ask("observe", inputs=theirs["inputs"], calls=list(singles[0]["steps"]))
            for call, value in ours["steps"].items():
                exact = None if double is None else double["steps"].get(call)
                self.compare(0, "forward", call, value, [member["steps"][call] for member in singles], exact)
            count = len(singles[0]["outputs"])
            if len(ours["outputs"]) != count:
                counts = f"Keras gives {len(ours['outputs'])} outputs, PyTorch {count}"
                self.add(0, "forward", "outputs", counts, None, None)
                return
            for number, value in enumerate(ours["outputs"]):
                exact = None if double is None else double["outputs"][number]
                members = [member["outputs"][number] for member in singles]
                self.compare(0, "forward", f"output {number}", value, members, exact)
            if seed == 0:
                self._noise(batch, theirs["inputs"])

    def _noise(self, batch: int, inputs: Any) -> None:
        noisy = self.observed.torch.ask("noise", batch=batch, seed=0)["noisy"]
        obtained = self.observed.keras.ask("noise", inputs=inputs)["noisy"]
        self.checks += 1
        if noisy != obtained:
            told = f"which outputs vary in training is {obtained} in Keras and {noisy} in PyTorch: a dropout is missing"
            self.add(0, "forward", "dropout", told, None, None)

    def training(self) -> None:
        """Loss, gradients, and the weights after each of some steps."""
        theirs = self.observed.torch.ask("train", batch=BATCHES[1], steps=STEPS, seed=5)
        ours = self.observed.keras.ask("train", batches=theirs["batches"])["steps"]
        members = theirs["float32"]
        for step, obtained in enumerate(ours):
            singles = [member[step] for member in members]
            double = None if theirs["float64"] is None else theirs["float64"][step]
            exact_loss = singles[0]["loss"] if double is None else double["loss"]
            losses = [single["loss"] for single in singles]
            self.compare(step, "loss", "loss", obtained["loss"], losses, exact_loss)
            if exact_loss:
                self.loss_difference = max(self.loss_difference, abs(obtained["loss"] / exact_loss - 1))
            largest = max((float(np.abs(g).max()) for g in singles[0]["gradients"].values()), default=0.0)
            for name, gradient in obtained["gradients"].items():
                if name in self.observed.answer["padding"]:
                    gradient[self.observed.answer["padding"][name]] = 0.0
                # What is small beside the other gradients is rounded with them.
                self._each(step, "gradient", name, gradient, singles, double, largest * 0.1)
            for name, value in obtained["weights"].items():
                if not name.endswith("moving_variance"):  # PyTorch's is the unbiased one, which a note says
                    self._each(step, "update", name, value, singles, double)
            if self.differences:
                return

    def _each(
        self, step: int, phase: str, name: str, obtained: Any, singles: Any, double: Any, scale: float = 0.0
    ) -> None:
        kind = "gradients" if phase == "gradient" else "weights"
        if name not in singles[0][kind]:
            if phase == "gradient" and np.any(obtained):
                self.add(step, phase, name, "Keras has a gradient where PyTorch has none.", None, None)
            return
        exact = None if double is None else double[kind][name]
        self.compare(step, phase, name, obtained, [single[kind][name] for single in singles], exact, scale)


def prove(observed: Observed, case: str, runner: str) -> Comparison:
    """Compare the written code with the module; forward first, training where train.py was written."""
    proof = Proof(observed)
    proof.outputs()
    steps = 0
    if observed.trains and not proof.differences:
        proof.training()
        steps = STEPS
    return Comparison(
        case=case,
        runner=runner,
        reference=REFERENCE_RUNNER,
        dtype="float32",
        status="differs" if proof.differences or not proof.checks else "agrees",
        checks=proof.checks,
        steps=steps,
        max_relative_loss_difference=proof.loss_difference,
        trajectory_tolerance_ratio=proof.largest,
        differences=proof.differences,
        notes=list(observed.answer["notes"]),
    )
