"""What a private process takes for its cluster: a find is a hint, until its link has proved the secret."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dispycos.cli import private
from dispycos.cli import survey as survey_module
from dispycos.cli.process import Process
from dispycos.cli.survey import HINT_S, LATE_S, PROVEN_S, Survey
from dispycos.config import CommonSettings
from dispycos.transport.discovery import Presence
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys
from dispycos.version import PYTHON

pytestmark = pytest.mark.timeout(30)

KEYS = Keys.from_secret(Secret(b"o" * 32, "test"))
SETTINGS = CommonSettings(ip_addr=("127.0.0.1",))
OTHER = (PYTHON[0], PYTHON[1] + 1)
TICK = 0.06  # zeroconf starts in this
PATIENT_S = 5.0  # where a wait is as long, it is seen that it was not waited for, on a busy machine too


@pytest.fixture(autouse=True)
def home(own_home: Path) -> Path:
    return own_home


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was found has longer to prove itself, and a question may be older."""
    monkeypatch.setattr(survey_module, "HINT_S", PATIENT_S)
    monkeypatch.setattr(survey_module, "LATE_S", 2 * PATIENT_S)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has the secret has longer: whoever is waited for as if it had is seen."""
    monkeypatch.setattr(survey_module, "PROVEN_S", PATIENT_S)


class Scene:
    """A private process that looks around, and what is found there by and by."""

    def __init__(self) -> None:
        self.process = Process("scheduler", "private", SETTINGS, KEYS, private=True)
        self.said: list[str] = []
        self.process.notice = lambda text, level: self.said.append(text)
        self.finds: list[Presence] = []
        self.question: Any = None
        self.heard: list[Any] = []
        self.answer: Presence | None = None

    async def look(self, *, wants_scheduler: bool = True) -> tuple[Survey, float]:
        survey = Survey(self.process, self.question, wants_scheduler=wants_scheduler)

        def browse_registry() -> None:
            for found in self.finds:
                self.process._found(found)

        async def browse_network(question: Any) -> None:
            self.heard.append(question)
            await asyncio.sleep(TICK)
            if self.answer is not None:
                self.process._found(self.answer)

        self.process.browse_registry = browse_registry  # type: ignore[method-assign]
        self.process.browse_network = browse_network  # type: ignore[method-assign, assignment]
        start = self.process.runtime.clock()
        await survey.look()
        return survey, self.process.runtime.clock() - start


def presence_of(process: Process) -> Presence:
    return Presence(
        process.role,
        process.name,
        ("127.0.0.1",),
        process.port,
        KEYS.tag,
        process.runtime.epoch,
        python=PYTHON,
    )


def member(role: str, name: str = "there", keys: Keys = KEYS) -> Process:
    return Process(role, name, SETTINGS, keys)


def hint(role: str, port: int, epoch: int = 77) -> Presence:
    """As anybody may announce it who has heard an announcement of ours."""
    return Presence(role, "hint", ("127.0.0.1",), port, KEYS.tag, epoch, python=PYTHON)


def play(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            scene = Scene()
            async with scene.process:
                await story(scene)

    asyncio.run(main())


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("role", ["scheduler", "node"])
def test_a_hint_to_where_nobody_answers_costs_no_more_than_the_look_around(role: str) -> None:
    async def story(scene: Scene) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            refusing = socket.create_server(("127.0.0.1", 0))
            port = refusing.getsockname()[1]
            refusing.close()
            scene.finds = [hint(role, silent.getsockname()[1]), hint(role, port, epoch=78)]
            survey, took = await scene.look()
        assert survey.scheduler() is None and survey.nodes() == []
        assert HINT_S <= took < PATIENT_S

    play(story)


@pytest.mark.usefixtures("trusting")
def test_a_stranger_that_goes_on_and_on_costs_no_more_than_that_twice() -> None:
    async def story(scene: Scene) -> None:
        async def announce() -> None:
            for epoch in itertools.count(100):
                scene.process._found(hint("node", 1 + epoch % 9, epoch))
                await asyncio.sleep(0.02)

        stranger = asyncio.ensure_future(announce())
        survey, took = await scene.look()
        stranger.cancel()
        assert survey.nodes() == [] and took < PATIENT_S

    play(story)


@pytest.mark.usefixtures("patient")
def test_a_scheduler_counts_as_soon_as_it_has_proved_itself_and_not_before() -> None:
    async def story(scene: Scene) -> None:
        async with member("scheduler") as honest:
            honest.listen_tcp(0)
            scene.finds = [hint("scheduler", 1), presence_of(honest)]
            survey, took = await scene.look()
            assert survey.scheduler() == presence_of(honest)
            assert took < PATIENT_S

    play(story)


@pytest.mark.usefixtures("patient")
def test_nodes_that_have_proved_themselves_are_not_waited_for_longer() -> None:
    async def story(scene: Scene) -> None:
        async with member("node") as honest:
            honest.listen_tcp(0)
            scene.finds = [presence_of(honest)]
            survey, took = await scene.look()
            assert survey.nodes() == [presence_of(honest)]
            assert took < PATIENT_S

    play(story)


def test_one_that_has_the_secret_is_waited_for_longer_than_one_that_may_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(scene: Scene) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            scene.finds = [hint("node", silent.getsockname()[1])]
            monkeypatch.setattr(scene.process, "has_proved", lambda epoch: epoch == 77)
            survey, took = await scene.look()
        assert survey.nodes() == [] and took >= PROVEN_S

    play(story)


def test_who_is_of_another_cluster_proves_nothing() -> None:
    async def story(scene: Scene) -> None:
        async with member("scheduler", keys=Keys.from_secret(Secret(b"t" * 32, "test"))) as foreign:
            foreign.listen_tcp(0)
            scene.finds = [hint("scheduler", foreign.port, foreign.runtime.epoch)]
            survey, _ = await scene.look()
            assert survey.scheduler() is None
            assert not scene.process.has_proved(foreign.runtime.epoch)

    play(story)


def test_without_a_wish_for_a_scheduler_none_is_dialled_and_later_ones_never() -> None:
    async def story(scene: Scene) -> None:
        async with member("scheduler") as honest:
            honest.listen_tcp(0)
            scene.finds = [presence_of(honest)]
            survey, _ = await scene.look(wants_scheduler=False)
            assert survey.scheduler() is None and scene.process._finds == {}

        scene.finds = []
        await scene.look()
        scene.process._found(hint("scheduler", 1))
        assert scene.process._finds == {}

    play(story)


def test_the_link_to_a_scheduler_that_was_not_taken_is_given_up() -> None:
    async def story(scene: Scene) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            scene.finds = [hint("scheduler", silent.getsockname()[1])]
            await scene.look()
        assert scene.process._finds == {} and not scene.process.runtime._wanted

    play(story)


def test_a_node_of_another_python_is_named_once_and_not_dialled() -> None:
    async def story(scene: Scene) -> None:
        found = replace(hint("node", 9706), python=OTHER)
        scene.finds = [found, replace(found, addresses=("127.0.0.2",))]
        survey, took = await scene.look()
        assert survey.nodes() == [] and scene.process._finds == {}
        assert took < PROVEN_S
        theirs, ours = (".".join(map(str, version)) for version in (OTHER, PYTHON))
        (text,) = scene.said
        assert text.startswith(
            f"not used: node hint at 127.0.0.1:9706 runs Python {theirs}, this program {ours}: "
        )

    play(story)


@pytest.mark.usefixtures("patient")
def test_a_scheduler_of_another_python_is_as_good_as_any() -> None:
    async def story(scene: Scene) -> None:
        async with member("scheduler") as honest:
            honest.listen_tcp(0)
            scene.finds = [replace(presence_of(honest), python=OTHER)]
            survey, _ = await scene.look()
            assert survey.scheduler() == scene.finds[0]

    play(story)


def test_a_hint_with_the_place_of_another_does_not_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # The hint is waited for, and who is there needs some of it.
    monkeypatch.setattr(survey_module, "HINT_S", PROVEN_S)

    async def story(scene: Scene) -> None:
        async with member("node") as honest:
            honest.listen_tcp(0)
            scene.finds = [hint("node", honest.port), presence_of(honest)]
            survey, _ = await scene.look()
            assert survey.nodes() == [presence_of(honest)]

    play(story)


class Asked:
    """A question that was asked so long ago, and is answered in so many seconds from now."""

    def __init__(self, ago: float, answer_in: float | None) -> None:
        self.asked_at = time.monotonic() - ago
        self.answer_in = answer_in
        self.asked_again = False

    def ask(self) -> None:
        self.asked_at, self.asked_again = time.monotonic(), True

    async def answered(self, timeout: float) -> bool:
        await asyncio.sleep(timeout if self.answer_in is None else self.answer_in)
        return self.answer_in is not None


@pytest.mark.usefixtures("patient")
def test_the_time_for_answers_begins_with_the_question_and_zeroconf_is_not_needed_where_nobody_answers() -> (
    None
):
    async def story(scene: Scene) -> None:
        scene.question = Asked(PATIENT_S - 0.1, None)
        survey, took = await scene.look()
        assert survey.nodes() == [] and scene.heard == []
        assert took < PATIENT_S

    play(story)


@pytest.mark.usefixtures("patient")
def test_an_answer_that_came_while_nobody_could_read_it_is_heard() -> None:
    async def story(scene: Scene) -> None:
        async with member("node") as honest:
            honest.listen_tcp(0)
            scene.question = Asked(PATIENT_S + 0.1, 0.0)
            scene.answer = presence_of(honest)
            survey, _ = await scene.look()
            assert survey.nodes() == [presence_of(honest)] and scene.heard == [scene.question]

    play(story)


def test_a_question_that_is_old_is_asked_again() -> None:
    async def story(scene: Scene) -> None:
        scene.question = Asked(LATE_S + 1, None)
        _, took = await scene.look()
        assert scene.question.asked_again and took >= HINT_S

    play(story)


@pytest.mark.parametrize("comes", [True, False])
def test_schedule_waits_until_nodes_that_are_linked_have_said_what_they_are(comes: bool) -> None:
    """Else it would count their servers before the scheduler knows of them."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        registry = SimpleNamespace(nodes={})
        broker: Any = SimpleNamespace(
            runtime=SimpleNamespace(clock=loop.time), machine=SimpleNamespace(registry=registry)
        )
        survey: Any = SimpleNamespace(nodes=lambda: [SimpleNamespace(epoch=7)])
        if comes:
            loop.call_later(0.05, registry.nodes.setdefault, 7)
        began = loop.time()
        await private._hear_of(survey, broker)
        waited = loop.time() - began
        assert (7 in registry.nodes) is comes
        assert comes or waited >= PROVEN_S

    asyncio.run(scene())
