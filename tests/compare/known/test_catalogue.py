"""Every cause that is promised has its texts, and nothing is proposed under another name."""

import ast

from helpers.paths import ROOT

from compare.known.catalogue import catalogue
from compare.known.differences import KNOWN_DIFFERENCES

PROPOSALS = ROOT / "compare" / "explain"

# The names that others rely on.
NAMES = """
two-biases gru-gate-order lstm-gate-order gru-reset-after transposed-kernel activation recurrent-activation
missing-bias initial-state stateful-reset batch-first last-step backward-last-state bidirectional-merge missing-mask
padding-side layer-order dropout-placement dropout-rate dropout-active l2-penalty weight-decay-coupling
gradient-clipping loss-reduction loss-broadcast from-logits loss-function class-weights optimizer-rule learning-rate
learning-rate-schedule adam-epsilon adam-epsilon-placement adam-betas rmsprop-epsilon-placement momentum-rule
initial-accumulator frozen-parameter detached-gradient normalization-epsilon normalization-momentum train-eval-mode
batch-order window-offset scaling target-shift last-partial-batch reduced-precision tf32 kernel-fallback
framework-defect axis-order reduction-axis selection state-choice join-order forward-code gradient-accumulation
padding-row tied-weights target-encoding initial-weights
""".split()  # noqa: SIM905 - read as a text

# What is not tried: a defect is what is left over, initial weights are a note, and the others come as `forward-code`.
NOT_TRIED = {"framework-defect", "initial-weights", "padding-row", "tied-weights", "target-encoding"}


def proposed() -> set[str]:
    """The texts in the code that proposes causes that look like names of causes."""
    names = set()
    for file in PROPOSALS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMES:
                names.add(node.value)
            if isinstance(node, ast.JoinedStr) and ast.unparse(node).endswith("-gate-order'"):
                names |= {"lstm-gate-order", "gru-gate-order"}
    return names


def test_every_name_has_its_texts() -> None:
    """The catalogue has exactly the promised names, each recognised by something and with a message for the user."""
    assert sorted(catalogue()) == sorted(NAMES)
    for cause in catalogue().values():
        assert cause.recognised
        assert len(cause.message) > 40
        assert (cause.proof == "") is (cause.name in NOT_TRIED)


def test_every_name_is_proposed_somewhere() -> None:
    """What has a proof in the catalogue is proposed by the code."""
    assert proposed() >= set(NAMES) - NOT_TRIED


def test_what_a_run_matches_has_a_name_of_the_catalogue() -> None:
    """A known difference that a run matches is named as `explain` names it."""
    assert {known.cause for known in KNOWN_DIFFERENCES} <= catalogue().keys()
