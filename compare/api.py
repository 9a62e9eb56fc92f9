"""What a program calls: `compare.run`, `explain`, `port` and `tune`; the commands of these names are thin over them."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from rich.console import Console

from compare.bench.cost import TOLD_FROM, predict
from compare.config.case import DEFAULT_SUITE, Case, fold_cases, load_case, with_fields
from compare.effect.equivalence import Effect
from compare.effect.measuring import check_seeds, measure_effects
from compare.errors import InputError
from compare.experiment.experiment import Experiment
from compare.experiment.size import check_jobs, check_size
from compare.explain.entry import explain_pair
from compare.explain.fixes.fix import check_target, fix_pair
from compare.explain.pair_file import OTHER, Pair, read_pair
from compare.explain.two_alike import explain_against, explain_backends, explain_modules
from compare.judge import Comparison, Verdict
from compare.port.entry import Options, Ported, port_model
from compare.report.effect import sentences
from compare.report.explain_page import DoingLine, write_explanation
from compare.report.html import write_html
from compare.report.junit import write_junit
from compare.report.progress import LiveTable, ProgressLines, shows_live
from compare.report.summary import write_summary
from compare.report.tensorboard import folder_for_tensorboard, write_tensorboard
from compare.report.tune_page import write_tune_page
from compare.results import ExplainResult, RunResult, TuneResult, verdict_json
from compare.run.folder import folder_of_now, run_folder
from compare.run.kernels import required_kernels
from compare.run.plan import plan, prepare
from compare.run.training import run_cases
from compare.storage import file_to_write, new_folder, write_json
from compare.sweep.running import Where
from compare.tune.running import CONFIRMATION, run_tune
from compare.tune.search import read_search
from compare.workers.backends import REFERENCE_RUNNER, check_device, choose_backends, keras_runner, machine
from compare.workers.pool import Pool
from compare.workers.tasks import Event

CaseLike = str | Path | Case


def run(
    cases: CaseLike | Sequence[CaseLike] | None = None,
    backends: str | Sequence[str] | None = None,
    fields: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    folds: int | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    timeout: float = 600,
    device: str = "cpu",
    kernels: Sequence[str] = (),
    progress: bool = False,
    command: str = "compare.run",
    summary: str | Path | None = None,
    tensorboard: str | Path | None = None,
    seeds: int | None = None,
) -> RunResult:
    """Train cases in native PyTorch and in Keras and judge whether both train alike.

    Example: `compare.run("lstm", backends=["torch"], fields={"model.units": 32}).agree`

    Args:
        cases: a built-in name, a TOML file or a `Case`, or several; the default suite if None.
        backends: of Keras: "tensorflow", "torch", "jax"; if None `KERAS_BACKEND`, else all that are installed.
        fields: fields of every case by dotted name, replaced.
        seed: of data, schedule and weights.
        folds: cross-validate each series in time in so many folds.
        out: folder of traces and reports; `runs/<time>` if None. Given again, a run that was interrupted goes on.
        jobs: trainings at a time; the number of cores if None.
        timeout: the longest silence of a runner, in seconds.
        device: what all runners compute on, "cpu" or "cuda".
        kernels: "[RUNNER=]NAME" each: a runner (default: every Keras runner) that ran another recurrent kernel failed.
        progress: whether to show on standard error how it goes.
        command: how the report says that it was made.
        summary: a Markdown file for a pull request.
        tensorboard: a new folder for TensorBoard.
        seeds: with how many other seeds it is measured whether a difference matters; five if None and that is cheap.

    Raises InputError for what cannot be used, before anything is trained.

    """
    check_work(jobs, timeout, device)
    check_seeds(seeds)
    chosen_backends = choose_backends([backends] if isinstance(backends, str) else list(backends or ()))
    kernel_of = required_kernels(kernels, chosen_backends)
    seeded = {} if seed is None else {"seed": seed}
    experiments = prepare(choose_cases(cases, {**(fields or {}), **seeded}, folds))
    chosen = [experiment.case for experiment in experiments]
    folder = Path(out or folder_of_now())
    summary_file = None if summary is None else file_to_write("--summary", summary)
    board = None if tensorboard is None else folder_for_tensorboard(tensorboard)
    trainings = sum(len(plan(experiment, chosen_backends, folder)) for experiment in experiments)
    if progress:
        say_cost(experiments, chosen_backends, jobs or os.cpu_count() or 1)
    with run_folder(folder, experiments, chosen_backends, device):
        with Pool(folder / "logs", jobs or os.cpu_count() or 1, timeout, device=device) as pool:
            with show_progress(trainings, chosen, progress) as on_event:
                verdict = run_cases(experiments, chosen_backends, folder, pool, on_event, kernels=kernel_of)
            effects = measure_effects(experiments, verdict.comparisons, folder, pool, seeds, _said(progress))
            threads = pool.threads
        if effects:
            write_json(folder / "verdict.json", verdict_json(verdict, effects))
        environment = write_reports(verdict, chosen, folder, threads, command, device, effects)
    if summary_file is not None:
        write_summary(verdict, environment, summary_file, effects)
    if board is not None:
        write_tensorboard(verdict, board)
    return RunResult(chosen, verdict, folder, effects)


def say_cost(experiments: Sequence[Experiment], backends: Sequence[str], processes: int) -> None:
    """Say on standard error what a run will take, where that is long."""
    prediction = predict(experiments, (REFERENCE_RUNNER, *map(keras_runner, backends)), processes)
    if prediction.seconds > TOLD_FROM:
        print(f"{prediction} (on two cores, as measured in benchmarks/growth.md)", file=sys.stderr, flush=True)


def explain(
    pair: str | Path,
    backend: str | Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    timeout: float = 600,
    progress: bool = False,
    against: str | None = None,
    fix: str | Path | None = None,
) -> ExplainResult:
    """Find where a Keras model and a PyTorch module first differ in training, and why, with proof.

    Example: `compare.explain("pair.py", backend="torch").causes`

    Args:
        pair: a Python file that defines data(), keras_side() and torch_side(); see README.md. With keras_side() alone
            its backends are compared, or where one is given the model with itself saved and loaded; torch_side() and
            other_torch_side() are compared with each other.
        backend: of Keras; if None `KERAS_BACKEND`, else the first that is installed.
        out: a new folder for the report; `runs/<time>` if None.
        timeout: the longest silence of a side, in seconds.
        progress: whether to say on standard error what is being tried.
        against: a git revision with whose torch_side() that of the pair file is compared.
        fix: a new file, to which the pair file is written with every confirmed fix made; it is judged too.

    Raises InputError, with the file's own line, for a mistake in the pair file, and for a `fix` that is a user's file.

    """
    check_work(None, timeout)
    names = [backend] if isinstance(backend, str) else list(backend or ())
    checked = read_pair(str(pair), alone=bool(names) or against is not None)
    backends = choose_backends(names)
    alike = _of_one_framework(checked, backends, against, timeout)
    if alike is None and len(names) > 1:
        raise InputError(f"--backend {' '.join(names)}: give one; a file with keras_side() alone compares several")
    if alike is not None and fix is not None:
        raise InputError("--fix needs a keras_side() and a torch_side(), whose differences are known by their causes")
    if fix is not None:
        check_target(checked, Path(fix))
    folder = Path(out or folder_of_now())
    fixed = None
    with new_folder(folder), DoingLine(progress) as on_doing:
        if alike is not None:
            comparison = alike(on_doing)
        elif fix is None:
            comparison = explain_pair(checked, backends[0], folder, timeout, on_doing)
        else:
            fixed = fix_pair(checked, Path(fix), backends[0], folder, timeout, on_doing)
            comparison = fixed.comparison
    write_json(folder / "verdict.json", Verdict([comparison]).as_json())
    write_explanation(comparison, machine(), folder / "report.html")
    return ExplainResult(comparison, folder, fixed)


def port(
    source: Any,
    to: str | Path,
    *,
    weights: str | Path | None = None,
    example: str | Sequence[str] | None = None,
    own: str | Path | None = None,
    trust: bool = False,
    unproved: bool = False,
    backend: str | Sequence[str] | None = None,
    timeout: float = 600,
    progress: bool = False,
) -> Ported:
    """Write a Keras model as PyTorch code, or a PyTorch module as Keras code, and prove that both train alike.

    Example: `compare.port("model.keras", to="ported").proved`

    Args:
        source: a .keras or .h5 file, "FILE.py:factory" of a function that returns a Keras model or an nn.Module, or a
            Keras model that is there.
        to: a new folder for the code, the weights and the verdict.
        weights: a .weights.h5 file for the model that the factory makes.
        example: the shape of each input of the PyTorch module, the batch first: "32,10,1"; "32,10:int<5000" for whole
            numbers below 5000, "8:1<=int<11" for lengths; "10,32b,1" where the batch is another axis.
        own: a Python file with the counterparts of a user's own layers; see README.md.
        trust: whether code that the model file holds may run.
        unproved: whether what is not proved is written nevertheless.
        backend: of Keras, on which it is proved; "torch" if None.
        timeout: the longest silence of a side, in seconds.
        progress: whether to say on standard error what is being done.

    Raises InputError for what cannot be read or ported, with the layer's name and what would be needed.

    """
    check_work(None, timeout)
    names = choose_backends([backend] if isinstance(backend, str) else list(backend or ("torch",)))
    files = [None if file is None else Path(file) for file in (weights, own)]
    shapes = [example] if isinstance(example, str) else list(example or ())
    options = Options(files[0], files[1], trust, unproved, shapes, names, timeout)
    with ExitStack() as stack:
        if not isinstance(source, str | Path):
            source = _saved(source, Path(stack.enter_context(TemporaryDirectory())))
        stack.enter_context(new_folder(Path(to), "--to"))
        return port_model(str(source), Path(to), options, stack.enter_context(DoingLine(progress)))


def _saved(model: Any, folder: Path) -> Path:
    """The file of a Keras model that is there; raises InputError for anything else."""
    if not any(kind.__name__ == "Model" and kind.__module__.startswith("keras.") for kind in type(model).__mro__):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise InputError(f"a {kind} cannot be ported as it is; give a Keras model, a file of one, or FILE.py:factory")
    file = folder / f"{model.name}.keras"
    model.save(file)
    return file


def tune(
    file: str | Path,
    *,
    trials: int | None = None,
    metric: str | None = None,
    side: str | None = None,
    out: str | Path | None = None,
    on: Literal["local", "ray"] = "local",
    address: str | None = None,
    jobs: int | None = None,
    timeout: float = 600,
    device: str = "cpu",
    progress: bool = False,
    command: str = "compare.tune",
) -> TuneResult:
    """Search for the best values of a case's fields by cross-validation, and confirm the best case on both sides.

    Example: `compare.tune("sweep.toml", trials=50).best`

    Args:
        file: a TOML file as of a sweep: a base case, lists in [grid], and a table [tune]; see README.md.
        trials: how many in all; those that `out` holds are not run again.
        metric: the score, such as "mse" or "accuracy".
        side: "torch", "keras-<backend>" or "both", whose mean is the score.
        out: folder of the study, the page and the best case; `runs/<time>` if None. Given again, the search goes on;
            several processes may share it.
        on: "local", or "ray".
        address: of a running Ray cluster; one is started here if None.
        jobs: trials at a time; the number of cores if None.
        timeout: the longest silence of a runner, in seconds; on Ray the longest training.
        device: what is computed on, "cpu" or "cuda".
        progress: whether to say on standard error what came of each trial.
        command: how the page says that it was made.

    Raises InputError for what cannot be searched, before anything is trained, and where Optuna is not installed.

    """
    check_work(jobs, timeout, device)
    where = checked_place(on, address, jobs or os.cpu_count() or 1, timeout, device)
    search = read_search(Path(file), trials=trials, metric=metric, side=side)
    folder = Path(out or folder_of_now())
    outcome = run_tune(search, folder, where, _said(progress))
    conditions = {**machine(), "where": on, "device": device, "command": command}
    write_tune_page(outcome, conditions, folder / "report.html")
    if outcome.verdict is not None and outcome.case is not None:
        write_reports(outcome.verdict, [outcome.case], folder / CONFIRMATION, 1, command, device)
    return TuneResult(outcome, folder)


def _said(shown: bool) -> Callable[[str], None]:
    """What says a line on standard error, where that is wanted."""

    def say(line: str) -> None:
        if shown:
            print(line, file=sys.stderr, flush=True)

    return say


def checked_place(on: Literal["local", "ray"], address: str | None, jobs: int, timeout: float, device: str) -> Where:
    """Return where the cases of a file are run; raises InputError for options that exclude each other."""
    if address is not None and on != "ray":
        raise InputError(f"--address {address} is of a Ray cluster; give --on ray too")
    if device != "cpu" and on == "ray":
        raise InputError("on Ray every runner computes on the CPU; give --device cpu or --on local")
    return Where(on, jobs, timeout, address, device)


def _of_one_framework(
    pair: Pair, backends: Sequence[str], against: str | None, timeout: float
) -> Callable[[Callable[[str], None]], Comparison] | None:
    """What compares two sides of one framework, where that is what a pair file or `against` asks for."""
    if against is not None:
        if "torch_side" not in pair.functions:
            raise InputError(f"--against {against}: {pair.file} has no torch_side()")
        return partial(explain_against, pair, against, timeout)
    if OTHER in pair.functions:
        return partial(explain_modules, pair, timeout)
    if "torch_side" not in pair.functions:
        return partial(explain_backends, pair, list(backends), timeout)
    return None


def choose_cases(
    cases: CaseLike | Sequence[CaseLike] | None, fields: Mapping[str, Any], folds: int | None = None
) -> list[Case]:
    """Load cases, the default suite if None, replace fields, and make a case of each fold; raises InputError."""
    several = [cases] if isinstance(cases, CaseLike) else DEFAULT_SUITE if cases is None else cases
    chosen = [with_fields(case if isinstance(case, Case) else load_case(case), fields) for case in several]
    if folds is None:
        return chosen
    for case in chosen:
        check_size(with_fields(case, {"data.folds": folds, "data.fold": 1}) if folds > 1 else case)
    return [fold for case in chosen for fold in fold_cases(case, folds)]


def check_work(jobs: int | None, timeout: float, device: str = "cpu") -> None:
    """Raise InputError for numbers that no work can be done with, and an unknown device."""
    check_device(device)
    check_jobs(jobs)
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs} must be at least 1")
    if not timeout > 0:
        raise InputError(f"--timeout {timeout:g} must be more than 0 seconds")


def show_progress(
    trainings: int, cases: Sequence[Case], shown: bool = True
) -> AbstractContextManager[Callable[[Event], None]]:
    """Show on standard error how trainings go; as a context, it gives what events are told to."""
    if not shown:
        return nullcontext(lambda event: None)
    if shows_live(Console(stderr=True)):
        return LiveTable(trainings, {case.name: case.training.epochs for case in cases})
    return ProgressLines(trainings)


def write_reports(
    verdict: Verdict,
    cases: Sequence[Case],
    out: Path,
    threads: int,
    command: str,
    device: str = "cpu",
    effects: Sequence[Effect] = (),
) -> dict[str, str]:
    """Write a run's reports into its folder; return what they say of where they were made."""
    versions = {name: version for c in verdict.comparisons for name, version in c.versions.items()}
    conditions = {
        **machine(),
        **versions,
        "device": device,
        "threads for each runner": str(threads),
        "command": command,
    }
    write_html(verdict, cases, conditions, out / "report.html", sentences(effects))
    write_junit(verdict, out / "junit.xml")
    return conditions
