"""Written code as `ruff format` has it."""

import importlib.util
import subprocess
import sys


def formatted(text: str) -> str:
    """A Python text, formatted with ruff's defaults; as it is where ruff is not installed."""
    if importlib.util.find_spec("ruff") is None:
        return text
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else text
