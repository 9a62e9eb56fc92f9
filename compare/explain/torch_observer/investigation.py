"""A pair's PyTorch side investigated against Keras's trace: all phases of all steps, each difference with its cause."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch

from compare.explain.source import argument_of
from compare.explain.step_comparison import ENSEMBLE_FACTOR, UNIT, UNITS, Deviation
from compare.explain.torch_observer import dropout_check, tf32
from compare.explain.torch_observer.checked_steps import Training, Work
from compare.explain.torch_observer.module_transfer import chosen_by_values, module_transfer
from compare.explain.torch_observer.setup import Setup
from compare.explain.torch_observer.step_judge import MEMBERS, Seen, StepJudge
from compare.explain.torch_observer.training_causes import propose
from compare.explain.torch_observer.trials import Trials
from compare.explain.torch_observer.update_causes import Candidate
from compare.explain.torch_observer.walk import Finding, Walk

# A walk ends at a step where nothing is left; another step may then differ, of a state that is kept.
MOST_WALKS = 6
# After so many seconds of the processor's no further walk is begun.
BUDGET = 150.0
# A training under a candidate takes so many times as long as the user's own at most, or these seconds.
TRIAL_TIMES, TRIAL_SECONDS = 8.0, 20.0

TF32_FIXES = {
    "torch": 'torch.set_float32_matmul_precision("highest"); torch.backends.cudnn.allow_tf32 = False',
    "tensorflow": "tf.config.experimental.enable_tensor_float_32_execution(False)",
    "jax": 'jax.config.update("jax_default_matmul_precision", "highest")',
}

# What is needed of Keras's process, what came of it, and what there is at the end.
Asking = Generator[dict[str, Any], Any, Any]


@dataclass(frozen=True)
class Explained:
    """One cause of a difference: what is written in its place, where it is, and the error with it and without."""

    name: str
    fix: str
    confirmed: bool
    step: int
    phase: str
    tensor: str
    source: dict[str, Any] | None
    observation: str
    error_before: float
    error_after: float


class Investigation:
    """Investigates one pair; `run` yields what it needs of Keras's process, and is sent the answer."""

    def __init__(self, work: Work, own_map: Mapping[str, Any], trials: Trials) -> None:
        self.work, self.own_map, self.trials = work, own_map, trials
        self.judge: StepJudge
        self.own: Seen
        self.zeroed: list[str] = []
        self.notes: list[str] = []
        self.causes: list[Explained] = []
        self.differences: list[Deviation] = []
        self.unexplained: Deviation | None = None
        self.setup = Setup()

    def run(self) -> Asking:
        """Find every difference and its cause."""
        began, processed = time.monotonic(), time.process_time()
        weights = module_transfer(self.work, self.own_map)
        self.work.transfer, self.zeroed, self.notes = weights.transfer, weights.lone, weights.notes
        if self.zeroed:
            self.work.trace = yield {"action": "trace", "zeroed": self.zeroed}
        self.notes += yield from chosen_by_values(self.work)
        self.judge = StepJudge(self.work)
        seen = self.own = self.judge.seen(self.setup)
        self.checks, self.largest = self.judge.checks, self.judge.largest
        self.trial_seconds = max(TRIAL_SECONDS, TRIAL_TIMES * (time.monotonic() - began))
        self.differences = list(seen.deviations)
        self._missing_biases()
        seen = yield from self._whole_training(seen)
        findings: list[Finding] = []
        for _ in range(MOST_WALKS):
            losses = seen.phase("loss")
            if not losses or time.process_time() - processed > BUDGET or self._only_penalty(seen, losses):
                break
            step = losses[0].step
            operations = yield {"action": "operations", "step": step}
            walk = Walk(self.work, self.setup, step, operations, self.trials, losses[0].tolerance)
            new = list(walk.findings())
            findings += new
            if not new:
                break
            self.setup = self.setup.merged(*(finding.setup for finding in new))
            seen = self.judge.seen(self.setup)
            if self.setup.by_value:
                break
        self._forward_causes(findings)
        self._training_causes(seen)
        if not self.setup.by_value:
            self._evaluation()
        self._dropout()
        self._variance()
        return self._result()

    def _missing_biases(self) -> None:
        if self.zeroed:
            lone = Deviation(0, "start", self.zeroed[0], 1.0, 0.0, 1.0, None, "only Keras has it")
            self.differences.insert(0, lone)
            fix = f"bias=True in PyTorch, or use_bias=False in Keras: {', '.join(self.zeroed)}"
            self._add("missing-bias", fix, lone, "Keras has a bias that PyTorch has not.")

    def _whole_training(self, seen: Seen) -> Generator[dict[str, Any], Any, Seen]:
        """Try what concerns a whole training: its mode, half precision, TF32."""
        wrong = [*seen.phase("loss"), *seen.phase("gradient")]
        if not wrong:
            return seen
        candidates: list[Candidate] = []
        if not all(module.training for module in seen.training.module.modules()):
            candidates.append(
                _flag("train-eval-mode", "module.train()  # before every training step", "always_training")
            )
        if "autocast" in self.work.text:
            fix = "no torch.autocast, or keras.mixed_precision.set_global_policy('mixed_bfloat16') in Keras too"
            candidates.append(_flag("reduced-precision", fix, "no_autocast"))
        devices = {parameter.device.type for parameter in seen.training.module.parameters()}
        on_torch = tf32.in_use(*devices)
        on_keras = self.work.trace["tf32"]
        if on_torch or on_keras:
            # On whichever side the flags are: exact products are the same on both.
            candidates.append(_flag("tf32", TF32_FIXES["torch" if on_torch else self.work.trace["backend"]], "no_tf32"))
        if "cuda" in devices:
            fix = "torch.backends.cudnn.enabled = False  # or report the kernel as a bug"
            candidates.append(_flag("kernel-fallback", fix, "step_by_step"))
        first = seen.deviations[0]
        for candidate in candidates:
            before = self.work.trace
            if candidate.cause == "tf32" and on_keras:
                self.work.trace = yield {"action": "trace", "zeroed": self.zeroed, "exact": True}
            after = self.judge.seen(self.setup.merged(candidate.setup))
            now = sorted([*after.phase("loss"), *after.phase("gradient")], key=lambda deviation: deviation.order)
            if not now or now[0].order > first.order:
                self._add(candidate.cause, candidate.code, first, candidate.message, phase="loss")
                self.setup = self.setup.merged(candidate.setup)
                return after
            self.work.trace = before
        return seen

    def _only_penalty(self, seen: Seen, losses: Sequence[Deviation]) -> bool:
        """Whether every loss is Keras's but for its penalties."""
        for deviation in losses:
            keras, step = self.work.steps[deviation.step], seen.steps[deviation.step]
            tolerance = max(deviation.tolerance, UNITS * UNIT * abs(keras["loss"]))
            if not keras["penalty"] or abs(step.loss - (keras["loss"] - keras["penalty"])) > tolerance:
                return False
        return True

    def _forward_causes(self, findings: Sequence[Finding]) -> None:
        """Measure each finding with all others fixed, and leave out what is not needed."""
        needed = list(findings)
        last_by_value = max((i for i, finding in enumerate(findings) if finding.by_value), default=-1)
        for number, finding in enumerate(findings):
            others = [other for other in needed if other is not finding]
            finding.error_after = self._loss_error(needed, finding.step)
            finding.error_before = self._loss_error(others, finding.step)
            if number < last_by_value:
                # A value put in further on hides what comes before it: the walk itself has proved that it is needed.
                finding.error_before = max(self._loss_error([], finding.step), finding.error_before)
            elif others and finding.error_before <= max(4 * finding.error_after, UNITS * UNIT):
                needed.remove(finding)
        told = set()
        for finding in needed:
            key = (finding.cause, finding.code, str(finding.source))
            if key in told:
                continue
            told.add(key)
            proved = np.isfinite(finding.error_after) and finding.error_after < 0.1 * finding.error_before
            confirmed = bool(proved and (not finding.by_value or finding.proved or finding.setup.patches))
            place = Deviation(finding.step, finding.phase, finding.operation.name, finding.error_before, 0.0, 1.0)
            self._add(
                finding.cause,
                finding.code,
                place,
                finding.told,
                finding.source,
                finding.error_after,
                confirmed=confirmed,
            )
            if not proved:
                losses = (d for d in self.own.deviations if (d.step, d.phase) == (finding.step, "loss"))
                self._tell_remainder(next(losses, place))

    def _loss_error(self, findings: Sequence[Finding], step: int) -> float:
        """How far the loss is off, relatively, with some findings fixed."""
        setup = Setup(flags=self.setup.flags, penalties=self.setup.penalties)
        setup = setup.merged(*(finding.setup for finding in findings))

        def loss() -> float:
            training = Training(self.work, setup)
            for number in range(step):
                training.step(number)
            return training.forward(step).recording.loss_value

        label = f"the loss of step {step} with {len(findings)} changes: {', '.join(f.code for f in findings)}"
        value = self.trials.attempt(label, loss, self.trial_seconds)
        return float("inf") if value is None else _relative_to_nearest(value, self.work.steps[step])

    def _training_causes(self, seen: Seen) -> None:
        """Find the fewest candidates with which nothing deviates any more, or as little as with all of them."""
        if not seen.deviations:
            return
        chosen = self._chosen(propose(seen))
        setup = self._with(chosen)
        after = self.judge.seen(setup)
        for candidate in chosen:
            shown = self.judge.seen(self._with([other for other in chosen if other is not candidate])).shown
            if shown is None:
                continue
            place = (shown.step, shown.phase, shown.tensor)
            rest = next((d.relative_error for d in after.deviations if (d.step, d.phase, d.tensor) == place), 0.0)
            source = None
            if candidate.site is not None:
                source = argument_of(candidate.site, candidate.argument, candidate.position).as_json("torch")
            self._add(candidate.cause, candidate.code, shown, candidate.message, source, rest)
        self.setup = setup
        if after.shown is not None:
            self._tell_remainder(after.shown)

    def _with(self, candidates: Sequence[Candidate]) -> Setup:
        return self.setup.merged(*(candidate.setup for candidate in candidates))

    def _chosen(self, candidates: list[Candidate]) -> list[Candidate]:
        def attempt(tried: Sequence[Candidate], take: Callable[[Setup], Any]) -> Any:
            label = "training with " + ", ".join(f"{candidate.cause}: {candidate.code}" for candidate in tried)
            return self.trials.attempt(label, partial(take, self._with(tried)), self.trial_seconds)

        def left(tried: Sequence[Candidate]) -> set[tuple[int, str, str]] | None:
            seen = attempt(tried, self.judge.seen)
            return None if seen is None else {(d.step, d.phase, d.tensor) for d in seen.deviations}

        usable = [candidate for candidate in candidates if attempt([candidate], self.judge.train) is not None]
        best = left(usable)
        if best is None:
            return []
        # The least exact are left out first: an accident of a rule before a second bias. Two choices of a rule may make
        # up for each other (epsilon and where it is added, in a step that sets it anew): they go together or stay.
        alone = [[candidate] for candidate in sorted(usable, key=lambda candidate: -candidate.priority)]
        together = [list(pair) for pair in combinations([each for each in usable if each.setup.rule], 2)]
        chosen = list(usable)
        for leaving in [*alone, *together]:
            without = [candidate for candidate in chosen if candidate not in leaving]
            if len(chosen) - len(without) < len(leaving):
                continue
            now = left(without)
            if now is not None and len(now) <= len(best):
                chosen, best = without, now
        return chosen

    def _tell_remainder(self, left: Deviation) -> None:
        self.unexplained = self.unexplained or left
        differs = left.ratio is not None and abs(left.ratio - 1) > 1e-3
        ratio = f"; PyTorch's is {left.ratio:.4g} times Keras's" if differs else ""
        self.notes.append(
            f"no known cause explains step {left.step}, {left.phase}, {left.tensor} (relative error "
            f"{left.relative_error:.1e}, tolerance {left.relative_tolerance:.1e}{ratio})"
        )

    def _evaluation(self) -> None:
        """Compare the loss of a prediction after the training, from Keras's weights."""
        keras = self.work.trace["evaluation"]
        if not keras:
            return
        try:
            losses = [
                Training(self.work, self.setup, noise).evaluate(keras["weights"]).loss_value
                for noise in (None, *MEMBERS)
            ]
        except Exception as error:  # whatever the user's module raises that was never evaluated
            self.notes.append(f"the evaluation was not compared: {type(error).__name__}: {str(error)[:120]}")
            return
        own, *members = losses
        wanted = _nearest(own, keras)
        noise = max(abs(member - own) for member in members)
        tolerance = ENSEMBLE_FACTOR * noise + 2 * UNITS * UNIT * abs(wanted)
        count = len(self.work.steps)
        deviation = Deviation(count, "evaluation", "loss", abs(own - wanted), tolerance, abs(wanted))
        if deviation.differs:
            self.differences.append(deviation)
            self._tell_remainder(deviation)

    def _variance(self) -> None:
        """Tell that PyTorch keeps the unbiased variance: no step and no loss shows it, a later evaluation may.

        Both sides document it, so it is a note, beside mistakes and without them.
        """
        count = len(self.work.steps[0]["batch"])
        for name in self.work.transfer.maps:
            tensor = self.own.training.named[name]
            if name.endswith("running_var") and tensor.dim() == 1 and any(step.updates for step in self.own.steps):
                self.notes.append(
                    f"PyTorch's {name} averages unbiased variances, n / (n - 1) times Keras's biased ones, "
                    f"{100 / max(count - 1, 1):.2g} % more where n is a batch of {count}: a model that PyTorch trained "
                    "evaluates so much otherwise; a BatchNorm1d that keeps the biased variance is as Keras's"
                )
                return

    def _dropout(self) -> None:
        """Compare where and what both sides drop."""
        for difference in dropout_check.compare(self.work, self.setup):
            place = Deviation(0, "forward", "dropout", difference.calls, 0.0, 1.0)
            self.differences.append(place)
            self._add(difference.cause, difference.code, place, difference.message, difference.source)

    def _add(
        self,
        cause: str,
        fix: str,
        place: Deviation,
        observation: str,
        source: dict[str, Any] | None = None,
        error_after: float = 0.0,
        phase: str = "",
        confirmed: bool = True,
    ) -> None:
        where = (place.step, phase or place.phase, place.tensor)
        self.causes.append(
            Explained(cause, fix, confirmed, *where, source, observation, place.relative_error, error_after)
        )

    def _result(self) -> dict[str, Any]:
        losses = [(keras["loss"], step.loss) for keras, step in zip(self.work.steps, self.own.steps, strict=True)]
        relative = [abs(keras - torch) / abs(keras) for keras, torch in losses if keras]
        return {
            "causes": [asdict(cause) for cause in self.causes],
            "notes": self.notes,
            "not_tried": self.trials.not_tried,
            "steps": len(self.work.steps),
            "checks": self.checks,
            "largest": self.largest,
            "loss_difference": max(relative, default=None),
            "differences": [{**each.as_facts(), "keras": None, "torch": None} for each in self.differences],
            "unexplained": None if self.unexplained is None else self.unexplained.as_facts(),
            "torch": torch.__version__,
        }


def _flag(cause: str, fix: str, flag: str) -> Candidate:
    return Candidate(cause, fix, Setup(flags=frozenset({flag})))


def _nearest(loss: float, keras: Mapping[str, Any]) -> float:
    """Keras's loss with its penalties or without, whichever is nearer."""
    return float(min((keras["loss"], keras["loss"] - keras["penalty"]), key=lambda other: abs(other - loss)))


def _relative_to_nearest(loss: float, keras: Mapping[str, Any]) -> float:
    wanted = _nearest(loss, keras)
    return abs(loss - wanted) / max(abs(wanted), 1e-30)
