"""What is said of whether a difference matters."""

from collections.abc import Iterable

from compare.effect.equivalence import Effect, Figure
from compare.report.wording import METRICS

ANSWERS = {
    "negligible": "less than other seeds make",
    "matters": "more than other seeds make",
    "undecided": "not decided",
}

# Figures whose size says nothing to divide by.
ABSOLUTE = ("r2", "accuracy")


def effect_sentence(effect: Effect) -> str:
    """Say in one sentence whether a difference matters, by which figures and how many seeds."""
    if not effect.figures:
        return f"Does it matter? {effect.note or 'no figure is there on both sides'}"
    parts = "; ".join(map(_figure, effect.figures))
    note = f"; {effect.note}" if effect.note else ""
    return (
        f"Does it matter? {ANSWERS[effect.answer]}: {parts} "
        f"(equivalence test against the standard deviation over {len(effect.seeds)} seeds{note})"
    )


def sentences(effects: Iterable[Effect]) -> dict[tuple[str, str], str]:
    """The sentence of each comparison, by its case and runner."""
    return {(effect.case, effect.runner): effect_sentence(effect) for effect in effects}


def _figure(figure: Figure) -> str:
    name = METRICS.get(figure.name, figure.name)
    apart, spread = abs(figure.difference), figure.spread
    size = abs(sum(figure.reference)) / len(figure.reference)
    if figure.name in ABSOLUTE or not size:
        return f"{name} {apart:.2g} apart, seeds alone {spread:.2g}"
    return f"{name} {100 * apart / size:.2g} % apart, seeds alone {100 * spread / size:.2g} %"
