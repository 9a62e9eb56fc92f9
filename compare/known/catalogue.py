"""The names of causes with what is said of each; the texts are in `catalogue.toml`."""

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files


@dataclass(frozen=True)
class KnownCause:
    """One named cause: how it is recognised, how it is proved (empty where it is not tried), what a user is told."""

    name: str
    recognised: str
    proof: str
    message: str


@lru_cache(maxsize=1)
def catalogue() -> dict[str, KnownCause]:
    """Read all causes, by name."""
    content = tomllib.loads(files("compare.known").joinpath("catalogue.toml").read_text("utf-8"))
    return {name: KnownCause(name, **entry) for name, entry in content.items()}
