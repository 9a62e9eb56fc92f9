"""Writes docs/answers.md: ten pair files with a mistake each or several, and what `explain` prints of them.

Usage: python benchmarks/answers.py
"""

import io
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.pairs import MUTATIONS, write_pair  # noqa: E402 - the tests' helpers are no package

import compare  # noqa: E402 - as above
from compare.report.explain_page import print_explanation  # noqa: E402 - as above

PAIRS = (
    "batch_first_forgotten",
    "bidirectional_last_output",
    "gru_weights_copied",
    "mask_ignored",
    "loss_broadcast",
    "softmax_then_cross_entropy",
    "adam_default_epsilon",
    "dropout_always_active",
    "hidden_state_kept",
    "several_naive_lstm",
)
HEAD = """# Ten answers

Pair files of the catalogue in `tests/pairs`, and what `python -m compare explain FILE --backend torch` prints of them.
`python benchmarks/answers.py` writes this page. The notes below an answer, of the initial weights and the order of the
examples, are left out.
"""


def answer(name: str, folder: Path) -> str:
    """Explain a pair and return the section of the page."""
    file = write_pair(name, folder)
    comparison = compare.explain(file, backend="torch", out=folder / name).comparison
    text = io.StringIO()
    print_explanation(Console(file=text, highlight=False), replace(comparison, notes=()))
    lines = (textwrap.wrap(line, 100, subsequent_indent=" " * 4) or [""] for line in text.getvalue().splitlines())
    shown = "\n".join(part for wrapped in lines for part in wrapped)
    source = file.read_text("utf-8")
    code = source[source.index("def torch_side") :].rstrip()
    return f"## {name}\n\n{MUTATIONS[name]['about']}\n\n```python\n{code}\n```\n\n```text\n{shown}\n```\n"


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder:
        sections = [answer(name, Path(folder)) for name in PAIRS]
    (ROOT / "docs" / "answers.md").write_text("\n".join([HEAD, *sections]), "utf-8")


if __name__ == "__main__":
    main()
