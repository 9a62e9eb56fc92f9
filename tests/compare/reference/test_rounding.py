"""What rounding is taken to do to a sum holds for sums that are really taken in float32, and hides no mistake."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from compare.judge.margins import MONTE_CARLO_MARGIN, MONTE_CARLO_SAMPLES
from compare.reference.rounding import EXACT, Rounding, working

ROWS = 6400  # 64 examples of 100 timesteps


def either_sign(generator: np.random.Generator) -> np.ndarray:
    """Terms that cancel each other for the most part."""
    return generator.normal(0, 1, (ROWS, 3))


def one_sign(generator: np.random.Generator) -> np.ndarray:
    """Terms whose partial sums grow evenly, as a bias's gradient where every prediction is too small."""
    return generator.uniform(0.5, 1.5, (ROWS, 3))


def alike(generator: np.random.Generator) -> np.ndarray:
    """Few different terms, each coming often, as of a text that repeats itself."""
    return np.tile(generator.normal(0.1, 1, (4, 3)), (ROWS // 4, 1))


def nearly_alike(generator: np.random.Generator) -> np.ndarray:
    """The gradient of a softmax that says the same of every example, but for the last bits: no row has a sum."""
    exponentials = np.exp(generator.normal(0, 0.1, 30) + 1e-7 * generator.normal(0, 1, (ROWS, 30)))
    return exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(30)[generator.integers(0, 30, ROWS)]


def equal(generator: np.random.Generator) -> np.ndarray:
    """One term alone, over and over."""
    return np.tile(generator.normal(0, 1, (1, 3)), (ROWS, 1))


def padded(generator: np.random.Generator) -> np.ndarray:
    """Terms of which two thirds are zeros, of timesteps that do not count."""
    return np.where(generator.random((ROWS, 1)) < 0.67, 0.0, generator.normal(0.5, 1, (ROWS, 3)))


def rounded(function: Callable[[Rounding], np.ndarray]) -> list[np.ndarray]:
    """A computation, rounded as the judge has it rounded."""
    return [function(working("float32", seed)) for seed in range(MONTE_CARLO_SAMPLES)]


def allowed(function: Callable[[Rounding], np.ndarray]) -> float:
    """How far the judge lets a side stray from the exact result of a computation."""
    exact = function(EXACT)
    return float(MONTE_CARLO_MARGIN * max(np.abs(one - exact).max() for one in rounded(function)))


@pytest.mark.parametrize(
    "terms_of", [either_sign, one_sign, alike, nearly_alike, equal, padded], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("seed", range(5))
def test_float32_sums_over_examples_are_rounding(
    terms_of: Callable[[np.random.Generator], np.ndarray], seed: int
) -> None:
    """A float32 sum one by one or of pairs is within what is allowed; one of which 1 of 200 terms is lost is not."""
    terms = terms_of(np.random.default_rng(seed)).astype(np.float32).astype(np.float64)
    limit = allowed(lambda rounding: rounding.sum_over_examples(terms))
    narrow = terms.astype(np.float32)
    for obtained in (np.add.accumulate(narrow, axis=0)[-1], narrow.sum(axis=0)):
        assert np.abs(obtained - terms.sum(axis=0)).max() <= limit
    assert np.abs(np.delete(terms, slice(0, None, 200), axis=0).sum(axis=0) - terms.sum(axis=0)).max() > limit


@pytest.mark.parametrize("kind", [one_sign, alike], ids=lambda kind: kind.__name__)
def test_float32_products_over_examples_are_rounding(kind: Callable[[np.random.Generator], np.ndarray]) -> None:
    """The gradient of a kernel, summed one by one in float32, is within what is allowed."""
    generator = np.random.default_rng(1)
    left, right = (kind(generator).astype(np.float32) for _ in range(2))
    exact = left.astype(np.float64).T @ right.astype(np.float64)
    obtained = np.add.accumulate(left[:, :, None] * right[:, None, :], axis=0)[-1]

    limit = allowed(lambda rounding: rounding.sum_over_examples(right.astype(np.float64), left.astype(np.float64)))
    assert np.abs(obtained - exact).max() <= limit


def test_rows_of_a_table_are_summed_alike() -> None:
    """The gradient of an embedding, whose rows are looked up again and again, is within what is allowed."""
    generator = np.random.default_rng(2)
    tokens, values = generator.integers(0, 3, ROWS), alike(generator).astype(np.float32).astype(np.float64)
    obtained, exact = np.zeros((3, 3), np.float32), np.zeros((3, 3))
    np.add.at(obtained, tokens, values.astype(np.float32))
    np.add.at(exact, tokens, values)

    assert np.abs(obtained - exact).max() <= allowed(lambda rounding: rounding.sum_rows(values, tokens, 3))


def test_equal_numbers_are_rounded_equally() -> None:
    """One operation rounds a number the same way wherever it stands; another operation rounds it another way."""
    rounding = working("float32", 0)
    numbers = np.tile(np.linspace(0.1, 0.9, 9), (4, 1))
    once, again = rounding(numbers), rounding(numbers)

    assert (once == once[0]).all()
    assert len(np.unique(once[0] / numbers[0])) == 9
    assert (once != again).all()


@pytest.mark.parametrize(("precision", "least", "most"), [("float32", 0.5, 1.0), ("float64", 0.0, 2.0)])
def test_errors_are_up_and_down_alike(precision: str, least: float, most: float) -> None:
    """No error is small or beyond one unit, but as float64 rounds it itself, and in the mean there is none."""
    numbers = np.random.default_rng(3).uniform(1, 2, 100_000)
    unit = np.finfo(precision).eps / 2
    errors = (working(precision, 1)(numbers) - numbers) / (unit * numbers)

    assert least - 1e-6 <= np.abs(errors).min() <= np.abs(errors).max() <= most + 1e-6
    assert abs(errors.mean()) < 0.02


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)], ids=str)
def test_shapes_are_kept(shape: Sequence[int]) -> None:
    """A number stays a number and an array has its shape, whatever is rounded, beyond float32 too."""
    for value in (np.full(shape, 0.3), np.full(shape, 1e300)):
        assert np.shape(working("float32", 0)(value)) == shape
