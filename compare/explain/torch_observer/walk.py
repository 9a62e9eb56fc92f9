"""A step's forward pass walked in Keras's values: the first operation that goes wrong, what was meant, and what is next.

An operation's output is good if it lies among Keras's values, or if something good is computed from it. The first bad
one whose inputs are good names the line. Small programs are put in its place and the step is run again: the program
after which the loss is Keras's, or most of what follows, is what was meant. Where there is none Keras's value is put
there, and the walk goes on.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from compare.explain.alignment import Alignment, Index, Value, squeezed, trivial
from compare.explain.step_comparison import ENSEMBLE_FACTOR, UNIT, UNITS
from compare.explain.torch_observer import loss_programs, programs, recurrent_programs, tensor_programs
from compare.explain.torch_observer.checked_steps import Setup, Training, Work
from compare.explain.torch_observer.programs import Context, Program
from compare.explain.torch_observer.recorder import FUSED, Key, Operation, Recorder
from compare.explain.torch_observer.trials import Trials

# They compute: that one of them agrees anew is a proof, that an index or a reshape does is none.
COMPUTING = {
    "linear", "matmul", "bmm", "lstm", "gru", "rnn_tanh", "rnn_relu", "gru_cell", "lstm_cell", "embedding", "conv1d", "addmm",
    "batch_norm", "layer_norm", "softmax", "log_softmax", "tanh", "sigmoid", "relu", "einsum", "scaled_dot_product_attention", "__matmul__",
    *loss_programs.LOSSES,
}  # fmt: skip
# What Keras's own kernels round otherwise, by the largest number, where no noise could be measured.
ROOM = 2e-6
SECONDS_A_FINDING = 25.0
MOST_FINDINGS = 8


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
    by_value: bool = False
    ties: list[str] = field(default_factory=list)
    proved: bool = False
    error_before: float = float("nan")
    error_after: float = float("nan")


class View:
    """One run judged: which outputs lie among Keras's, which are good by what follows from them, which are bad."""

    def __init__(self, walk: "Walk", recorder: Recorder) -> None:
        self.operations, self.loss = recorder.operations, recorder.loss
        self.aligned: dict[Key, Alignment | None] = {}
        self.used = self._ancestors()
        for number, output in sorted(self.used):
            self.aligned[number, output] = walk.align(self.operations[number], output)
        self.agrees = walk.is_loss(recorder.loss_value)
        if self.loss in self.aligned:
            self.aligned[self.loss] = Alignment("whole", "loss") if self.agrees else None
        users: dict[Key, list[Operation]] = {}
        for operation in self.operations:
            for key in set(operation.inputs):
                users.setdefault(key, []).append(operation)
        self.good: dict[Key, bool] = {}
        for key in sorted(self.used, reverse=True):
            hit = self.aligned[key]
            fed = any(
                self.good.get((user.number, k)) and not trivial(user.outputs[k])
                for user in users.get(key, ()) for k in range(len(user.outputs)) if (user.number, k) in self.used
            )  # fmt: skip
            self.good[key] = bool((hit is not None and hit.good) or fed)
        bad = [key for key in sorted(self.used) if not self.good[key] and not trivial(self.value(key))]
        # Whole numbers (lengths, an order of rows) have no counterparts: they count where they are made of the data.
        data = [key for key in bad if self.value(key).dtype.kind == "f" or _of_data(self.operations[key[0]])]
        bad = data or bad
        lone = [key for key in bad if self.value(key).size == 1]
        # Sums on the way to the loss have no counterparts of their own: the loss as a whole is judged.
        self.bad = [key for key in bad if key not in lone] or lone[:1]
        if not self.bad and not self.agrees and self.loss is not None and isinstance(self.loss[0], int):
            self.bad = [self.loss]
        if self.agrees:
            self.bad = []
        self.score = sum(1 for hit in self.aligned.values() if hit is not None and hit.good)

    def _ancestors(self) -> set[Key]:
        found: set[Key] = set()
        waiting = [self.loss] if self.loss is not None else []
        while waiting:
            key = waiting.pop()
            if key not in found and isinstance(key[0], int):
                found.add(key)
                waiting += self.operations[key[0]].inputs
        return found

    def value(self, key: Key) -> np.ndarray:
        """The numbers of an output."""
        return self.operations[key[0]].outputs[key[1]]


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
        own = self.run(self.setup).current.recorder
        for seed in (1, 2):
            member = self.run(self.setup, noise=seed).current.recorder
            if len(member.operations) != len(own.operations):
                continue
            for a, b in zip(own.operations, member.operations, strict=True):
                for k, (x, y) in enumerate(zip(a.outputs, b.outputs, strict=False)):
                    if x.dtype.kind == "f" and x.shape == y.shape:
                        off = float(np.max(np.abs(x - y), initial=0.0))
                        self.noise[a.number, k] = max(self.noise.get((a.number, k), 0.0), off)

    def run(self, setup: Setup, noise: int | None = None) -> Training:
        """Run the step's forward pass, and where a state may go on the steps before it."""
        training = Training(self.work, setup, noise)
        for number in range(self.step):
            training.step(number)
        training.forward(self.step)
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

    # Walking -----------------------------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """Every place where the forward pass leaves Keras's values, each with what mends it put in for the next."""
        blocked: set[Any] = set()
        for _ in range(MOST_FINDINGS):
            training = self.run(self.setup)
            view = View(self, training.current.recorder)
            if view.agrees or not view.bad:
                return
            key = view.bad[0]
            finding = self._at(training, view, key, blocked)
            if finding is None:
                return
            blocked |= set(finding.setup.patches)
            self.setup = self.setup.merged(finding.setup)
            yield finding
            if finding.by_value and not finding.proved:
                return

    def _at(self, training: Training, view: View, key: Key, blocked: set[Any]) -> Finding | None:
        operation = view.operations[key[0]]
        best, ties = self._search(training, view, key, blocked)
        late = loss_programs.in_loss(view.operations, operation)
        phase = "loss" if late else "forward"
        told = self._told(view, key)
        if best is not None:
            program, after = best
            made_at = program.operation or operation
            source = training.source(made_at.site, made_at.where) or training.source(operation.site, operation.where)
            return Finding(
                program.cause, program.code, self.step, phase, made_at, None if source is None else source.as_json("torch"),
                told, Setup(dict(program.patches), by_value=program.by_value), program.by_value, ties, after.agrees,
            )  # fmt: skip
        by_value = self._by_value(view, key)
        source = training.source(operation.site, operation.where)
        setup, proved, label = by_value if by_value is not None else (Setup(by_value=True), False, "")
        code = f"what makes Keras's {label} there" if label else "no value of Keras's fits there"
        return Finding(
            "loss-function" if late else "forward-code", code, self.step, phase, operation,
            None if source is None else source.as_json("torch"), told, setup, True, [], proved,
        )  # fmt: skip

    def _told(self, view: View, key: Key) -> str:
        operation = view.operations[key[0]]
        found = []
        for given in dict.fromkeys(operation.inputs):
            hit = view.aligned.get(given)
            if hit is not None and hit.good:
                found.append(f"it gets Keras's {hit.text}")
        hit = view.aligned[key]
        shape = "(" + ", ".join(map(str, view.value(key).shape)) + ")"
        if hit is not None and not hit.good:
            found.append(f"it makes {shape}: the same numbers as Keras's {hit.text}, in another order")
        else:
            found.append(f"it makes {shape}, which Keras has nowhere")
        return f"{operation.name}: " + "; ".join(found) + "."

    def _search(
        self, training: Training, view: View, key: Key, blocked: set[Any]
    ) -> tuple[tuple[Program, View] | None, list[str]]:
        operation = view.operations[key[0]]
        near = self._near(view, operation)
        options: list[tuple[int, Program]] = []
        for distance, site in enumerate(near):
            context = Context(
                site,
                view.operations,
                view.aligned,
                training,
                self.step,
                self.work.steps[self.step]["penalty"],
                self.work.trace,
            )
            for make in (
                recurrent_programs.state_programs,
                recurrent_programs.padding_programs,
                recurrent_programs.propose,
                loss_programs.propose,
                programs.propose,
                tensor_programs.propose,
            ):
                if (
                    make is loss_programs.propose
                    and not loss_programs.in_loss(view.operations, site)
                    and not _unknown(site)
                ):
                    continue
                options += [(distance, p) for p in _guarded(make, context) if not set(p.patches) & blocked]
        options.sort(key=lambda option: (option[1].cost > 3, option[0] > 0, option[1].cost, option[0]))
        best: tuple[Any, Program, View] | None = None
        passed: list[tuple[Any, str]] = []
        began = time.monotonic()
        for distance, program in options:
            if time.monotonic() - began > SECONDS_A_FINDING:
                break
            if best is not None and best[0][0] >= 1 and program.cost > 3:
                break
            after = self._tried(program)
            if after is None or len(after.operations) != len(view.operations):
                continue
            score = self._proof(program, view, after, key)
            if score is None:
                continue
            score = (*score, -program.cost, -distance)
            passed.append((score[:2], f"{program.cause}: {program.code}"))
            if best is None or score > best[0]:
                best = (score, program, after)
        if best is None:
            return None, []
        ties = [text for score, text in passed if score == best[0][:2] and text != f"{best[1].cause}: {best[1].code}"]
        return (best[1], best[2]), list(dict.fromkeys(ties))[:4]

    def _tried(self, program: Program) -> View | None:
        number = program.operation.number if program.operation is not None else ""
        label = f"{program.cause}: {program.code}, at operation {number} of step {self.step}"
        return self.trials.attempt(label, lambda: self._view(self.setup.with_patches(program.patches)))

    def _view(self, setup: Setup) -> View:
        return View(self, self.run(setup).current.recorder)

    def _proof(self, program: Program, before: View, after: View, key: Key) -> tuple[int, int] | None:
        """How good a program is: 1 if the loss is Keras's, and how few bad outputs are left; None if it proves nothing."""
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
            after.operations[k[0]].name for k in after.used - {key}
            if _whole(after.aligned[k]) and not _whole(before.aligned.get(k)) and k[0] > place and k[0] not in changed
        }  # fmt: skip
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
        found, layer = [operation], [operation]
        for later in view.operations[operation.number + 1 : operation.number + 10]:
            if any(key[0] == operation.number for key in later.inputs) and (later.number, 0) in view.used:
                found.append(later)
                break
        for _ in range(depth):
            layer = [view.operations[key[0]] for o in layer for key in o.inputs if isinstance(key[0], int)]
            layer = [o for i, o in enumerate(layer) if o not in found and o not in layer[:i]]
            found += layer
        return found[:20]

    def _by_value(self, view: View, key: Key) -> tuple[Setup, bool, str] | None:
        """Keras's value that, put in the place of a bad output, lets most of what follows agree."""
        operation, output = view.operations[key[0]], key[1]
        size, shape = view.value(key).size, view.value(key).shape
        if key == view.loss or size == 1:
            wanted = max(self.losses)
            patch = _put(torch.tensor(wanted, dtype=torch.float32), output)
            if key == view.loss:
                return Setup({operation.number: patch}, by_value=True), True, "loss"
        best: tuple[Any, Setup, View, str] | None = None
        began = time.monotonic()
        for value in self.index.values:
            given = value.label[:1] in "xy" and value.label[1:2] in ("", "[")
            if (
                given
                or value.array.size != size
                or value.array.dtype.kind != "f"
                or time.monotonic() - began > SECONDS_A_FINDING
            ):
                continue
            a = squeezed(value.array)
            for turned in [a, a.T] if a.ndim == 2 else [a, a.swapaxes(0, 1), a.swapaxes(1, 2)] if a.ndim == 3 else [a]:
                tensor = torch.from_numpy(np.ascontiguousarray(turned).reshape(shape).astype(np.float32))
                setup = Setup({operation.number: _put(tensor, output)}, by_value=True)
                label = f"Keras's {value.label} {turned.shape}, at operation {operation.number} of step {self.step}"
                after = self.trials.attempt(label, lambda setup=setup: self._view(self.setup.merged(setup)))
                if after is None:
                    continue
                score = (after.agrees, -len(after.bad), -value.rank)
                if best is None or score > best[0]:
                    best = (score, setup, after, value.label)
                if after.agrees:
                    break
        if best is None or (not best[2].agrees and len(best[2].bad) >= len(view.bad)):
            return None
        return best[1], True, best[3]


def _of_data(operation: Operation) -> bool:
    return any(isinstance(key[0], str) and key[0][:1] == "y" for key in operation.inputs)


def _unknown(operation: Operation) -> bool:
    return any(key[0] is None for key in operation.inputs)


def _whole(hit: Alignment | None) -> bool:
    return hit is not None and hit.kind == "whole"


def _guarded(make: Callable[[Context], Iterator[Program]], context: Context) -> list[Program]:
    found: list[Program] = []
    try:
        for program in make(context):
            found.append(program)
    except Exception:
        return found
    return found


def _put(tensor: torch.Tensor, output: int) -> Any:
    """Keras's value in the place of an output; gradients go on as if it were the user's."""

    def patch(recorder: Recorder, operation: Operation, args: Any, options: Any, result: Any) -> Any:
        leaves = tree_leaves(result)
        new = leaves[output] + (tensor.to(leaves[output].dtype).reshape(leaves[output].shape) - leaves[output]).detach()
        if torch.is_tensor(result):
            return new
        parts = [new if i == output else leaf for i, leaf in enumerate(result)]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)

    patch.by_value = True  # type: ignore[attr-defined]  # Setup.without_values asks for it
    return patch
