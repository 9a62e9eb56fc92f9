"""The walk of a golden trace through a project's life, with the pytest plugin."""

import importlib
from collections.abc import Iterator

import pytest
from helpers.small_runs import TINY

from compare.pytest_plugin.processes import Workers
from compare.workers.pool import Pool

pytest_plugins = ["pytester"]

TEST = """
def test_lstm(parity):
    parity.check_golden("golden", "lstm", backends=["torch"], fields={fields!r})
"""


class WarmWorkers:
    """A pytest plugin that gives the fixture `parity` worker processes that are there already."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @pytest.fixture(scope="session")
    def _parity_workers(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
        with Workers(tmp_path_factory.mktemp("parity")) as workers:
            workers.__dict__["pool"] = self._pool
            yield workers


@pytest.mark.slow
def test_fail_pass_fail_regenerate_pass(pytester: pytest.Pytester, pool: Pool) -> None:
    """A golden trace is missing, is recorded, agrees, is of another case than the test's, is recorded, and agrees."""
    # A run in this process unloads what it has loaded, and the library of NumPy behind this loads but once.
    importlib.import_module("sklearn.metrics")
    fields = TINY | {"training.epochs": 1}

    def run(*options: str) -> pytest.RunResult:
        plugins = [WarmWorkers(pool)]
        return pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider", *options, plugins=plugins)

    pytester.makepyfile(TEST.format(fields=fields))
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*golden cannot be read: No such file or directory; *", "or run: pytest *::test_lstm --parity-regen"]
    )

    result = run("--parity-regen")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["Golden traces in golden were rewritten: lstm."])

    run().assert_outcomes(passed=1)

    pytester.makepyfile(TEST.format(fields=fields | {"training.learning_rate": 0.01}))
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*is of another case: training.learning_rate was 0.001, the test has 0.01", "or run: pytest * --parity-regen"]
    )

    run("--parity-regen-all").assert_outcomes(passed=1)
    run().assert_outcomes(passed=1)
