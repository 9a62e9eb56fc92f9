"""Plants mutations in the sources of both model packages, in a copy, and counts what the judge finds of them.

Usage: python -m benchmarks.mutations --folder FOLDER [--faults 60] [--preserving 30] [--seed 0]

A mutation is drawn from the lines that a suite of tiny cases runs, with one kind of change, and planted on one side:
that side's whole package, its ensemble too, is the mutated one. Seed 0 is for development; a figure counts of another.

What a mutation is, is settled by a rule and not by hand. The case is trained by the mutated side alone, native PyTorch
in float64, Keras in float32 on its torch backend (or on that which alone has the line), and held against the original's
trace: the largest change of any figure, relative to the root mean square of its tensor, is the mutation's effect. Up to
two cases that run the line are tried. Below 1e-6 of float64 or 2e-5 of float32, which is what two right
implementations in float32 come to in so few steps, there is nothing to find: "below rounding", or "no effect". The
first step and phase with a greater effect are where the judge should find it. A change that keeps the meaning must stay
below 1e-9 of float64, or 2e-5 of float32; one that does not is not counted. Nor is one that the judge does not find
and that does nothing, or less than 1e-6, in the float32 that it judges, such as a cast to float32 left out.
"""

import argparse
import ast
import collections
import contextlib
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mutation_kinds import Mutation, mutations
from compare.config.case import Case, load_case, with_fields
from compare.experiment.experiment import Experiment, make_experiment
from compare.judge import Comparison
from compare.judge.phases import PHASES
from compare.run.judging import Job
from compare.run.plan import plan, write_experiments
from compare.run.training import run_jobs
from compare.storage import SealedLines, read_json, write_json
from compare.trace.trace import Trace, read_trace
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.kept_side import KeptSide
from compare.workers.pool import Pool
from compare.workers.protocol import Answer, Request
from compare.workers.training import Report, Training

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"torch": "torch_models", "keras": "keras_models"}
BACKENDS = ("torch", "tensorflow", "jax")
# The Keras backend with which what all have is judged: to train on torch takes a fifth of the time.
SHARED_BACKEND = "torch"

TINY = {"data.points": 70, "data.window": 6, "model.units": 3, "training.epochs": 2, "training.batch_size": 16}
SEQUENCES = {"data.dataset": "signals", "data.examples": 50, "data.window": 6}
SUITE: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("lstm", {}),
    "clipped": ("gru", {"training.optimizer": "rmsprop", "training.momentum": 0.9, "training.clipnorm": 0.01}),
    "scheduled": (
        "simple_rnn",
        {
            "model.layers": 2,
            "training.optimizer": "sgd",
            "training.momentum": 0.9,
            "training.nesterov": True,
            "training.schedule": "exponential",
            "training.decay_steps": 3,
            "training.decay_rate": 0.5,
        },
    ),
    "both-ways": (
        "lstm",
        {
            "model.bidirectional": "concat",
            "model.normalization": "layer",
            "training.optimizer": "adamw",
            "training.global_clipnorm": 0.01,
        },
    ),
    "padded": ("gru", {**SEQUENCES, "data.padding": "right", "model.layers": 2, "training.optimizer": "nadam"}),
    "dropped": (
        "simple_rnn",
        {
            "model.dropout": 0.3,
            "model.recurrent_dropout": 0.2,
            "model.l2": 1e-3,
            "model.layers": 2,
            "training.optimizer": "adamax",
            "training.loss": "huber",
        },
    ),
    "before": (
        "gru",
        {
            "model.reset_after": False,
            "model.normalization": "batch",
            "training.optimizer": "adagrad",
            "training.clipvalue": 1e-3,
            "training.batch_size": 13,
        },
    ),
    "given": (
        "lstm",
        {
            "model.initial_state": "given",
            "model.go_backwards": True,
            "training.optimizer": "adadelta",
            "training.schedule": "cosine",
            "training.decay_steps": 5,
        },
    ),
    "labels": (
        "gru",
        {
            "task": "tagging",
            "data.dataset": "symbols",
            "data.examples": 40,
            "data.padding": "left",
            "model.embedding": 3,
            "model.head": "every_output",
            "training.optimizer": "sgd",
            "training.loss": "sparse_categorical_crossentropy",
        },
    ),
}

# Below which a change of a float64 figure, or of a float32 one, cannot be told from rounding, and keeps the meaning.
BELOW_ROUNDING, BELOW_ROUNDING_FLOAT32, SAME = 1e-6, 2e-5, 1e-9
CASES_TRIED = 2
# What of the packages takes no part in a training with the matched optimizers: what is refused, said, or left as stock.
NO_PART = ("__init__", "settings", "stock", "execution", "forecast", "dropout_probe")
# What the judge can say of a mutation that runs and has an effect.
JUDGED = ("differs", "agrees", "undecidable", "failed")
MARKER = "mutated.json"
# By whose trainings it is known which lines a case runs: to trace how TensorFlow and JAX compile takes many minutes.
TRACED = (REFERENCE_RUNNER, keras_runner("torch"))
UNTRACED = tuple(f"{PACKAGES['keras']}/backends/{backend}.py" for backend in ("tensorflow", "jax"))
SERVICE = "benchmarks.mutations:MutatedTraining"


class MutatedTraining(Training):
    """The service that trains with packages from another folder, as the marker in the folder of a run says.

    Where it says so, the lines that were run are written beside the trace.
    """

    def __init__(self, runner: str) -> None:
        super().__init__(runner)
        sys.dont_write_bytecode = True
        self._mutated: str | None = None

    def __call__(self, request: Request, report: Report) -> Answer:
        """Train one case."""
        marker = read_json(Path(request.options["experiment"]).parents[1] / MARKER)
        if marker["packages"] != self._mutated or (marker["traced"] and request.options["runner"] in TRACED):
            self._kept = KeptSide()
            sys.path[:] = [path for path in sys.path if path != self._mutated]
            self._mutated = marker["packages"]
            if self._mutated is not None:
                sys.path.insert(0, self._mutated)
            for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES.values()]:
                del sys.modules[name]
            importlib.invalidate_caches()
        if not marker["traced"] or request.options["runner"] not in TRACED:
            return super().__call__(request, report)
        lines: dict[str, set[int]] = collections.defaultdict(set)
        with _traced(lines):
            answer = super().__call__(request, report)
        out = Path(request.options["out"])
        write_json(out.with_suffix(".lines"), {file: sorted(numbers) for file, numbers in lines.items()})
        return answer


@contextlib.contextmanager
def _traced(lines: dict[str, set[int]]) -> Iterator[None]:
    """Note which lines of the packages are run."""
    folders = tuple(str(ROOT / package) for package in PACKAGES.values())

    def local(frame: Any, event: str, argument: Any) -> Any:
        del argument
        if event == "line":
            lines[str(Path(frame.f_code.co_filename).relative_to(ROOT))].add(frame.f_lineno)
        return local

    sys.settrace(lambda frame, event, argument: local if frame.f_code.co_filename.startswith(folders) else None)
    try:
        yield
    finally:
        sys.settrace(None)


@dataclass(frozen=True)
class Planted:
    """One mutation: of which file, of what kind, in which line, and the draw that makes it the one it is."""

    file: str
    kind: str
    line: int
    number: int
    seed: int
    preserving: bool

    @property
    def side(self) -> str:
        """The side that it is planted on."""
        return "torch" if self.file.startswith(PACKAGES["torch"]) else "keras"

    @property
    def backend(self) -> str | None:
        """The backend of Keras that alone has it; None where all have."""
        parts = Path(self.file).parts
        return Path(self.file).stem if parts[1] == "backends" and Path(self.file).stem in BACKENDS else None

    def write(self, folder: Path) -> str:
        """Write the mutated package into a folder; return the line as it is now."""
        package = PACKAGES[self.side]
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        tree = ast.parse((ROOT / self.file).read_text("utf-8"))
        before = ast.unparse(tree).splitlines()
        mutations(tree, preserving=self.preserving)[self.number].change(random.Random(self.seed))  # noqa: S311
        after = ast.unparse(ast.fix_missing_locations(tree)).splitlines()
        (folder / self.file).write_text("\n".join(after) + "\n", "utf-8")
        return next((new.strip() for old, new in zip(before, after, strict=False) if old != new), "")


@dataclass(frozen=True)
class Effect:
    """What a mutation does to its side's figures: the largest change, and the first step and phase beyond rounding."""

    size: float
    step: int | None = None
    phase: str | None = None


@dataclass(frozen=True)
class Result:
    """What came of a mutation; `status` is the judge's, or "does not run", "no effect", "below rounding"."""

    planted: dict[str, Any]
    new: str
    status: str
    case: str | None = None
    backend: str | None = None
    effect: float | None = None
    expected: Sequence[Any] = (None, None)
    said: Sequence[Any] = (None, None, None)
    message: str = ""

    @property
    def side_right(self) -> bool:
        """Whether the judge has named the side that was mutated."""
        side = "torch" if self.planted["file"].startswith(PACKAGES["torch"]) else keras_runner(self.backend or "")
        return self.said[2] == side


class Mutants:
    """The suite with its original traces, and the trainings of mutants."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self.folder, self.pool = folder, pool
        self.agreeing: set[tuple[str, str]] = set()
        cases = {name: _case(name) for name in SUITE}
        self.experiments = {name: make_experiment(case) for name, case in cases.items()}
        wide = {name: with_fields(case, {"dtype": "float64"}) for name, case in cases.items()}
        self.wide = {name: make_experiment(case) for name, case in wide.items()}

    def prepare(self) -> dict[str, dict[str, list[int]]]:
        """Train the originals, which must agree; return the lines that each case runs, by case and file."""
        original = self.folder / "original"
        if not (original / "done").exists():
            for out, traced in ((original / "narrow", True), (original / "wide", False)):
                _mark(out, None, traced=traced)
            for name in SUITE:
                self.require_agreement(name, "torch")
                shutil.rmtree(original / "wide" / name, ignore_errors=True)
                self._train_alone(original / "wide", name, "torch", None)
            (original / "done").touch()
        lines: dict[str, dict[str, list[int]]] = {}
        for name in SUITE:
            reached: dict[str, set[int]] = collections.defaultdict(set)
            for file in (original / "narrow" / name).glob("*.lines"):
                for source, numbers in read_json(file).items():
                    reached[source] |= set(numbers)
            lines[name] = {source: sorted(numbers) for source, numbers in reached.items()}
        return lines

    def require_agreement(self, name: str, backend: str) -> None:
        """Train the originals of a case, once; raises RuntimeError where they do not agree."""
        out = self.folder / "original" / "narrow"
        if (name, backend) in self.agreeing:
            return
        if backend != "torch":  # of which no line is noted
            _mark(out, None, traced=False)
        (comparison,) = run_jobs([Job(self.experiments[name], [backend])], out, self.pool)
        if comparison.status != "agrees":
            raise RuntimeError(f"{name} on {backend}: {comparison.first_difference} {comparison.error}")
        self.agreeing.add((name, backend))

    def _train_alone(self, out: Path, name: str, side: str, backend: str | None) -> Path:
        """Train a case on native PyTorch in float64, or on a backend of Keras in float32; return the trace's folder.

        Single steps are taken from the states of the original.
        """
        experiment = self.wide[name] if backend is None else self.experiments[name]
        write_experiments(experiment, out / name)
        runner = REFERENCE_RUNNER if backend is None else keras_runner(backend)
        (task,) = [task for task in plan(experiment, [backend or "torch"], out) if task.out.name == runner]
        if side == "keras":
            states = self.folder / "original" / "narrow" / name / REFERENCE_RUNNER
            task = replace(task, reference=states)
        for event in self.pool.run([task]):
            if event.kind == "failed":
                raise ArithmeticError(event.error)
        return task.out

    def effect(self, planted: Planted, packages: Path, name: str, out: Path) -> Effect:
        """Measure what a mutation does to a case; raises ArithmeticError where it does not run."""
        backend = None if planted.side == "torch" else planted.backend or SHARED_BACKEND
        if backend is not None:
            self.require_agreement(name, backend)
        _mark(out, packages, traced=False)
        mutated = read_trace(self._train_alone(out, name, planted.side, backend))
        original = self.folder / "original" / ("wide" if backend is None else "narrow") / name
        limit = BELOW_ROUNDING if backend is None else BELOW_ROUNDING_FLOAT32
        experiment = self.wide[name] if backend is None else self.experiments[name]
        return effect_of(read_trace(original / mutated.folder.name), mutated, experiment, limit)

    def effect_when_judged(self, planted: Planted, name: str, backend: str, out: Path) -> float:
        """Measure what a mutation does in the precision that was judged, where a cast may do nothing."""
        runner = REFERENCE_RUNNER if planted.side == "torch" else keras_runner(backend)
        original = read_trace(self.folder / "original" / "narrow" / name / runner)
        return effect_of(original, read_trace(out / name / runner), self.experiments[name], BELOW_ROUNDING).size

    def judge(self, packages: Path, name: str, backend: str, out: Path) -> Comparison:
        """Have the judge compare the mutated side with the other."""
        self.require_agreement(name, backend)
        _mark(out, packages, traced=False)
        (comparison,) = run_jobs([Job(self.experiments[name], [backend])], out, self.pool)
        return comparison


def _case(name: str) -> Case:
    cell, fields = SUITE[name]
    return with_fields(load_case(cell), {**TINY, **fields, "name": name})


def _mark(out: Path, packages: Path | None, *, traced: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARKER, {"packages": None if packages is None else str(packages), "traced": traced})


def effect_of(original: Trace, mutated: Trace, experiment: Experiment, limit: float) -> Effect:
    """Hold a mutated trace against the original: the largest change, and the first step and phase with one beyond."""
    changes: list[tuple[int, int, float]] = []
    columns = [PHASES.index(_phase_of_column(name)) for name in original.columns]
    if original.rows.shape == mutated.rows.shape and original.columns == mutated.columns:
        scale = np.sqrt(np.mean(np.square(original.rows), axis=0))
        for step, row in enumerate(_relative(original.rows, mutated.rows, scale)):
            changes += [(step, phase, float(change)) for phase, change in zip(columns, row, strict=True)]
    else:
        changes.append((min(len(original.rows), len(mutated.rows)), PHASES.index("loss"), np.inf))
    for step in experiment.recorded_steps:
        if mutated.single_step(step) is None:  # nothing of the step could be taken, as with slots of another rule
            changes.append((step, PHASES.index("update"), np.inf))
            continue
        changes += [
            (step, PHASES.index(_phase_of_tensor(name)), change)
            for name, change in _changes(original.single_step(step), mutated.single_step(step))
        ]
    for epoch, tensors in original.checkpoints.items():
        step = epoch * experiment.steps_per_epoch
        changes += [(step, PHASES.index("update"), c) for _, c in _changes(tensors, mutated.checkpoints.get(epoch))]
    predictions = ({} if trace.predictions is None else {"": trace.predictions} for trace in (original, mutated))
    evaluated = PHASES.index("evaluation")
    changes += [(experiment.steps, evaluated, change) for _, change in _changes(*predictions)]
    size = max(change for *_, change in changes)
    beyond = min(((step, phase) for step, phase, change in changes if not change <= limit), default=None)
    return Effect(size) if beyond is None else Effect(size, beyond[0], PHASES[beyond[1]])


def _changes(original: Mapping[str, Any] | None, mutated: Mapping[str, Any] | None) -> Iterator[tuple[str, float]]:
    for name, tensor in (original or {}).items():
        other = (mutated or {}).get(name)
        if other is None or other.shape != tensor.shape:
            yield name, np.inf
        elif tensor.size:
            scale = np.sqrt(np.mean(np.square(tensor, dtype=np.float64)))
            yield name, float(np.max(_relative(tensor, other, scale)))


def _relative(original: np.ndarray, mutated: np.ndarray, scale: Any) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(np.asarray(mutated, np.float64) - np.asarray(original, np.float64))
        ratio = np.where(difference == 0, 0.0, difference / np.where(scale == 0, 1.0, scale))
    return np.nan_to_num(ratio, nan=np.inf)


def _phase_of_tensor(name: str) -> str:
    kind = name.partition("/")[0]
    if kind in ("loss", "gradient", "clip"):
        return kind
    return "update" if kind in ("update", "slot", "non_trainable", "learning_rate") else "forward"


def _phase_of_column(name: str) -> str:
    if name.startswith("loss"):
        return "loss"
    return next((kind for kind in ("gradient", "update") if kind in name), "forward")


def draw(lines: Mapping[str, Mapping[str, Sequence[int]]], chooser: random.Random, *, preserving: bool) -> Planted:
    """Draw a mutation of a line that some case runs: the sides alike, then the kinds, then the places."""
    side = chooser.choice(sorted(PACKAGES))
    reached: dict[str, set[int]] = collections.defaultdict(set)
    for of_case in lines.values():
        for file, numbers in of_case.items():
            if file.startswith(PACKAGES[side]):
                reached[file] |= set(numbers)
    by_kind: dict[str, list[tuple[str, int, Mutation]]] = collections.defaultdict(list)
    for file in sorted({*reached, *(UNTRACED if side == "keras" else ())}):
        if Path(file).stem in NO_PART:
            continue
        for number, mutation in enumerate(
            mutations(ast.parse((ROOT / file).read_text("utf-8")), preserving=preserving)
        ):
            if mutation.line in reached[file] or file in UNTRACED:
                by_kind[mutation.kind].append((file, number, mutation))
    file, number, mutation = chooser.choice(by_kind[chooser.choice(sorted(by_kind))])
    return Planted(file, mutation.kind, mutation.line, number, chooser.randrange(2**32), preserving)


def try_out(
    mutants: Mutants, planted: Planted, lines: Mapping[str, Mapping[str, Sequence[int]]], chooser: random.Random
) -> Result:
    """Plant a mutation and have it judged, unless there is nothing to find."""
    with tempfile.TemporaryDirectory(dir=mutants.folder) as name:
        folder = Path(name)
        new = planted.write(folder / "packages")
        backend = planted.backend or SHARED_BACKEND
        able = [case for case in SUITE if planted.line in lines[case].get(planted.file, ())] or list(SUITE)
        cases = chooser.sample(able, min(CASES_TRIED, len(able)))

        def result(status: str, **facts: Any) -> Result:
            return Result(asdict(planted), new, status, backend=backend, **facts)

        effect = Effect(0.0)
        for case in cases:
            try:
                effect = mutants.effect(planted, folder / "packages", case, folder / f"alone-{case}")
            except ArithmeticError as error:
                return result("does not run", case=case, message=str(error)[:200])
            if effect.step is not None or planted.preserving:
                break
        if planted.preserving and effect.size > (SAME if planted.side == "torch" else BELOW_ROUNDING_FLOAT32):
            return result("changes the meaning", case=case, effect=effect.size)
        if effect.step is None and not planted.preserving:
            return result("below rounding" if effect.size else "no effect", case=case, effect=effect.size)
        comparison = mutants.judge(folder / "packages", case, backend, folder / "judged")
        if comparison.status == "agrees" and not planted.preserving:
            size = mutants.effect_when_judged(planted, case, backend, folder / "judged")
            if size <= BELOW_ROUNDING:
                return result("below rounding" if size else "no effect", case=case, effect=size)
        first = comparison.first_difference
        return result(
            comparison.status,
            case=case,
            effect=effect.size,
            expected=(effect.step, effect.phase),
            said=(None, None, None) if first is None else (first.step, first.phase, first.off_side),
            message=comparison.error or ("" if first is None else first.message),
        )


def counts_of(results: Sequence[Result]) -> dict[str, Any]:
    """Count what was found, and what was said of it."""
    groups = {
        kind: [result for result in results if result.planted["preserving"] is preserving]
        for kind, preserving in (("faults", False), ("preserving", True))
    }
    judged = [r for r in groups["faults"] if r.status in JUDGED]
    found = [r for r in judged if r.status == "differs"]
    return {
        "drawn": dict(collections.Counter(r.status for r in groups["faults"])),
        "to be found": len(judged),
        "found": len(found),
        "side named": sum(r.side_right for r in found),
        "exact step": sum(r.said[0] == r.expected[0] for r in found),
        "exact step and phase": sum(_place(r.said) == _place(r.expected) for r in found),
        "preserving": dict(collections.Counter(r.status for r in groups["preserving"])),
    }


def _place(said: Sequence[Any]) -> tuple[Any, Any]:
    """A step and a phase; what is predicted after the last step is a forward pass."""
    return said[0], "forward" if said[1] == "evaluation" else said[1]


def held_out(counts: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return hits and trials by the names of the power table's rows."""
    found = counts["found"]
    flagged = counts["preserving"].get("differs", 0)
    return {
        "faults detected": (found, counts["to be found"]),
        "side named": (counts["side named"], found),
        "exact step": (counts["exact step"], found),
        "phase right": (counts["exact step and phase"], found),
        "meaning-preserving changes flagged": (flagged, counts["preserving"].get("agrees", 0) + flagged),
    }


def main() -> int:
    """Draw, plant, judge and count; prints the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=60, help="mutations that have an effect")
    parser.add_argument("--preserving", type=int, default=30, help="changes that keep the meaning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", required=True, help="where to work, kept; given again, it goes on")
    parser.add_argument("--write", metavar="FILE", help="the counts as the power table has them, as JSON")
    options = parser.parse_args()
    folder = Path(options.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    services = dict.fromkeys((REFERENCE_RUNNER, *map(keras_runner, BACKENDS)), SERVICE)
    # Where a child finds this module.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (
        Pool(folder / "logs", 1, timeout=120, threads=1, services=services) as pool,
        SealedLines(folder / f"results-{options.seed}.jsonl") as kept,
    ):
        mutants = Mutants(folder, pool)
        lines = mutants.prepare()
        results = [Result(**line) for line in kept.read()]
        known = {json.dumps(result.planted): result for result in results}
        for preserving, wanted in ((False, options.faults), (True, options.preserving)):
            chooser = random.Random(f"{options.seed} {preserving}")  # noqa: S311 - no secret
            done = 0
            while done < wanted:
                planted, own = draw(lines, chooser, preserving=preserving), random.Random(chooser.randrange(2**32))  # noqa: S311
                key = json.dumps(asdict(planted))
                if key not in known:
                    known[key] = try_out(mutants, planted, lines, own)
                    kept.add(asdict(known[key]))
                    results.append(known[key])
                result = known[key]
                done += result.status in JUDGED
                where = f"{planted.file}:{planted.line} {planted.kind}: {result.new}"
                said = f"{result.case}, {result.backend}; {result.effect}; {result.expected} {result.said}"
                print(f"[{done}/{wanted}] {result.status}: {where} ({said})", file=sys.stderr, flush=True)
    counts = counts_of(results)
    print(json.dumps(counts, indent=1))
    if options.write:
        write_json(Path(options.write), held_out(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
