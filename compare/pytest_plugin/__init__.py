"""The pytest plugin: the fixture `parity`, its marker and the options `--parity-…`; quick to import."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # pytest imports this at every start, in projects that may have one test of a model among thousands
    from compare.pytest_plugin.checks import Parity
    from compare.pytest_plugin.processes import Workers


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("parity", "models that train alike in Keras and PyTorch")
    group.addoption(
        "--parity-backends",
        metavar="NAMES",
        help="Keras backends where a test names none, separated by commas (default: KERAS_BACKEND, else all)",
    )
    group.addoption("--parity-regen", action="store_true", help="rewrite golden traces and fail the tests that do so")
    group.addoption("--parity-regen-all", action="store_true", help="rewrite golden traces and pass")
    group.addoption("--parity-report", metavar="DIR", help="write an HTML report of every check below this folder")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; raises UsageError for a backend that there is not."""
    config.addinivalue_line(
        "markers",
        "parity(backends, steps): what the fixture parity takes where a check does not say: the Keras backends, and "
        "how many training steps at least, rounded up to whole epochs",
    )
    backends = config.getoption("--parity-backends")
    if backends is not None:
        from compare.errors import InputError
        from compare.workers.backends import choose_backends

        try:
            choose_backends(backends.split(","))
        except InputError as error:
            raise pytest.UsageError(str(error).replace("--backend", "--parity-backends", 1)) from None
    if config.option.parity_report:
        # Processes of xdist may work elsewhere.
        config.option.parity_report = str(Path(config.invocation_params.dir, config.option.parity_report))


@pytest.fixture(scope="session")
def _parity_workers(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Workers]":
    from compare.pytest_plugin.processes import Workers

    with Workers(tmp_path_factory.mktemp("parity")) as workers:
        yield workers


@pytest.fixture
def parity(request: pytest.FixtureRequest, _parity_workers: "Workers") -> "Parity":
    """Check that a model trains alike in Keras and in PyTorch; see `compare.pytest_plugin.checks.Parity`."""
    from compare.pytest_plugin.checks import Parity

    return Parity(request.node, _parity_workers)
