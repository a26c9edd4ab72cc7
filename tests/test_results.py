"""That a value or an exception survives the way back, and that what cannot be rebuilt keeps its words."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from dispycos.actors.host.ends import Raised, Returned
from dispycos.actors.host.results import TEXT_MAX, pack_outcome, unpack_outcome
from dispycos.actors.parcels import dumps_value, loads_plain
from dispycos.actors.shipping.words import CodeRequest, MissingCode
from dispycos.errors import RemoteError, RemoteTraceback, TaskLost, TaskRefused, TaskTerminated
from dispycos.protocol.envelope import Payload
from dispycos.protocol.status import OutcomeKind


class Plain:
    """Both ends in one process."""

    def dumps(self, value: Any, what: str) -> Payload:
        return dumps_value(value, what)

    def loads(self, payload: Payload) -> Any:
        return loads_plain(payload)


class Elsewhere(Plain):
    """An end where nothing can be rebuilt."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def loads(self, payload: Payload) -> Any:
        raise self.error


class Custom(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(code, hint)
        self.code = code
        self.hint = hint

    def __reduce__(self) -> Any:
        return _custom, (self.code, self.hint)


def _custom(code: int, hint: str) -> Custom:
    return Custom(code, hint=hint)


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Stubborn(Exception):
    """Pickles, but cannot be made again from its args: the classic trap of exceptions with own parameters."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} of {second}")


class Heavy:
    """Its bytes travel as a buffer of their own, as an array's do."""

    def __init__(self, data: Any) -> None:
        self.data = bytes(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Heavy) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Heavy, (pickle.PickleBuffer(self.data),)


def caught(error: BaseException) -> Raised:
    """With a traceback, as it comes from a task."""
    try:
        raise error
    except BaseException as raised:
        return Raised(raised)


def there_and_back(outcome: Raised | Returned, *, stopping: bool = False, here: Any = None) -> Any:
    kind, payload = pack_outcome(Plain(), outcome, "compute", stopping)
    return unpack_outcome(here or Plain(), kind, "", True, payload, "compute")


@pytest.mark.parametrize("value", [None, 0, "x" * 100_000, {"a": [1, (2, 3)]}, Custom])
def test_a_value_comes_back(value: Any) -> None:
    assert there_and_back(Returned(value)) == value


def test_a_value_with_buffers_comes_back() -> None:
    value = {"heavy": Heavy(b"x" * 100_000)}
    kind, payload = pack_outcome(Plain(), Returned(value), "compute", False)
    assert kind == OutcomeKind.RETURNED
    assert isinstance(payload, list) and len(payload) == 2
    assert unpack_outcome(Plain(), kind, "", True, payload, "compute") == value


def test_an_exception_comes_back_as_itself_with_its_traceback_as_cause() -> None:
    with pytest.raises(Custom) as info:
        there_and_back(caught(Custom(3, hint="look here")))
    assert (info.value.code, info.value.hint) == (3, "look here")
    cause = info.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in caught" in str(cause) and "Custom: (3, 'look here')" in str(cause)


def test_an_exception_with_buffers_comes_back_as_itself() -> None:
    """An error that carries an array is still that error."""
    with pytest.raises(ValueError) as info:
        there_and_back(caught(ValueError("bad data", Heavy(b"x" * 100_000))))
    assert info.value.args == ("bad data", Heavy(b"x" * 100_000))


def test_an_exception_that_cannot_be_pickled_keeps_its_name_and_words() -> None:
    with pytest.raises(RemoteError, match=r"compute raised .*Unpicklable: the words") as info:
        there_and_back(caught(Unpicklable("the words")))
    assert info.value.type_name == f"{__name__}.Unpicklable"
    assert "in caught" in str(info.value.__cause__)


def test_an_exception_that_cannot_be_rebuilt_here_says_why() -> None:
    with pytest.raises(
        RemoteError, match=r"compute raised .*Stubborn: 1 of 2 \(it cannot be rebuilt here: TypeError"
    ):
        there_and_back(caught(Stubborn(1, 2)))


def test_an_exception_that_cannot_say_itself_comes_back() -> None:
    with pytest.raises(Speechless):
        there_and_back(caught(Speechless(1)))


@pytest.mark.parametrize("text", ["caf\udce9.txt", "\ud800 alone"])
def test_words_that_are_no_unicode_travel(text: str) -> None:
    """A file name that is not UTF-8 comes with surrogates, and soon into the text of an error."""
    with pytest.raises(ValueError, match=r"^cannot read ") as info:
        there_and_back(caught(ValueError(f"cannot read {text}")))
    assert info.value.args == (f"cannot read {text}",)


def test_a_value_with_words_that_are_no_unicode_comes_back() -> None:
    assert there_and_back(Returned("caf\udce9.txt")) == "caf\udce9.txt"


def test_an_exception_with_a_very_long_text_is_cut_not_lost() -> None:
    kind, payload = pack_outcome(Plain(), caught(Unpicklable("x" * 10 * TEXT_MAX)), "compute", False)
    assert kind == OutcomeKind.RAISED
    assert isinstance(payload, bytes) and len(payload) < 3 * TEXT_MAX
    with pytest.raises(RemoteError, match="Unpicklable: xxx"):
        unpack_outcome(Plain(), kind, "", True, payload, "compute")


def test_a_value_that_cannot_be_pickled_is_an_error_that_names_it() -> None:
    generator = (number for number in range(3))
    with pytest.raises(TypeError, match=r"the value of compute.*generator"):
        there_and_back(Returned(generator))


def test_a_value_that_cannot_be_rebuilt_here_is_a_remote_error() -> None:
    with pytest.raises(
        RemoteError, match="compute returned a value that cannot be rebuilt here: KeyError: 'gone'"
    ) as info:
        there_and_back(Returned(1), here=Elsewhere(KeyError("gone")))
    assert isinstance(info.value.__cause__, KeyError)


@pytest.mark.parametrize("outcome", [Returned(1), Raised(ValueError("x"))])
def test_missing_code_is_no_failure_it_is_fetched(outcome: Any) -> None:
    with pytest.raises(MissingCode):
        there_and_back(outcome, here=Elsewhere(MissingCode(CodeRequest(names=["Shape"]))))


def test_a_keyboard_interrupt_after_terminate_is_the_end_that_was_asked_for() -> None:
    assert pack_outcome(Plain(), caught(KeyboardInterrupt()), "compute", True) == (
        OutcomeKind.TERMINATED,
        None,
    )


def test_a_keyboard_interrupt_that_nobody_asked_for_is_an_error() -> None:
    kind, _ = pack_outcome(Plain(), caught(KeyboardInterrupt()), "compute", False)
    assert kind == OutcomeKind.RAISED


def test_an_error_raised_at_terminate_is_that_error() -> None:
    with pytest.raises(ValueError, match="in finally"):
        there_and_back(caught(ValueError("in finally")), stopping=True)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(5)])
def test_what_would_end_the_client_is_told_not_raised(error: BaseException) -> None:
    with pytest.raises(RemoteError, match=f"compute raised builtins.{type(error).__name__}"):
        there_and_back(caught(error))


@pytest.mark.parametrize(
    ("kind", "started", "error", "text"),
    [
        (OutcomeKind.TERMINATED, True, TaskTerminated, "compute was terminated"),
        (OutcomeKind.CANCELLED, False, TaskTerminated, "compute was terminated before it started"),
        (OutcomeKind.LOST, True, TaskLost, "compute was lost"),
        (OutcomeKind.REFUSED, False, TaskRefused, "compute cannot be run"),
    ],
)
def test_each_other_end_is_an_error_of_its_own(
    kind: OutcomeKind, started: bool, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as info:
        unpack_outcome(Plain(), kind, "", started, None, "compute")
    assert str(info.value) == text
    with pytest.raises(error, match="the words of who speaks"):
        unpack_outcome(Plain(), kind, "the words of who speaks", started, None, "compute")


@pytest.mark.parametrize("started", [True, False])
def test_a_lost_task_says_whether_it_had_started(started: bool) -> None:
    with pytest.raises(TaskLost) as info:
        unpack_outcome(Plain(), OutcomeKind.LOST, "server died", started, None, "compute")
    assert info.value.started is started


@pytest.mark.parametrize("error", [TaskLost("gone", started=False), RemoteError("words", "mod.Name")])
def test_our_own_errors_survive_a_second_way(error: Exception) -> None:
    """A task that waits for another task raises what that one ended by."""
    with pytest.raises(type(error)) as info:
        there_and_back(caught(error))
    assert str(info.value) == str(error)
    assert vars(info.value) == vars(error)


class Quitter:
    """Its pickling ends the process, if it is let."""

    def __reduce__(self) -> Any:
        raise SystemExit(3)


@pytest.mark.parametrize(
    "outcome", [Returned(Quitter()), Raised(ValueError(Quitter()))], ids=["value", "error"]
)
def test_pickling_that_exits_ends_its_task_only(outcome: Any) -> None:
    """The server's loop calls this for the task: what leaves it would end every task there."""
    with pytest.raises(RemoteError):
        there_and_back(outcome)
