"""Tests of compat leave the other tests of their process alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def handles_stay_ours() -> Iterator[None]:
    """What imports these modules changes what handles are, and what ends a generator: in a process of its own."""
    yield
    assert "dispycos.actors.compat.tasks" not in sys.modules
