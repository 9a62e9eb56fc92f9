"""Where the repository and what the tests read from it stand."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAIRS = ROOT / "tests" / "pairs"
SUNSPOTS = ROOT / "tests" / "data" / "sunspots.csv"
