"""A pair's PyTorch side investigated against Keras's trace: every phase of every step, each difference with its cause."""

import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from compare.errors import InputError
from compare.explain.step_comparison import Deviation, StepComparison
from compare.explain.torch_observer import dropout_check, tf32
from compare.explain.torch_observer.checked_steps import Setup, Step, Training, Work, clipped
from compare.explain.torch_observer.recurrent_programs import rounded_kernel
from compare.explain.torch_observer.training_causes import Candidate, Seen, propose
from compare.explain.torch_observer.trials import Trials
from compare.explain.torch_observer.walk import Finding, Walk
from compare.explain.transfer import transfer

MEMBERS = (11, 12)
ROUNDS = 6
BUDGET = 150.0
# Below so many times the tolerance the tolerance is measured again, with the noise inside of fused kernels.
NARROW = 30.0
# Of at most so many examples the unbiased variance is more than 3 % off the biased one.
SMALL_BATCH = 32


# What is needed of Keras's process, and what came of it; at the end what was found.
Asking = Generator[dict[str, Any], Any, Any]


class Investigation:
    """Investigates one pair; `run` yields what it needs of Keras's process, and is sent the answer."""

    def __init__(self, work: Work, own_map: Mapping[str, Any], trials: Trials) -> None:
        self.work, self.own_map, self.trials = work, own_map, trials
        self.began = time.monotonic()
        self.notes: list[str] = []
        self.causes: list[dict[str, Any]] = []
        self.first: dict[str, Any] | None = None
        self.differences: list[Deviation] = []
        self.setup = Setup()
        self.unexplained: Deviation | None = None
        self.judged: set[str] = {"loss", "gradient", "clip", "update"}

    # Transfer ----------------------------------------------------------------------------------------------------

    def _transfer(self) -> Asking:
        own_map = self.own_map
        training = Training(self.work)
        training.forward(0)
        recorder = training.current.recorder
        assert recorder is not None
        if recorder.loss is None:
            raise TypeError("torch_step() never calls backward(); compute the gradients of the loss in it")
        used = [key[0] for operation in recorder.operations for key in operation.inputs if isinstance(key[0], str)]
        order = {name: place for place, name in reversed(list(enumerate(used)))}
        groups: dict[str, int] = {}
        for name in training.named:
            layer = name.rpartition(".")[0]
            if name in order:
                groups[layer] = min(groups.get(layer, len(used)), order[name])
        names = [name for name in training.named if name.rpartition(".")[0] in groups or name in own_map]
        unused = [name for name in training.named if name not in names]
        if unused:
            self.notes.append(f"the module's {', '.join(unused[:4])} is never used")
        names.sort(key=lambda name: groups.get(name.rpartition(".")[0], len(used)))
        shapes = {name: tuple(training.named[name].shape) for name in names}
        variables = {path: tuple(shape) for path, shape in self.work.trace["variables"].items()}
        self.work.transfer = transfer(variables, shapes, own_map)
        self._initial(training)
        lone = [path for path in self.work.transfer.unmatched if path.rpartition("/")[2].startswith(("bias", "beta"))]
        others = [
            path for path in self.work.transfer.unmatched if path not in lone and path in self.work.trace["trainable"]
        ]
        if others:
            held = ", ".join(f"{path} {self.work.trace['variables'][path]}" for path in others)
            theirs = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise InputError(
                f"no PyTorch parameters are left for Keras's {held}; PyTorch has {theirs}: give parameter_map"
            )
        self.zeroed = lone
        if lone:
            self.lone = Deviation(0, "start", lone[0], 1.0, 0.0, 1.0, None, "only Keras has it")
            self.work.trace = yield {"action": "trace", "zeroed": lone}

    def _initial(self, training: Training) -> None:
        """Say whether both sides draw their initial weights alike."""
        unlike = []
        for name, made in self.work.transfer.maps.items():
            mine = training.initial[name]
            if made.extra or mine.size < 16 or name.endswith(("running_mean", "running_var")):
                continue
            theirs = self.work.transfer.given(name, self.work.trace["initial"], mine.shape)
            ours, spread = float(np.std(theirs)), float(np.std(mine))
            if max(ours, spread) > 1.3 * min(ours, spread) + 1e-9:
                unlike.append(f"{name} (standard deviation {ours:.3g} in Keras, {spread:.3g} in PyTorch)")
        if unlike:
            self.notes.append(
                f"the initial weights are drawn otherwise, which is no difference here, since Keras's are given to both: {'; '.join(unlike[:4])}"
            )

    # Running -----------------------------------------------------------------------------------------------------

    def train(self, setup: Setup, noise: int | None = None, kernel: Any = None) -> tuple[Training, list[Step]]:
        """Take all of Keras's steps."""
        training = Training(self.work, setup, noise, kernel)
        training.rates = []
        found = []
        for number in range(len(self.work.steps)):
            training.rates.append(float(training.optimizer.param_groups[0]["lr"]))
            found.append(training.step(number))
        return training, found

    def deviations(self, steps: Sequence[Step], members: Sequence[Sequence[Step]], setup: Setup) -> list[Deviation]:
        """Everything that deviates, in the order of computation."""
        comparison = StepComparison(self.work.transfer, self.work.trace, clipped)
        found: list[Deviation] = []
        self.checks = getattr(self, "checks", 0)
        for number, step in enumerate(steps):
            others = [member[number] for member in members if len(member) > number]
            frozen = self._frozen(setup)
            every: list[Deviation] = []
            if not setup.by_value and step.backwards:
                every.append(comparison.loss(step, others))
                every += comparison.gradients(step, others, frozen)
            if not setup.by_value:
                every += comparison.clips(step, frozen)
            every += comparison.updates(step)
            self.checks += len(every)
            self.largest = max(
                [0.0 if number == 0 else self.largest, *(d.error / d.tolerance for d in every if d.tolerance)]
            )
            found += [deviation for deviation in every if deviation.differs]
        return sorted(found, key=lambda deviation: deviation.order)

    def _frozen(self, setup: Setup) -> set[str]:
        training = getattr(self, "_any", None)
        if training is None:
            training = self._any = Training(self.work)
        frozen = {n for n, p in training.module.named_parameters() if not p.requires_grad}
        return (frozen | set(setup.freeze)) - set(setup.train)

    def observed(self, setup: Setup) -> Seen:
        """The steps under a setup with what deviates in them."""
        training, steps = self.train(setup.without_values())
        if setup.by_value:
            return Seen(self.work, training, steps, self.deviations(steps, [], setup))
        members = [self.train(setup, seed)[1] for seed in MEMBERS]
        found = self.deviations(steps, members, setup)
        if self._narrow(found):
            # A fused kernel rounds inside, at every timestep: its noise is measured where it may matter.
            members += [self.train(setup, seed, rounded_kernel)[1] for seed in MEMBERS]
            found = self.deviations(steps, members, setup)
        return Seen(self.work, training, steps, found)

    def _narrow(self, found: Sequence[Deviation]) -> bool:
        """Whether something in the forward pass or its gradients deviates by little more than the tolerance."""
        ours = [d for d in found if d.phase in ("loss", "gradient")]
        return bool(ours) and all(d.error < NARROW * d.tolerance for d in ours)

    # Investigating -----------------------------------------------------------------------------------------------

    def run(self) -> Asking:
        """Find every difference and its cause."""
        yield from self._transfer()
        seen = self.observed(self.setup)
        self.own = seen
        self.differences = list(seen.deviations)
        if self.zeroed:
            self.differences.insert(0, self.lone)
            code = f"bias=True in PyTorch, or use_bias=False in Keras: {', '.join(self.zeroed)}"
            self._add(
                "missing-bias", code, True, self.lone, "start", None, "Keras has a bias that PyTorch has not.", 1.0, 0.0
            )
        findings: list[Finding] = []
        seen = self._flags(seen)
        for _ in range(ROUNDS):
            losses = seen.phase("loss")
            if not losses or time.monotonic() - self.began > BUDGET:
                break
            step = losses[0].step
            if self._only_penalty(seen, losses):
                break
            made = yield from self._walk(step, losses[0])
            findings += made
            if not made:
                break
            self.setup = self._all(made)
            if self.setup.by_value:
                seen = self.observed(self.setup)
                break
            seen = self.observed(self.setup)
        self.findings = findings
        self._forward_causes(findings)
        self._training_causes(seen)
        if not self.setup.by_value:
            self._evaluation()
        self._dropout()
        self._variance()
        return self._result()

    def _all(self, made: Sequence[Finding]) -> Setup:
        setup = self.setup
        for finding in made:
            setup = setup.merged(finding.setup)
        return setup

    def _flags(self, seen: Seen) -> Seen:
        """Try what concerns a whole training: its mode, half precision, tf32."""
        wrong = [*seen.phase("loss"), *seen.phase("gradient")]
        if not wrong:
            return seen
        tries: list[Candidate] = []
        if not all(m.training for m in seen.training.module.modules()):
            code = "module.train()  # before every training step"
            tries.append(Candidate("train-eval-mode", code, Setup(flags=frozenset({"always_training"}))))
        if self._mentions("autocast"):
            code = "no torch.autocast, or keras.mixed_precision.set_global_policy('mixed_bfloat16') in Keras too"
            tries.append(Candidate("reduced-precision", code, Setup(flags=frozenset({"no_autocast"}))))
        if tf32.in_use(*{p.device.type for p in seen.training.module.parameters()}):
            code = 'torch.set_float32_matmul_precision("highest"); torch.backends.cudnn.allow_tf32 = False'
            tries.append(Candidate("tf32", code, Setup(flags=frozenset({"no_tf32"}))))
        first = seen.deviations[0]
        for candidate in tries:
            after = self.observed(self.setup.merged(candidate.setup))
            now = sorted([*after.phase("loss"), *after.phase("gradient")], key=lambda d: d.order)
            if not now or now[0].order > first.order:
                self._add(
                    candidate.cause,
                    candidate.code,
                    True,
                    first,
                    "loss",
                    None,
                    candidate.message,
                    first.relative_error,
                    0.0,
                )
                self.setup = self.setup.merged(candidate.setup)
                return after
        return seen

    def _mentions(self, word: str) -> bool:
        return word in self.work.text

    def _only_penalty(self, seen: Seen, losses: Sequence[Deviation]) -> bool:
        """Whether every loss is Keras's but for its penalties."""
        for deviation in losses:
            keras, step = self.work.steps[deviation.step], seen.steps[deviation.step]
            if not keras["penalty"] or abs(step.loss - (keras["loss"] - keras["penalty"])) > max(
                deviation.tolerance, 2e-6 * abs(keras["loss"])
            ):
                return False
        return True

    def _walk(self, step: int, loss: Deviation) -> Generator[dict[str, Any], Any, list[Finding]]:
        operations = yield {"action": "operations", "step": step}
        walk = Walk(self.work, self.setup, step, operations, self.trials, loss.tolerance)
        return list(walk.findings())

    def _forward_causes(self, findings: Sequence[Finding]) -> None:
        """Measure each finding with all others mended, and leave out what is not needed."""
        kept = list(findings)
        cut = max((i for i, f in enumerate(kept) if f.by_value), default=-1)
        for finding in list(kept):
            with_all, without = (
                self._loss_error(kept, finding.step),
                self._loss_error([f for f in kept if f is not finding], finding.step),
            )
            finding.error_before, finding.error_after = without, with_all
            if findings.index(finding) < cut:
                # A value put in further on hides what comes before it: the walk itself has proved that it is needed.
                finding.error_before = max(self.own_loss_error(finding.step), without)
            elif len(kept) > 1 and without <= max(4 * with_all, 2e-6):
                kept.remove(finding)
        names = set()
        for finding in kept:
            proved = finding.error_after < 0.1 * finding.error_before if np.isfinite(finding.error_after) else False
            key = (finding.cause, finding.code, str(finding.source))
            if key in names:
                continue
            names.add(key)
            deviation = Deviation(finding.step, finding.phase, finding.operation.name, finding.error_before, 0.0, 1.0)
            self._add(
                finding.cause, finding.code, proved and (not finding.by_value or finding.proved or bool(finding.setup.patches)), deviation,
                finding.phase, finding.source, finding.told, finding.error_before, finding.error_after,
            )  # fmt: skip
            if not proved:
                self.unexplained = self.unexplained or deviation

    def own_loss_error(self, step: int) -> float:
        """How far the user's own loss is off."""
        return self._loss_error([], step)

    def _loss_error(self, findings: Sequence[Finding], step: int) -> float:
        setup = Setup(flags=self.setup.flags, penalties=self.setup.penalties)
        for finding in findings:
            setup = setup.merged(finding.setup)
        try:
            training = Training(self.work, setup)
            for number in range(step):
                training.step(number)
            value = training.forward(step).recorder.loss_value
        except Exception:
            return float("inf")
        keras = self.work.steps[step]
        wanted = min((keras["loss"], keras["loss"] - keras["penalty"]), key=lambda loss: abs(loss - value))
        return abs(value - wanted) / max(abs(wanted), 1e-30)

    # Training ----------------------------------------------------------------------------------------------------

    def _training_causes(self, seen: Seen) -> None:
        """Find the fewest candidates with which nothing deviates any more, or as little as with all of them."""
        deviations = seen.deviations
        if not deviations:
            return
        candidates = propose(seen)
        chosen = self._chosen(candidates, seen)
        base = self._merged(chosen)
        after = self.observed(base)
        for candidate in chosen:
            without = self.observed(self._merged([c for c in chosen if c is not candidate]))
            shown = _shown(without.deviations)
            if shown is None:
                continue
            rest = next(
                (d for d in after.deviations if (d.step, d.phase, d.tensor) == (shown.step, shown.phase, shown.tensor)),
                None,
            )
            source = None
            site = candidate.site
            made = self.own.training.source(site) if site is not None else None
            source = None if made is None else made.as_json("torch")
            self._add(
                candidate.cause, candidate.code, True, shown, shown.phase, source, candidate.message,
                shown.relative_error, 0.0 if rest is None else rest.relative_error,
            )  # fmt: skip
        self.setup = base
        left = _shown(after.deviations)
        if left is not None:
            self._tell_remainder(left)

    def _merged(self, chosen: Sequence[Candidate]) -> Setup:
        setup = self.setup
        for candidate in chosen:
            setup = setup.merged(candidate.setup)
        return setup

    def _chosen(self, candidates: list[Candidate], seen: Seen) -> list[Candidate]:
        def left(some: Sequence[Candidate]) -> set[tuple[int, str, str]] | None:
            try:
                return {(d.step, d.phase, d.tensor) for d in self.observed(self._merged(some)).deviations}
            except Exception:
                return None

        usable = [c for c in candidates if left([c]) is not None]
        best = left(usable)
        if best is None:
            return []
        chosen = list(usable)
        # The least exact are left out first: an accident of a rule before a second bias.
        for candidate in sorted(usable, key=lambda c: -c.priority):
            without = [c for c in chosen if c is not candidate]
            now = left(without)
            if now is not None and len(now) <= len(best):
                chosen, best = without, now
        return chosen

    def _tell_remainder(self, left: Deviation) -> None:
        self.unexplained = left
        kind = "forward-code" if left.phase == "loss" else ""
        ratio = (
            f"; PyTorch's is {left.ratio:.4g} times Keras's"
            if left.ratio is not None and abs(left.ratio - 1) > 1e-3
            else ""
        )
        self.notes.append(
            f"no known cause explains step {left.step}, {left.phase}, {left.tensor} (relative error {left.relative_error:.1e}, "
            f"tolerance {left.relative_tolerance:.1e}{ratio}){' ' + kind if kind else ''}"
        )

    def _evaluation(self) -> None:
        """Compare the loss of a prediction after the training, from Keras's weights."""
        keras = self.work.trace["evaluation"]
        if not keras:
            return
        try:
            values = []
            for noise in (None, *MEMBERS):
                training = Training(self.work, self.setup, noise)
                recorder = training.evaluate(keras["weights"])
                values.append(recorder.loss_value)
        except Exception as error:
            self.notes.append(f"the evaluation was not compared: {type(error).__name__}: {str(error)[:120]}")
            return
        wanted = keras["loss"] - (0.0 if self.setup.penalties else keras["penalty"])
        wanted = (
            min((keras["loss"], keras["loss"] - keras["penalty"]), key=lambda loss: abs(loss - values[0])) or wanted
        )
        noise = max(abs(value - values[0]) for value in values[1:])
        tolerance = 24 * noise + 96 * 2.0**-24 * abs(wanted)
        deviation = Deviation(
            len(self.work.steps), "evaluation", "loss", abs(values[0] - wanted), tolerance, abs(wanted)
        )
        if deviation.differs:
            self.differences.append(deviation)
            self._tell_remainder(deviation)

    def _variance(self) -> None:
        """Where both differ anyhow, tell that PyTorch keeps the unbiased variance, if batches are so small that it shows."""
        if not self.causes or any(cause["name"] == "normalization-momentum" for cause in self.causes):
            return
        for name in self.work.transfer.maps:
            step = next((s for s in self.own.steps if name.endswith("running_var") and s.updates), None)
            if (
                step is not None
                and len(self.work.steps[0]["batch"]) <= SMALL_BATCH
                and self.own.training.named[name].dim() == 1
            ):
                told = "PyTorch's running variance is the unbiased one, n / (n - 1) times Keras's."
                deviation = Deviation(0, "update", name, 1 / (SMALL_BATCH - 1), 0.0, 1.0)
                code = f"a BatchNorm1d that keeps the biased variance  # {name}"
                self._add("normalization-momentum", code, True, deviation, "update", None, told, deviation.error, 0.0)
                return

    def _dropout(self) -> None:
        """Compare where and what both sides drop."""
        for found in dropout_check.compare(self):
            deviation = Deviation(0, "forward", found["tensor"], 1.0, 0.0, 1.0)
            self.differences.append(deviation)
            self._add(
                found["cause"],
                found["code"],
                True,
                deviation,
                "forward",
                found["source"],
                found["message"],
                float(found["before"]),
                0.0,
            )

    # Telling -----------------------------------------------------------------------------------------------------

    def _add(
        self, cause: str, code: str, confirmed: bool, deviation: Deviation, phase: str, source: Any, told: str,
        before: float, after: float,
    ) -> None:  # fmt: skip
        self.causes.append(
            {
                "name": cause, "fix": code, "confirmed": confirmed, "step": deviation.step, "phase": phase, "tensor": deviation.tensor,
                "source": source, "observation": told, "error_before": before, "error_after": after,
            }
        )  # fmt: skip

    def _result(self) -> dict[str, Any]:
        own = self.own.steps
        keras = [step["loss"] for step in self.work.steps[: len(own)]]
        relative = [abs(a - step.loss) / abs(a) for a, step in zip(keras, own, strict=True) if a]
        return {
            "causes": self.causes, "notes": self.notes, "steps": len(self.work.steps), "checks": self.checks,
            "largest": self.largest, "loss_difference": max(relative, default=None),
            "differences": [{**d.as_facts(), "keras": None, "torch": None} for d in self.differences],
            "unexplained": None if self.unexplained is None else self.unexplained.as_facts(),
            "torch": torch.__version__, "not_tried": self.trials.not_tried,
        }  # fmt: skip


def _shown(deviations: Sequence[Deviation]) -> Deviation | None:
    """The first deviation; of those side by side the largest."""
    if not deviations:
        return None
    first = deviations[0]
    return max((d for d in deviations if d.order == first.order), key=lambda d: d.relative_error)
