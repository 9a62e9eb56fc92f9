"""Loops that tracing wrote out become loops again, and what is none stays as it is."""

import re

import pytest

from compare.port.keras_writer.rolling import rolled

UNROLLED = [
    "h = first(x[:, 0])",
    "a_1 = cell(x[:, 1])",
    "h_1 = ops.tanh(a_1 + h)",
    "a_2 = cell(x[:, 2])",
    "h_2 = ops.tanh(a_2 + h_1)",
    "a_3 = cell(x[:, 3])",
    "h_3 = ops.tanh(a_3 + h_2)",
    "out = ops.stack([h, h_1, h_2, h_3], axis=1)",
]


def run(statements: list[str]) -> object:
    """What `out` is after the statements, with operations that only write down what they were given."""

    class Ops:
        @staticmethod
        def tanh(value: str) -> str:
            return f"tanh({value})"

        @staticmethod
        def stack(values: list[str], axis: int) -> tuple[str, ...]:
            return tuple(values)

    class Steps:
        def __getitem__(self, index: tuple[slice, int]) -> str:
            return f"x{index[1]}"

    names = {"ops": Ops, "x": Steps(), "cell": lambda v: f"c({v})", "first": lambda v: f"f({v})"}
    exec("\n".join(statements), names)  # noqa: S102 - the statements above
    return names["out"]


def test_a_loop_is_found_and_computes_the_same() -> None:
    """States are carried, outputs are collected, the number of the timestep goes on."""
    statements, vanished = rolled(UNROLLED, 88)
    text = "\n".join(statements)
    assert "for t in range(1, 4):" in text
    assert len(text.splitlines()) < len(UNROLLED) + 1
    assert run(statements) == run(UNROLLED)
    assert {"h_1", "h_2", "h_3", "a_2"} <= vanished


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (3, "a_2 = cell(x[:, 7])"),
        (4, "h_2 = ops.tanh(a_2 + h)"),
        (4, "h_2 = ops.tanh(a_1 + h_1)"),
        (7, "out = ops.stack([h_2, h_1], axis=1)"),
    ],
    ids=["another step", "not carried", "of the step before", "used apart"],
)
def test_what_is_no_loop_stays(line: int, wrong: str) -> None:
    """One statement that does something else, or a value that is needed by itself: nothing is changed in meaning."""
    statements = [*UNROLLED[:line], wrong, *UNROLLED[line + 1 :]]
    written, _ = rolled(statements, 88)
    assert not re.search("for ", "\n".join(written))
    assert run(written) == run(statements)
