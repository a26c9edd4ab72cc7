"""One browser for all tests of the page (it ends with the last of them), and monitors of made-up rows to point it at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.web.fake_cluster import Cluster
from tests.web.fake_desk import Site
from tests.web.fake_monitor import Monitor

if TYPE_CHECKING:
    from tests.web.browser import Page

Start = Callable[..., Monitor]

TICK_S = 0.25  # quicker than life
NODE, SERVER = "node/ash:51348", "server/10.20.4.11:51307"


@pytest.fixture(scope="package")
def page() -> Iterator[Page]:
    from tests.web.browser import Page

    page = Page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    """A web server with made-up tables, for tests that change nothing in it."""
    with Site() as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.desk.acted.clear()
    return shared_site


@pytest.fixture
def own_site() -> Iterator[Site]:
    """For a test that changes what is in it, or how it serves."""
    with Site() as site:
        yield site


@pytest.fixture
def start(page: Page) -> Iterator[Start]:
    """start(nodes, ...) runs a monitor until the end of the test; with `hold` its tasks do not end by themselves."""
    with ExitStack() as running:

        def start(
            nodes: int = 2,
            *,
            port: int = 0,
            prefix: str = "",
            hostile: bool = False,
            ended: int = 400,
            hold: bool = False,
        ) -> Monitor:
            cluster = Cluster(nodes, time.time(), hostile=hostile, ended=ended)
            if hold:
                cluster.hold()
            monitor = Monitor(cluster, port, prefix, TICK_S).start()
            running.callback(lambda: None if monitor.ended.is_set() else monitor.stop())
            return monitor

        page.size(1440, 900)
        yield start
        page.driver.get("about:blank")
