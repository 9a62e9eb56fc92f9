"""What a verdict costs is measured by part, fitted as a sum of work, and told before a run that takes long."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.bench.cost import CostModel, Prediction, Work, exponent, fit, packaged, predict, work_of
from compare.bench.growth import DIMENSIONS, Growth, Point, case_of, measure_growth
from compare.config.case import load_case, with_fields
from compare.experiment.experiment import make_experiment
from compare.report.growth_table import draw_growth, markdown

COEFFICIENTS = (0.5, 1e-3, 2e-4, 3e-10, 1e-2, 1e-3, 5e-9)


def works() -> list[Work]:
    """As many kinds of work as there are terms, and more."""
    sizes = [(steps, t, b) for steps in (10, 100, 1000) for t in (10, 100) for b in (1e6, 1e8, 1e9)]
    return [Work(steps, 2 + steps.bit_length(), timesteps, operations) for steps, timesteps, operations in sizes]


def test_a_sum_of_work_is_found_again() -> None:
    """Costs that are such a sum are predicted, of work that was not measured too."""
    model = fit({"judging": [(work, float(np.dot(COEFFICIENTS, work.terms))) for work in works()]})
    other = Work(5000, 14, 50, 3e8)
    assert model.seconds("judging", other) == pytest.approx(float(np.dot(COEFFICIENTS, other.terms)), rel=1e-3)


@given(st.lists(st.floats(1e-3, 1e3), min_size=18, max_size=18))
def test_no_cost_is_negative(seconds: list[float]) -> None:
    """Whatever was measured, no term is negative: more work never costs less."""
    model = fit({"torch": list(zip(works(), seconds, strict=True))})
    assert min(model.parts["torch"]) >= 0
    smaller, larger = works()[0], works()[-1]
    assert model.seconds("torch", smaller) <= model.seconds("torch", larger)


@pytest.mark.parametrize("points", [[], [(works()[0], 0.0)], [(works()[0], float("nan"))]], ids=["none", "zero", "nan"])
def test_what_was_not_measured_is_refused(points: list[tuple[Work, float]]) -> None:
    """A part without a measurement, or with one that took no time, is no measurement."""
    with pytest.raises(ValueError, match="must have taken some time"):
        fit({"torch": points})


@given(st.floats(0.1, 3), st.floats(1e-3, 10))
def test_an_exponent_is_the_slope(power: float, scale: float) -> None:
    """Seconds that grow with a power have it as their exponent."""
    values = [10.0, 30.0, 100.0, 300.0]
    assert exponent(values, [scale * value**power for value in values]) == pytest.approx(power)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ((240.0, 120.0, 180.0), "about 9 minutes: 4 training, 2 ensemble, 3 judging"),
        ((7200.0, 3600.0, 1800.0), "about 3.5 hours: 2 training, 1 ensemble, 0.5 judging"),
        ((30.0, 20.0, 15.0), "about 65 seconds: 30 training, 20 ensemble, 15 judging"),
    ],
    ids=["minutes", "hours", "seconds"],
)
def test_a_prediction_is_said_in_one_line(seconds: tuple[float, float, float], text: str) -> None:
    """The whole and its parts, in the unit that fits."""
    assert str(Prediction(*seconds)) == text


def test_a_larger_case_is_predicted_to_cost_more() -> None:
    """By the figures that come with the package every size of a case counts, and so does each backend."""
    runners = ["torch", "keras-torch"]
    small = load_case("lstm")
    costs = predict([make_experiment(small)], runners, 2).seconds
    for field, value in (("model.units", 400), ("model.layers", 3), ("data.window", 60), ("training.epochs", 200)):
        assert predict([make_experiment(with_fields(small, {field: value}))], runners, 2).seconds > costs
    assert predict([make_experiment(small)], [*runners, "keras-jax"], 2).seconds > costs
    assert packaged().parts.keys() >= {"torch", "keras-torch", "keras-tensorflow", "keras-jax", "ensemble", "judging"}


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_dimension_grows_alone(dimension: str) -> None:
    """A value of a dimension is that of its case, and the work that the others make stays."""
    base = {"units": 4, "timesteps": 5, "batch": 8, "steps": 20}
    experiment = make_experiment(case_of("gru", base | {dimension: 40}))
    case = experiment.case
    sizes = {
        "units": case.model.units,
        "timesteps": case.data.window,
        "batch": case.training.batch_size,
        "steps": experiment.steps,
    }
    assert sizes == base | {dimension: 40}
    assert work_of(experiment).steps == experiment.steps


@pytest.fixture(scope="module")
def growth() -> Growth:
    """A tiny GRU's growth in two values of two dimensions on torch."""
    return measure_growth("gru", ["torch"], dimensions={"units": (2, 4), "steps": (5, 40, 80)}, budget=1e-3)


@pytest.mark.slow
def test_growth_is_measured_by_part(growth: Growth) -> None:
    """Each value has every part; a dimension ends with the value that takes longer than the budget."""
    assert [(point.dimension, point.value) for point in growth.points] == [("units", 2), ("steps", 5)]
    assert growth.parts == ["stock", "torch", "keras-torch", "ensemble", "judging"]
    assert all(second > 0 for point in growth.points for second in point.seconds.values())


def test_growth_is_told_in_a_table_and_a_picture() -> None:
    """The table has each point and the exponents of what has two, the picture each part."""
    works = {value: Work(20, 6, value, 1e6 * value) for value in (10, 100)}
    seconds = {"stock": 1.0, "torch": 2.0, "ensemble": 5.0, "judging": 4.0}
    points = [
        Point("timesteps", value, work, {part: second * value for part, second in seconds.items()})
        for value, work in works.items()
    ]
    growth = Growth("lstm", points, CostModel({part: [1.0] * 7 for part in seconds}))
    table = markdown(growth, {"Python": "3"}, "growth.svg")
    assert "| timesteps | 100 | 100 | 200 | 500 | 400 | 4.0 |" in table
    assert "| timesteps | exponent | 1.00 | 1.00 | 1.00 | 1.00 |  |" in table
    assert all(part in draw_growth(growth) for part in seconds)
    assert growth.as_json()["exponents"]["units"] == {}
    alone = replace(growth, points=points[:1])
    assert "exponent" not in markdown(alone, {}, "growth.svg").partition("| grows")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--growth"], "--growth takes one of"),
        (["deep", "--growth"], "--growth takes one of"),
        (["lstm", "--growth", "--set", "model.units=3"], "no --set"),
        (["lstm", "--growth", "--budget", "0"], "must be positive"),
        (["lstm", "--budget", "5"], "--budget is of --growth"),
    ],
    ids=["no-case", "other-case", "set", "budget", "budget-alone"],
)
def test_bad_input_is_refused(refused: Callable[..., str], arguments: list[str], message: str) -> None:
    """What growth cannot do is said, and nothing is measured."""
    assert message in refused("bench", *arguments)
