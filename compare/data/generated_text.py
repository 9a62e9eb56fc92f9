"""Small generated texts: a story of a few words to spell, and reviews with their labels."""

from compare.config.streams import Stream, random_stream

STORY_SENTENCES = 300
REVIEWS = 400

WHO = ("the red fox", "a small owl", "the old cat", "my grey horse", "a young bear")
WHAT = ("sees", "follows", "likes", "hears", "looks for")
WHOM = ("the moon", "a river", "two birds", "the wind", "some apples")
WHEN = ("at night", "in the morning", "every day", "in winter", "after the rain")

GOOD = ("great", "lovely", "bright", "clever", "warm")
BAD = ("dull", "awful", "slow", "noisy", "cold")
THINGS = ("film", "book", "song", "phone", "meal")
FILLING = ("i think", "to be honest", "all in all", "as far as i can tell", "my friend says that")
ENDS = (".", " !", ", and that is all .", ", but i would try it once more .", "")


def story(seed: int) -> str:
    """Draw simple sentences, in which most letters follow from those before them."""
    generator = random_stream(seed, Stream.DATA)
    picks = generator.integers(0, 5, (STORY_SENTENCES, 4))
    return "".join(f"{WHO[a]} {WHAT[b]} {WHOM[c]} {WHEN[d]}.\n".capitalize() for a, b, c, d in picks)


def reviews(seed: int, count: int | None) -> tuple[list[str], list[str]]:
    """Draw reviews of different length, and whether each is good or bad.

    One word in a review decides, or its contrary after "not".
    """
    generator = random_stream(seed, Stream.DATA)
    texts, labels = [], []
    for filling, thing, good, negated, word, end in generator.integers(0, (6, 5, 2, 2, 5, 5), (count or REVIEWS, 6)):
        opening = f"{FILLING[filling]} " if filling < len(FILLING) else ""
        words = GOOD if bool(good) != bool(negated) else BAD
        texts.append(f"{opening}the {THINGS[thing]} is {'not ' if negated else ''}{words[word]}{ENDS[end]}")
        labels.append("good" if good else "bad")
    return texts, labels
