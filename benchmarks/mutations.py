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

from benchmarks.mutation_cases import SUITE, suite_case
from benchmarks.mutation_effects import Effect, effect_of
from benchmarks.mutation_kinds import Mutation, mutations
from benchmarks.mutation_results import JUDGED, PACKAGES, Result, counts_of, held_out
from compare.config.case import with_fields
from compare.experiment.experiment import make_experiment
from compare.judge import Comparison
from compare.run.judging import Job
from compare.run.plan import plan, write_experiments
from compare.run.training import run_jobs
from compare.storage import SealedLines, read_json, write_json
from compare.trace.trace import read_trace
from compare.workers.backends import REFERENCE_RUNNER, keras_runner
from compare.workers.kept_side import KeptSide
from compare.workers.pool import Pool
from compare.workers.protocol import Answer, Request
from compare.workers.training import Report, Training

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("torch", "tensorflow", "jax")
# The Keras backend with which what all have is judged: to train on torch takes a fifth of the time.
SHARED_BACKEND = "torch"

# Below which a change of a float64 figure, or of a float32 one, cannot be told from rounding, and keeps the meaning.
BELOW_ROUNDING, BELOW_ROUNDING_FLOAT32, SAME = 1e-6, 2e-5, 1e-9
CASES_TRIED = 2
# What of the packages takes no part in a training with the matched optimizers: what is refused, said, or left as stock.
NO_PART = ("__init__", "settings", "stock", "execution", "forecast", "dropout_probe")
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


class Mutants:
    """The suite with its original traces, and the trainings of mutants."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self.folder, self.pool = folder, pool
        self.agreeing: set[tuple[str, str]] = set()
        cases = {name: suite_case(name) for name in SUITE}
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


def _mark(out: Path, packages: Path | None, *, traced: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARKER, {"packages": None if packages is None else str(packages), "traced": traced})


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
