"""The tiny story, run once for all tests that look at its results."""

from pathlib import Path

import pytest
from telling import TINY, histodistill


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a finished tiny run; tests read it and leave it as it is."""
    root = tmp_path_factory.mktemp("tiny")
    told = histodistill("run", TINY, root=root)
    assert told.code == 0, told.err[-3000:]
    return root
