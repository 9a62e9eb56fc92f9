"""Whether written Keras code computes and trains as the module it was written from.

PyTorch computes everything in float64, where the user's code allows it, and in float32: once from the weights as they
are, and as an ensemble from weights moved in the last place. The error of Keras's float32 against float64 may be
`MARGIN` times the ensemble's, the largest of a tensor; `ULPS` ulps of the tensor's largest number are always allowed.
Where that is not enough, Keras computes an ensemble of its own, whose spread counts as PyTorch's error does: Keras may
round more (a variance as the difference of two squares), but an error that all members share is none of rounding.
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
# Numbers of which the square is none in float32.
RUN_AWAY = 1e18
# Of Keras's ensemble.
MEMBERS = 4
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

    def __init__(self, observed: Observed, members: int) -> None:
        self.observed, self.members = observed, members
        self.differences: list[Difference] = []
        self.checks = self.steps = 0
        self.largest = 0.0
        self.loss_difference = 0.0
        self.sources = observed.answer["sources"]

    def compare(
        self, step: int, phase: str, tensor: str, ours: Sequence[Any], singles: Sequence[Any], double: Any,
        scale: float = 0.0,
    ) -> None:  # fmt: skip
        """Compare Keras's tensor with PyTorch's in float32, each by all members of its ensemble, and in float64."""
        self.checks += 1
        obtained = ours[0]
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
        error = float(np.abs(obtained[finite] - expected[finite]).max()) / size
        members = [np.asarray(single, np.float64)[finite] for single in singles]
        own = max(float(np.abs(member - expected[finite]).max()) / size for member in members)
        spread = max(float(np.abs(np.asarray(member)[finite] - obtained[finite]).max()) / size for member in ours)
        tolerance = max(ULPS * UNIT, MARGIN * own, MARGIN * spread)
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

    @property
    def complete(self) -> bool:
        """Whether everything was compared, and nothing differs."""
        return not self.differences and self.checks > 0 and self.steps >= self.observed.trains

    # -- what is compared --------------------------------------------------------------------------------------

    def outputs(self) -> None:
        """Every layer and every output in evaluation, for batches of other sizes than the module was read with."""
        torch, keras = self.observed.torch, self.observed.keras
        for seed, batch in enumerate(BATCHES):
            theirs = torch.ask("observe", batch=batch, seed=seed)
            singles, double = theirs["float32"], theirs["float64"]
            calls = list(singles[0]["steps"])
            variables = self.observed.answer["variables"]
            named = {call: variables[call] for call in calls if call in variables}
            ours = keras.ask("observe", inputs=theirs["inputs"], calls=named, members=self.members)
            for call in ours[0]["steps"]:
                exact = None if double is None else double["steps"].get(call)
                values = [member["steps"][call] for member in ours]
                self.compare(0, "forward", call, values, [member["steps"][call] for member in singles], exact)
            count = len(singles[0]["outputs"])
            if len(ours[0]["outputs"]) != count:
                counts = f"Keras gives {len(ours[0]['outputs'])} outputs, PyTorch {count}"
                self.add(0, "forward", "outputs", counts, None, None)
                return
            for number in range(count):
                values = [member["outputs"][number] for member in ours]
                exact = None if double is None else double["outputs"][number]
                members = [member["outputs"][number] for member in singles]
                self.compare(0, "forward", f"output {number}", values, members, exact)
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
        ours = self.observed.keras.ask("train", batches=theirs["batches"], members=self.members)
        members = theirs["float32"]
        for step, obtained in enumerate(ours[0]):
            own = [member[step] for member in ours]
            singles = [member[step] for member in members]
            double = None if theirs["float64"] is None else theirs["float64"][step]
            if _too_large(singles):
                return
            self.steps = step + 1
            exact_loss = singles[0]["loss"] if double is None else double["loss"]
            losses = [single["loss"] for single in singles]
            self.compare(step, "loss", "loss", [each["loss"] for each in own], losses, exact_loss)
            if exact_loss:
                self.loss_difference = max(self.loss_difference, abs(obtained["loss"] / exact_loss - 1))
            largest = max((float(np.abs(g).max()) for g in singles[0]["gradients"].values()), default=0.0)
            for name in obtained["gradients"]:
                gradients = [each["gradients"][name] for each in own]
                if name in self.observed.answer["padding"]:
                    for gradient in gradients:
                        gradient[self.observed.answer["padding"][name]] = 0.0
                # What is small beside the other gradients is rounded with them.
                self._each(step, "gradient", name, gradients, singles, double, largest * 0.1)
            for name in obtained["weights"]:
                if not name.endswith("moving_variance"):  # PyTorch's is the unbiased one, which a note says
                    values = [each["weights"][name] for each in own]
                    self._each(step, "update", name, values, singles, double)
            if self.differences:
                return

    def _each(
        self, step: int, phase: str, name: str, ours: Sequence[Any], singles: Any, double: Any, scale: float = 0.0
    ) -> None:
        kind = "gradients" if phase == "gradient" else "weights"
        if name not in singles[0][kind]:
            if phase == "gradient" and np.any(ours[0]):
                self.add(step, phase, name, "Keras has a gradient where PyTorch has none.", None, None)
            return
        exact = None if double is None else double[kind][name]
        self.compare(step, phase, name, ours, [single[kind][name] for single in singles], exact, scale)


def _too_large(members: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a training has run away, so that what is finite is chance."""
    arrays = [array for member in members for kind in ("gradients", "weights") for array in member[kind].values()]
    return not all(np.all(np.abs(array) < RUN_AWAY) for array in arrays)


def prove(observed: Observed, case: str, runner: str) -> Comparison:
    """Compare the written code with the module; forward first, training where train.py was written."""
    for members in (1, MEMBERS):
        proof = Proof(observed, members)
        proof.outputs()
        if observed.trains and not proof.differences:
            proof.training()
        if not proof.differences:
            break
    return Comparison(
        case=case,
        runner=runner,
        reference=REFERENCE_RUNNER,
        dtype="float32",
        status="differs"
        if proof.differences or not proof.checks or (observed.trains and not proof.steps)
        else "agrees",
        checks=proof.checks,
        steps=proof.steps,
        max_relative_loss_difference=proof.loss_difference,
        trajectory_tolerance_ratio=proof.largest,
        differences=proof.differences,
        notes=list(observed.answer["notes"]),
    )
