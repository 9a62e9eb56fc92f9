"""Sampling inverts the distribution that the logits say, with the numbers given and no others."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.data.text_sampling import Sample, draw_uniforms, sample_ids, sample_text

PROBABILITIES = np.array([0.5, 0.0625, 0.25, 0.1875])
LOGITS = np.log(PROBABILITIES) + 7

SampleIds = Callable[..., Sample]


def test_each_number_chooses_the_id_in_whose_share_it_lies() -> None:
    """Shares of 8/16, 1/16, 4/16 and 3/16: a number on a border belongs to the share above it."""
    numbers = np.array([0, 0.49, 0.5000001, 0.56, 0.5626, 0.81, 0.8126, 0.999999])
    sample = sample_ids(np.tile(LOGITS, (8, 1)), numbers)
    assert sample.ids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    even = sample_ids(np.zeros((4, 4)), np.array([0, 0.25, 0.5, 0.75]))
    assert even.ids.tolist() == [0, 1, 2, 3]


def check_shares(sample: SampleIds, temperature: float) -> None:
    """Raise AssertionError unless evenly spread numbers choose each id as often as its probability says."""
    count = 20_000
    numbers = (np.arange(count) + 0.5) / count
    ids = sample(np.tile(LOGITS, (count, 1)), numbers, temperature).ids
    expected = PROBABILITIES ** (1 / temperature)
    np.testing.assert_allclose(np.bincount(ids, minlength=4) / count, expected / expected.sum(), atol=2 / count)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_ids_are_chosen_as_often_as_they_are_probable(temperature: float) -> None:
    """The shares are those of the probabilities to the power of one over the temperature, scaled to sum to one."""
    check_shares(sample_ids, temperature)


def temperature_forgotten(logits: np.ndarray, uniforms: np.ndarray, temperature: float) -> Sample:
    """Planted: the temperature does nothing."""
    return sample_ids(logits, uniforms)


def temperature_multiplied(logits: np.ndarray, uniforms: np.ndarray, temperature: float) -> Sample:
    """Planted: logits are multiplied by the temperature."""
    return sample_ids(logits, uniforms, 1 / temperature)


def probabilities_for_logits(logits: np.ndarray, uniforms: np.ndarray, temperature: float) -> Sample:
    """Planted: the softmax is taken twice."""
    return sample_ids(np.exp(logits - 7), uniforms, temperature)


@pytest.mark.parametrize("fault", [temperature_forgotten, temperature_multiplied, probabilities_for_logits])
def test_wrong_shares_are_caught(fault: SampleIds) -> None:
    """The check of the shares fails for a temperature that is wrong and for probabilities in place of logits."""
    with pytest.raises(AssertionError):
        check_shares(fault, 0.5)


def test_temperature_zero_takes_the_largest() -> None:
    """At temperature 0 the numbers decide nothing, and low temperatures come to the same."""
    logits = np.random.default_rng(0).normal(size=(50, 7))
    numbers = draw_uniforms(1, 50)
    greedy = sample_ids(logits, numbers, 0)
    assert greedy.ids.tolist() == logits.argmax(axis=1).tolist()
    assert (greedy.margins > 0).all()
    assert sample_ids(logits, numbers, 1e-6).ids.tolist() == greedy.ids.tolist()


@given(
    logits=st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=6),
    number=st.floats(0, 1, exclude_max=True),
    temperature=st.floats(0, 1e3),
)
def test_every_number_chooses_a_possible_id(logits: list[float], number: float, temperature: float) -> None:
    """Whatever the logits, the id is one of them, of a probability above zero, and its margin is not negative."""
    sample = sample_ids(np.array([logits]), np.array([number]), temperature)
    (chosen,) = sample.ids
    assert 0 <= chosen < len(logits)
    assert (logits[chosen] - max(logits)) / (temperature or 1.0) > -800
    assert sample.margins[0] >= 0


def test_margins_say_how_far_another_id_was() -> None:
    """Moved by less than its margin a number chooses the same id, moved by a little more to the nearer side another."""
    logits, number = LOGITS[None], np.array([0.53])
    sample = sample_ids(logits, number)
    assert sample.margins[0] == pytest.approx(0.03)
    assert sample_ids(logits, number - 0.029).ids == sample.ids
    assert sample_ids(logits, number - 0.031).ids != sample.ids
    # The first and the last share have a border on one side alone.
    assert sample_ids(logits, np.array([0.01])).margins[0] == pytest.approx(0.49)
    assert sample_ids(logits, np.array([0.99])).margins[0] == pytest.approx(0.99 - 0.8125)


@pytest.mark.parametrize(
    ("logits", "uniforms", "temperature", "message"),
    [
        (np.array([[0, np.nan]]), np.array([0.5]), 1, "not finite"),
        (np.array([[0, np.inf]]), np.array([0.5]), 1, "not finite"),
        (np.zeros((1, 2)), np.array([1.0]), 1, r"in \[0, 1\)"),
        (np.zeros((1, 2)), np.array([np.nan]), 1, r"in \[0, 1\)"),
        (np.zeros((1, 2)), np.array([0.5]), -1, "temperature -1"),
        (np.zeros((1, 2)), np.array([0.5]), np.nan, "temperature nan"),
        (np.zeros((1, 2)), np.array([0.5, 0.5]), 1, "are not"),
        (np.zeros((1, 0)), np.array([0.5]), 1, "are not"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    logits: np.ndarray, uniforms: np.ndarray, temperature: float, message: str
) -> None:
    """Logits, numbers and temperatures that make no distribution are refused."""
    with pytest.raises(ValueError, match=message):
        sample_ids(logits, uniforms, temperature)


def after_the_last(ids: np.ndarray) -> np.ndarray:
    """A model that is certain: after id n comes n + 1, after 3 comes 0."""
    return 50.0 * np.eye(4)[(ids[-1] + 1) % 4]


def test_text_goes_on_from_what_was_sampled() -> None:
    """Each id is fed back to choose the next, and the prompt is not part of what is returned."""
    seen = []

    def predict(ids: np.ndarray) -> np.ndarray:
        seen.append(ids.tolist())
        return after_the_last(ids)

    sample = sample_text(predict, [2, 1], draw_uniforms(0, 5))
    assert sample.ids.tolist() == [2, 3, 0, 1, 2]
    assert seen == [[2, 1], [2, 1, 2], [2, 1, 2, 3], [2, 1, 2, 3, 0], [2, 1, 2, 3, 0, 1]]
    assert sample.margins.shape == (5,)


def test_two_models_given_the_same_numbers_write_the_same() -> None:
    """Probabilities that differ by less than every margin give the same text; other numbers give another."""
    table = np.random.default_rng(3).normal(size=(6, 6))
    numbers = draw_uniforms(5, 60)
    first = sample_text(lambda ids: table[ids[-1]], [0], numbers)
    second = sample_text(lambda ids: table[ids[-1]] + 1e-7, [0], numbers)
    assert first.margins.min() > 1e-6
    assert first.ids.tolist() == second.ids.tolist()
    assert first.ids.tolist() != sample_text(lambda ids: table[ids[-1]], [0], draw_uniforms(6, 60)).ids.tolist()
    assert first.ids.tolist() != sample_text(lambda ids: table[ids[-1]] * 1.5, [0], numbers).ids.tolist()


def test_prompts_and_models_of_no_use_are_refused() -> None:
    """An empty prompt and logits of another shape are refused."""
    with pytest.raises(ValueError, match="prompt is empty"):
        sample_text(after_the_last, [], draw_uniforms(0, 2))
    with pytest.raises(ValueError, match=r"returned \[1, 4\]"):
        sample_text(lambda ids: after_the_last(ids)[None], [0], draw_uniforms(0, 2))


def test_the_numbers_follow_from_the_seed() -> None:
    """The same seed gives the same numbers, and a longer text begins with the numbers of a shorter one."""
    assert draw_uniforms(3, 5).tolist() == draw_uniforms(3, 8)[:5].tolist()
    assert draw_uniforms(3, 5).tolist() != draw_uniforms(4, 5).tolist()
