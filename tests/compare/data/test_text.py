"""Characters and words become token ids with a vocabulary of the training part, or the text is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compare.config.case import Case, make_case, with_fields
from compare.data.datasets import load_data
from compare.data.examples import Examples
from compare.data.text import PADDING, TOKEN, UNKNOWN, make_vocabulary, to_ids
from compare.experiment.experiment import make_experiment, read_experiment, write_experiment

Refused = Callable[..., str]

REVIEWS = """text,label
"Good film, good sound.",good
Dull.,bad
good good GOOD,good
so dull and so slow,bad
the end,bad
"""


def text_case(**data: object) -> Case:
    """A case of characters."""
    fields = {"name": "a", "task": "tagging", "model": {"cell": "gru"}, "data": {"dataset": "text", **data}}
    return make_case(fields, "a")


def tokens_case(**data: object) -> Case:
    """A case of labelled texts."""
    fields = {"name": "a", "task": "classification", "model": {"cell": "gru"}}
    return make_case({**fields, "data": {"dataset": "tokens", "padding": "right", **data}}, "a")


def load(case: Case) -> Examples:
    """The examples of a case."""
    examples = load_data(case)
    assert isinstance(examples, Examples)
    return examples


def spell(examples: Examples, ids: np.ndarray) -> str:
    """The text of token ids."""
    return "".join(examples.symbols[number] for number in ids)


def test_targets_are_the_next_characters(tmp_path: Path) -> None:
    """The pieces follow one another in the text, and each target is the character after its input."""
    file = tmp_path / "text.txt"
    file.write_text("abcabd\nabcäbd\nabcabd\n", "utf-8")
    examples = load(text_case(file=str(file), window=4))
    assert examples.training.inputs.shape == (4, 4)
    assert spell(examples, examples.training.inputs.ravel()) == "abcabd\nabcäbd\nab"
    assert spell(examples, examples.training.targets.ravel()) == "bcabd\nabcäbd\nabc"
    assert spell(examples, examples.test.inputs.ravel()) == "cabd"
    assert spell(examples, examples.test.targets.ravel()) == "abd\n"
    assert examples.training.inputs.dtype == examples.training.targets.dtype == np.int32
    assert examples.training.mask is None
    assert examples.vocabulary == examples.outputs == len(examples.symbols)
    assert examples.labels == examples.symbols


def test_characters_not_trained_on_are_unknown(tmp_path: Path) -> None:
    """The vocabulary is the training part's: a character of the held-out part alone is unknown, id 0."""
    file = tmp_path / "text.txt"
    file.write_text("abababababababab" + "axbaz")
    examples = load(text_case(file=str(file), window=4))
    assert examples.symbols == (UNKNOWN, "a", "b")
    assert examples.test.inputs.tolist() == [[1, 0, 2, 1]]
    assert examples.test.targets.tolist() == [[0, 2, 1, 0]]
    assert not (examples.training.inputs == 0).any()


def test_fewer_pieces_are_the_first(tmp_path: Path) -> None:
    """With a limit the beginning of the text is used."""
    file = tmp_path / "text.txt"
    file.write_text("0123456789" * 5)
    examples = load(text_case(file=str(file), window=3, examples=5))
    assert (
        spell(examples, np.concatenate([examples.training.inputs, examples.test.inputs]).ravel()) == "012345678901234"
    )


def test_the_generated_story_has_something_to_learn() -> None:
    """The story follows from the seed, and what comes after a pair of letters is mostly certain."""
    first, again = load(text_case(window=20)), load(text_case(window=20))
    assert np.array_equal(first.training.inputs, again.training.inputs)
    text = spell(first, first.training.inputs.ravel())
    assert text != spell(first, load(text_case(window=20).model_copy(update={"seed": 1})).training.inputs.ravel())
    following: dict[str, list[str]] = {}
    for position in range(len(text) - 3):
        following.setdefault(text[position : position + 3], []).append(text[position + 3])
    right = sum(max(letters.count(letter) for letter in set(letters)) for letters in following.values())
    assert right / (len(text) - 3) > 0.7


@pytest.mark.parametrize(
    ("content", "phrases"),
    [
        pytest.param(b"", ["text.txt' is empty"], id="empty"),
        pytest.param(b" \n\n\t ", ["text.txt' is empty"], id="blank"),
        pytest.param("J\xe4nner".encode("latin-1"), ["is not UTF-8 text, at byte 1"], id="latin-1"),
        pytest.param(bytes(range(256)), ["is not UTF-8 text"], id="binary"),
        pytest.param(b"short", ["has 5 characters, too few for two pieces of 10"], id="short"),
        pytest.param(b"x" * 90, ["the text is 'x' over and over"], id="one-character"),
        pytest.param(b"x" * 20, ["has 20 characters, too few"], id="no-character-after-the-last"),
        pytest.param(b"x" * 21, ["2 examples with data.test_fraction 0.2"], id="nothing-held-out"),
        pytest.param(None, ["text.txt' cannot be read: No such file"], id="missing"),
    ],
)
def test_texts_that_cannot_be_used_are_refused(
    tmp_path: Path, refused: Refused, content: bytes | None, phrases: list[str]
) -> None:
    """A command with a text that is empty, too short or no text says so; its path is relative to the case file."""
    case = tmp_path / "mine.toml"
    case.write_text(text_case(file="text.txt").to_toml())
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    message = refused("run", case)
    for phrase in phrases:
        assert phrase in message


def test_texts_are_tokenised_once() -> None:
    """Words in lower case and single marks are tokens, whatever the alphabet; spaces are none."""
    tokens = TOKEN.findall("Don't stop -- it's 3.5 Größe, naïve!\n".lower())
    assert tokens == ["don", "'", "t", "stop", "-", "-", "it", "'", "s", "3", ".", "5", "größe", ",", "naïve", "!"]


def test_the_vocabulary_is_ranked_by_frequency() -> None:
    """Padding is 0, unknown 1, then the most frequent token first, equally frequent ones by name; a size cuts it."""
    texts = [["b", "a", "c"], ["b", "c"], ["b", "d"]]
    assert make_vocabulary(texts, None) == (PADDING, UNKNOWN, "b", "c", "a", "d")
    assert make_vocabulary(texts, 4) == (PADDING, UNKNOWN, "b", "c")
    assert to_ids(["d", "b"], make_vocabulary(texts, 4), unknown=1).tolist() == [1, 2]
    with pytest.raises(KeyError):
        to_ids(["x"], ["a"])


def test_labelled_texts_are_read_in_their_columns(tmp_path: Path) -> None:
    """Every row is one example with its own label, padded on the right, with a mask."""
    file = tmp_path / "reviews.csv"
    file.write_text("id,stars,words\n" + "".join(f"{row},{row % 5 + 1},{'w ' * row}e{row}\n" for row in range(30)))
    case = tokens_case(csv=str(file), text_column="words", label_column="stars", window=40)
    examples = load(case)
    assert examples.labels == ("1", "2", "3", "4", "5")
    assert examples.outputs == 5
    seen = []
    for part in (examples.training, examples.test):
        assert part.mask is not None
        assert np.array_equal(part.inputs != 0, part.mask)
        assert part.inputs.dtype == part.targets.dtype == np.int32
        for ids, mask, target in zip(part.inputs, part.mask, part.targets, strict=True):
            row = int(mask.sum()) - 1
            assert mask[: row + 1].all()
            assert target == row % 5
            assert examples.symbols[ids[row]] in (f"e{row}", UNKNOWN)
            seen.append(row)
    assert sorted(seen) == list(range(30))
    assert seen != sorted(seen), "files are often sorted; what is held out is drawn"
    assert {examples.symbols[number] for number in np.unique(examples.test.inputs)} == {PADDING, UNKNOWN, "w"}


def test_the_vocabulary_is_saved(tmp_path: Path) -> None:
    """What the ids and the classes stand for is kept with the start of a run."""
    fields = {"model.embedding": 2, "training.loss": "sparse_categorical_crossentropy"}
    experiment = make_experiment(with_fields(tokens_case(window=20), fields))
    write_experiment(experiment, tmp_path / "experiment")
    again = read_experiment(tmp_path / "experiment").examples
    assert again.symbols == experiment.examples.symbols
    assert again.symbols[:2] == (PADDING, UNKNOWN)
    assert again.labels == ("bad", "good")


def test_long_texts_are_cut_and_said_to_be(tmp_path: Path) -> None:
    """Of texts with more tokens than the window the first are used, and a note says of how many."""
    file = tmp_path / "reviews.csv"
    file.write_text(REVIEWS)
    examples = load(tokens_case(csv=str(file), window=3))
    assert examples.notes == ("2 of 5 texts have more than 3 tokens; their first 3 are used",)
    assert examples.training.inputs.shape == (4, 3)
    assert load(tokens_case(csv=str(file), window=6)).notes == ()


def test_the_size_of_the_vocabulary_is_limited(tmp_path: Path) -> None:
    """Tokens beyond the vocabulary asked for are unknown."""
    file = tmp_path / "reviews.csv"
    file.write_text(REVIEWS)
    examples = load(tokens_case(csv=str(file), window=6, vocabulary=3))
    assert examples.vocabulary == len(examples.symbols) == 3
    assert examples.training.inputs.max() == 2


def test_generated_reviews_need_their_order() -> None:
    """Reviews are good or bad about as often, and say "not" as often of the one as of the other."""
    examples = load(tokens_case(window=20))
    assert 0.4 < examples.training.targets.mean() < 0.6
    negated = (examples.training.inputs == examples.symbols.index("not")).any(axis=1)
    assert 0.3 < examples.training.targets[negated].mean() < 0.7
    assert 0.4 < negated.mean() < 0.6


@pytest.mark.parametrize(
    ("content", "phrases"),
    [
        pytest.param("text,lable\na,b\n", ["has no column 'label'; did you mean 'lable'?"], id="no-label-column"),
        pytest.param("words,label\na,b\n", ["has no column 'text'; accepted: label, words"], id="no-text-column"),
        pytest.param("", ["is empty; expected a header line"], id="empty"),
        pytest.param("text,label\n", ["has a header but no rows"], id="header-only"),
        pytest.param(
            "text,label\na,x\n,y\n", ["column 'text', row 2 after the header: the text is empty"], id="no-text"
        ),
        pytest.param("text,label\na,x\nb,\n", ["column 'label', row 2 after the header: is missing"], id="no-label"),
        pytest.param("text,label\n" + "a,x\n" * 9, ["all texts have the label 'x'"], id="one-label"),
        pytest.param("text,label\na,x\nb,y\n", ["2 examples with data.test_fraction 0.2"], id="nothing-held-out"),
    ],
)
def test_labelled_texts_that_cannot_be_used_are_refused(
    tmp_path: Path, refused: Refused, content: str, phrases: list[str]
) -> None:
    """A command with a file that lacks a column, a text or a label says which."""
    case = tmp_path / "mine.toml"
    case.write_text(tokens_case(csv="reviews.csv").to_toml())
    (tmp_path / "reviews.csv").write_text(content)
    message = refused("run", case)
    for phrase in phrases:
        assert phrase in message


def test_texts_of_different_length_need_padding(tmp_path: Path, refused: Refused) -> None:
    """Without padding texts of different length make no array."""
    case = tmp_path / "mine.toml"
    case.write_text(tokens_case(csv="reviews.csv", padding="none").to_toml())
    (tmp_path / "reviews.csv").write_text(REVIEWS)
    assert 'give data.padding = "right" or "left"' in refused("run", case)
    settings = ["--set", "data.padding=scattered"]
    assert "accepted here: none, right, left" in refused("run", case, *settings)


def test_words_that_pandas_takes_for_nothing_are_words(tmp_path: Path) -> None:
    """A text or a label "NA", "null" or "1" is text as it stands."""
    file = tmp_path / "reviews.csv"
    file.write_text("text,label\n" + "NA,null\nnull,NA\n1,1\n" * 3)
    examples = load(tokens_case(csv=str(file)))
    assert examples.labels == ("1", "NA", "null")
    assert set(examples.symbols[2:]) == {"na", "null", "1"}
