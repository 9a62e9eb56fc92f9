"""What is negligible beside other seeds, what matters, and what a few seeds cannot tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.effect.equivalence import Effect, Figure, figures_of
from compare.report.effect import effect_sentence

SPREAD = (1.0, 1.1, 0.9, 1.05, 0.95, 1.2)


def figure(shift: float, noise: float = 0.0, reference: tuple[float, ...] = SPREAD, seed: int = 0) -> Figure:
    """A figure whose two sides are apart by a shift, and by noise that differs from seed to seed."""
    drawn = np.random.default_rng(seed).normal(shift, noise, len(reference))
    return Figure("mse", reference, tuple(np.add(reference, drawn).tolist()))


@given(shift=st.floats(-0.05, 0.05), seed=st.integers(0, 99))
def test_a_small_shift_is_negligible(shift: float, seed: int) -> None:
    """A shift far below the spread over the seeds, nearly the same at each, is negligible."""
    assert figure(shift, 1e-4, seed=seed).answer == "negligible"


@given(shift=st.floats(0.5, 100), sign=st.sampled_from([-1, 1]))
def test_a_large_shift_matters(shift: float, sign: int) -> None:
    """A shift of many times the spread matters, whichever side is better."""
    assert figure(sign * shift, 1e-3).answer == "matters"


def test_what_varies_too_much_is_not_decided() -> None:
    """Where the difference is now this way and now that, six seeds do not tell."""
    assert figure(0.05, 0.3).answer == "undecided"


@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-0.5, 0.5))
def test_units_do_not_count(scale: float, shift: float) -> None:
    """In other units the answer is the same."""
    own = figure(shift, 0.02)
    scaled = Figure("mse", tuple(scale * v for v in own.reference), tuple(scale * v for v in own.obtained))
    assert scaled.answer == own.answer


@pytest.mark.parametrize("answer", ["negligible", "matters"])
def test_a_shift_of_just_the_spread_is_seldom_decided(answer: str) -> None:
    """Drawn again and again with a shift of one true standard deviation, each answer comes in at most one of ten."""
    generator = np.random.default_rng(1)
    answers = []
    for _ in range(400):
        reference = generator.normal(10, 1, 6)
        obtained = reference + generator.normal(1, 0.05, 6)
        answers.append(Figure("mse", tuple(reference.tolist()), tuple(obtained.tolist())).answer)
    assert answers.count(answer) <= 40 + 3 * 6  # three standard deviations of such a count


def test_without_a_spread_nothing_is_negligible() -> None:
    """Where all seeds make the same figure there is nothing that a difference could be small beside."""
    assert figure(0.1, reference=(1.0, 1.0, 1.0)).answer == "matters"
    assert figure(0.0, reference=(1.0, 1.0, 1.0)).answer == "undecided"


def test_figures_that_a_seed_lacks_are_left_out() -> None:
    """A figure that is missing or infinite at a seed is not compared; seeds that one side lacks are not either."""
    reference = {0: {"mse": 1.0, "r2": None}, 1: {"mse": 2.0, "r2": 0.5}, 2: {"mse": 9.0, "r2": 0.1}}
    obtained = {0: {"mse": 1.5, "r2": 0.1}, 1: {"mse": 2.5, "r2": 0.5}}
    (only,) = figures_of(reference, obtained)
    assert (only.name, only.reference, only.obtained) == ("mse", (1.0, 2.0), (1.5, 2.5))
    assert figures_of(reference, {0: {"mse": 1.0}}) == ()
    assert figures_of({0: {"mse": float("inf")}, 1: {"mse": 1.0}}, {0: {"mse": 1.0}, 1: {"mse": 1.0}}) == ()


def test_one_figure_that_matters_is_enough() -> None:
    """An effect matters where one of its figures does, and is negligible where all are."""
    small, large, unclear = figure(0.01), figure(1.0), figure(0.05, 0.3)
    for figures, answer in (
        ((small, large), "matters"),
        ((small,), "negligible"),
        ((small, unclear), "undecided"),
        ((), "undecided"),
    ):
        assert Effect("lstm", "keras-jax", "torch", (0, 1), figures).answer == answer


def test_the_sentence_has_the_figures_and_the_seeds() -> None:
    """It is said how far apart the sides are, beside the spread of how many seeds; or why nothing was measured."""
    effect = Effect("lstm", "keras-jax", "torch", (0, 1, 2, 3, 4, 5), (figure(0.01),))
    said = effect_sentence(effect)
    assert said.startswith("Does it matter? less than other seeds make: MSE 0.97 % apart, seeds alone 10 %")
    assert "over 6 seeds" in said
    assert effect_sentence(Effect("a", "b", "c", note="not measured: too long")).endswith("not measured: too long")
