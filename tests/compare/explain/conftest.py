"""Two warm processes, one for each side of a pair, for the whole session."""

from collections.abc import Iterator

import pytest

from compare.explain.processes import Sides


@pytest.fixture(scope="session")
def sides() -> Iterator[Sides]:
    """A Keras side on the torch backend, whose imports are the quickest, and a PyTorch side."""
    with Sides("torch", timeout=300) as processes:
        yield processes
