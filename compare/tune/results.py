"""What came of a search: its trials, the best first, which field matters, and the verdict on the best case."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal

from compare.config.case import Case
from compare.judge import Verdict
from compare.tune.search import Range, Search

if TYPE_CHECKING:  # `--help` is quick
    from optuna import Study

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Tried:
    """A trial: its values, what became of it, its score, and that of each fold by side; fewer where it was pruned.

    `score` of one that was pruned is the mean of the folds that it had.
    """

    number: int
    fields: Mapping[str, Any]
    state: State
    score: float | None
    folds: Sequence[Mapping[str, Sequence[float]]] = ()
    error: str | None = None

    @property
    def fold_scores(self) -> list[float]:
        """The score of each fold."""
        return [fmean(value for values in fold.values() for value in values) for fold in self.folds]

    @property
    def spread(self) -> float | None:
        """The standard deviation of the score over the folds; None of fewer than two."""
        return stdev(self.fold_scores) if len(self.folds) > 1 else None

    def side(self, runner: str) -> float | None:
        """The score on one side."""
        return fmean(value for fold in self.folds for value in fold[runner]) if self.folds else None

    @property
    def values(self) -> dict[str, str]:
        """Its values by field, as they are read."""
        return {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in self.fields.items()}

    def outcome(self, metric: str) -> str:
        """Say what became of it."""
        if self.state == "failed":
            return f"failed: {self.error}"
        pruned = f", pruned after {len(self.folds)} of its folds" if self.state == "pruned" else ""
        return f"{metric} {self.score:.4g}{pruned}"

    def as_json(self) -> dict[str, Any]:
        """The form in which `tune --json` has it."""
        return {
            "trial": self.number,
            "fields": dict(self.fields),
            "state": self.state,
            "score": self.score,
            "folds": [{side: list(values) for side, values in fold.items()} for fold in self.folds],
            "error": self.error,
        }


@dataclass(frozen=True)
class Outcome:
    """A search at its end: trials, the best first; which part of the score's variance each field makes; the best case.

    `found_done` trials were done before. Without a best trial there is no verdict.
    """

    search: Search
    trials: Sequence[Tried]
    importances: Mapping[str, float]
    found_done: int = 0
    case: Case | None = None
    file: Path | None = None
    verdict: Verdict | None = None

    @property
    def best(self) -> Tried | None:
        """The best trial of those that had all folds."""
        return next((trial for trial in self.trials if trial.state == "complete"), None)

    @property
    def exit_code(self) -> int:
        """That of the confirmation; 3 where no trial came to its end."""
        return 3 if self.verdict is None else self.verdict.exit_code

    def count(self, state: State) -> int:
        """How many trials came to a state."""
        return sum(trial.state == state for trial in self.trials)

    def with_confirmation(self, case: Case, file: Path, verdict: Verdict) -> "Outcome":
        """Return it with the best case and what came of training that on both sides."""
        return replace(self, case=case, file=file, verdict=verdict)

    def as_json(self) -> dict[str, Any]:
        """What `tune --json` prints."""
        states: tuple[State, ...] = ("complete", "pruned", "failed")
        return {
            "metric": self.search.metric,
            "trials": len(self.trials),
            **{state: self.count(state) for state in states},
            "found_done": self.found_done,
            "best": None if self.best is None else self.best.as_json(),
            "best_case": None if self.file is None else str(self.file),
            "ranking": [trial.as_json() for trial in self.trials],
            "importances": dict(self.importances),
            "confirmation": None if self.verdict is None else self.verdict.as_json(),
        }


def fold_attribute(fold: int) -> str:
    """Name the attribute of a trial that holds the scores of a fold, the first being 0."""
    return f"fold{fold}"


def ranking(study: "Study", search: Search) -> list[Tried]:
    """List the trials that are over: complete ones, the best first, then those that were pruned, then failed ones."""
    from optuna.trial import TrialState

    states: dict[TrialState, State] = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    tried = []
    for trial in study.get_trials(deepcopy=False, states=tuple(states)):
        names = [fold_attribute(fold) for fold in range(search.table.folds)]
        folds = [trial.user_attrs[name] for name in names if name in trial.user_attrs]
        fields = {
            name: trial.params[name] if isinstance(dimension, Range) else json.loads(trial.params[name])
            for name, dimension in search.space.items()
        }
        state = states[trial.state]
        score = trial.value if state != "failed" and trial.value is not None and isfinite(trial.value) else None
        tried.append(Tried(trial.number, fields, state, score, folds, trial.user_attrs.get("error")))
    sign = -1 if search.maximised else 1
    order = list(states.values())
    return sorted(tried, key=lambda trial: (order.index(trial.state), sign * (trial.score or 0.0), trial.number))


def importances(study: "Study") -> dict[str, float]:
    """Estimate by Optuna's fANOVA which part of the score's variance each field makes, the largest first.

    Empty where the trials do not say: fewer than two, or all of one score.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    scores = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    if len(scores) < 2:
        return {}
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))
