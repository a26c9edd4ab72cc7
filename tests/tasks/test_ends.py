"""That an outcome is the user's value or exception, whose traceback begins in the user's code."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType

import pytest

from dispycos.actors.tasks import ends
from dispycos.actors.tasks.ends import (
    add_note,
    brief,
    explain_what_differs,
    made,
    plain,
    raised,
    without_our_frames,
)


def users() -> None:
    raise ValueError("mine")


def calls_users() -> None:
    users()


# As a frame of ours: what is above the user's code.
ours = FunctionType(calls_users.__code__, {**globals(), "__name__": ends.__package__ + ".execution"})


def test_frames_of_ours_at_the_head_of_a_traceback_are_left_out() -> None:
    with pytest.raises(ValueError) as info:
        ours()
    error = info.value
    error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]  # this test's own frame
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["calls_users", "users"]
    outcome = raised(error)
    assert outcome.error is error
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["users"]


def error_of(call: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as info:
        call()
    return info.value


def names_of(error: BaseException | None) -> list[str]:
    assert error is not None
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)][-3:]


def calls_ours() -> None:
    ours()


def test_frames_of_ours_between_those_of_users_are_left_out() -> None:
    assert names_of(error_of(calls_ours)) == ["calls_ours", "calls_users", "users"]
    assert names_of(without_our_frames(error_of(calls_ours)))[-2:] == ["calls_ours", "users"]


def test_frames_of_ours_are_left_out_of_causes_contexts_and_parts() -> None:
    cause, context, part, whole = (error_of(calls_ours) for _ in range(4))
    context.__context__ = whole  # and back again below
    whole.__cause__ = BaseExceptionGroup("parts", [part])
    whole.__cause__.__context__ = context
    part.__cause__ = cause
    without_our_frames(whole)
    for error in (cause, context, part, whole):
        assert names_of(error)[-2:] == ["calls_ours", "users"]


@pytest.mark.parametrize(("value", "is_kept"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_frames_of_ours_are_kept_for_who_looks_for_faults_here(
    value: str, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPYCOS_DEBUG", value)
    assert ("calls_users" in names_of(without_our_frames(error_of(calls_ours)))) is is_kept


def test_who_takes_our_frames_out_and_raises_again_leaves_no_trace() -> None:
    """No `raise` but the bare one would do: it adds no line."""

    def tidy() -> None:
        try:
            users()
        except ValueError as error:
            error.with_traceback(None)
            raise

    assert names_of(error_of(tidy))[-2:] == ["error_of"]


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


@pytest.mark.parametrize("error", [ValueError(), Frozen(3)])
def test_a_note_is_added_to_an_error_of_any_kind(error: Exception) -> None:
    add_note(error, "first")
    add_note(error, "second")
    assert error.__notes__ == ["first", "second"]


def test_how_we_wait_is_no_users_affair() -> None:
    def waits() -> None:
        threading.Condition().wait()  # which raises RuntimeError: it is not acquired

    waits_of_ours = FunctionType(waits.__code__, {"__name__": ends.__name__, "threading": threading})
    assert names_of(without_our_frames(error_of(waits)))[-2:] == ["waits", "wait"], "the user's own wait"
    assert names_of(without_our_frames(error_of(waits_of_ours)))[-1] == "error_of"


def test_what_is_due_is_made_or_is_this_very_one() -> None:
    error = SystemExit(3)
    assert made(error) is error
    assert type(made(KeyboardInterrupt)) is KeyboardInterrupt


class BdbQuit(Exception):
    """As of bdb."""


class Wordless(TypeError):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (
            TypeError("unsupported operand type(s) for +: 'int' and 'Task'"),
            "in a list it arrives as a handle",
        ),
        (BdbQuit(), "no terminal for a debugger: Client(local=True)"),
        (EOFError("EOF when reading a line"), "ask in the program"),
        (EOFError("Ran out of input"), ""),
        (TypeError("unsupported operand type(s) for +: 'int' and 'str'"), ""),
        (Wordless(), ""),
        (ValueError("'Task'"), ""),
    ],
)
def test_what_goes_otherwise_in_a_server_is_noted_on_the_error(error: Exception, note: str) -> None:
    explain_what_differs(error)
    notes = getattr(error, "__notes__", [])
    assert len(notes) == bool(note) and note in "".join(notes)


class Submits:
    def wrong(self) -> None:
        raise ValueError

    async def later(self) -> None: ...


def test_a_method_for_users_is_called_as_they_know_its_class_and_raises_in_their_line() -> None:
    wrong = plain(Submits.wrong)
    with pytest.raises(TypeError, match=r"Client.wrong\(\) takes 1 positional argument but 2 were given$"):
        wrong(Submits(), 3)  # type: ignore[call-arg]
    assert brief(Submits.later).__qualname__ == "Client.later"
    assert plain(users).__qualname__ == "users"
