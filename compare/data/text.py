"""Text as token ids: characters of a text, whose next one is to be told, and words of labelled texts."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from compare.config.case import Case
from compare.config.streams import Stream, random_stream
from compare.data.csv_file import read_table
from compare.data.examples import Examples
from compare.data.generated_text import reviews, story
from compare.data.padding import pad
from compare.data.parts import draw_order, held_out, limited, split
from compare.errors import InputError

PADDING, UNKNOWN = "<padding>", "<unknown>"

# A word, or one mark of punctuation.
TOKEN = re.compile(r"\w+|[^\w\s]")


def characters(case: Case) -> Examples:
    """Cut a text file (or a generated text) into pieces of `window` characters; the targets are the next characters.

    The last pieces are held out. Id 0 is a character that does not occur in the training part. Raises InputError for a
    file that is missing, empty, not text, or too short.
    """
    data = case.data
    text = read_text(data.file) if data.file is not None else story(case.seed)
    available = (len(text) - 1) // data.window
    if available < 2:
        raise InputError(
            f"the text has {len(text)} characters, too few for two pieces of {data.window} "
            "and the character after each; give a longer text or a smaller data.window"
        )
    count = limited(available, data.examples)
    held = held_out(count, data.test_fraction)
    text = text[: count * data.window + 1]
    symbols = (UNKNOWN, *sorted(set(text[: (count - held) * data.window + 1])))
    if len(symbols) == 2:
        raise InputError(
            f"the text is {symbols[1]!r} over and over, which leaves nothing to predict; give another text"
        )
    ids = to_ids(text, symbols, unknown=0)
    training, test = split(ids[:-1].reshape(count, data.window), ids[1:].reshape(count, data.window), None, held)
    return Examples(training, test, len(symbols), vocabulary=len(symbols), symbols=symbols, labels=symbols)


def read_text(path: str) -> str:
    """Read a text file; raises InputError where it is missing, empty or not UTF-8."""
    if Path(path).exists() and not Path(path).is_file():  # to read from a pipe might never end
        raise InputError(f"text file {path!r} is not a file")
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"text file {path!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"text file {path!r} is not UTF-8 text, at byte {error.start}") from None
    if not text.strip():
        raise InputError(f"text file {path!r} is empty")
    return text


def tokens(case: Case) -> Examples:
    """Classify texts by their words: a CSV file with a column of texts and one of labels (or generated reviews).

    Texts are tokenised once, lower case, and their first `window` tokens used. The vocabulary is the `vocabulary` most
    frequent tokens of the training part (all by default), with id 0 for padding and 1 for unknown ones. Raises
    InputError for a file, column, text or label that is missing, and for fewer than two labels.
    """
    data = case.data
    if data.csv is None:
        texts, names = reviews(case.seed, data.examples)
    else:
        texts, names = read_labelled_texts(data.csv, data.text_column, data.label_column)
    order = draw_order(random_stream(case.seed, Stream.DATA), len(texts), data.examples)
    held = held_out(len(order), data.test_fraction)
    labels = tuple(sorted(set(names), key=_numbers_first))
    if len(labels) < 2:
        raise InputError(f"all texts have the label {labels[0]!r}; a classification needs two labels at least")
    tokenised = [TOKEN.findall(texts[row].lower()) for row in order]
    shortened = [row[: data.window] for row in tokenised]
    symbols = make_vocabulary(shortened[: len(order) - held], data.vocabulary)
    inputs, mask = pad([to_ids(row, symbols, unknown=1) for row in shortened], data.window, data.padding)
    targets = to_ids([names[row] for row in order], labels)
    training, test = split(inputs, targets, mask, held)
    cut = sum(len(row) > data.window for row in tokenised)
    notes = (
        (f"{cut} of {len(order)} texts have more than {data.window} tokens; their first {data.window} are used",)
        if cut
        else ()
    )
    return Examples(training, test, len(labels), vocabulary=len(symbols), symbols=symbols, labels=labels, notes=notes)


def read_labelled_texts(path: str, text_column: str, label_column: str) -> tuple[list[str], list[str]]:
    """Read texts and labels as they stand in a CSV file; raises InputError where one is missing or has no token."""
    table = read_table(path, (text_column, label_column), dtype=str, keep_default_na=False)
    texts, labels = (list(table[column]) for column in (text_column, label_column))
    for row, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
        if not TOKEN.search(text):
            raise InputError(
                f"CSV file {path!r}, column {text_column!r}, row {row} after the header: the text is empty"
            )
        if not label.strip():
            raise InputError(f"CSV file {path!r}, column {label_column!r}, row {row} after the header: is missing")
    return texts, [label.strip() for label in labels]


def make_vocabulary(texts: Iterable[Sequence[str]], size: int | None) -> tuple[str, ...]:
    """Return padding, unknown and the most frequent tokens, `size` in all; of equals the first in the alphabet."""
    counts = Counter(token for text in texts for token in text)
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    return (PADDING, UNKNOWN, *ranked)[:size]


def to_ids(tokens: Iterable[str], symbols: Sequence[str], unknown: int | None = None) -> np.ndarray:
    """Return the places (tokens,) of tokens among the symbols, int32; those that are not there are `unknown`.

    Raises KeyError for one that is not there where `unknown` is not given.
    """
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    return np.array([numbers[token] if unknown is None else numbers.get(token, unknown) for token in tokens], np.int32)


def _numbers_first(label: str) -> tuple[bool, float, str]:
    """Sort labels that are whole numbers by their value, before all others."""
    number = re.fullmatch(r"-?\d+", label) is not None
    return not number, float(label) if number else 0.0, label
