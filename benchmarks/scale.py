"""Sweep tiny cases and print what one costs: seconds, beside its training steps, and bytes on disk, as Markdown.

python benchmarks/scale.py OUT BACKENDS CASES [CASES…]     (a new folder; backends joined by commas; two idle cores)

A case is an LSTM of 4 units on 44 windows of 4 values, 2 epochs of 3 batches. Half of the cases have one learning rate,
half another, each with its own seed. Seconds are those of a whole command, workers started and stopped within it.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

SWEEP = """
case = "lstm"
backends = [{backends}]
seeds = [{seeds}]
[fields]
data.points = 60
data.window = 4
model.units = 4
training.epochs = 2
training.batch_size = 16
[grid]
training.learning_rate = [0.001, 0.01]
"""


def bytes_of(folder: Path) -> tuple[int, int]:
    """Return how many bytes of disk the files of a folder take, and how many files there are."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files), len(files)


def measure(out: Path, backends: list[str], cases: int) -> str:
    """Sweep so many cases and return a row of the table."""
    out.mkdir(parents=True)
    names = ", ".join(f'"{backend}"' for backend in backends)
    seeds = ", ".join(map(str, range(cases // 2)))
    (out / "sweep.toml").write_text(SWEEP.format(backends=names, seeds=seeds), "utf-8")
    command = [sys.executable, "-m", "compare", "sweep", str(out / "sweep.toml"), "--out", str(out / "out"), "--quiet"]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - this interpreter, this package
    seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    lines = (out / "out" / "verdicts.jsonl").read_text("utf-8").splitlines()
    training = sum(json.loads(line)["run"]["seconds"] for line in lines) / (os.cpu_count() or 1)
    size, _ = bytes_of(out / "out")
    return (
        f"| {' '.join(backends)} | {len(lines)} | {seconds:.0f} | {seconds / cases:.3f} | "
        f"{(seconds - training) / cases:.3f} | {cores / cases:.3f} | {size / cases / 1024:.1f} |"
    )


def main(out: Path, backends: list[str], counts: list[int]) -> None:
    """Print the table."""
    print("| backends | cases | s in all | s a case | beside its steps | core-seconds a case | KiB a case |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for count in counts:
        print(measure(out / str(count), backends, count), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), [int(count) for count in sys.argv[3:]])
