"""A step's forward pass walked in Keras's values: the first operation that goes wrong, what was meant, what is next.

An operation's output is good if it lies among Keras's values, or if something good is computed from it. The first bad
one whose inputs are good names the line. Small programs are put in its place and the step is run again: the program
after which the loss is Keras's, or most of what follows, is what was meant. Where there is none Keras's value is put
there, and the walk goes on.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from compare.explain.alignment import Alignment, Index, Value, trivial
from compare.explain.source import Source
from compare.explain.step_comparison import ENSEMBLE_FACTOR, UNIT, UNITS
from compare.explain.torch_observer import (
    algebra_programs,
    layout_programs,
    loss_programs,
    recurrent_programs,
    tensor_programs,
)
from compare.explain.torch_observer.by_value import fitting, put
from compare.explain.torch_observer.checked_steps import Training, Work
from compare.explain.torch_observer.programs import Context, Program
from compare.explain.torch_observer.recorder import FUSED, Key, Operation
from compare.explain.torch_observer.setup import Setup
from compare.explain.torch_observer.trials import Result, Trials
from compare.explain.torch_observer.view import View

# They compute: that one of them agrees anew is a proof, that an index or a reshape does is none.
COMPUTING = {
    "linear",
    "matmul",
    "bmm",
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    "gru_cell",
    "lstm_cell",
    "embedding",
    "conv1d",
    "addmm",
    "batch_norm",
    "layer_norm",
    "softmax",
    "log_softmax",
    "tanh",
    "sigmoid",
    "relu",
    "einsum",
    "scaled_dot_product_attention",
    "__matmul__",
    *loss_programs.LOSSES,
}
# Where Keras computes an operation in several (a softmax, a normalisation) each rounds: 2e-6 are 33 units more of the
# largest number. It only says which values are Keras's; what differs is said by the steps' own tolerances.
ROOM = 2e-6
# Of the processor's time, so that what is found does not depend on what else the machine does.
SECONDS_A_FINDING = 25.0
# No further finding is begun after so many.
SECONDS_A_WALK = 75.0
MOST_FINDINGS = 8
MOST_NEAR = 20
MOST_TIES = 3
# Programs of a higher cost are tried only where no cheaper one makes the loss Keras's.
CHEAP = 3

PROPOSALS = (
    recurrent_programs.state_programs,
    recurrent_programs.padding_programs,
    recurrent_programs.propose,
    loss_programs.propose,
    layout_programs.propose,
    algebra_programs.propose,
    tensor_programs.propose,
)


@dataclass
class Finding:
    """One place where PyTorch leaves Keras's values: what was meant there, and whether that is proved."""

    cause: str
    code: str
    step: int
    phase: str
    operation: Operation
    source: dict[str, Any] | None
    told: str
    setup: Setup
    proved: bool
    error_before: float = float("nan")
    error_after: float = float("nan")

    @property
    def by_value(self) -> bool:
        """Whether Keras's own value was put in, for want of a program."""
        return self.setup.by_value


class Walk:
    """Walks one step; `values` are what Keras computes in it, operation by operation."""

    def __init__(
        self,
        work: Work,
        setup: Setup,
        step: int,
        values: Sequence[Mapping[str, Any]],
        trials: Trials,
        tolerance: float,
    ) -> None:
        self.work, self.setup, self.step, self.trials = work, setup, step, trials
        self.index = Index([Value(**value) for value in values])
        keras = work.steps[step]
        self.losses = {keras["loss"], keras["loss"] - keras["penalty"]}
        self.loss_tolerance = max(tolerance, ROOM * abs(keras["loss"]))
        self._cache: dict[Any, Alignment | None] = {}
        self.noise: dict[Key, float] = {}
        self._measure()

    def _measure(self) -> None:
        own = self.run(self.setup).current.recording
        for seed in (1, 2):
            member = self.run(self.setup, noise=seed).current.recording
            if len(member.operations) != len(own.operations):
                continue
            for a, b in zip(own.operations, member.operations, strict=True):
                for k, (x, y) in enumerate(zip(a.outputs, b.outputs, strict=False)):
                    if x.dtype.kind == "f" and x.shape == y.shape:
                        off = float(np.max(np.abs(x - y), initial=0.0))
                        self.noise[a.number, k] = max(self.noise.get((a.number, k), 0.0), off)

    def run(self, setup: Setup, noise: int | None = None, values: bool = True, step: int | None = None) -> Training:
        """Run the step's forward pass, and where a state may go on the steps before it; keep all values, or none."""
        step = self.step if step is None else step
        training = Training(self.work, setup, noise)
        for number in range(step):
            training.step(number)
        training.forward(step, values)
        return training

    def is_loss(self, value: float) -> bool:
        """Whether a loss is Keras's, with or without its penalties."""
        return any(abs(value - loss) <= self.loss_tolerance for loss in self.losses)

    def align(self, operation: Operation, output: int) -> Alignment | None:
        """Where an output lies among Keras's values."""
        value = operation.outputs[output]
        if value.dtype.kind not in "fiu" or value.size == 0:
            return None
        scale = float(np.max(np.abs(value), initial=0.0)) if value.dtype.kind == "f" else 0.0
        if not np.isfinite(scale):
            return None
        tolerance = ENSEMBLE_FACTOR * self.noise.get((operation.number, output), 0.0) + (UNITS * UNIT + ROOM) * scale
        key = (value.shape, value.dtype.kind, value.tobytes())
        if key not in self._cache:
            self._cache[key] = self.index.align(value, tolerance)
        return self._cache[key]

    def findings(self) -> Iterator[Finding]:
        """Every place where the forward pass leaves Keras's values, each with its fix put in for the next."""
        blocked: set[Any] = set()
        began = time.process_time()
        for number in range(MOST_FINDINGS):
            if number and time.process_time() - began > SECONDS_A_WALK:
                return
            training = self.run(self.setup)
            view = View(self.align, self.is_loss, training.current.recording)
            if view.agrees or not view.bad:
                return
            key = view.bad[0]
            finding = self._at(training, view, key, blocked)
            blocked |= set(finding.setup.patches)
            self.setup = self.setup.merged(finding.setup)
            yield finding
            if finding.by_value and not finding.proved:
                return

    def _at(self, training: Training, view: View, key: Key, blocked: set[Any]) -> Finding:
        operation = view.operations[key[0]]
        late = loss_programs.in_loss(view.operations, operation)

        def finding(
            cause: str, code: str, place: Operation, setup: Setup, proved: bool, source: Source | None = None
        ) -> Finding:
            source = source or training.source(place.site, place.where)
            source = source or training.source(operation.site, operation.where)
            line = None if source is None else source.as_json("torch")
            phase = "loss" if late else "forward"
            return Finding(cause, code, self.step, phase, place, line, told, setup, proved)

        told = self._told(view, key)
        best = self._search(training, view, key, blocked)
        if best is not None:
            program, after, ties = best
            if ties:
                told += f" As well proved: {'; '.join(ties)}."
            setup = Setup(dict(program.patches), by_value=program.by_value)
            place = program.operation or operation
            return finding(program.cause, program.code, place, setup, after.agrees, program.source)
        cause = "loss-function" if late else "forward-code"
        by_value = self._by_value(view, key)
        if by_value is None:
            return finding(cause, "no value of Keras's fits there", operation, Setup(by_value=True), False)
        setup, label = by_value
        return finding(cause, f"what makes Keras's {label} there", operation, setup, True)

    def _told(self, view: View, key: Key) -> str:
        operation = view.operations[key[0]]
        hits = [view.aligned.get(input_key) for input_key in dict.fromkeys(operation.inputs)]
        parts = [f"it gets Keras's {hit.text}" for hit in hits if hit is not None and hit.good]
        hit = view.aligned[key]
        shape = "(" + ", ".join(map(str, view.value(key).shape)) + ")"
        if hit is not None and not hit.good:
            parts.append(f"it makes {shape}: the same numbers as Keras's {hit.text}, in another order")
        else:
            parts.append(f"it makes {shape}, which Keras has nowhere")
        return f"{operation.name}: " + "; ".join(parts) + "."

    def _search(
        self, training: Training, view: View, key: Key, blocked: set[Any]
    ) -> tuple[Program, View, list[str]] | None:
        """The program that proves most, the cheapest and nearest of these, and others that prove as much."""
        options = self._options(training, view, view.operations[key[0]], blocked)
        agreeing = self._agreeing(options)
        # Whether the loss is Keras's is soon known; what else follows from a program is asked where it is for none.
        best: tuple[Any, Program, View] | None = None
        proved: list[tuple[Any, str]] = []
        began = time.process_time()
        for distance, program in agreeing or options:
            if time.process_time() - began > SECONDS_A_FINDING:
                break
            after = self._tried(program, self._view)
            if after is None or len(after.operations) != len(view.operations) or (after.agrees and not agreeing):
                continue
            proof = self._proof(program, view, after, key)
            if proof is None:
                continue
            score = (*proof, -program.cost, -distance)
            proved.append((proof, program.code))
            if best is None or score > best[0]:
                best = (score, program, after)
        if best is None:
            return None
        score, program, after = best
        ties = [code for proof, code in proved if proof == score[:2] and code != program.code]
        return program, after, list(dict.fromkeys(ties))[:MOST_TIES]

    def _agreeing(self, options: Sequence[tuple[int, Program]]) -> list[tuple[int, Program]]:
        """The programs after which the loss is Keras's: the cheap ones, others where none of these is."""
        agreeing: list[tuple[int, Program]] = []
        began = time.process_time()
        for distance, program in options:
            if time.process_time() - began > SECONDS_A_FINDING or (agreeing and program.cost > CHEAP):
                break
            loss = self._tried(program, lambda setup: self.run(setup, values=False).current.recording.loss_value)
            if loss is not None and self.is_loss(loss) and self._again(program):
                agreeing.append((distance, program))
        return agreeing

    def _again(self, program: Program) -> bool:
        """Whether another step's loss is Keras's too: of a thousand programs one makes a single loss by accident."""
        count = len(self.work.steps)
        if count < 2 or program.by_value or self.setup.by_value:
            return True
        step = self.step + 1 if self.step + 1 < count else self.step - 1
        keras, tolerance = self.work.steps[step], self.loss_tolerance / max(map(abs, self.losses))
        label = f"{program.cause}: {program.code}, at step {step}"
        setup = self.setup.with_patches(program.patches)
        run = self.trials.attempt(label, partial(self.run, setup, values=False, step=step))
        loss = float("nan") if run is None else run.current.recording.loss_value
        wanted = (keras["loss"], keras["loss"] - keras["penalty"])
        return any(abs(loss - each) <= max(tolerance, ROOM) * abs(each) for each in wanted)

    def _options(
        self, training: Training, view: View, operation: Operation, blocked: set[Any]
    ) -> list[tuple[int, Program]]:
        """All programs near an operation with their distance from it, the cheap ones there first."""
        options: list[tuple[int, Program]] = []
        for distance, site in enumerate(self._near(view, operation)):
            context = Context(site, view.operations, view.aligned, training, self.step, self.work.trace)
            in_loss = loss_programs.in_loss(view.operations, site) or any(key[0] is None for key in site.inputs)
            for propose in PROPOSALS:
                if in_loss or propose is not loss_programs.propose:
                    options += [(distance, p) for p in _guarded(propose, context) if not set(p.patches) & blocked]
        return sorted(options, key=lambda o: (o[1].cost > CHEAP, o[0] > 0, o[1].cost + o[0] // 3, o[0]))

    def _tried(self, program: Program, run: Callable[[Setup], Result]) -> Result | None:
        number = program.operation.number if program.operation is not None else ""
        label = f"{program.cause}: {program.code}, at operation {number} of step {self.step}"
        return self.trials.attempt(label, partial(run, self.setup.with_patches(program.patches)))

    def _view(self, setup: Setup) -> View:
        return View(self.align, self.is_loss, self.run(setup).current.recording)

    def _proof(self, program: Program, before: View, after: View, key: Key) -> tuple[int, int] | None:
        """Whether the loss is Keras's, 1 or 0, and how few bad outputs are left; None if a program proves nothing."""
        if after.agrees:
            return 1, 0
        value = after.value(key)
        hit = after.aligned.get(key)
        if program.trivial:
            if not trivial(value) and not (hit is not None and hit.good):
                return None
        elif not program.onward and not (hit is not None and hit.good and hit.kind != "flipped"):
            return None
        first = after.bad[0][0] if after.bad else len(after.operations)
        if first <= key[0] or not after.bad:
            return None
        if program.trivial:
            return 0, -len(after.bad)
        changed = {o.number for o in after.operations if o.place in program.patches or o.number in program.patches}
        place = max(key[0], max(changed, default=key[0]) if program.onward else key[0])
        anew = {
            after.operations[k[0]].name
            for k in after.used - {key}
            if _whole(after.aligned[k]) and not _whole(before.aligned.get(k)) and k[0] > place and k[0] not in changed
        }
        target = after.operations[key[0]]
        if program.operation is not None and target.number > program.operation.number:
            anew.add(target.name)
        if not anew & COMPUTING and target.name not in FUSED:
            return None
        if after.operations[after.bad[0][0]].place == target.place:
            return None  # the same place is bad again in the next round
        return 0, -len(after.bad)

    def _near(self, view: View, operation: Operation, depth: int = 6) -> list[Operation]:
        """The operation, those that it feeds in the same line, and those before it, nearest first."""
        near, layer = [operation], [operation]
        for later in view.operations[operation.number + 1 : operation.number + 10]:
            if any(key[0] == operation.number for key in later.inputs) and (later.number, 0) in view.used:
                near.append(later)
                break
        for _ in range(depth):
            layer = [view.operations[key[0]] for o in layer for key in o.inputs if isinstance(key[0], int)]
            layer = [o for i, o in enumerate(layer) if o not in near and o not in layer[:i]]
            near += layer
        return near[:MOST_NEAR]

    def _by_value(self, view: View, key: Key) -> tuple[Setup, str] | None:
        """Keras's value that, put in the place of a bad output, lets most of what follows agree, and its name."""
        operation, output = view.operations[key[0]], key[1]
        if key == view.loss:
            hits = [view.aligned.get(k) for k in operation.inputs if isinstance(k[0], int)]
            if any(hit is None or not hit.good or hit.cut is None for hit in hits):
                return None  # what it is computed from is not shown to be Keras's
            patch = put(torch.tensor(max(self.losses) * self.work.loss_scale, dtype=torch.float32), output)
            return Setup({operation.number: patch}, by_value=True), "loss"
        best: tuple[Any, Setup, View, str] | None = None
        began = time.process_time()
        for value, array in fitting(self.index, view.value(key)):
            if time.process_time() - began > SECONDS_A_FINDING:
                break
            tensor = torch.from_numpy(np.ascontiguousarray(array).astype(np.float32))
            setup = Setup({operation.number: put(tensor, output)}, by_value=True)
            label = f"Keras's {value.label} {array.shape}, at operation {operation.number} of step {self.step}"
            after = self.trials.attempt(label, partial(self._view, self.setup.merged(setup)))
            if after is None:
                continue
            score = (after.agrees, -len(after.bad), -value.rank)
            if best is None or score > best[0]:
                best = (score, setup, after, value.label)
        if best is None or (not best[2].agrees and len(best[2].bad) >= len(view.bad)):
            return None
        return best[1], best[3]


def _whole(hit: Alignment | None) -> bool:
    return hit is not None and hit.kind == "whole"


def _guarded(make: Callable[[Context], Iterator[Program]], context: Context) -> list[Program]:
    """What is proposed until something does not fit an operation that nobody thought of."""
    programs: list[Program] = []
    with contextlib.suppress(Exception):
        for program in make(context):
            programs.append(program)
    return programs
