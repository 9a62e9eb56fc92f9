"""Cases are read from and written to TOML and JSON whole, and say what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.config.case import (
    Case,
    case_from_json,
    case_from_toml,
    load_case,
    make_case,
    parse_setting,
    with_fields,
)
from compare.errors import InputError

MINIMAL = {"name": "mine", "model": {"cell": "lstm"}}

SIZES = [("model", "units"), ("model", "layers"), ("data", "window"), ("data", "horizon"), ("training", "batch_size")]

sizes = st.integers(1, 10**9)
positive = st.floats(min_value=0, max_value=3e38, exclude_min=True, allow_infinity=False, allow_nan=False)
texts = st.text(min_size=1)
columns = st.fixed_dictionaries(
    {"dataset": st.just("csv"), "csv": texts, "target": texts},
    optional={"features": st.lists(texts, unique=True, max_size=4).map(tuple)},
)
data = st.tuples(
    st.just({"dataset": "sine"}) | columns,
    st.fixed_dictionaries(
        {},
        optional={
            "window": sizes,
            "horizon": sizes,
            "test_fraction": st.floats(0, 1, exclude_min=True, exclude_max=True),
            "points": st.integers(2, 10**9),
            "noise": st.floats(min_value=0, max_value=3e38, allow_infinity=False, allow_nan=False),
        },
    ),
).map(lambda parts: parts[0] | parts[1])
cases = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True),
        "model": st.fixed_dictionaries(
            {"cell": st.sampled_from(["simple_rnn", "lstm", "gru"])}, optional={"units": sizes, "layers": sizes}
        ),
    },
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "dtype": st.sampled_from(["float32", "float64"]),
        "data": data,
        "training": st.fixed_dictionaries(
            {},
            optional={
                "epochs": sizes,
                "batch_size": sizes,
                "learning_rate": positive,
                "initial_weights": st.sampled_from(["keras", "torch"]),
                "stock": st.booleans(),
            },
        ),
    },
).map(lambda fields: make_case(fields, "generated"))


@given(case=cases)
def test_round_trip_through_toml(case: Case) -> None:
    """A case written as TOML is read as an equal case."""
    assert case_from_toml(case.to_toml()) == case


@given(case=cases)
def test_round_trip_through_json(case: Case) -> None:
    """A case written as JSON is read as an equal case."""
    assert case_from_json(case.to_json()) == case


def test_a_changed_field_is_another_case() -> None:
    """Equality of cases sees every field, the last digit of a number included, so the round trips show something."""
    case = load_case("lstm")
    for field, value in {"seed": 1, "model.units": 51, "training.learning_rate": 0.0010000000000000002}.items():
        assert case_from_toml(with_fields(case, {field: value}).to_toml()) != case


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        pytest.param('name = "a"\nunit = 3\n[model]\ncell = "gru"', ["'unit' is unknown", "model.units"], id="top"),
        pytest.param(
            'name = "a"\n[model]\ncell = "gru"\nunist = 3',
            ["'model.unist' is unknown", "did you mean 'model.units'?"],
            id="section",
        ),
        pytest.param(
            'name = "a"\n[model]\ncell = "gru"\n[dat]\nwindow = 3', ["'dat' is unknown"], id="unknown-section"
        ),
        pytest.param('name = "a"\n[model]\ncell = "lsmt"', ["'lsmt' is unknown", "did you mean 'lstm'?"], id="cell"),
        pytest.param(
            'name = "a"\ndtype = "float23"\n[model]\ncell = "gru"',
            ["dtype = 'float23' is unknown", "did you mean 'float32'?", "float64"],
            id="dtype",
        ),
        pytest.param('name = "a"\n[model]\ncell = "gru"\nunits = "8"', ["model.units = '8'", "integer"], id="text"),
        pytest.param('name = "a"\n[model]\ncell = "gru"\nunits = 8.0', ["model.units = 8.0", "integer"], id="float"),
        pytest.param('name = "a"\n[model]\ncell = "gru"\nunits = true', ["model.units = True", "integer"], id="bool"),
        pytest.param('name = 3\n[model]\ncell = "gru"', ["name = 3", "string"], id="name-is-a-number"),
        pytest.param('name = "a/b"\n[model]\ncell = "gru"', ["name = 'a/b'"], id="name-is-a-path"),
        pytest.param('name = "../b"\n[model]\ncell = "gru"', ["name = '../b'"], id="name-leads-outside"),
        pytest.param('[model]\ncell = "gru"', ["'name' is missing"], id="no-name"),
        pytest.param('name = "a"', ["'model' is missing"], id="no-model"),
        pytest.param('name = "a"\nmodel = 3', ["model = 3"], id="model-is-a-number"),
        pytest.param(
            'name = "a"\n[model]\ncell = "gru"\n[training]\nlearning_rate = nan', ["training.learning_rate"], id="nan"
        ),
        pytest.param('name = "a"\n[model]\ncell = "gru"\n[data]\nnoise = inf', ["data.noise"], id="infinite"),
        pytest.param(
            'name = "a"\n[model]\ncell = "gru"\n[data]\ndataset = "csv"', ["needs both csv", "target"], id="csv-alone"
        ),
        pytest.param(
            'name = "a"\n[model]\ncell = "gru"\n[data]\ntarget = "x"',
            ["target belongs to dataset csv, not to sine"],
            id="target-without-csv",
        ),
        pytest.param(
            'name = "a"\n[model]\ncell = "gru"\n[data]\ndataset = "csv"\ncsv = "a"\ntarget = "t"\nfeatures = ["x","x"]',
            ["features names a column twice"],
            id="feature-twice",
        ),
        pytest.param(
            'name = "a"\nseed = 4294967296\n[model]\ncell = "gru"',
            ["seed = 4294967296"],
            id="seed-that-frameworks-refuse",
        ),
    ],
)
def test_wrong_fields_are_named(text: str, phrases: list[str]) -> None:
    """An unknown field names the nearest known one, a wrong value its field, what was given and what is accepted."""
    with pytest.raises(InputError) as raised:
        case_from_toml(text, "mine.toml")
    assert str(raised.value).startswith("mine.toml: ")
    for phrase in phrases:
        assert phrase in str(raised.value)


def test_all_wrong_fields_are_named_at_once() -> None:
    """Two wrong fields are both named, so that they can be corrected together."""
    with pytest.raises(InputError, match=r"model\.units = 0.*training\.epochs = -1"):
        make_case(MINIMAL | {"model": {"cell": "gru", "units": 0}, "training": {"epochs": -1}}, "mine")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((f"{section}.{name}", 0) for section, name in SIZES),
        ("data.points", 1),
        ("data.test_fraction", 0.0),
        ("data.test_fraction", 1.0),
        ("data.noise", -0.1),
        ("training.learning_rate", 0.0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    """A number just beyond the range that makes sense is refused by name; what the hypotheses draw is within it."""
    with pytest.raises(InputError, match=rf"{field} = {value}: "):
        with_fields(load_case("lstm"), {field: value})


def test_syntax_errors_name_the_line(tmp_path: Path) -> None:
    """A file that is no TOML is refused with its name and the line where reading stopped."""
    file = tmp_path / "broken.toml"
    file.write_text('name = "a"\n[model]\ncell = = "gru"\n')
    with pytest.raises(InputError, match=r"broken\.toml is not valid TOML: .*line 3"):
        load_case(str(file))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"name": "a"}', '"lstm"'], ids=repr)
def test_json_that_is_no_case_is_refused(text: str) -> None:
    """JSON that is broken, or no case, is refused."""
    with pytest.raises(InputError, match=r"^JSON: "):
        case_from_json(text)


def test_missing_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    """A case file that is missing, a folder, or not text is refused by name."""
    folder, binary = tmp_path / "folder.toml", tmp_path / "binary.toml"
    folder.mkdir()
    binary.write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path / "missing.toml", folder, binary):
        with pytest.raises(InputError, match=file.name):
            load_case(str(file))


def test_unknown_cases_name_the_nearest() -> None:
    """A name that is no built-in case names the nearest one and all there are."""
    with pytest.raises(
        InputError, match=r"'lsmt' is unknown; did you mean 'lstm'\? accepted: .*gru, .*lstm, .*simple_rnn"
    ):
        load_case("lsmt")


def test_csv_path_is_relative_to_the_case_file(tmp_path: Path) -> None:
    """A CSV file named in a case file is looked for beside that file, wherever the command is run."""
    file = tmp_path / "mine.toml"
    file.write_text(with_fields(load_case("gru"), CSV_FIELDS).to_toml())
    assert load_case(str(file)).data.csv == str(tmp_path / "prices.csv")


CSV_FIELDS = {"data.dataset": "csv", "data.csv": "prices.csv", "data.target": "price"}


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("model.units=32", "model.units", 32),
        ("training.learning_rate=1e-2", "training.learning_rate", 0.01),
        ("training.stock=true", "training.stock", True),
        ('name="a b"', "name", "a b"),
        ("name=plain", "name", "plain"),
        ("data.csv=a=b.csv", "data.csv", "a=b.csv"),
        ('data.features=["x", "y"]', "data.features", ["x", "y"]),
    ],
)
def test_settings_are_read_as_toml_values_or_text(text: str, field: str, value: Any) -> None:
    """FIELD=VALUE is split at the first equals sign, the value read as TOML, else as plain text."""
    obtained = parse_setting(text)
    assert obtained == (field, value)
    assert type(obtained[1]) is type(value)


@pytest.mark.parametrize("text", ["model.units", "=3", "model.units=", "="])
def test_settings_of_another_form_are_refused(text: str) -> None:
    """A setting without a field, an equals sign or a value is refused with an example."""
    with pytest.raises(InputError, match=r"is not FIELD=VALUE, for example model\.units=32"):
        parse_setting(text)


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("model.unit", "model.units"),
        ("units", "model.units"),
        ("training.epoch", "training.epochs"),
        ("model", "model"),
        ("model.units.more", "model.units"),
    ],
)
def test_unknown_settings_name_the_nearest(field: str, nearest: str) -> None:
    """A setting of a field that there is not, or of a whole section, names the nearest field."""
    with pytest.raises(InputError, match=rf"field '{field}' is unknown; .*{nearest}"):
        with_fields(load_case("lstm"), {field: 1})
