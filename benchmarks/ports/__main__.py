"""Write random correct ports and single mutations of them, and ask `explain` about each.

python benchmarks/ports OUT --seeds 0 60                 # correct ports
python benchmarks/ports OUT --seeds 0 60 --mutations     # and of each port a mutation that changes training
python benchmarks/ports OUT --seeds 0 150 --validate     # float64: are the ports correct? (no explain)

Seeds 0 to 199 are for development; a figure counts on seeds from 1000 that nobody has looked at.
"""

import argparse
import collections
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ports.joined import port
from ports.port import Mutation
from ports.score import ask_all, ask_warm, table
from ports.validate import validate

# How often a kind of mistake is drawn beside one of the rest: what every port admits would fill the sample.
RARER = dict.fromkeys(
    ("learning-rate", "loss-function", "loss-reduction", "two-biases", "adam-betas", "gradient-accumulation"), 0.25
)
TRIES = 6


def candidates(seed: int) -> list[Mutation]:
    """Some mutations of a seed's port in a random order; rare kinds stand as far ahead as frequent ones."""
    draw = random.Random(f"mutation {seed}")  # noqa: S311
    groups: dict[str, list[Mutation]] = collections.defaultdict(list)
    for mutation in port(seed).mutations():
        groups[mutation.causes[0]].append(mutation)
    order = sorted(groups, key=lambda name: -(draw.random() ** (1 / RARER.get(name, 1.0))))
    return [draw.choice(groups[name]) for name in order][:TRIES]


def write(seeds: range, out: Path, *, mutations: bool, keras: bool) -> list[str]:
    """Write the pair files and expected.json; return what is wrong with ports where `keras` validates them."""
    out.mkdir(parents=True, exist_ok=True)
    ports = {str(seed): port(seed) for seed in seeds}
    tried = {name: candidates(int(name)) if mutations else [] for name in ports}
    texts = {
        n: {"text": p.text(), "weights": p.weights, "mutations": [m.text for m in tried[n]]} for n, p in ports.items()
    }
    wrong, results = validate(texts, out / "validation", keras=keras) if keras or mutations else ({}, {})
    file = out / "expected.json"
    expected: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for name, made in ports.items():
        if wrong.get(name):
            continue
        kinds = sorted(made.kinds)
        (out / f"p{name}.py").write_text(made.text(), "utf-8")
        expected[f"p{name}"] = _right("", (), None) | {"agree": True, "kinds": kinds}
        effective = [m for m, told in zip(tried[name], results.get(name, []), strict=False) if told == "effective"]
        if effective:
            mutation = effective[0]
            (out / f"m{name}.py").write_text(mutation.text, "utf-8")
            about = f"{mutation.right}  →  {mutation.wrong or 'nothing'}"
            expected[f"m{name}"] = _right(about, mutation.causes, mutation.line) | {
                "kinds": [mutation.causes[0], *kinds]
            }
    file.write_text(json.dumps(expected, indent=1, ensure_ascii=False), "utf-8")
    return [f"{name}: {message}" for name, message in wrong.items() if message]


def _right(about: str, accept: Sequence[str], line: str | None) -> dict[str, Any]:
    return {"agree": False, "causes": [], "accept": list(accept), "line": line, "about": about or "correct"}


def main() -> None:
    """Write, ask, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", nargs=2, type=int, default=(0, 20), metavar=("FROM", "TO"))
    parser.add_argument("--mutations", action="store_true")
    parser.add_argument("--validate", action="store_true", help="train both sides in float64; leave out what is wrong")
    parser.add_argument("--write", action="store_true", help="write the files and ask nothing")
    parser.add_argument(
        "--fix", action="store_true", help="a fix is right if the file that explain wrote trains as Keras"
    )
    parser.add_argument("--warm", action="store_true", help="ask in this process, with one pair of sides for all files")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=300)
    options = parser.parse_args()
    seeds = range(*options.seeds)
    wrong = write(seeds, options.out, mutations=options.mutations, keras=options.validate)
    if options.validate:
        print(*wrong, f"{len(seeds) - len(wrong)} of {len(seeds)} ports are correct in float64", sep="\n")
    if options.validate or options.write:
        return
    if options.warm:
        answers = ask_warm(options.out, options.backend)
    else:
        answers = ask_all(options.out, options.backend, options.workers, options.timeout, options.fix)
    if options.fix:
        texts = {}
        for answer in answers:
            fixed = options.out / "fixed" / f"{answer.name}.py"
            if fixed.exists():
                texts[answer.name] = {"text": fixed.read_text("utf-8"), "weights": port(int(answer.name[1:])).weights}
        results, _ = validate(texts, options.out / "validation")
        for answer in answers:
            answer.fix = results.get(answer.name) == ""
    print(table(options.out, answers))


if __name__ == "__main__":
    main()
