"""Ask `explain` about pair files and judge its answers."""

import collections
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass
class Answer:
    """What `explain` said of one pair file, judged.

    `kind`: agrees, differs, refused or crash. For a mutation also whether the line and the fix are right, and the
    confirmed causes that stand at another line under another name.
    """

    name: str
    kind: str
    message: str
    seconds: float
    line: bool = False
    fix: bool = False
    wrong: list[str] = field(default_factory=list)


def ask(file: Path, expected: dict[str, Any], backend: str, timeout: float, fixed: Path | None) -> Answer:
    """Run `explain` on a file; with `fixed` it also writes the mended file there."""
    command = [sys.executable, "-m", "compare", "explain", str(file), "--backend", _backend(file, backend), "--json"]
    command += ["--fix", str(fixed)] if fixed else []
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH") or str(ROOT)}
    began = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=timeout, env=environment, cwd=file.parent, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer(file.stem, "crash", f"no answer in {timeout:g} s", timeout)
    seconds = time.monotonic() - began
    last = (done.stderr.strip().splitlines() or [""])[-1][:200]
    if done.returncode not in (0, 1):
        refused = done.returncode == 2 and "Traceback" not in done.stderr
        return Answer(file.stem, "refused" if refused else "crash", last, seconds)
    try:
        return judge(file.stem, json.loads(done.stdout), expected, seconds)
    except ValueError:
        return Answer(file.stem, "crash", last, seconds)


def judge(name: str, answer: dict[str, Any], expected: dict[str, Any], seconds: float = 0.0) -> Answer:
    """Judge one answer: `expected` has agree, accept and line."""
    if answer["status"] == "failed":
        return Answer(name, "crash", str(answer["error"])[:200], seconds)
    confirmed = [cause for cause in answer["causes"] if cause["confirmed"]]
    first = answer.get("first_difference") or {}
    where = _text(first) or f"{first.get('phase')} {first.get('tensor')}"
    names = ", ".join(f"{cause['name']} ({_text(cause)})" for cause in confirmed)
    judged = Answer(
        name, "agrees" if answer["agree"] else "differs", f"{names or 'nothing confirmed'}; first {where}", seconds
    )
    if expected["agree"] or answer["agree"]:
        return judged
    judged.line = any(_at(expected, place) for place in [first, *confirmed])
    judged.fix = any(cause["name"] in expected["accept"] for cause in confirmed)
    judged.wrong = [c["name"] for c in confirmed if c["name"] not in expected["accept"] and not _at(expected, c)]
    return judged


def _text(place: dict[str, Any]) -> str:
    return str((place.get("source") or {}).get("text") or "")


def _at(expected: dict[str, Any], place: dict[str, Any]) -> bool:
    return bool(_text(place)) and re.search(expected["line"], _text(place)) is not None


def ask_all(folder: Path, backend: str, workers: int, timeout: float, fix: bool) -> list[Answer]:
    """Ask about every pair of the folder's expected.json, and write answers.json beside it."""
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    (folder / "fixed").mkdir(exist_ok=True)

    def one(name: str) -> Answer:
        fixed = folder / "fixed" / f"{name}.py" if fix and not expected[name]["agree"] else None
        answer = ask(folder / f"{name}.py", expected[name], backend, timeout, fixed)
        print(f"{_verdict(answer, expected[name]):24} {name:8} {answer.seconds:5.1f} s  {answer.message}", flush=True)
        return answer

    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(one, expected))
    return _kept(folder, answers)


def ask_warm(folder: Path, backend: str) -> list[Answer]:
    """Ask about every pair with the same two processes; they are started again after an exception."""
    from compare.errors import InputError
    from compare.explain.entry import explain_with
    from compare.explain.pair_file import read_pair
    from compare.explain.processes import Sides

    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    answers: list[Answer] = []
    for chosen in ("tensorflow", backend):
        names = [
            n
            for n in expected
            if _backend(folder / f"{n}.py", backend) == chosen and n not in {a.name for a in answers}
        ]
        while names:
            with Sides(chosen) as sides:
                while names:
                    name, began = names.pop(0), time.monotonic()
                    try:
                        told = explain_with(sides, read_pair(str(folder / f"{name}.py"))).as_json()
                        answer = judge(name, told, expected[name], time.monotonic() - began)
                    except Exception as error:
                        kind = "refused" if isinstance(error, InputError) else "crash"
                        answer = Answer(name, kind, f"{type(error).__name__}: {error}"[:200], time.monotonic() - began)
                    print(
                        f"{_verdict(answer, expected[name]):24} {name:8} {answer.seconds:5.1f} s  {answer.message}",
                        flush=True,
                    )
                    answers = _kept(folder, [*answers, answer])
                    if answer.kind == "crash":
                        break
    return _kept(folder, answers)


def _backend(file: Path, backend: str) -> str:
    """Keras's stateful layers cannot be trained on the torch backend."""
    return "tensorflow" if backend == "torch" and "stateful" in file.read_text("utf-8") else backend


def _kept(folder: Path, answers: list[Answer]) -> list[Answer]:
    (folder / "answers.json").write_text(json.dumps([vars(answer) for answer in answers], indent=1), "utf-8")
    return answers


def _verdict(answer: Answer, expected: dict[str, Any]) -> str:
    if answer.kind in ("refused", "crash"):
        return answer.kind
    if expected["agree"]:
        return "right" if answer.kind == "agrees" else "FALSE ALARM"
    if answer.kind == "agrees":
        return "missed"
    said = ("line" if answer.line else "", "fix" if answer.fix else "", "WRONG PROOF" if answer.wrong else "")
    return ", ".join(text for text in said if text) or "neither line nor fix"


def table(folder: Path, answers: list[Answer]) -> str:
    """Write the counts as Markdown, then what went wrong by kind of port."""
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    ports = [a for a in answers if expected[a.name]["agree"]]
    mutations = [a for a in answers if not expected[a.name]["agree"]]
    rows = []
    if ports:
        counts = collections.Counter(_verdict(a, expected[a.name]) for a in ports)
        rows += ["| correct ports | right | false alarms | refused | crashes |", "|" + "---|" * 5]
        rows += [
            f"| {len(ports)} | {' | '.join(str(counts[k]) for k in ('right', 'FALSE ALARM', 'refused', 'crash'))} |",
            "",
        ]
    if mutations:
        n = len(mutations)
        kinds = collections.Counter(a.kind for a in mutations)
        line, fix, wrong = (sum(bool(getattr(a, k)) for a in mutations) for k in ("line", "fix", "wrong"))
        rows += [
            "| mutations | right line | right cause | wrong proofs | missed | refused | crashes |",
            "|" + "---|" * 7,
        ]
        rows += [
            f"| {n} | {line} ({line / n:.0%}) | {fix} ({fix / n:.0%}) | {wrong} | "
            f"{kinds['agrees']} | {kinds['refused']} | {kinds['crash']} |",
            "",
        ]
    failed: collections.Counter[str] = collections.Counter()
    seen: collections.Counter[str] = collections.Counter()
    for answer in answers:
        right = (
            answer.kind == "agrees"
            if expected[answer.name]["agree"]
            else answer.line and answer.fix and not answer.wrong
        )
        for kind in expected[answer.name].get("kinds", []):
            seen[kind] += 1
            failed[kind] += not right
    rows += ["| kind | pairs | not as they should be |", "|---|---|---|"]
    rows += [f"| {kind} | {seen[kind]} | {count} |" for kind, count in failed.most_common() if count]
    return "\n".join(rows) + "\n"
