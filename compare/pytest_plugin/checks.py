"""What the pytest fixture `parity` does: checks that fail a test with the location, the figures and a command."""

import hashlib
import itertools
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from compare.api import write_reports
from compare.config.case import Case, load_case, with_fields
from compare.config.data import PATHS
from compare.errors import InputError
from compare.experiment.experiment import make_experiment
from compare.explain.entry import explain_with, missing_backend
from compare.explain.pair_file import read_pair
from compare.golden.check import check_golden
from compare.golden.record import record_golden
from compare.golden.store import EXAMPLE, golden_cases, held_golden, read_golden
from compare.judge import Comparison, Verdict
from compare.pytest_plugin.messages import changes, command, fail, pair_failure, settings, shown, table
from compare.pytest_plugin.processes import Workers
from compare.report.explain_page import write_explanation
from compare.run.plan import prepare
from compare.run.training import run_cases
from compare.storage import write_json
from compare.workers.backends import backend_of, choose_backends, machine

# A report's folder is named after its test, as far as a file system takes so long a name.
NAME_LENGTH = 120


class Parity:
    """Checks of one test; each returns its verdict, whose comparisons have the figures, or fails the test.

    Backends are those given to a check, else those of the marker `parity`, else of --parity-backends, else of
    KERAS_BACKEND, else all that are installed; one that is asked for and not installed fails the test. Paths are
    relative to the test's file, or to the folder in which pytest was started.
    """

    def __init__(self, node: pytest.Item, workers: Workers) -> None:
        self._node = node
        self._workers = workers
        self._numbers = itertools.count(1)
        marked: dict[str, Any] = {}
        for marker in node.iter_markers("parity"):
            with self._failing():
                marked = _marked(marker) | marked
        self._marked = marked

    def check(
        self,
        case: str | Path | Case,
        *,
        backends: Sequence[str] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> Verdict:
        """Train a case on both sides: a built-in name, a TOML file or a `Case`, with fields replaced by dotted name."""
        with self._failing():
            chosen = self._case(case, fields)
            on = self._backends(backends)
            experiments = prepare([chosen])
        with self._folder() as out:
            verdict = run_cases(experiments, on, out, self._workers.pool)
            repeat = self._run_command(case, chosen, on, out)
            self._report(verdict, [chosen], repeat)
            self._fail_unless(verdict, repeat, out)
        return verdict

    def check_pair(self, file: str | Path, *, backends: Sequence[str] | None = None) -> Verdict:
        """Train the two models of a pair file, as `python -m compare explain` does."""
        with self._failing():
            pair = read_pair(str(self._beside(file)))
            on = self._backends(backends)
        comparisons = []
        with self._folder() as out:
            for backend in on:
                with self._failing():
                    comparison = missing_backend(pair, backend) or explain_with(
                        self._workers.sides(backend), pair, out / backend
                    )
                comparisons.append(comparison)
                self._report_pair(comparison)
            off = [comparison for comparison in comparisons if comparison.status != "agrees"]
            if off:
                backends = [backend_of(comparison.runner) for comparison in off]
                repeats = [command("explain", shown(pair.file), "--backend", backend) for backend in backends]
                fail(pair_failure(off, len(comparisons), repeats))
        return Verdict(comparisons)

    def check_golden(
        self,
        folder: str | Path,
        *cases: str | Path | Case,
        backends: Sequence[str] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> Verdict:
        """Train recorded cases again and compare each side with its golden trace; all recorded cases if none is named.

        With --parity-regen or --parity-regen-all the cases named, else those recorded, are recorded again.
        """
        golden = self._beside(folder)
        with self._failing():
            chosen = [self._case(case, fields) for case in cases]
            asked = self._backends(backends, all_installed=False)
        option = self._node.config.getoption
        if option("--parity-regen") or option("--parity-regen-all"):
            return self._regenerate(golden, chosen, asked, fails=not option("--parity-regen-all"))
        with ExitStack() as held:
            regenerate = f"pytest {shlex.quote(self._node.nodeid)} --parity-regen"
            named = "" if chosen else f"name cases in the test, as check_golden({str(folder)!r}, {EXAMPLE!r}), and "
            with self._failing(f"\nor {named}run: {regenerate}"):
                goldens = held.enter_context(held_golden(golden, [case.name for case in chosen], asked))
                recorded = [trace.experiment.case for trace in goldens]
                for trace, then, now in zip(goldens, recorded, chosen or recorded, strict=True):
                    if then != now:
                        raise InputError(f"golden trace {trace.folder} is of another case: {changes(then, now)}")
            backend = ["--backend", *asked] if asked else []
            repeat = command("check", *(case.name for case in recorded), "--golden", shown(golden), *backend)
            out = held.enter_context(self._folder())
            verdict = check_golden(goldens, out, self._workers.pool)
            self._report(verdict, recorded, repeat)
            self._fail_unless(verdict, repeat, out)
        return verdict

    def _regenerate(self, golden: Path, cases: Sequence[Case], asked: list[str] | None, fails: bool) -> Verdict:
        with self._failing():
            before = [] if cases else [read_golden(golden / name) for name in golden_cases(golden)]
            backends = sorted({backend for trace in before for backend in trace.backends})
            experiments = prepare(cases or [trace.experiment.case for trace in before])
            verdict, recorded = record_golden(
                experiments, asked or backends or choose_backends(None), golden, self._workers.pool
            )
        if recorded != [experiment.case.name for experiment in experiments]:
            fail(f"Golden traces in {shown(golden)} were not rewritten: a runner failed.\n\n{table(verdict)}")
        if fails:
            fail(f"Golden traces in {shown(golden)} were rewritten: {', '.join(recorded)}.\n\n{table(verdict)}")
        return verdict

    def _case(self, case: str | Path | Case, fields: Mapping[str, Any] | None) -> Case:
        fields = dict(fields or {})
        if isinstance(case, Case):
            paths = {f"data.{name}": getattr(case.data, name) for name in PATHS}
            case = with_fields(case, {field: os.path.abspath(path) for field, path in paths.items() if path})
        else:
            case = load_case(self._name(case))
        case = with_fields(case, fields)
        steps = self._marked.get("steps")
        if steps is None or "training.epochs" in fields:
            return case
        return with_fields(case, {"training.epochs": -(-steps // make_experiment(case).steps_per_epoch)})

    def _name(self, case: str | Path) -> str:
        """What the command line takes for a case: a file's path, or a built-in name."""
        return shown(self._beside(case)) if str(case).endswith(".toml") else str(case)

    def _backends(self, backends: Sequence[str] | None, all_installed: bool = True) -> Any:
        option = self._node.config.getoption("--parity-backends")
        asked = backends or self._marked.get("backends") or (option.split(",") if option else None)
        if isinstance(asked, str):
            asked = [asked]
        if not asked and not all_installed and not os.environ.get("KERAS_BACKEND"):
            return None
        return choose_backends(list(asked) if asked else None)

    def _beside(self, path: str | Path) -> Path:
        beside = self._node.path.parent / path
        return beside if beside.exists() or not Path(path).exists() else Path(path).absolute()

    @contextmanager
    def _failing(self, more: str = "") -> Iterator[None]:
        try:
            yield
        except InputError as error:
            # As `pytest.fail` does, without the error that it comes of.
            raise pytest.fail.Exception(f"{error}{more}", pytrace=False) from None

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder for traces, which are kept where the check fails."""
        out = self._workers.new_folder()
        yield out
        shutil.rmtree(out)

    def _run_command(self, source: str | Path | Case, case: Case, backends: Sequence[str], out: Path) -> str:
        """The command that repeats a check; a case that the command line cannot say is written to a file."""
        name, changed = "", None
        if not isinstance(source, Case):
            name = self._name(source)
            changed = settings(load_case(name), case)
        if changed is None:
            (out / "case.toml").write_text(case.to_toml(), "utf-8")
            name, changed = shown(out / "case.toml"), []
        return command("run", name, "--backend", *backends, *(part for text in changed for part in ("--set", text)))

    def _report_folder(self) -> Path | None:
        reports = self._node.config.getoption("--parity-report")
        if not reports:
            return None
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", self._node.nodeid)[-NAME_LENGTH:].strip("-")
        # Tests whose names differ in what a file name cannot have are told apart all the same.
        digest = hashlib.sha256(self._node.nodeid.encode()).hexdigest()[:8]
        folder = Path(reports) / f"{name}-{digest}" / str(next(self._numbers))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _report(self, verdict: Verdict, cases: Sequence[Case], repeat: str) -> None:
        folder = self._report_folder()
        if folder is not None:
            write_json(folder / "verdict.json", verdict.as_json())
            write_reports(verdict, cases, folder, self._workers.pool.threads, repeat)

    def _report_pair(self, comparison: Comparison) -> None:
        folder = self._report_folder()
        if folder is not None:
            write_json(folder / "verdict.json", Verdict([comparison]).as_json())
            write_explanation(comparison, machine(), folder / "report.html")

    def _fail_unless(self, verdict: Verdict, repeat: str, out: Path) -> None:
        if not verdict.agree:
            fail(f"{table(verdict)}\n\n{repeat}\nTraces: {out}")


def _marked(marker: pytest.Mark) -> dict[str, Any]:
    """What a marker says, by name; the nearest to the test comes first."""
    options = dict(zip(("backends", "steps"), marker.args, strict=False)) | dict(marker.kwargs)
    if len(marker.args) > 2 or not options.keys() <= {"backends", "steps"}:
        raise InputError(f"marker parity{marker.args or ''}{marker.kwargs or ''}: it takes backends and steps")
    steps = options.get("steps")
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise InputError(f"marker parity: steps = {steps!r} must be a whole number of at least 1")
    return options
