"""Fixes made in a pair file: every kind of edit, what is refused, and whole pair files that agree afterwards."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from helpers.pairs import CAUSES, pair_text, write_pair

from compare.errors import InputError
from compare.explain.fixes import fix
from compare.explain.fixes.editors import edits_of
from compare.explain.fixes.fix import HEADER, Fixed, Fixing, check_target, fix_with
from compare.explain.fixes.pair_source import Edit, PairSource
from compare.explain.fixes.request import Request
from compare.explain.pair_file import read_pair
from compare.explain.processes import Sides
from compare.judge.verdict import Cause

SGD: dict[str, Any] = {"rule": "sgd", "momentum": 0.9, "dampening": 0.0, "nesterov": False}
ADAM: dict[str, Any] = {"rule": "adam", "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False}
NO_CLIP = {"kind": "none", "limit": None}

# Pair, cause, fix, the text of the line with the expression, the expression, and what then stands in the file.
EDITS = {
    "frozen-bias": ("two_biases", "two-biases", "module.lstm.bias_hh_l0.requires_grad_(False)", "", "",
                    "    model.lstm.bias_hh_l0.requires_grad_(False)\n    return model"),
    "option": ("batch_first_forgotten", "batch-first", "nn.LSTM(…, batch_first=True)", "self.lstm(x)", "self.lstm(x)",
               "nn.LSTM(input_size=1, hidden_size=12, batch_first=True)"),
    "selection": ("first_step_taken", "last-step", "out[:, -1]", "self.fc(out", "out[:, 0]",
                  "self.fc(out[:, -1])"),
    "state": ("random_initial_state", "initial-state", "torch.zeros(1, x.size(0), 10)", "h0 = torch.randn",
              "torch.randn(1, x.size(0), 10)", "h0 = torch.zeros(1, x.size(0), 10)"),
    "order": ("bidirectional_states_swapped", "bidirectional-merge", "the parts in the other order", "torch.cat((",
              "torch.cat((h[1], h[0]), dim=1)", "torch.cat((h[0], h[1]), dim=1)"),
    "input": ("dense_without_activation", "activation", "torch.relu(self.fc1(h[0])'s input)", "self.fc2(",
              "self.fc2(self.fc1(h[0]))", "self.fc2(torch.relu(self.fc1(h[0])))"),
    "exchanged": ("norm_before_dense", "layer-order", "in forward(): hidden before norm", "self.hidden(self.norm(x))",
                  "self.norm(x)", "self.fc(self.norm(self.hidden(x)))"),
    "loss": ("mae_for_mse", "loss-function", "nn.MSELoss()", "return model", "nn.L1Loss()",
             "model, nn.MSELoss(), torch"),
    "reduction": ("loss_summed", "loss-reduction", "reduction='mean'", "", "", 'nn.MSELoss(reduction="mean")'),
    "by-hand": ("loss_summed_by_hand", "loss-reduction", "loss.mean() instead of loss.sum()", ".sum()", "",
                "** 2).mean()"),
    "rate": ("learning_rate", "learning-rate", "torch.optim.SGD(module.parameters(), lr=0.05)", "", "", "lr=0.05)"),
    "momentum": ("momentum_forgotten", "momentum-rule", "torch.optim.SGD(…, momentum=0.9)", "", "",
                 "lr=0.02, momentum=0.9)"),
    "clip": ("clipping_in_torch_alone", "gradient-clipping", "no clipping", "", "", "pass  # Keras does not clip here"),
    "detach": ("detached_between_layers", "detached-gradient", "no .detach()", "", "", "self.lstm2(out)"),
    "weights": ("class_weights", "class-weights", "the loss without weights", "", "", "nn.CrossEntropyLoss()"),
    "eval": ("left_in_eval_mode", "dropout-active", "module.train()  # before every training step", "", "",
             "model = Net()\n    model.train()"),
    "logits": ("softmax_then_cross_entropy", "from-logits",
               "return the logits from forward(); CrossEntropyLoss applies the softmax itself", "", "",
               "return self.fc"),
}  # fmt: skip


def request(name: str, cause: str, told: str, line: str, expression: str, **trace: Any) -> Request:
    """A cause with its line in a pair file of the catalogue."""
    text = pair_text(name)
    source = None
    if line:
        number = next(n for n, each in enumerate(text.splitlines(), 1) if line in each)
        source = {"file": "pair.py", "line": number, "text": line, "expression": expression, "side": "torch"}
    known = Cause(cause, True, "", told, source=source)
    keras = {"rule": SGD, "clip": NO_CLIP, "steps": [{"learning_rate": 0.05}, {"learning_rate": 0.05}], **trace}
    return Request(known, PairSource(text), keras)


@pytest.mark.parametrize("example", EDITS.values(), ids=EDITS)
def test_an_edit_changes_its_expression_alone(example: tuple[str, ...]) -> None:
    """The first edit of a fix puts its code where it belongs; all other lines stay as they were written."""
    *asked, wanted = example
    made = request(*asked)
    text = made.source.edited(edits_of(made)[:1])
    ast.parse(text)
    assert wanted in text
    assert wanted not in made.source.text
    was, now = made.source.text.splitlines(), text.splitlines()
    assert len(set(was) - set(now)) <= 2


def test_a_schedule_is_written_with_keras_rates() -> None:
    """A scheduler of the user's is replaced by one that has Keras's rates."""
    rates = [{"learning_rate": 0.05 * 0.5 ** (step / 4)} for step in range(10)]
    made = request("schedule_forgotten", "learning-rate-schedule", "scheduler.step() …", "", "", steps=rates)
    text = made.source.edited(edits_of(made)[:1])
    assert "StepLR" not in text
    assert "LambdaLR(optimizer, lambda step: 0.840896415 ** step)" in text


def test_clipping_before_every_update_returns_nothing() -> None:
    """What clips as Keras does is a function without a result: an optimizer takes a hook's for the step's arguments."""
    made = request(
        "clip_norm_per_variable", "gradient-clipping", "for p in …", "", "", clip={"kind": "norm", "limit": 0.1}
    )
    tree = ast.parse(made.source.edited(edits_of(made)[:1]))
    hooks = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "register_step_pre_hook"
    ]
    (hook,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == hooks[0].args[0].id)
    assert not any(isinstance(node, ast.Return) for node in ast.walk(hook))


@pytest.mark.parametrize(("options", "made"), [("", True), (", bidirectional=True", False)], ids=["one", "both"])
def test_one_mask_is_for_one_direction(options: str, made: bool) -> None:
    """Keras drops each direction's inputs by a mask of its own, for which a bidirectional layer has no place."""
    fix_text = "F.dropout1d(x.transpose(1, 2), 0.3, self.training).transpose(1, 2)  # as dropout= has it"
    asked = request("dropout_inside", "dropout-placement", fix_text, "", "")
    text = asked.source.text.replace("nn.LSTM(3, 10, batch_first=True)", f"nn.LSTM(3, 10, batch_first=True{options})")
    assert bool(edits_of(Request(asked.cause, PairSource(text), asked.trace))) is made


def test_another_rule_takes_all_of_keras_options() -> None:
    """An optimizer of another class gets the options of Keras's, not those of the one that is replaced."""
    made = request("momentum_forgotten", "optimizer-rule", "torch.optim.Adam(…)", "", "", rule=ADAM)
    text = made.source.edited(edits_of(made)[:1])
    assert "torch.optim.Adam(model.parameters(), lr=0.05, betas=(0.9, 0.999), eps=1e-07)" in text


def test_edits_of_the_same_expression_are_refused() -> None:
    """Two fixes of one expression are never mixed into code that nobody wrote."""
    made = request("first_step_taken", "last-step", "out[:, -1]", "self.fc(out", "out[:, 0]")
    edit, other = (
        edits_of(made)[0],
        edits_of(request("first_step_taken", "last-step", "out.sum(1)", "self.fc(out", "out[:, 0]"))[0],
    )
    with pytest.raises(ValueError, match="the same expression"):
        made.source.edited([edit, other])


@pytest.mark.parametrize("target", ["two_biases.py", "link.py", "own.py", ".", "nowhere/fixed.py"])
def test_no_file_of_the_users_is_overwritten(tmp_path: Path, target: str) -> None:
    """The pair file under any name, another file, a folder and a place that is not there are refused."""
    file = write_pair("two_biases", tmp_path)
    (tmp_path / "link.py").symlink_to(file)
    (tmp_path / "own.py").write_text("import this\n", "utf-8")
    with pytest.raises(InputError, match="--fix"):
        check_target(read_pair(str(file)), tmp_path / target)


def test_what_fix_wrote_before_is_replaced(tmp_path: Path) -> None:
    """A file that begins with the header of an earlier fix may be written again."""
    (tmp_path / "fixed.py").write_text(f"{HEADER} from two_biases.py.\n", "utf-8")
    check_target(read_pair(str(write_pair("two_biases", tmp_path))), tmp_path / "fixed.py")


class Judged:
    """An observation whose causes are those that a function finds in the file's text."""

    judge: Any = None
    trace: ClassVar[dict[str, Any]] = {}

    def __init__(self, sides: Any, pair: Any) -> None:
        self.causes = Judged.judge(pair.file.read_text("utf-8"))
        self.result = {"unexplained": None, "differences": list(self.causes)}


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Fixing]:
    """Fixes the first lines of a file that a function judges, by ways that are given for each cause."""

    def run(judge: Callable[[str], list[str]], ways: dict[str, list[tuple[str, str]]]) -> Fixing:
        def causes(text: str) -> dict[Any, Cause]:
            return {(name, name, "None"): Cause(name, True, "", name, phase="update") for name in judge(text)}

        def edits(request: Request) -> list[Edit]:
            text = request.source.text
            places = [(text.find(old), old, new) for old, new in ways[request.cause.name] if old in text]
            return [Edit(new, ((place, place + len(old), new),)) for place, old, new in places]

        monkeypatch.setattr(Judged, "judge", staticmethod(causes))
        monkeypatch.setattr(fix, "Observation", Judged)
        monkeypatch.setattr(fix, "confirmed", lambda observation: observation.causes)
        monkeypatch.setattr(fix, "edits_of", edits)
        pair = read_pair(str(write_pair("two_biases", tmp_path)))
        fixing = Fixing(None, pair, tmp_path / "fixed.py")  # type: ignore[arg-type]  # nothing is asked of the sides
        fixing.run(Judged(None, pair))  # type: ignore[arg-type]
        return fixing

    return run


def test_a_way_that_takes_nothing_away_is_taken_back(rounds: Callable[..., Fixing]) -> None:
    """Of several ways the first that takes the cause away is kept; what the others changed is as it was."""
    ways = {"a": [("batch_size = 16", "batch_size = 4"), ("default_rng(0)", "default_rng(7)")]}
    fixing = rounds(lambda text: [] if "default_rng(7)" in text else ["a"], ways)
    assert fixing.changed == ["default_rng(7)"]
    assert "batch_size = 16" in fixing.text


def test_an_edit_that_does_not_run_spoils_no_other(rounds: Callable[..., Fixing]) -> None:
    """Where the file can no longer be run each edit is tried by itself: the good one stays, the other is taken back."""

    def judge(text: str) -> list[str]:
        if "batch_size = x" in text:
            raise InputError("batch_size is not defined")
        return ["bad"] if "default_rng(7)" in text else ["bad", "good"]

    ways = {"bad": [("batch_size = 16", "batch_size = x")], "good": [("default_rng(0)", "default_rng(7)")]}
    fixing = rounds(judge, ways)
    assert fixing.changed == ["default_rng(7)"]
    assert "batch_size = 16" in fixing.text


def test_edits_of_one_expression_are_made_in_turn(rounds: Callable[..., Fixing]) -> None:
    """Two causes with a fix in the same expression are fixed in two rounds."""
    ways = {"a": [("default_rng(0)", "default_rng(1)")], "b": [("rng(0)", "rng(2)"), ("rng(1)", "rng(3)")]}
    wanted = {"a": ("rng(1)", "rng(3)"), "b": ("rng(3)",)}

    def judge(text: str) -> list[str]:
        return [name for name, texts in wanted.items() if not any(each in text for each in texts)]

    fixing = rounds(judge, ways)
    assert fixing.changed == ["default_rng(1)", "rng(3)"]


def test_what_no_way_fixes_ends(rounds: Callable[..., Fixing]) -> None:
    """A cause that no edit takes away is left, and the file is as it was."""
    fixing = rounds(lambda text: ["a"], {"a": [("batch_size = 16", "batch_size = 4")]})
    assert fixing.changed == []
    assert fixing.text == pair_text("two_biases")


def fixed_pair(sides: Sides, name: str, folder: Path) -> Fixed:
    """A pair file of the catalogue, fixed."""
    return fix_with(sides, read_pair(str(write_pair(name, folder))), folder / "fixed.py")


def test_a_pair_with_several_mistakes_agrees_once_fixed(sides: Sides, tmp_path: Path) -> None:
    """Every mistake is fixed in the written file, which says so at its head; the user's own stays as it was."""
    fixed = fixed_pair(sides, "several_naive_lstm", tmp_path)
    assert fixed.fixed is not None
    assert (fixed.fixed.status, fixed.left) == ("agrees", []), fixed.fixed.causes
    text = (tmp_path / "fixed.py").read_text("utf-8")
    assert text.startswith(f"{HEADER} from several_naive_lstm.py. Changed:\n# - ")
    for cause in CAUSES["several_naive_lstm"]:
        assert f"# - {cause}: " in text
    assert (tmp_path / "several_naive_lstm.py").read_text("utf-8") == pair_text("several_naive_lstm")
    assert {file.name for file in tmp_path.iterdir()} == {"several_naive_lstm.py", "fixed.py"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, causes in CAUSES.items() if causes])
def test_the_catalogue_agrees_once_fixed(sides: Sides, name: str, tmp_path: Path) -> None:
    """Every fix of the catalogue, made as it says, takes its difference away."""
    fixed = fixed_pair(sides, name, tmp_path)
    status = fixed.fixed.status if fixed.fixed is not None else "unchanged"
    assert status == "agrees", fixed.left
