"""What the pytest fixture `parity` does: checks that fail a test with the place, the figures and a command."""

import hashlib
import io
import itertools
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pytest
from rich.console import Console

from compare.cli.run import write_reports
from compare.config.case import Case, load_case, with_fields
from compare.config.data import PATHS
from compare.errors import InputError
from compare.experiment.experiment import make_experiment
from compare.explain.entry import explain_with, missing_backend
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides
from compare.golden.golden import check_golden, choose_golden, golden_cases, read_golden, record_golden
from compare.judge import Comparison, Verdict
from compare.report.console import print_comparisons
from compare.report.explain_page import print_explanation, write_explanation
from compare.report.wording import conclusion
from compare.run.harness import prepare, run_cases
from compare.storage import write_json
from compare.workers.backends import choose_backends, machine
from compare.workers.pool import Pool

# A report's folder is named after its test, as far as a file system takes so long a name.
NAME_LENGTH = 120


class Workers:
    """The worker processes of one pytest process, started when first needed and kept warm until it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._numbers = itertools.count()
        self._sides: dict[str, Sides] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def pool(self) -> Pool:
        """Workers that train cases; the processes of xdist share the machine's cores."""
        jobs = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
        return self._stack.enter_context(Pool(self._folder / "logs", jobs, threads=1))

    def sides(self, backend: str) -> Sides:
        """The two processes of pairs on a backend."""
        if backend not in self._sides:
            self._sides[backend] = self._stack.enter_context(Sides(backend))
        return self._sides[backend]

    def new_folder(self) -> Path:
        """Make a folder for the traces of one check."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return folder


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
            self._report(verdict, [chosen], command := self._run_command(case, chosen, on, out))
            self._fail_unless(verdict, command, out)
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
            verdict = Verdict(comparisons)
            if not verdict.agree:
                texts = [_explanation(comparison) for comparison in comparisons if comparison.status != "agrees"]
                off = [c.runner.removeprefix("keras-") for c in comparisons if c.status != "agrees"]
                commands = [_command("explain", _shown(pair.file), "--backend", backend) for backend in off]
                _fail("\n\n".join(f"{text}\n\n{command}" for text, command in zip(texts, commands, strict=True)))
        return verdict

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
        with self._failing(f"\nor: pytest {shlex.quote(self._node.nodeid)} --parity-regen"):
            found = choose_golden(golden, [case.name for case in chosen], asked)
            for one, case in zip(found, chosen or [one.experiment.case for one in found], strict=True):
                if one.experiment.case != case:
                    raise InputError(
                        f"golden trace {one.folder} is of another case: {_changed(one.experiment.case, case)}"
                    )
        names = [one.experiment.case.name for one in found]
        backend = ["--backend", *asked] if asked else []
        command = _command("check", *names, "--golden", _shown(golden), *backend)
        with self._folder() as out:
            verdict = check_golden(found, out, self._workers.pool)
            self._report(verdict, [one.experiment.case for one in found], command)
            self._fail_unless(verdict, command, out)
        return verdict

    def _regenerate(self, golden: Path, cases: Sequence[Case], asked: list[str] | None, fails: bool) -> Verdict:
        with self._failing():
            recorded = [] if cases else [read_golden(golden / name) for name in golden_cases(golden)]
            known = sorted({backend for one in recorded for backend in one.backends})
            experiments = prepare(cases or [one.experiment.case for one in recorded])
            verdict, kept = record_golden(
                experiments, asked or known or choose_backends(None), golden, self._workers.pool
            )
        names = [experiment.case.name for experiment in experiments]
        if kept != names:
            _fail(f"Golden traces in {_shown(golden)} were not rewritten: a runner failed.\n\n{_table(verdict)}")
        if fails:
            _fail(f"Golden traces in {_shown(golden)} were rewritten: {', '.join(kept)}.\n\n{_table(verdict)}")
        return verdict

    def _case(self, given: str | Path | Case, fields: Mapping[str, Any] | None) -> Case:
        fields = dict(fields or {})
        if isinstance(given, Case):
            paths = {f"data.{name}": getattr(given.data, name) for name in PATHS}
            case = with_fields(given, {field: os.path.abspath(path) for field, path in paths.items() if path})
        else:
            case = load_case(self._name(given))
        case = with_fields(case, fields)
        steps = self._marked.get("steps")
        if steps is None or "training.epochs" in fields:
            return case
        return with_fields(case, {"training.epochs": -(-steps // make_experiment(case).steps_per_epoch)})

    def _name(self, given: str | Path) -> str:
        """What the command line takes for a case: a file's path, or a built-in name."""
        return _shown(self._beside(given)) if str(given).endswith(".toml") else str(given)

    def _backends(self, given: Sequence[str] | None, all_installed: bool = True) -> Any:
        option = self._node.config.getoption("--parity-backends")
        asked = given or self._marked.get("backends") or (option.split(",") if option else None)
        if isinstance(asked, str):
            asked = [asked]
        if not asked and not all_installed and not os.environ.get("KERAS_BACKEND"):
            return None
        return choose_backends(list(asked) if asked else None)

    def _beside(self, given: str | Path) -> Path:
        beside = self._node.path.parent / given
        return beside if beside.exists() or not Path(given).exists() else Path(given).absolute()

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

    def _run_command(self, given: str | Path | Case, case: Case, backends: Sequence[str], out: Path) -> str:
        """The command that repeats a check; a case that has no words on the command line is written to a file."""
        name, changed = "", None
        if not isinstance(given, Case):
            name = self._name(given)
            changed = settings(load_case(name), case)
        if changed is None:
            (out / "case.toml").write_text(case.to_toml(), "utf-8")
            name, changed = _shown(out / "case.toml"), []
        return _command("run", name, "--backend", *backends, *(part for text in changed for part in ("--set", text)))

    def _report_folder(self) -> Path | None:
        given = self._node.config.getoption("--parity-report")
        if not given:
            return None
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", self._node.nodeid)[-NAME_LENGTH:].strip("-")
        # Tests whose names differ in what a file name cannot have are told apart all the same.
        unlike = hashlib.sha256(self._node.nodeid.encode()).hexdigest()[:8]
        folder = Path(given) / f"{name}-{unlike}" / str(next(self._numbers))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _report(self, verdict: Verdict, cases: Sequence[Case], command: str) -> None:
        folder = self._report_folder()
        if folder is not None:
            write_json(folder / "verdict.json", verdict.as_json())
            write_reports(verdict, cases, folder, self._workers.pool.threads, command)

    def _report_pair(self, comparison: Comparison) -> None:
        folder = self._report_folder()
        if folder is not None:
            write_json(folder / "verdict.json", Verdict([comparison]).as_json())
            write_explanation(comparison, machine(), folder / "report.html")

    def _fail_unless(self, verdict: Verdict, command: str, out: Path) -> None:
        if not verdict.agree:
            _fail(f"{_table(verdict)}\n\n{command}\nTraces: {out}")


def _marked(marker: pytest.Mark) -> dict[str, Any]:
    """What a marker says, by name; the nearest to the test comes first."""
    given = dict(zip(("backends", "steps"), marker.args, strict=False)) | dict(marker.kwargs)
    if len(marker.args) > 2 or not given.keys() <= {"backends", "steps"}:
        raise InputError(f"marker parity{marker.args or ''}{marker.kwargs or ''}: it takes backends and steps")
    steps = given.get("steps")
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise InputError(f"marker parity: steps = {steps!r} must be a whole number of at least 1")
    return given


def _fail(text: str) -> None:
    pytest.fail(text, pytrace=False)


def _command(*words: str) -> str:
    return "To repeat it: python -m compare " + shlex.join(words)


def _shown(path: Path) -> str:
    """A path as it is given to a command in the folder where pytest was started."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _rendered(say: Any) -> str:
    text = io.StringIO()
    say(Console(file=text, highlight=False, width=160, color_system=None))
    return text.getvalue().strip()


def _table(verdict: Verdict) -> str:
    """The conclusion, which stands alone in pytest's summary, then the figures and each first difference."""
    return f"{conclusion(verdict)}\n\n" + _rendered(lambda console: print_comparisons(console, verdict))


def _explanation(comparison: Comparison) -> str:
    return f"{comparison.case} on {comparison.runner}\n" + _rendered(
        lambda console: print_explanation(console, comparison)
    )


def _flat(case: Case) -> dict[str, Any]:
    """The fields of a case by their dotted names."""
    sections = {name: value for name, value in case.model_dump().items() if isinstance(value, dict)}
    plain = {name: value for name, value in case.model_dump().items() if name not in sections}
    return plain | {f"{name}.{field}": part for name, fields in sections.items() for field, part in fields.items()}


def settings(original: Case, case: Case) -> list[str] | None:
    """What `--set` is to be given to make one case of another; None where it cannot be said so."""
    before = _flat(original)
    changed = {field: value for field, value in _flat(case).items() if before[field] != value}
    if None in changed.values():
        return None
    plain = {field: list(value) if isinstance(value, tuple) else value for field, value in changed.items()}
    return [f"{field}={value if isinstance(value, str) else json.dumps(value)}" for field, value in plain.items()]


def _changed(then: Case, now: Case) -> str:
    before = _flat(then)
    changed = {field: value for field, value in _flat(now).items() if before[field] != value}
    return ", ".join(f"{field} was {before[field]!r}, the test has {value!r}" for field, value in changed.items())
