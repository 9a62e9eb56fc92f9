"""An equivalence test: whether two sides' figures are closer than other seeds are to one another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Answer = Literal["negligible", "matters", "undecided"]

# Of each one-sided bound, on the mean difference and on the spread that it is held against: a shift of just the spread
# is called negligible, or said to matter, in at most one of ten cases each.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Figure:
    """One figure of both sides by seed, and whether its mean difference lies within the spread over the seeds.

    Two one-sided t-tests on the paired differences (Schuirmann 1987): with the same seed both sides have the same
    weights and batches. The margin is the standard deviation of the reference's figure over all seeds that there could
    be, of which those here tell only bounds (chi-square): the lower one is to be kept, the upper one to be exceeded.
    """

    name: str
    reference: tuple[float, ...]
    obtained: tuple[float, ...]

    @property
    def difference(self) -> float:
        """The mean of obtained minus reference."""
        return float(np.mean(np.subtract(self.obtained, self.reference)))

    @property
    def spread(self) -> float:
        """The standard deviation of the reference over the seeds."""
        return float(np.std(self.reference, ddof=1))

    @property
    def margins(self) -> tuple[float, float]:
        """The bounds on the standard deviation over all seeds."""
        from scipy.stats import chi2  # takes half a second

        freedom = len(self.reference) - 1
        low, high = (freedom / float(chi2.ppf(part, freedom)) for part in (1 - SIGNIFICANCE, SIGNIFICANCE))
        return self.spread * low**0.5, self.spread * high**0.5

    @property
    def half_width(self) -> float:
        """Half of the width of the difference's confidence interval, of 90 % for a significance of 5 %."""
        from scipy.stats import t  # takes half a second

        differences = np.subtract(self.obtained, self.reference)
        deviation = float(np.std(differences, ddof=1))
        return float(t.ppf(1 - SIGNIFICANCE, len(differences) - 1)) * deviation / len(differences) ** 0.5

    @property
    def answer(self) -> Answer:
        """Negligible where the whole interval lies within the lower margin, matters where all lies beyond the upper."""
        apart, half_width, (low, high) = abs(self.difference), self.half_width, self.margins
        if apart + half_width < low:
            return "negligible"
        return "matters" if apart - half_width > high else "undecided"

    def as_json(self) -> dict[str, Any]:
        """The form in which `verdict.json` has it."""
        difference, half_width = self.difference, self.half_width
        return {
            "name": self.name,
            "reference": list(self.reference),
            "obtained": list(self.obtained),
            "mean_difference": difference,
            "confidence_interval": [difference - half_width, difference + half_width],
            "spread": self.spread,
            "margins": list(self.margins),
            "answer": self.answer,
        }


@dataclass(frozen=True)
class Effect:
    """Whether the difference of a comparison matters: figures over the seeds it rests on, or why there are none."""

    case: str
    runner: str
    reference: str
    seeds: tuple[int, ...] = ()
    figures: tuple[Figure, ...] = ()
    note: str = ""

    @property
    def answer(self) -> Answer:
        """Matters where any figure does, negligible where all are."""
        answers = {figure.answer for figure in self.figures}
        if "matters" in answers:
            return "matters"
        return "negligible" if answers == {"negligible"} else "undecided"

    def as_json(self) -> dict[str, Any]:
        """The form in which `verdict.json` has it."""
        return {
            "case": self.case,
            "runner": self.runner,
            "reference": self.reference,
            "seeds": list(self.seeds),
            "answer": self.answer if self.figures else None,
            "figures": [figure.as_json() for figure in self.figures],
            "note": self.note,
        }


def figures_of(
    reference: Mapping[int, Mapping[str, float | None]], obtained: Mapping[int, Mapping[str, float | None]]
) -> tuple[Figure, ...]:
    """Pair the figures of both sides, by name and by the seeds that all have; one that a seed lacks is left out."""
    seeds = [seed for seed in reference if seed in obtained]
    if len(seeds) < 2:
        return ()
    figures = []
    for name in dict.fromkeys(name for seed in seeds for name in reference[seed]):
        expected, own = ([side[seed].get(name) for seed in seeds] for side in (reference, obtained))
        if not _whole(expected) or not _whole(own):
            continue
        figures.append(Figure(name, tuple(map(float, expected)), tuple(map(float, own))))  # type: ignore[arg-type]
    return tuple(figures)


def _whole(values: Sequence[float | None]) -> bool:
    return all(value is not None and np.isfinite(value) for value in values)
