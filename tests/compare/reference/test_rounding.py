"""What rounding is taken to do to a sum holds for sums that are really taken in float32, and hides no mistake."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from compare.judge.margins import MONTE_CARLO_MARGIN, MONTE_CARLO_SAMPLES
from compare.reference.activations import ACTIVATIONS
from compare.reference.rounding import deviations, plain, working
from compare.reference.sums import sum_over_examples, sum_rows

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


def fading(generator: np.random.Generator) -> np.ndarray:
    """A few large terms, then thousands that are too small to change their sum one by one."""
    return np.where(np.arange(ROWS) < 64, 1, 2e-6)[:, None] * generator.uniform(0.5, 1.5, (ROWS, 3))


def padded(generator: np.random.Generator) -> np.ndarray:
    """Terms of which two thirds are zeros, of timesteps that do not count."""
    return np.where(generator.random((ROWS, 1)) < 0.67, 0.0, generator.normal(0.5, 1, (ROWS, 3)))


def tolerance(function: Callable[..., np.ndarray], *operands: np.ndarray) -> float:
    """How far from the exact result of a computation the judge lets a side be."""
    rounded = function(*map(working("float32", MONTE_CARLO_SAMPLES).array, operands))
    assert (plain(rounded) == function(*operands)).all()
    return float(MONTE_CARLO_MARGIN * np.abs(deviations(rounded, MONTE_CARLO_SAMPLES)).max())


@pytest.mark.parametrize(
    "terms_of", [either_sign, one_sign, alike, nearly_alike, equal, padded, fading], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("seed", range(5))
def test_float32_sums_over_examples_are_rounding(
    terms_of: Callable[[np.random.Generator], np.ndarray], seed: int
) -> None:
    """A float32 sum one by one or of pairs is within what is allowed; one of which 1 of 200 terms is lost is not."""
    terms = terms_of(np.random.default_rng(seed)).astype(np.float32).astype(np.float64)
    limit = tolerance(sum_over_examples, terms)
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

    limit = tolerance(sum_over_examples, right.astype(np.float64), left.astype(np.float64))
    assert np.abs(obtained - exact).max() <= limit


def test_rows_of_a_table_are_summed_alike() -> None:
    """The gradient of an embedding, whose rows are looked up again and again, is within what is allowed."""
    generator = np.random.default_rng(2)
    tokens, values = generator.integers(0, 3, ROWS), alike(generator).astype(np.float32).astype(np.float64)
    obtained, exact = np.zeros((3, 3), np.float32), np.zeros((3, 3))
    np.add.at(obtained, tokens, values.astype(np.float32))
    np.add.at(exact, tokens, values)

    assert np.abs(obtained - exact).max() <= tolerance(lambda rows: sum_rows(rows, tokens, 3), values)


def test_equal_numbers_are_rounded_equally() -> None:
    """One operation rounds a number the same way wherever it stands; another operation rounds it another way."""
    numbers = np.tile(np.linspace(0.1, 0.9, 9), (4, 1))
    rounded = working("float32", 4).array(numbers)
    once, again = (3 * rounded).errors, (3 * rounded).errors

    assert (once == once[:, :1]).all()
    assert len(np.unique(once[0, 0] / numbers[0])) == 9
    assert (once != again).all()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_errors_are_up_and_down_alike(precision: str) -> None:
    """No error is below half an ulp or beyond one, in the mean there is none, and samples are independent."""
    numbers = np.random.default_rng(3).uniform(1, 2, 100_000)
    ulp = np.finfo(precision).eps / 2
    errors = deviations(working(precision, 4).array(numbers) + 0.0, 4) / (ulp * numbers)

    assert 0.5 - 1e-6 <= np.abs(errors).min() <= np.abs(errors).max() <= 1 + 1e-6
    assert np.abs(errors.mean(axis=1)).max() < 0.02
    assert np.abs(np.corrcoef(errors) - np.eye(4)).max() < 0.02


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)], ids=str)
def test_shapes_are_kept(shape: Sequence[int]) -> None:
    """A number stays a number and an array has its shape, whatever is rounded, beyond float32 too."""
    for value in (np.full(shape, 0.3), np.full(shape, 1e300)):
        assert (working("float32", 2).array(value) * 3).errors.shape == (2, *shape)


NUMBERS = np.linspace(0.1, 2.3, 23)

ERRORS = {
    "sum": (lambda x: x + 1.7, 1.0),
    "difference": (lambda x: 3.1 - x, 1.0),
    "product": (lambda x: x * 0.7, 1.0),
    "quotient": (lambda x: 1 / x, 1.0),
    "square": (lambda x: x**2, 1.0),
    "root": (np.sqrt, 1.0),
    "library function": (np.exp, 8.0),
    "of a view": (lambda x: x[::-1].reshape(1, 23).T + 1.7, 1.0),
    "of moved numbers": (lambda x: np.where(x > 1, np.concatenate([x[:20], x[20:]]), x) + 1.7, 1.0),
    "of new zeros": (lambda x: np.zeros_like(x, shape=3) + 1.7, 1.0),
    "matrix product": (lambda x: x[:, None] @ x[None, :], 2.0),
    "sum of all": (lambda x: np.sum(x)[None], 7.0),
}


@pytest.mark.parametrize(("operation", "ulps"), ERRORS.values(), ids=list(ERRORS))
def test_every_operation_is_rounded(operation: Callable[[np.ndarray], np.ndarray], ulps: float) -> None:
    """Every number that an operation gives is off by at most what the operation may err; plain numbers are exact."""
    rounded = operation(working("float32", 2).array(NUMBERS))
    errors = np.abs(rounded.errors / plain(rounded))
    assert (plain(rounded) == operation(NUMBERS)).all()

    # A library's error is of two parts, which may cancel each other.
    assert (0.49 if ulps < 8 else 0) < errors.min() <= errors.max() < ulps + 0.01


@pytest.mark.parametrize(
    "operation",
    [
        np.negative,
        np.abs,
        lambda x: np.maximum(x, 1),
        lambda x: x[3:],
        lambda x: 0.5 * x,
        lambda x: np.clip(x, -1, 1),
        lambda x: np.clip(x, x[2:3], x[-3:-2]),
    ],
    ids=["sign", "absolute", "maximum", "view", "half", "clip", "clip between numbers with a rounding"],
)
def test_what_has_no_rounding_error_is_exact(operation: Callable[[np.ndarray], np.ndarray]) -> None:
    """What IEEE 754 computes exactly stays as it is, and what follows it is rounded still."""
    exact = operation(working("float32", 2).array(NUMBERS))
    inexact = operation(working("float32", 2).array(NUMBERS) + 1.7)

    assert (plain(exact) == operation(NUMBERS)).all()
    assert exact.errors is None
    assert inexact.errors is not None
    assert ((exact + 3.14).errors != 0).all()


@pytest.mark.parametrize("operation", [np.cosh, np.floor, np.cumsum], ids=["cosh", "floor", "running sum"])
def test_an_operation_of_unknown_rounding_is_refused(operation: Callable[[np.ndarray], np.ndarray]) -> None:
    """What is not known to be rounded cannot pass as exact."""
    with pytest.raises(TypeError, match="is not known"):
        operation(working("float32", 2).array(NUMBERS))


# What carries errors on: of each, a formula whose plain form is differentiated by moving its numbers.
CARRIED = {
    "sum": lambda x: x + x[::-1],
    "difference": lambda x: 0.3 - x,
    "product": lambda x: x * x[::-1],
    "quotient": lambda x: x / x[::-1],
    "square": lambda x: x**2,
    "power": lambda x: x**1.5,
    "root": np.sqrt,
    "exponential": np.exp,
    "logarithm": np.log,
    "tanh": ACTIVATIONS["tanh"],
    "relu": lambda x: ACTIVATIONS["relu"](x - 1.05),
    "matrix product": lambda x: x[:, None] @ x[None, ::-1],
    "sum of all": lambda x: np.sum(x)[None],
    "sum over examples": lambda x: sum_over_examples(x[:, None], x[::-1, None]),
    "rows of a table": lambda x: sum_rows(x[:, None], np.arange(23) % 3, 3),
    "maximum": lambda x: np.maximum(x, x[::-1]),
    "largest": lambda x: np.max(x.reshape(1, 23), axis=-1),
    "choice": lambda x: np.where(NUMBERS > 1, x, -x),
    "joined": lambda x: np.stack([np.concatenate([x, x]), np.concatenate([-x, 2 * x])], axis=1),
    "transposed": lambda x: x.reshape(1, 23).T[3:],
}


@pytest.mark.parametrize("operation", CARRIED.values(), ids=list(CARRIED))
def test_errors_are_carried_on(operation: Callable[[np.ndarray], np.ndarray]) -> None:
    """What errors of numbers make of the result is what the numbers, moved by them, make of it, and twice is not."""
    rounding = working("float32", 3)
    moved = 1e4 * np.random.default_rng(4).normal(size=(3, 23)).astype(np.float32)  # far more than an operation errs
    obtained = deviations(operation(rounding.array(NUMBERS, moved)), 3)
    expected = np.stack([operation(NUMBERS + 1e-3 * rounding.ulp * sample) for sample in moved]) - operation(NUMBERS)

    scale = np.abs(1e3 * expected).max()
    assert np.abs(obtained - 1e3 * expected).max() < 0.02 * scale
    assert np.abs(obtained - 2e3 * expected).max() > 0.02 * scale
