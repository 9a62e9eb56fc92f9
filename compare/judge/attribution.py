"""Which side is off in a difference of the trajectory, as far as the traces tell it themselves."""

from collections.abc import Sequence
from dataclasses import replace

from compare.judge.ensemble import EnsembleDrift
from compare.judge.self_consistency import SELF_KINDS
from compare.judge.trajectory import BEYOND
from compare.judge.verdict import Difference


def with_off_sides(
    differences: Sequence[Difference], reference: str, runner: str, ensemble: EnsembleDrift, is_repeated: bool
) -> list[Difference]:
    """Name the side that is off in each difference of the trajectory that names none.

    A side that does not do in its training what it does in a step alone, or does not repeat itself, is off from there
    on; so is the `reference`, the PyTorch side, where its members part further than rounding explains. Where none of
    this shows and the training of the reference `is_repeated`, that is the one that its steps come to when they are
    taken one by one: then it is the other, `runner`, that is off.
    """
    own: dict[str, int] = {}
    for difference in differences:
        if difference.kind in SELF_KINDS:
            own[difference.off_side] = min(difference.step, own.get(difference.off_side, difference.step))

    def off_side(difference: Difference) -> str:
        off = [side for side, step in own.items() if step <= difference.step]
        at = min(difference.step, len(ensemble.unexplained) - 1)
        if not off and at >= 0 and ensemble.unexplained[at]:
            return reference
        if not off and is_repeated:
            return runner
        return off[0] if len(off) == 1 else "both" if off else "unknown"

    return [
        replace(difference, off_side=off_side(difference))
        if difference.kind == BEYOND and difference.off_side == "unknown"
        else difference
        for difference in differences
    ]
