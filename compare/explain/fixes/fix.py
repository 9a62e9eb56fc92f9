"""A pair file with every confirmed fix made, judged: it agrees, or what is left is said."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compare.errors import InputError
from compare.explain.bug_report import write_bug_report
from compare.explain.entry import explain_with, missing_backend
from compare.explain.explanation import explanation
from compare.explain.fixes.editors import edits_of
from compare.explain.fixes.pair_source import Edit, PairSource
from compare.explain.fixes.request import Request
from compare.explain.observing import Observation
from compare.explain.pair_file import Pair, read_pair
from compare.explain.processes import SideError, Sides
from compare.judge.verdict import Cause, Comparison
from compare.storage import write_text

HEADER = "# Written by `explain --fix`"
# Each round makes the edits of all causes that are then confirmed; a fixed forward pass shows what comes after it.
MOST_ROUNDS = 16
# So many ways to make one fix are tried.
MOST_WAYS = 6
WIDTH = 116

Key = tuple[str, str, str]


@dataclass
class Fixed:
    """What came of fixing: the pair file's own comparison, that of the fixed file (None: not written), the changes."""

    original: Comparison
    target: Path
    fixed: Comparison | None = None
    changed: list[str] = field(default_factory=list)

    @property
    def left(self) -> list[str]:
        """The causes that no edit takes away."""
        last = self.fixed or self.original
        return [f"{cause.name}: {cause.fix}" for cause in last.causes if cause.confirmed]

    @property
    def comparison(self) -> Comparison:
        """The pair file's comparison; its notes say what the fixed file changes, how it is judged, and what is left."""
        if self.original.status != "differs":
            return self.original
        left = [f"no edit makes this fix: {told}" for told in self.left]
        if self.fixed is None:
            told = [f"{self.target} was not written: no fix could be made"]
        else:
            changed = [f"changed in {self.target}: {message}" for message in self.changed]
            agrees = self.fixed.status == "agrees"
            told = [*changed, f"{self.target} {'agrees' if agrees else self.fixed.error or 'still differs'}"]
        return replace(self.original, notes=[*self.original.notes, *told, *left])

    def as_json(self) -> dict[str, Any]:
        """The form in which `--json` has it."""
        status = None if self.fixed is None else self.fixed.status
        file = None if self.fixed is None else str(self.target)
        return {
            "file": file,
            "agree": status == "agrees",
            "status": status,
            "changed": self.changed,
            "left": self.left if self.original.status == "differs" else [],
        }


def fix_pair(
    pair: Pair,
    target: Path,
    backend: str,
    out: Path | None = None,
    timeout: float = 600,
    on_doing: Callable[[str], None] = lambda what: None,
) -> Fixed:
    """As `fix_with`, in processes of its own; the arguments are those of `explain_pair`."""
    missing = missing_backend(pair, backend)
    if missing is not None:
        return Fixed(missing, target)
    with Sides(backend, timeout) as sides:
        sides.on_doing = on_doing
        return fix_with(sides, pair, target, out)


def check_target(pair: Pair, target: Path) -> None:
    """Raise InputError where writing the fixed file would overwrite a file of the user's, or cannot be."""
    if target.exists() and target.samefile(pair.file):
        raise InputError(f"--fix {target} is the pair file itself; give another file, the fixed one is written there")
    if target.is_dir():
        raise InputError(f"--fix {target} is a folder; give a file")
    if target.exists() and not target.read_text("utf-8", errors="replace").startswith(HEADER):
        raise InputError(f"--fix {target} exists and was not written by --fix; give another file, or remove it")
    if not target.absolute().parent.is_dir():
        raise InputError(f"--fix {target} cannot be written: {target.absolute().parent} is no folder")


def fix_with(sides: Sides, pair: Pair, target: Path, out: Path | None = None) -> Fixed:
    """Explain a pair file, write it to `target` with every confirmed fix made, and explain that.

    Raises InputError as `explain_pair` does, and where the target is a file of the user's.
    """
    check_target(pair, target)
    try:
        observation = Observation(sides, pair)
        if observation.result["unexplained"] is not None and out is not None:
            write_bug_report(observation, out / "bug-report")
    except SideError:  # said by the comparison
        return Fixed(explain_with(sides, pair, out), target)
    original = explanation(observation)
    if not any(cause.confirmed for cause in original.causes):
        return Fixed(original, target)
    fixing = Fixing(sides, pair, target)
    try:
        fixing.run(observation)
    finally:
        fixing.candidate.unlink(missing_ok=True)
    if not fixing.changed:
        return Fixed(original, target)
    write_text(target, header(pair, fixing.changed) + fixing.text)
    return Fixed(original, target, explain_with(sides, read_pair(str(target))), fixing.changed)


def header(pair: Pair, changed: Sequence[str]) -> str:
    """The comment at the fixed file's head."""
    lines = [f"{HEADER} from {pair.file.name}. Changed:", *(f"- {message}" for message in changed)]
    return "".join(
        f"# {part}\n"
        for line in [lines[0].removeprefix("# "), *lines[1:]]
        for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")
    )


class Fixing:
    """Fixes one pair file in rounds: each makes an edit for every cause, and keeps those that take theirs away.

    A candidate stands beside the target while it is observed, so that what it reads by its own place is found.
    """

    def __init__(self, sides: Sides, pair: Pair, target: Path) -> None:
        self.sides, self.pair = sides, pair
        self.candidate = target.absolute().with_name(f".{target.stem}.candidate.py")
        self.text = pair.file.read_text("utf-8")
        self.changed: list[str] = []
        # How many ways of each cause's fix were tried.
        self.tried: dict[Key, int] = {}

    def run(self, observation: Observation) -> None:
        """Make edits until no cause is left that another one could take away."""
        for _ in range(MOST_ROUNDS):
            source = PairSource(self.text)
            chosen = self._chosen(source, observation)
            if not chosen:
                return
            observation = self._after(source, observation, chosen)

    def _chosen(self, source: PairSource, observation: Observation) -> dict[Key, Edit]:
        """The next way of every cause's fix, of edits at the same expression the first."""
        chosen: dict[Key, Edit] = {}
        for key, cause in confirmed(observation).items():
            ways = self._ways(cause, source, observation)[:MOST_WAYS]
            for way in ways[self.tried.get(key, 0) :][:1]:
                try:
                    source.edited([*chosen.values(), way])
                except ValueError:  # the next round looks again
                    continue
                chosen[key] = way
        return chosen

    def _ways(self, cause: Cause, source: PairSource, observation: Observation) -> list[Edit]:
        file = (cause.source or {}).get("file")
        if file is not None and Path(file) not in (self.pair.file, self.candidate):
            return []  # another file of the user's
        return edits_of(Request(cause, source, observation.trace))

    def _after(self, source: PairSource, before: Observation, chosen: Mapping[Key, Edit]) -> Observation:
        """What is observed with the edits that take their causes away; of the others another way comes next."""
        after = self._observed(source.edited(chosen.values()))
        if after is not None and not _spoilt(before, after):
            kept = {key: edit for key, edit in chosen.items() if _gone(key, before, after)}
        elif len(chosen) > 1:  # one of them is wrong: the first that does no harm alone
            for key, edit in chosen.items():
                observation = self._after(source, before, {key: edit})
                if observation is not before:
                    return observation
            return before
        else:
            kept = {}
        for key in chosen.keys() - kept.keys():
            self.tried[key] = self.tried.get(key, 0) + 1
        if after is None or not kept:
            return before
        self.text = source.edited(kept.values())
        self.changed += [edit.message for edit in kept.values() if edit.message not in self.changed]
        if len(kept) < len(chosen):
            after = self._observed(self.text)
        return after or before

    def _observed(self, text: str) -> Observation | None:
        """A text observed; None where it cannot be run."""
        write_text(self.candidate, text)
        try:
            return Observation(self.sides, read_pair(str(self.candidate)))
        except (InputError, SideError):
            return None


def confirmed(observation: Observation) -> dict[Key, Cause]:
    """The causes proved in an observation, by name, fix and the text of their line."""
    causes = [cause for cause in explanation(observation).causes if cause.confirmed]
    return {(cause.name, cause.fix or "", str((cause.source or {}).get("text"))): cause for cause in causes}


def _spoilt(before: Observation, after: Observation) -> bool:
    """Whether a forward pass goes wrong in a way that it did not before."""

    def forward(observation: Observation) -> set[str]:
        return {cause.name for cause in confirmed(observation).values() if cause.phase in ("forward", "loss")}

    unexplained = after.result["unexplained"] is not None and before.result["unexplained"] is None
    return bool(forward(after) - forward(before)) or unexplained


def _gone(key: Key, before: Observation, after: Observation) -> bool:
    """Whether a cause is there no more, or is elsewhere alone."""
    left, was = confirmed(after), confirmed(before)
    fewer = sum(other[0] == key[0] for other in left) < sum(other[0] == key[0] for other in was)
    return key not in left and (fewer or len(after.result["differences"]) < len(before.result["differences"]))
