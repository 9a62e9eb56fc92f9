"""What a case may ask of its training, and what it says where that makes no sense."""

from typing import Any

import pytest

from compare.config.case import case_from_json, case_from_toml, make_case, parse_setting, with_fields
from compare.errors import InputError

PIECES = {"schedule": "piecewise", "boundaries": [10, 20], "values": [0.1, 0.01, 0.001]}

ACCEPTED = {
    "default": {},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    "rmsprop": {"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.0},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01, "clipvalue": 1},
    "clipnorm": {"optimizer": "nadam", "clipnorm": 1.0},
    "global-clipnorm": {"optimizer": "adagrad", "global_clipnorm": 0.5},
    "exponential": {"schedule": "exponential", "decay_steps": 100, "decay_rate": 0.9},
    "cosine": {"schedule": "cosine", "decay_steps": 100, "learning_rate": 0.1},
    "piecewise": PIECES,
    "piecewise-with-first-rate": {**PIECES, "learning_rate": 0.1},
}

REFUSED = {
    "misspelt": (
        {"optimizer": "adm"},
        "training.optimizer = 'adm' is unknown; did you mean 'adam'? accepted: adadelta,",
    ),
    "unknown": (
        {"optimizer": "lion"},
        "training.optimizer = 'lion' is unknown; accepted: adadelta, adagrad, adam, adamax",
    ),
    "misspelt-schedule": ({"schedule": "cosin"}, "training.schedule = 'cosin' is unknown; did you mean 'cosine'?"),
    "misspelt-field": ({"clip_norm": 1.0}, "field 'training.clip_norm' is unknown; did you mean 'training.clipnorm'?"),
    "momentum": ({"momentum": 0.9}, "momentum belongs to sgd and rmsprop, not to adam"),
    "nesterov": (
        {"optimizer": "rmsprop", "momentum": 0.9, "nesterov": True},
        "nesterov belongs to sgd, not to rmsprop",
    ),
    "nesterov-alone": ({"optimizer": "sgd", "nesterov": True}, "nesterov needs a momentum above 0"),
    "two-clippings": ({"clipvalue": 1.0, "clipnorm": 1.0}, "clipvalue and clipnorm exclude each other; keep one"),
    "no-clipping-at-all": ({"clipnorm": 0.0}, "training.clipnorm = 0.0: input should be greater than 0"),
    "negative-decay": (
        {"weight_decay": -0.1},
        "training.weight_decay = -0.1: input should be greater than or equal to 0",
    ),
    "decay-of-constant": ({"decay_steps": 10}, "schedule 'constant' does not use decay_steps; leave it out"),
    "no-decay-steps": ({"schedule": "exponential"}, "schedule 'exponential' needs decay_steps and decay_rate"),
    "no-decay-rate": ({"schedule": "exponential", "decay_steps": 9}, "schedule 'exponential' needs decay_rate"),
    "rate-of-cosine": (
        {"schedule": "cosine", "decay_steps": 9, "decay_rate": 0.5},
        "schedule 'cosine' does not use decay_rate; leave it out",
    ),
    "no-values": ({"schedule": "piecewise", "boundaries": [3]}, "schedule 'piecewise' needs values"),
    "too-few-values": ({**PIECES, "values": [0.1, 0.01]}, "2 boundaries need 3 values, not 2"),
    "boundaries-back": ({**PIECES, "boundaries": [20, 10]}, "boundaries must be steps that increase, not [20, 10]"),
    "negative-boundary": ({**PIECES, "boundaries": [-1, 10]}, "boundaries must be steps that increase, not [-1, 10]"),
    "zero-rate": ({**PIECES, "values": [0.1, 0.0, 0.1]}, "values are learning rates and must be above 0"),
    "other-first-rate": (
        {**PIECES, "learning_rate": 0.5},
        "takes its learning rates from values; leave learning_rate out",
    ),
}


def fields(training: dict[str, Any]) -> dict[str, Any]:
    """A case's fields with the given training."""
    return {"name": "given", "model": {"cell": "gru"}, "training": training}


@pytest.mark.parametrize("training", ACCEPTED.values(), ids=ACCEPTED)
def test_what_makes_sense_is_kept(training: dict[str, Any]) -> None:
    """A training survives TOML, JSON and a change of another field, tuples included."""
    case = make_case(fields(training), "given")
    assert case_from_toml(case.to_toml()) == case
    assert case_from_json(case.to_json()) == case
    assert with_fields(case, {"model.units": 7}).training == case.training
    for name, value in training.items():
        assert getattr(case.training, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(("training", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused(training: dict[str, Any], message: str) -> None:
    """A combination that cannot be meant is an error that says what belongs together, or the nearest name."""
    with pytest.raises(InputError) as refused:
        make_case(fields(training), "given")
    assert message in str(refused.value)
    assert str(refused.value).startswith("given: ")


def test_learning_rates_can_be_given_on_the_command_line() -> None:
    """`--set training.values=[…]` gives a list, which a case takes as its learning rates."""
    case = make_case(fields(PIECES), "given")
    changed = with_fields(case, dict([parse_setting("training.values=[0.2, 0.02, 0.002]")]))
    assert changed.training.values == (0.2, 0.02, 0.002)
