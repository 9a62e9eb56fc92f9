"""Known reasons for differences between Keras and PyTorch."""

from dataclasses import dataclass

from compare.case import Case


@dataclass(frozen=True)
class KnownDifference:
    """One known difference that a run matches, or with `stock` leaves as it is."""

    cause: str
    cells: frozenset[str]
    matched: str
    stock: str | None = None


_ALL = frozenset({"simple_rnn", "lstm", "gru"})

KNOWN_DIFFERENCES = (
    KnownDifference(
        "transposed-kernel", _ALL, "kernels are (in, out) in Keras and (out, in) in PyTorch: transposed on loading"
    ),
    KnownDifference(
        "gru-gate-order",
        frozenset({"gru"}),
        "GRU gates are update, reset, candidate in Keras and reset, update, candidate in PyTorch: loaded by name",
    ),
    KnownDifference(
        "two-biases",
        frozenset({"simple_rnn", "lstm"}),
        "PyTorch has two biases where Keras has one: the second is frozen at zero",
        "PyTorch trains two biases where Keras has one, so their sum moves twice as far",
    ),
    KnownDifference(
        "adam-epsilon",
        _ALL,
        "Adam's epsilon is 1e-7 in Keras and 1e-8 in PyTorch: 1e-7 on both sides",
        "Adam's epsilon is 1e-7 in Keras and 1e-8 in PyTorch",
    ),
    KnownDifference(
        "adam-epsilon-placement",
        _ALL,
        "Keras adds Adam's epsilon before the bias correction, PyTorch after it: before, on both sides",
        "Keras adds Adam's epsilon before the bias correction, PyTorch after it",
    ),
)


def known_differences(case: Case) -> list[tuple[str, str, bool]]:
    """List the known differences that touch a case: name of the cause, what is done about it, whether it is matched."""
    found = []
    for known in KNOWN_DIFFERENCES:
        if case.model.cell in known.cells:
            left_as_is = case.training.stock and known.stock is not None
            words = known.stock if left_as_is and known.stock else known.matched
            found.append((known.cause, words, not left_as_is))
    return found
