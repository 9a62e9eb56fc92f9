"""The one error of a user's mistake."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What a user gave cannot be used; the message says what is accepted. The command line exits 2."""


def nearest(name: str, accepted: Iterable[str]) -> str:
    """Say which accepted name is nearest to an unknown one, and list them all."""
    names = sorted(accepted)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}accepted: {', '.join(names)}"
