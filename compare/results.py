"""What `compare.run`, `explain` and `tune` return; in a notebook each shows its table and its curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare.config.case import Case
from compare.effect.equivalence import Effect
from compare.explain.fixes.fix import Fixed
from compare.judge import Comparison, Verdict
from compare.judge.verdict import Cause, Difference
from compare.report.console import print_verdict
from compare.report.effect import sentences
from compare.report.explain_page import conclusion as explain_conclusion
from compare.report.explain_page import print_explanation
from compare.report.notebook import as_html, curve_pictures, score_picture
from compare.report.tune_page import print_tuning, tune_conclusion
from compare.report.wording import conclusion
from compare.tune.results import Outcome, Tried


def verdict_json(verdict: Verdict, effects: Sequence[Effect]) -> dict[str, Any]:
    """The content of `verdict.json`, with whether each difference matters where that was measured."""
    return verdict.as_json() | ({"effects": [effect.as_json() for effect in effects]} if effects else {})


@dataclass(frozen=True, repr=False)
class RunResult:
    """What came of a run: the cases as they were trained, the verdict, and the folder of traces and reports."""

    cases: Sequence[Case]
    verdict: Verdict
    out: Path
    effects: Sequence[Effect] = ()

    @property
    def agree(self) -> bool:
        """Whether every comparison agrees."""
        return self.verdict.agree

    @property
    def comparisons(self) -> Sequence[Comparison]:
        """One comparison for each case and Keras runner."""
        return self.verdict.comparisons

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.out / "report.html"

    def __repr__(self) -> str:
        return f"<RunResult: {conclusion(self.verdict)} {self.report}>"

    def _repr_html_(self) -> str:
        return as_html(
            lambda console: print_verdict(console, self.verdict, sentences(self.effects)),
            curve_pictures(self.comparisons),
        )


@dataclass(frozen=True, repr=False)
class ExplainResult:
    """What came of a pair of models: the comparison, the folder of the report, and where asked for the fixed file."""

    comparison: Comparison
    out: Path
    fixed: Fixed | None = None

    @property
    def agree(self) -> bool:
        """Whether the two models train alike."""
        return self.comparison.status == "agrees"

    @property
    def first_difference(self) -> Difference | None:
        """Where they first differ."""
        return self.comparison.first_difference

    @property
    def causes(self) -> Sequence[Cause]:
        """Why, each with its proof."""
        return self.comparison.causes

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.out / "report.html"

    def __repr__(self) -> str:
        return f"<ExplainResult of {self.comparison.case}: {explain_conclusion(self.comparison)} {self.report}>"

    def _repr_html_(self) -> str:
        return as_html(lambda console: print_explanation(console, self.comparison), curve_pictures([self.comparison]))


@dataclass(frozen=True, repr=False)
class TuneResult:
    """What came of a search: its trials, the best first, the best case with its verdict, and the study's folder."""

    outcome: Outcome
    out: Path

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best values by field; None where no trial came to its end."""
        return None if self.outcome.best is None else self.outcome.best.fields

    @property
    def score(self) -> float | None:
        """The best score, the mean over the folds."""
        return None if self.outcome.best is None else self.outcome.best.score

    @property
    def trials(self) -> Sequence[Tried]:
        """The trials, the best first."""
        return self.outcome.trials

    @property
    def case(self) -> Case | None:
        """The best case, ready for `compare.run`."""
        return self.outcome.case

    @property
    def verdict(self) -> Verdict | None:
        """Whether both sides train the best case alike."""
        return self.outcome.verdict

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.out / "report.html"

    def __repr__(self) -> str:
        return f"<TuneResult: {tune_conclusion(self.outcome)} {self.report}>"

    def _repr_html_(self) -> str:
        return as_html(lambda console: print_tuning(console, self.outcome), score_picture(self.outcome))
