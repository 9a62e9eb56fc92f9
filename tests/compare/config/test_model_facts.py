"""What a worker without pydantic knows of a case is what the case says."""

import pytest

from compare.config.case import built_in_names, load_case, with_fields
from compare.config.model_facts import ModelFacts, plain_case

FACTS = [name for name, value in vars(ModelFacts).items() if isinstance(value, property)]


@pytest.mark.parametrize("name", built_in_names())
def test_a_plain_case_is_the_case(name: str) -> None:
    """A case that was written and is read without validation has the same fields, of the same types, and facts."""
    case = load_case(name)
    plain = plain_case(case.model_dump(mode="json"))
    for section in ("model", "data", "training"):
        assert vars(getattr(plain, section)) == vars(getattr(case, section))
    for field in ("name", "task", "seed", "dtype", "expected_defects"):
        assert getattr(plain, field) == getattr(case, field)
    assert FACTS
    assert [getattr(plain.model, fact) for fact in FACTS] == [getattr(case.model, fact) for fact in FACTS]
    assert plain.model.layer_inputs("h", "c") == case.model.layer_inputs("h", "c")


def test_a_plain_schedule_is_the_schedule() -> None:
    """What a case has as tuples is not a list when it is read without validation."""
    fields = {"training.schedule": "piecewise", "training.boundaries": (2, 4), "training.values": (0.1, 0.01, 0.001)}
    case = with_fields(load_case("lstm"), fields)
    assert vars(plain_case(case.model_dump(mode="json")).training) == vars(case.training)
