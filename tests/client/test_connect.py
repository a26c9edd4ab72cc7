"""The way to a client's scheduler: its private one, until the link to one that was found is there."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dispycos.actors.client import connect
from dispycos.actors.client.connect import Uplink
from dispycos.brokers.private import PrivateProcess, Waiting
from dispycos.runtime import Runtime
from dispycos.transport.discovery import Presence
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys

pytestmark = pytest.mark.timeout(30)

KEYS = Keys.from_secret(Secret(b"o" * 32, "test"))

CHILD = """
import json, sys
sys.stdin.readline()
orders = json.loads(sys.stdin.readline() or sys.exit(0))
print(json.dumps({"endpoint": sys.argv[1]}), flush=True)
found = {"use": "scheduler", "name": "found", "endpoints": [sys.argv[2]]}
print(json.dumps({"use": "private"} if orders.get("always") else found), flush=True)
sys.stdin.read()
"""


class Scene:
    """A client, the scheduler in its private process, and one that listens by tcp."""

    def __init__(self, folder: Path) -> None:
        self.ended: list[str] = []
        self.private = Runtime("scheduler", "private", KEYS)
        self.found = Runtime("scheduler", "found", KEYS)
        self.client = Runtime("client", "client", KEYS)
        self.private_ipc = f"ipc://{self.private.listen_ipc(folder)}"
        self.found_tcp = self.found.listen("tcp://127.0.0.1:*")
        self.deaths = 0
        self.is_of_use = False
        self.uplink = Uplink(self.client, None, self._note_death, self.ended.append)

    def _note_death(self) -> bool:
        self.deaths += 1
        return self.is_of_use

    async def close(self) -> None:
        await self.uplink.close()
        for runtime in (self.client, self.private, self.found):
            await runtime.close()


@pytest.fixture
def play(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays a scene with a private process that says it has found a scheduler at this place."""

    def start(story: Callable[[Scene], Awaitable[None]], found: str = "") -> None:
        async def main() -> None:
            scene = Scene(tmp_path)
            (tmp_path / "child.py").write_text(CHILD)
            python = tmp_path / "python"
            python.write_text(
                f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'child.py'} {scene.private_ipc} {found or scene.found_tcp}\n"
            )
            python.chmod(0o755)
            monkeypatch.setattr(sys, "executable", str(python))
            try:
                async with asyncio.timeout(15):
                    await story(scene)
            finally:
                await scene.close()

        asyncio.run(main())

    return start


def test_a_scheduler_that_was_found_is_used_and_the_private_one_goes(play: Callable[..., None]) -> None:
    async def story(scene: Scene) -> None:
        assert await scene.uplink.reach(None, []) == scene.found.epoch
        assert scene.client.is_linked(scene.found.epoch)
        assert scene.uplink._private is None
        while scene.client.is_linked(scene.private.epoch):
            await asyncio.sleep(0.01)
        assert scene.ended == []

    play(story)


def test_without_a_link_to_what_was_found_a_client_stays_by_itself(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "FOUND_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:

        async def story(scene: Scene) -> None:
            assert await scene.uplink.reach(None, []) == scene.private.epoch
            assert scene.client.is_linked(scene.private.epoch)
            assert scene.uplink._private is not None and scene.uplink._private.orders["always"]

        play(story, f"tcp://127.0.0.1:{silent.getsockname()[1]}")


def test_a_private_process_that_is_killed_is_replaced_by_one_of_the_same_id(
    play: Callable[..., None],
) -> None:
    async def story(scene: Scene) -> None:
        first = await private_of(scene)
        first._process.kill()
        second = await private_of(scene, after=first)
        assert second.id == first.id and scene.deaths == 1 and scene.ended == []
        assert scene.client.is_linked(scene.private.epoch)

    play(story, "tcp://127.0.0.1:1")


def test_however_often_they_die_they_are_replaced_if_they_were_of_use(play: Callable[..., None]) -> None:
    async def story(scene: Scene) -> None:
        scene.is_of_use = True
        dying = await private_of(scene)
        for _ in range(connect.YOUNG_MAX + 2):
            dying._process.kill()
            dying = await private_of(scene, after=dying)
        assert scene.ended == []

    play(story, "tcp://127.0.0.1:1")


def test_private_processes_that_die_as_soon_as_they_start_are_not_replaced_for_ever(
    play: Callable[..., None],
) -> None:
    async def story(scene: Scene) -> None:
        dying = await private_of(scene)
        for _ in range(connect.YOUNG_MAX):
            dying._process.kill()
            dying = await private_of(scene, after=dying)
        dying._process.kill()
        while not scene.ended:
            await asyncio.sleep(0.01)
        assert scene.ended == [f"the private scheduler (pid {dying.pid}) was killed by SIGKILL (9)"]

    play(story, "tcp://127.0.0.1:1")


def test_one_that_ends_by_itself_is_not_replaced(play: Callable[..., None]) -> None:
    async def story(scene: Scene) -> None:
        private = await private_of(scene)
        assert private._process.stdin is not None
        private._process.stdin.close()
        while not scene.ended:
            await asyncio.sleep(0.01)
        assert "ended with exit code 0" in scene.ended[0] and scene.deaths == 0

    play(story, "tcp://127.0.0.1:1")


async def private_of(scene: Scene, after: PrivateProcess | None = None) -> PrivateProcess:
    """The private process that the client uses: the first, or the next, once its end would be seen."""
    watcher = scene.uplink._watcher
    if after is None:
        scene.uplink._private_orders = lambda nodes: {"always": True}  # type: ignore[method-assign]
        await scene.uplink.reach(None, [])
    while scene.uplink._watcher is watcher:
        await asyncio.sleep(0.01)
    assert scene.uplink._private not in (None, after)
    return scene.uplink._private


@pytest.mark.parametrize("of", ["place", "registry"])
def test_one_that_was_started_ahead_ends_when_there_is_a_scheduler(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    async def story(scene: Scene) -> None:
        Waiting.child = ahead = PrivateProcess()
        port = int(scene.found_tcp.rpartition(":")[2])
        if of == "registry":
            found = Presence("scheduler", "found", ("127.0.0.1",), port, KEYS.tag, scene.found.epoch)
            monkeypatch.setattr(scene.uplink, "_registered", lambda: found)
        epoch = await scene.uplink.reach(f"127.0.0.1:{port}" if of == "place" else None, [])
        assert epoch == scene.found.epoch
        assert await ahead.wait() == 0 and scene.uplink._private is None
        await ahead.close()

    play(story)


def test_one_that_was_started_ahead_is_told_what_to_do(play: Callable[..., None]) -> None:
    async def story(scene: Scene) -> None:
        Waiting.child = ahead = PrivateProcess()
        scene.uplink._private_orders = lambda nodes: {"always": True}  # type: ignore[method-assign]
        assert await scene.uplink.reach(None, []) == scene.private.epoch
        assert scene.uplink._private is ahead

    play(story)


def test_the_secret_of_the_environment_is_told_to_the_private_process_and_not_shown(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPYCOS_SECRET", "eighteen dry horses")

    async def story(scene: Scene) -> None:
        private = PrivateProcess({"nodes": []})
        environment = Path(f"/proc/{private.pid}/environ")
        if environment.exists():
            assert b"horses" not in environment.read_bytes()
        await private.close()

    play(story)
