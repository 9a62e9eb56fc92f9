"""What a model may be: options that exclude each other, and models that do not fit their data, are refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from compare.config.case import case_from_json, case_from_toml, load_case, make_case, parse_setting, with_fields
from compare.config.model_facts import plain_case
from compare.errors import InputError
from compare.experiment.experiment import make_experiment

CLASSES = {"loss": "sparse_categorical_crossentropy"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"reset_after": False}, "reset_after = false belongs to gru, not to lstm; leave it out"),
        ({"cell": "simple_rnn", "recurrent_activation": "tanh"}, "recurrent_activation belongs to the gates"),
        ({"bidirectional": "sum", "go_backwards": True}, "run both ways already; leave go_backwards out"),
        ({"bidirectional": "sum", "stateful": True}, "keep bidirectional or stateful"),
        ({"bidirectional": "sum", "zero_output_for_mask": True}, "sets zero_output_for_mask itself; leave it out"),
        ({"stateful": True, "initial_state": "given"}, 'keep stateful or initial_state = "given"'),
        ({"bidirectional": "both"}, "accepted: ave, concat, mul, sum"),
        ({"head": "last"}, "did you mean 'last_state'? accepted: every_output, last_output, last_state"),
        ({"normalization": "lay"}, "did you mean 'layer'?"),
        ({"dropout_masks": "shraed"}, "did you mean 'shared'?"),
        ({"activation": "reelu"}, "did you mean 'relu'?"),
        ({"dropout": 1.0}, "less than 1"),
        ({"recurrent_dropout": -0.1}, "greater than or equal to 0"),
        ({"l2": -1.0}, "greater than or equal to 0"),
        ({"embedding": 0}, "greater than or equal to 1"),
        ({"droput": 0.1}, "did you mean"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_models_that_make_no_sense_are_refused(model: dict[str, Any], message: str) -> None:
    """Options that exclude each other, unknown words and numbers out of range are refused with what to do."""
    with pytest.raises(InputError) as refused:
        make_case({"name": "mine", "model": {"cell": "lstm", **model}}, "mine.toml")
    assert message in str(refused.value)
    assert str(refused.value).startswith("mine.toml: ")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"task": "tagging", "data": {"dataset": "signals"}, "training": CLASSES},
            "model.head 'last_state' does not fit task 'tagging'; give model.head = \"every_output\"",
        ),
        (
            {"model": {"head": "every_output"}},
            'does not fit task \'forecasting\'; give model.head = "last_state" or "last_output"',
        ),
        (
            {"task": "classification", "data": {"dataset": "signals"}},
            "training.loss 'mse' does not fit task 'classification'; give training.loss = \"sparse_categorical_cross",
        ),
        ({"training": CLASSES}, 'does not fit task \'forecasting\'; give training.loss = "mse", "mae" or "huber"'),
        ({"model": {"embedding": 3}}, "the inputs are numbers, not token ids: leave model.embedding out"),
        (
            {"task": "classification", "data": {"dataset": "symbols"}, "training": CLASSES},
            "the inputs are token ids: give model.embedding",
        ),
        (
            {"data": {"dataset": "signals", "padding": "left"}, "model": {"normalization": "batch"}},
            'would mix padding into its figures; give "layer" or unpadded data',
        ),
        (
            {"model": {"normalization": "batch"}, "training": {"batch_size": 263}},
            "790 in batches of 263 leave one alone; give another training.batch_size",
        ),
        ({"model": {"normalization": "batch"}, "training": {"batch_size": 1}}, "makes nothing of a single example"),
        ({"model": {"normalization": "layer", "units": 1}}, "makes nothing of a single unit; give model.units = 2"),
        ({"data": {"dataset": "signals"}, "model": {"stateful": True}}, "give data.dataset = sine, csv, sunspots"),
        ({"model": {"stateful": True}, "training": {"batch_size": 400}}, "give a smaller batch size or more data"),
        (
            {"data": {"dataset": "signals", "padding": "right"}, "model": {"sequence_first": True}},
            "sequence_first is for plain sequences",
        ),
        ({"model": {"sequence_first": True, "dropout": 0.2}}, "leave out masks, given states and dropout"),
        ({"model": {"sequence_first": True, "initial_state": "given"}}, "leave out masks, given states and dropout"),
    ],
    ids=[
        "tagging of the last state",
        "forecasting of every output",
        "classes with mse",
        "numbers with crossentropy",
        "embedding of numbers",
        "token ids alone",
        "batch normalisation of padding",
        "batch normalisation of a last batch of one",
        "batch normalisation of one example",
        "layer normalisation of one unit",
        "stateful without a series",
        "stateful with too few windows",
        "sequence first and masks",
        "sequence first and dropout",
        "sequence first and given states",
    ],
)
def test_models_that_do_not_fit_their_data_are_refused(fields: dict[str, Any], message: str) -> None:
    """A head, a loss or an option that the data has no use for is refused before anything is written."""
    model = {"cell": "gru", "units": 3, **fields.get("model", {})}
    case = make_case({"name": "mine", **fields, "model": model}, "mine.toml")
    with pytest.raises(InputError) as refused:
        make_experiment(case)
    assert message in str(refused.value)


def test_a_refused_model_ends_with_one_line(refused: Callable[..., str]) -> None:
    """On the command line too: exit code 2 and one line, with no run folder left."""
    assert "leave go_backwards out" in refused(
        "run", "lstm", "--set", "model.bidirectional=sum", "--set", "model.go_backwards=true"
    )
    assert 'model.head = "last_state"' in refused("run", "lstm", "--set", "model.head=every_output")


def test_every_option_comes_back_from_a_file() -> None:
    """A model with all its options at other values than by default is written and read whole."""
    model = {
        "cell": "gru",
        "units": 3,
        "layers": 2,
        "embedding": 4,
        "head": "last_output",
        "activation": "elu",
        "recurrent_activation": "hard_sigmoid",
        "reset_after": False,
        "use_bias": False,
        "go_backwards": True,
        "zero_output_for_mask": True,
        "initial_state": "given",
        "dropout": 0.1,
        "input_dropout": 0.2,
        "recurrent_dropout": 0.3,
        "normalization": "layer",
        "l2": 0.01,
        "sequence_first": True,
        "dropout_masks": "independent",
    }
    case = make_case({"name": "mine", "model": model}, "mine")
    defaults = make_case({"name": "mine", "model": {"cell": "lstm"}}, "mine").model.model_dump()
    assert {name for name, value in case.model.model_dump().items() if value != defaults[name]} == model.keys()
    assert case_from_toml(case.to_toml()) == case
    assert case_from_json(case.to_json()) == case


@pytest.mark.parametrize(("earlier", "value"), [("given", "shared"), ("own", "independent")], ids=["given", "own"])
def test_earlier_words_for_dropout_masks_are_read(earlier: str, value: str) -> None:
    """Cases and golden traces of earlier versions mean the same; what is written has the new word."""
    fields = {"name": "mine", "model": {"cell": "lstm", "dropout": 0.1, "dropout_masks": earlier}}
    cases = [
        make_case(fields, "mine"),
        case_from_json(json.dumps(fields)),
        with_fields(load_case("lstm"), dict([parse_setting(f"model.dropout_masks={earlier}")])),
        plain_case(load_case("lstm").model_dump(mode="json") | {"model": {"cell": "lstm", "dropout_masks": earlier}}),
    ]
    assert [case.model.dropout_masks for case in cases] == [value] * 4
    assert f'dropout_masks = "{value}"' in cases[0].to_toml()
