"""A node through two thousand lives of its servers: what lives is known, what died is told once, and every lease ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from dispycos.actors.node import terminations
from dispycos.actors.node.agent import Node
from dispycos.actors.node.inquiries import Inquiries
from dispycos.actors.node.lease import CloseZygote, NodeLease, NodeOutbox
from dispycos.actors.node.supervisor import Supervisor
from dispycos.actors.node.terminations import Terminations
from dispycos.actors.tasks.step import Step
from dispycos.protocol.messages import ServerLost, Shutdown
from tests.kit.node_story import Story

SEEDS = 2000


def play(seeds: range) -> None:
    for seed in seeds:
        try:
            Story(seed).play()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


def test_every_lease_ends_and_what_was_said_of_its_servers_is_true() -> None:
    play(range(SEEDS))


def test_the_same_seed_tells_the_same_story() -> None:
    def told(seed: int) -> list[object]:
        story = Story(seed)
        story.play()
        return [story.now, [(server.pid, server.steps, server.lost) for server in story.servers]]

    assert told(5) == told(5) != told(6)


def test_the_stories_have_in_them_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()

    def count(owner: type, name: str, what: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def counting(self: Any, *arguments: Any, **options: Any) -> Any:
            seen[what(self, *arguments)] += 1
            return original(self, *arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    count(Story, "end_step", lambda self, server, step: f"its step is over: {server.step != step}")
    count(Node, "zygote_failed", lambda self, *rest: f"zygote failed, drains: {is_draining(self)}")
    count(Node, "server_failed_to_start", lambda self, *rest: f"did not start, drains: {is_draining(self)}")
    count(Node, "_kill_all", lambda self, *rest: "killed at the end of its time")
    count(Node, "_end_steps", lambda self, *rest: "looked at when its lease had ended for 5 s")
    count(Supervisor, "_tell_of_failures", lambda self, *rest: "gave up")
    count(Inquiries, "forget", lambda self, epoch: f"died while asked: {bool(self._open)}")
    play(range(300))
    wanted = {
        *(
            "its step is over: True",
            "its step is over: False",
            "killed at the end of its time",
            "looked at when its lease had ended for 5 s",
            "gave up",
            "died while asked: True",
        ),
        *("zygote failed, drains: True", "did not start, drains: True"),
    }
    assert wanted <= {what for what, times in seen.items() if times > 2}, seen


def is_draining(node: Node) -> bool:
    return bool(node.granted is not None and node.granted.draining)


# --- the stories find what they are for ---------------------------------------------------------------------


def nothing(self: object, *arguments: Any, **options: Any) -> None:
    return


def always(self: Supervisor, granted: NodeLease, place: object, death: str, *, was_ready: bool) -> bool:
    return not granted.is_ending


def kill_for_any_step(self: Terminations, server: int, step: Step, now: float) -> bool:
    self._watches[server].due = now + terminations.LOOK_AGAIN
    return step.position != 0


def without(message: type) -> Callable[..., None]:
    original = NodeOutbox.send
    to_client = NodeOutbox.to_client

    def send(self: NodeOutbox, to: Any, said: Any) -> None:
        if not isinstance(said, message):
            original(self, to, said)

    def tell(self: NodeOutbox, granted: NodeLease, said: Any, payload: Any = None) -> None:
        if not isinstance(said, message):
            to_client(self, granted, said, payload)

    return tell if message is ServerLost else send


def to_any_client(self: NodeOutbox, granted: NodeLease, said: Any, payload: Any = None) -> None:
    self.send(granted.home, said)


def close_at_once(self: Node, granted: NodeLease) -> None:
    if granted.closing is not None and self.granted is not None:
        self.granted = None
        self._out.effects.append(CloseZygote(granted.lease))


def only_while_closing(self: NodeLease) -> bool:
    return self.closing is not None


BUGS: list[tuple[str, object, str, object]] = [
    ("starts while it finishes", NodeLease, "is_ending", property(only_while_closing)),
    ("ends before what is to be started", NodeLease, "is_inhabited", property(lambda self: True)),
    ("no question is told of deaths", Inquiries, "forget", nothing),
    ("no page is looked at", Inquiries, "wake", nothing),
    ("a server dies unsaid", NodeOutbox, "to_client", without(ServerLost)),
    ("servers are not told to end", NodeOutbox, "send", without(Shutdown)),
    ("a client that is gone is told", NodeOutbox, "to_client", to_any_client),
    ("the 5 s are no time", terminations, "KILL_AFTER", 4.0),
    ("killed for the step of another", Terminations, "_looked", kill_for_any_step),
    ("closed while servers live", Node, "_finish_if_empty", close_at_once),
    ("nobody is killed at the end", Node, "_kill_all", nothing),
    ("started again for ever", Supervisor, "_may_restart", always),
]


@pytest.mark.parametrize(("owner", "name", "bug"), [bug[1:] for bug in BUGS], ids=[bug[0] for bug in BUGS])
def test_a_planted_bug_is_found(
    owner: object, name: str, bug: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(AssertionError, match="seed"):
        play(range(600))
