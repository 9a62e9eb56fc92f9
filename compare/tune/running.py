"""Runs a search: takes trials, has each fold trained, ends what cannot win, confirms the best case on both sides."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from compare.errors import InputError
from compare.experiment.experiment import Experiment, write_experiment
from compare.judge.metrics import metrics_of
from compare.run.folder import run_folder
from compare.run.plan import prepare, remaining
from compare.run.training import run_cases
from compare.storage import write_text
from compare.sweep.on_ray import RayPool, check_ray
from compare.sweep.running import Where, open_pool
from compare.trace.trace import read_trace
from compare.tune.results import Outcome, Tried, fold_attribute, importances, ranking
from compare.tune.search import Search
from compare.tune.study import WORKERS, SharedStudy, check_optuna, held
from compare.workers.pool import Pool
from compare.workers.tasks import Task

if TYPE_CHECKING:  # `--help` is quick
    from optuna import Trial

TRIALS, CONFIRMATION, BEST_FILE = "trials", "confirmation", "best.toml"

# How often it is looked whether other processes have come to their end.
WAIT_SECONDS = 0.5

Say = Callable[[str], None]


@dataclass
class Running:
    """A trial under way: its fields, the experiments by seed and fold, and the fold that is next."""

    trial: "Trial"
    fields: Mapping[str, Any]
    experiments: Mapping[int, Sequence[Experiment]]
    scores: list[float] = field(default_factory=list)
    error: str | None = None

    def name(self, seed: int) -> str:
        """Name the case of a seed at the fold that is next; the folder of its traces."""
        return f"trial{self.trial.number}-seed{seed}-fold{len(self.scores) + 1}"


class Trials:
    """Trains the trials that this process takes of a study, fold by fold, as many side by side as there are jobs."""

    def __init__(self, shared: SharedStudy, pool: Pool | RayPool, say: Say) -> None:
        self.shared, self.search, self.pool, self.say = shared, shared.search, pool, say
        self.folder = shared.out / TRIALS

    def run(self) -> None:
        """Run trials until all that were asked for are done, those that other processes have left too."""
        running: list[Running] = []
        waited = False
        while True:
            while len(running) < self.pool.jobs and (trial := self.shared.next_trial()) is not None:
                running += self._begin(trial)
            if running:
                self._train_fold(running)
                running = [trial for trial in running if not self._is_over(trial)]
            elif others := self.shared.others():
                if not waited:
                    self.say(f"waiting for {others} trials of other processes")
                waited = True
                time.sleep(WAIT_SECONDS)
            else:
                return

    def _begin(self, trial: "Trial") -> list[Running]:
        fields = self.shared.fields(trial)
        try:
            made = {
                seed: self.search.experiments(fields, seed, self.search.sweep.base.name) for seed in self.search.seeds
            }
        except InputError as error:
            self._end(trial, "fail", str(error))
            return []
        known = trial.user_attrs
        running = Running(trial, fields, made)
        while fold_attribute(len(running.scores)) in known:
            running.scores.append(_mean(known[fold_attribute(len(running.scores))]))
        return [running]

    def _train_fold(self, running: Sequence[Running]) -> None:
        by_task = {task.out: trial for trial in running for task in self._tasks(trial)}
        tasks = [task for trial in running for task in self._tasks(trial)]
        for event in self.pool.run(remaining(tasks)):
            if event.kind == "retried":
                self.say(f"{event.task.case} {event.task.runner}: {event.error}; it is tried again")
            if event.kind == "failed":
                by_task[event.task.out].error = f"{event.task.runner}: {event.error}"

    def _tasks(self, running: Running) -> Iterator[Task]:
        for seed, folds in running.experiments.items():
            if len(running.scores) < len(folds):
                name = running.name(seed)
                experiment = self.folder / name / "experiment"
                if not experiment.exists():
                    write_experiment(folds[len(running.scores)], experiment)
                for runner in self.search.runners:
                    yield Task(runner, name, experiment, self.folder / name / runner)

    def _is_over(self, running: Running) -> bool:
        """Score the fold that was trained; tell the study where the trial is at its end."""
        trial, fold = running.trial, len(running.scores)
        if running.error is None and fold < self.search.table.folds:
            figures, running.error = self._figures(running)
            if running.error is None:
                trial.set_user_attr(fold_attribute(fold), figures)
                running.scores.append(_mean(figures))
                trial.report(fmean(running.scores), fold)
                for seed in running.experiments:
                    shutil.rmtree(self.folder / f"trial{trial.number}-seed{seed}-fold{fold + 1}", ignore_errors=True)
        if running.error is not None:
            self._end(trial, "fail", running.error)
        elif len(running.scores) == self.search.table.folds:
            self._end(trial, "complete", value=fmean(running.scores))
        elif trial.should_prune():
            self._end(trial, "pruned")
        else:
            return False
        return True

    def _figures(self, running: Running) -> tuple[dict[str, list[float]], str | None]:
        """The score of each side by seed, or why there is none."""
        figures: dict[str, list[float]] = {runner: [] for runner in self.search.runners}
        fold = len(running.scores)
        for seed, folds in running.experiments.items():
            for runner in self.search.runners:
                predictions = read_trace(self.folder / running.name(seed) / runner).predictions
                if predictions is None:
                    return figures, f"{runner}: fold {fold + 1} has no predictions"
                value = metrics_of(folds[fold], predictions).get(self.search.metric)
                if value is None:
                    return figures, f"{runner}: no {self.search.metric} in fold {fold + 1}: the training diverged"
                figures[runner].append(value)
        return figures, None

    def _end(self, trial: "Trial", state: str, error: str | None = None, value: float | None = None) -> None:
        from optuna.trial import TrialState

        for left in self.folder.glob(f"trial{trial.number}-*"):
            shutil.rmtree(left, ignore_errors=True)
        if error is not None:
            trial.set_user_attr("error", error)
        states = {"fail": TrialState.FAIL, "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        self.shared.study.tell(trial, value, state=states[state])
        self.say(trial_line(self.search, self.shared, trial.number))


def trial_line(search: Search, shared: SharedStudy, number: int) -> str:
    """Say what came of a trial."""
    trials = ranking(shared.study, search)
    tried = next(tried for tried in trials if tried.number == number)
    over = sum(trial.state.name != "RUNNING" for trial in shared.study.get_trials(deepcopy=False))
    fields = " ".join(f"{name}={value}" for name, value in tried.values.items())
    return f"[{over}/{search.trials}] trial {number}: {fields}: {tried.outcome(search.metric)}"


def run_tune(search: Search, out: Path, where: Where, say: Say = lambda line: None) -> Outcome:
    """Search, going on where the folder holds the search already; then confirm the best case on both sides.

    Raises InputError where the folder cannot be used, Optuna is missing, or no training can be run there.
    """
    check_optuna()
    if where.kind == "ray":
        check_ray(where.address)
    with SharedStudy(out, search) as shared:
        over = len(ranking(shared.study, search))
        if over:
            say(f"{over} of {search.trials} trials were found done")
        if over < search.trials or shared.others():
            with open_pool(out, where, {}) as pool:
                Trials(shared, pool, say).run()
        shutil.rmtree(out / TRIALS, ignore_errors=True)
        trials = ranking(shared.study, search)
        outcome = Outcome(search, trials, importances(shared.study), over)
        if outcome.best is None:
            return outcome
        return _confirmed(outcome, outcome.best, out, where, say)


def _confirmed(outcome: Outcome, best: Tried, out: Path, where: Where, say: Say) -> Outcome:
    search = outcome.search
    case = search.case(best.fields, search.seeds[0], f"{search.sweep.base.name}-tuned")
    score = f"{search.metric} {best.score:.6g} over {search.table.folds} folds on {' and '.join(search.runners)}"
    say(f"the best case, of trial {best.number}, is trained on both sides and judged")
    folder = out / CONFIRMATION
    folder.mkdir(exist_ok=True)
    with held(out / WORKERS):  # processes that share the search come here one after the other
        write_text(out / BEST_FILE, f"# Trial {best.number} of {search.sweep.source}: {score}\n{case.to_toml()}")
        experiments = prepare([case])
        workers = Pool(folder / "logs", where.jobs, where.timeout, device=where.device)
        with run_folder(folder, experiments, search.backends, where.device), workers as pool:
            verdict = run_cases(experiments, search.backends, folder, pool)
    return outcome.with_confirmation(case, out / BEST_FILE, verdict)


def _mean(figures: Mapping[str, Sequence[float]]) -> float:
    return fmean(value for values in figures.values() for value in values)
