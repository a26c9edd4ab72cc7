"""The monitor of a client program, as far as it can be seen without a cluster."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

import dispycos
from dispycos.actors.client.sync_client import SyncClient
from tests.kit.web import Caller


def test_its_status_task_is_the_clients() -> None:
    """So it is set as scripts do it, on the one or the other, and whoever has it hears of all."""

    async def listen(*, task: dispycos.Task) -> None:
        await task.receive()

    async def scene() -> None:
        client = dispycos.Client()
        http = dispycos.HTTPServer(SyncClient(client), port=0)  # as `with client as found` gives it
        try:
            assert http.status_task is None
            http.status_task = task = dispycos.Task(listen)
            assert client.status_task is task is http.status_task
            task.terminate()
        finally:
            http.shutdown(wait=False)

    dispycos.run(scene)


def test_before_there_is_a_cluster_it_is_empty_and_answers(capfd: pytest.CaptureFixture[str]) -> None:
    async def scene() -> None:
        http = dispycos.HTTPServer(dispycos.Client(), port=0)
        assert capfd.readouterr().out == f"{http.url}\n", "the URL is alone on its line"
        web = Caller(http.url)
        assert await asyncio.to_thread(web.rows, "nodes") == []
        cluster = await asyncio.to_thread(web.get, "/api/v1/cluster")
        assert (cluster["submitted"], cluster["nodes"], cluster["kind"]) == (0, 0, "client")
        done = await asyncio.to_thread(web.act, "suspend", "nowhere:1")
        assert done == {"done": 0, "refused": [["nowhere:1", "there is no such node or server"]], "text": ""}
        http.shutdown()
        http.shutdown()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("wishes", "error"),
    [({"client": "no client"}, TypeError), ({"poll_sec": 0}, ValueError), ({"poll_sec": "1"}, TypeError)],
)
def test_parameters_of_no_use_are_named(wishes: dict[str, object], error: type[Exception]) -> None:
    client = wishes.pop("client", None) or dispycos.Client()
    with pytest.raises(error, match="HTTPServer"):
        dispycos.HTTPServer(client, port=0, **wishes)  # type: ignore[arg-type]


def test_who_starts_none_imports_none_of_it() -> None:
    program = (
        "import sys, dispycos; dispycos.Client(); import dispycos.cli.node, dispycos.cli.scheduler\n"
        "print(sorted({'starlette', 'uvicorn', 'rich'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "[]\n"
