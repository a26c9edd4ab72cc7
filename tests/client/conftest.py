"""A client of the sync style for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dispycos import Client
from dispycos.actors.client.sync_client import SyncClient


@pytest.fixture(scope="module")
def client() -> Iterator[SyncClient]:
    """Its tasks run in this process."""
    with Client(local=True) as client:
        yield client
        client.close(terminate=True)
