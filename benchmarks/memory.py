"""Print each runner's peak memory and seconds for two runs that differ in their number of epochs.

python benchmarks/memory.py SHORT_RUN LONG_RUN     (the --out folders of two runs)
"""

import json
import sys
from pathlib import Path


def ends(folder: Path) -> dict[str, dict[str, float]]:
    """Read what each runner said of itself at its end."""
    ends = {path.parent: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*/*/end.json"))}
    return {f"{path.parent.name} {path.name}": end for path, end in ends.items() if "member" not in path.name}


def main(short: Path, long: Path) -> None:
    """Print a table in Markdown."""
    before, after = ends(short), ends(long)
    print("| training | short, MiB | long, MiB | short, s | long, s |\n|---|---|---|---|---|")
    for name, end in before.items():
        other = after[name]
        memory = f"{end['peak_memory_mib']:.0f} | {other['peak_memory_mib']:.0f}"
        print(f"| {name} | {memory} | {end['seconds']:.1f} | {other['seconds']:.1f} |")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
