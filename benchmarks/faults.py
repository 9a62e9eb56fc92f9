"""Attacks the files of a run and of a golden trace with flipped bits, the commands with kills, and counts what held.

Usage: python benchmarks/faults.py [--flips 1000] [--kills 20] [--seed 0] [--folder FOLDER]

Seeds below 1000 are for development; a figure that counts is of another. The commands are those of a user, each in a
process of its own; a case is tiny. The counts are printed as JSON. Exits 1 where something was lost or believed.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compare.errors import InputError
from compare.golden.store import choose_golden
from compare.storage import is_sealed, read_json
from compare.trace.trace import damaged_files

FIELDS = {"data.points": 120, "model.units": 4, "training.epochs": 3, "training.batch_size": 16}
CASE = [
    "lstm",
    "--backend",
    "torch",
    *(part for name, value in FIELDS.items() for part in ("--set", f"{name}={value}")),
]
SWEEP = 'case = "lstm"\nbackends = ["torch"]\nseeds = [0, 1]\n[fields]\n' + "".join(
    f"{name} = {value}\n" for name, value in FIELDS.items()
)
OUT, GOLDEN = "out", "golden"
COMMANDS = {
    "run": ["run", *CASE, "--out", OUT, "--jobs", "1", "--quiet"],
    "sweep": ["sweep", "sweep.toml", "--out", OUT, "--jobs", "1", "--quiet"],
    "record": ["record", *CASE, "--golden", GOLDEN, "--jobs", "1", "--quiet"],
    "check": ["check", "--golden", GOLDEN, "--out", OUT, "--jobs", "1", "--quiet"],
}
# What says the same whenever it was made: of a verdict that, of a sweep's record that, of a golden trace its files.
NOT_COMPARED = ("end.json", "golden.json", "manifest.json", "experiment.json")


def start(command: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command in a folder, which has its own folder for temporary files."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "sweep.toml").write_text(SWEEP)
    return subprocess.Popen(  # noqa: S603 - this project's own commands
        [sys.executable, "-m", "compare", *COMMANDS[command]],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(command: str, folder: Path) -> None:
    """Run a command to its end; raises RuntimeError where it does not end with 0."""
    process = start(command, folder)
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {output}{errors}")


def outcome(command: str, folder: Path) -> Any:
    """What a command has left, without what depends on when it was made."""
    if command == "record":
        return {
            str(file.relative_to(folder)): file.read_bytes()
            for file in sorted((folder / GOLDEN).rglob("*"))
            if file.is_file() and file.name not in NOT_COMPARED
        }
    if command == "sweep":
        records = map(json.loads, (folder / OUT / "verdicts.jsonl").read_text("utf-8").splitlines())
        return {record["case"]: record["comparisons"] for record in records}
    return read_json(folder / OUT / "verdict.json")


def flip(file: Path, bit: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def flip_bits(folder: Path, count: int, random_bits: random.Random) -> dict[str, collections.Counter[str]]:
    """Flip single bits of all files of a run and of a golden trace; each is refused, or without effect, or believed.

    A file is drawn by its size, half of the time, else each as likely as any other.
    """
    counts: dict[str, collections.Counter[str]] = {"run": collections.Counter(), "golden": collections.Counter()}
    trees = {"run": folder / "run" / OUT, "golden": folder / "record" / GOLDEN}
    for number in range(count):
        kind = ("run", "golden")[number % 2]
        files = sorted(file for file in trees[kind].rglob("*") if file.is_file() and file.stat().st_size)
        by_size = [file.stat().st_size for file in files] if number // 2 % 2 else None
        (file,) = random_bits.choices(files, by_size)
        bit = random_bits.randrange(file.stat().st_size * 8)
        content = file.read_bytes()
        flip(file, bit)
        name = str(file.relative_to(trees[kind]))
        try:
            said = (told_of_run if kind == "run" else told_of_golden)(trees[kind], file, content)
        except Exception as error:
            said = f"crashed: {type(error).__name__}"
        file.write_bytes(content)
        counts[kind][said] += 1
        if said.startswith(("believed", "crashed")):
            print(f"{kind} {name} bit {bit}: {said}", file=sys.stderr)
    return counts


def told_of_golden(golden: Path, file: Path, before: bytes) -> str:
    """What the first act of `check` says of a golden trace."""
    try:
        choose_golden(golden)
    except InputError as error:
        return "refused by name" if file.name in str(error) and "damaged" in str(error) else f"believed: {error}"
    return "without effect" if json.loads(before) == json.loads(file.read_bytes()) else "believed"


def told_of_run(out: Path, file: Path, before: bytes) -> str:
    """What the resumption of a run makes of a file: it is trained again, refused, made anew, or never read."""
    for trace in out.rglob("end.json"):
        damaged = damaged_files(trace.parent)
        if damaged:
            right = [trace.parent / name for name in damaged] == [file]
            return "told by name, to be trained again" if right else "believed: another file is told"
    parts = file.relative_to(out).parts
    if parts == ("run.json",):
        if is_sealed(read_json(file)):
            return "without effect" if json.loads(before) == json.loads(file.read_bytes()) else "believed"
        return "refused by name"
    if parts[0] in ("verdict.json", "report.html", "junit.xml") or parts[1] == "experiment":
        return "written anew by every run"
    return "never read: a log" if parts[0] == "logs" else "believed: nothing tells"


def without_effect_when_written_anew(folder: Path, random_bits: random.Random) -> str:
    """Flip a bit in each file that a run writes anew, and in each log; given again, the run must say the same."""
    here = folder / "anew"
    shutil.copytree(folder / "run", here, dirs_exist_ok=True)
    for file in sorted((here / OUT).rglob("*")):
        parts = file.relative_to(here / OUT).parts
        anew = parts[0] in ("verdict.json", "report.html", "junit.xml", "logs") or parts[1:2] == ("experiment",)
        if file.is_file() and file.stat().st_size and anew:
            flip(file, random_bits.randrange(file.stat().st_size * 8))
    finish("run", here)
    return "without effect" if outcome("run", here) == outcome("run", folder / "run") else "believed"


def kill_at_random(folder: Path, count: int, random_moments: random.Random) -> dict[str, collections.Counter[str]]:
    """Kill commands at random moments and give each again; its outcome must be that of one that was left alone.

    A golden trace that was there before must be whole after the kill, and of the folder for temporary files nothing may
    be left after the next.
    """
    counts: dict[str, collections.Counter[str]] = {command: collections.Counter() for command in COMMANDS}
    number = 0
    while number < count:
        command = list(COMMANDS)[number % len(COMMANDS)]
        here = folder / "killed"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        if command in ("record", "check"):
            shutil.copytree(folder / "record" / GOLDEN, here / GOLDEN)
        began = time.monotonic()
        process = start(command, here)
        seconds = random_moments.uniform(0, float((folder / command / "seconds").read_text()))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not alive:  # by a machine that was faster than before; drawn again
            continue
        number += 1
        seconds = time.monotonic() - began
        problem = after_a_kill(command, here, folder / command)
        counts[command][problem or "nothing lost, nothing believed"] += 1
        print(f"[{number}/{count}] {command} {seconds:.1f} s: {problem or 'held'}", file=sys.stderr, flush=True)
    return counts


def after_a_kill(command: str, here: Path, whole: Path) -> str | None:
    """What is wrong after a command was killed, and after it was given again; None where nothing is."""
    if command == "record":
        try:
            choose_golden(here / GOLDEN)
        except InputError as error:
            return f"lost the old golden trace: {error}"
    if command == "check" and (here / OUT).exists():
        # Its results are those of one training; it is not resumed but begun in a new folder.
        if any((here / OUT).glob("verdict.json")) and outcome(command, here) != outcome(command, whole):
            return "believed a part"
        shutil.rmtree(here / OUT)
    try:
        finish(command, here)
    except RuntimeError as error:
        return f"cannot go on: {error}"
    if outcome(command, here) != outcome(command, whole):
        return "another outcome"
    left = [path.name for path in (here / "tmp").iterdir() if path.name.startswith("rnn-parity-")]
    left += [path.name for path in here.glob(f"{GOLDEN}/.*")] + [path.name for path in here.glob(f"{OUT}/.*")]
    return f"left {', '.join(left)}" if left else None


def main() -> int:
    """Attack, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where to work, kept; by default a temporary folder")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(options.folder or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        for command in COMMANDS if options.kills else ("run", "record"):
            if (folder / command / "seconds").exists():
                continue
            (folder / command).mkdir(parents=True, exist_ok=True)
            if command == "check":
                shutil.copytree(folder / "record" / GOLDEN, folder / command / GOLDEN, dirs_exist_ok=True)
            began = time.monotonic()
            finish(command, folder / command)
            (folder / command / "seconds").write_text(str(time.monotonic() - began))
        counts = {
            "seed": options.seed,
            "flips": flip_bits(folder, options.flips, random.Random(options.seed)),  # noqa: S311 - no secret
            "written anew": without_effect_when_written_anew(folder, random.Random(options.seed)),  # noqa: S311
            "kills": kill_at_random(folder, options.kills, random.Random(options.seed)),  # noqa: S311 - no secret
        }
    print(json.dumps(counts, indent=1))
    bad = ("believed", "crashed", "lost", "cannot", "another", "left")
    said = [counts["written anew"]] + [
        word for kind in ("flips", "kills") for counter in counts[kind].values() for word in counter
    ]
    return int(any(word.startswith(bad) for word in said))


if __name__ == "__main__":
    sys.exit(main())
