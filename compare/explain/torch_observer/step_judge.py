"""Checked steps judged: taken under a setup, again in Monte Carlo arithmetic, and compared with Keras's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compare.explain.step_comparison import Deviation, StepComparison
from compare.explain.torch_observer.checked_steps import Step, Training, Work
from compare.explain.torch_observer.recurrent_programs import rounded_kernel
from compare.explain.torch_observer.setup import Setup, clipped

# The seeds of the members in Monte Carlo arithmetic.
MEMBERS = (11, 12)

# Below so many times the tolerance it is measured again, with the rounding inside of fused kernels too: they sum over
# all timesteps, of which a member sees nothing that is rounded at the kernel's end alone.
NARROW = 30.0


@dataclass
class Seen:
    """A training's steps and what deviates in them."""

    work: Work
    training: Training
    steps: Sequence[Step]
    deviations: Sequence[Deviation]

    def phase(self, name: str) -> list[Deviation]:
        """What deviates in a phase."""
        return [deviation for deviation in self.deviations if deviation.phase == name]

    @property
    def shown(self) -> Deviation | None:
        """The first deviation; of those side by side the largest."""
        if not self.deviations:
            return None
        first = self.deviations[0]
        return max((d for d in self.deviations if d.order == first.order), key=lambda d: d.relative_error)


class StepJudge:
    """Judges trainings of one pair; `checks` and `largest` are of the last one: comparisons made, error / tolerance."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.checks, self.largest = 0, 0.0
        self._kept: dict[Any, tuple[Setup, list[list[Step]]]] = {}
        module = Training(work).module
        self._frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}

    def seen(self, setup: Setup) -> Seen:
        """The steps under a setup with what deviates in them."""
        training, steps = self.train(setup.without_values())
        if setup.by_value:
            return Seen(self.work, training, steps, self._deviations(steps, [], setup))
        members = self._members(setup, None)
        deviations = self._deviations(steps, members, setup)
        forward = [deviation for deviation in deviations if deviation.phase in ("loss", "gradient")]
        if forward and all(deviation.error < NARROW * deviation.tolerance for deviation in forward):
            members = [*members, *self._members(setup, rounded_kernel)]
            deviations = self._deviations(steps, members, setup)
        return Seen(self.work, training, steps, deviations)

    def _members(self, setup: Setup, kernel: Any) -> list[list[Step]]:
        """The same steps in Monte Carlo arithmetic: their losses and gradients.

        They are the same for all setups that have one forward pass, since every step starts from Keras's weights.
        """
        patches = tuple((str(place), id(patch)) for place, patch in setup.patches.items())
        key = (patches, tuple(setup.penalties.items()), setup.flags, setup.train, kernel is None)
        if key not in self._kept:
            runs = [self.train(setup, seed, kernel)[1] for seed in MEMBERS]
            members = [[Step(step.number, step.loss, own=step.own) for step in run] for run in runs]
            self._kept[key] = (setup, members)  # with its patches, whose ids no others may get
        return self._kept[key][1]

    def train(self, setup: Setup, noise: int | None = None, kernel: Any = None) -> tuple[Training, list[Step]]:
        """Take all of Keras's steps."""
        training = Training(self.work, setup, noise, kernel)
        steps = []
        for number in range(len(self.work.steps)):
            training.rates.append(float(training.optimizer.param_groups[0]["lr"]))
            steps.append(training.step(number))
        return training, steps

    def _deviations(self, steps: Sequence[Step], members: Sequence[Sequence[Step]], setup: Setup) -> list[Deviation]:
        """Everything that deviates, in the order of computation."""
        comparison = StepComparison(self.work.transfer, self.work.trace, clipped)
        frozen = (self._frozen | set(setup.freeze)) - set(setup.train)
        compared: list[Deviation] = []
        for number, step in enumerate(steps):
            others = [member[number] for member in members if len(member) > number]
            if not setup.by_value and step.backwards:
                compared.append(comparison.loss(step, others))
                compared += comparison.gradients(step, others, frozen)
            if not setup.by_value:
                compared += comparison.clips(step, frozen)
            compared += comparison.updates(step)
        self.checks = len(compared)
        self.largest = max((each.error / each.tolerance for each in compared if each.tolerance), default=0.0)
        return sorted((each for each in compared if each.differs), key=lambda deviation: deviation.order)
