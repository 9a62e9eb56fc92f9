"""One sweep that the tests of sweeps read."""

from pathlib import Path

import pytest
from helpers.sweep_runs import finish_sweep, start_sweep


@pytest.fixture(scope="session")
def finished_sweep(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> tuple[Path, dict[str, int]]:
    """The folder of a sweep that ran on this machine without Ray, not to be trained in, and its counts."""
    folder = tmp_path_factory.mktemp("locally")
    counts, _ = finish_sweep(start_sweep(folder, environment))
    return folder, counts
