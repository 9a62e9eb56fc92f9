"""The walk of a golden trace through a project's life, with the pytest plugin."""

import pytest
from helpers.small_runs import TINY

pytest_plugins = ["pytester"]

TEST = """
def test_lstm(parity):
    parity.check_golden("golden", "lstm", backends=["torch"], fields={fields!r})
"""


def test_fail_pass_fail_regenerate_pass(pytester: pytest.Pytester) -> None:
    """A golden trace is missing, is recorded, agrees, is of another case than the test's, is recorded, and agrees."""
    fields = TINY | {"training.epochs": 1}

    def run(*options: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *options)

    pytester.makepyfile(TEST.format(fields=fields))
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*golden cannot be read: No such file or directory; *", "or: pytest *::test_lstm --parity-regen"]
    )

    result = run("--parity-regen")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["Golden traces in golden were rewritten: lstm."])

    run().assert_outcomes(passed=1)

    pytester.makepyfile(TEST.format(fields=fields | {"training.learning_rate": 0.01}))
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*is of another case: training.learning_rate was 0.001, the test has 0.01", "or: pytest * --parity-regen"]
    )

    run("--parity-regen-all").assert_outcomes(passed=1)
    run().assert_outcomes(passed=1)
