"""That a value or an exception survives the way back, and that what cannot be rebuilt keeps its words."""

from __future__ import annotations

import linecache
import pickle
import sys
from dataclasses import dataclass
from json import JSONDecodeError
from subprocess import CalledProcessError
from threading import Lock
from types import ModuleType
from typing import Any

import pytest

from dispycos.actors.shipping.pickling import dumps, loads
from dispycos.actors.shipping.words import CodeRequest, MissingCode
from dispycos.actors.tasks.ends import Raised, Returned
from dispycos.actors.tasks.record import Record
from dispycos.actors.tasks.results import TEXT_MAX, pack_outcome, unpack_outcome
from dispycos.errors import RemoteError, RemoteTraceback, TaskLost, TaskRefused, TaskTerminated
from dispycos.protocol.envelope import Payload
from dispycos.protocol.status import OutcomeKind


class Plain:
    """Both ends in one process."""

    def dumps(self, value: Any, what: str) -> Payload:
        return dumps(value, what)

    def loads(self, payload: Payload) -> Any:
        return loads(payload)


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


class Failed(Exception):
    """Pickled as Python does it, it cannot be made again: its args are not what it was called with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(f"failed: {message}")
        self.code = code


class Keywords(KeyError):
    __slots__ = ("code",)

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class NoFile(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "no such file", path)
        self.wanted = path


class Undecoded(UnicodeDecodeError):
    def __init__(self, place: str, error: UnicodeDecodeError) -> None:
        super().__init__(*error.args)
        self.place = place


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Coded(ExceptionGroup[Exception]):
    def __new__(cls, errors: list[Exception], code: int) -> Coded:
        made = super().__new__(cls, f"code {code}", errors)
        made.code = code
        return made

    code: int


class Holding(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = Lock()


class Remade(Exception):
    def __setstate__(self, state: Any) -> None:
        raise ValueError("not here")


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


def unpack(here: Any, kind: OutcomeKind, text: str, started: bool, payload: Payload, name: str) -> Any:
    return unpack_outcome(here, Record(name, outcome=kind, text=text, started=started, payload=payload))


def there_and_back(outcome: Raised | Returned, *, stopping: bool = False, here: Any = None) -> Any:
    kind, payload = pack_outcome(Plain(), outcome, "compute", stopping)
    return unpack(here or Plain(), kind, "", True, payload, "compute")


@pytest.mark.parametrize("value", [None, 0, "x" * 100_000, {"a": [1, (2, 3)]}, Custom])
def test_a_value_comes_back(value: Any) -> None:
    assert there_and_back(Returned(value)) == value


def test_a_value_with_buffers_comes_back() -> None:
    value = {"heavy": Heavy(b"x" * 100_000)}
    kind, payload = pack_outcome(Plain(), Returned(value), "compute", False)
    assert kind == OutcomeKind.RETURNED
    assert isinstance(payload, list) and len(payload) == 2
    assert unpack(Plain(), kind, "", True, payload, "compute") == value


def test_an_exception_comes_back_as_itself_with_its_traceback_as_cause() -> None:
    with pytest.raises(Custom) as info:
        there_and_back(caught(Custom(3, hint="look here")))
    assert (info.value.code, info.value.hint) == (3, "look here")
    cause = info.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in caught" in str(cause) and "Custom: (3, 'look here')" in str(cause)


def test_a_traceback_gets_the_lines_that_the_server_did_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = caught(BaseExceptionGroup("several", [caught(ValueError(3)).error, ValueError()]))
    with monkeypatch.context() as patch:
        patch.setattr(linecache, "getline", lambda *_: "")
        patch.setattr(linecache, "getlines", lambda *_: [])
        patch.setattr(linecache, "cache", {})
        kind, payload = pack_outcome(Plain(), outcome, "compute", False)
    with pytest.raises(ExceptionGroup) as info:
        unpack(Plain(), kind, "", True, payload, "compute")
    said = str(info.value.__cause__).splitlines()
    places = [place for place, line in enumerate(said) if line.endswith(", in caught")]
    assert len(places) == 2
    for place in places:
        margin = said[place].index("File")
        assert said[place + 1][margin:].startswith("  raise")


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
    error = Remade("1 of 2")
    error.add_note("a state")
    with pytest.raises(
        RemoteError,
        match=r"compute raised .*Remade: 1 of 2 \(it cannot be rebuilt here: ValueError: not here",
    ):
        there_and_back(caught(error))


def again(error: BaseException) -> BaseException:
    """What is raised here after it was raised there."""
    with pytest.raises(BaseException) as info:
        there_and_back(caught(error))
    return info.value


def undecoded() -> UnicodeDecodeError:
    try:
        b"\xff".decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


ITS_OWN = {
    "positional": Failed("no luck", 12),
    "keywords and slots": Keywords(code=3),
    "of the system": NoFile("/nowhere"),
    "of a codec": Undecoded("line 3", undecoded()),
    "frozen": Frozen(5),
    "of a process": CalledProcessError(3, ["false"], b"out", b"err"),
    "json": JSONDecodeError("Expecting value", "{", 1),
}


@pytest.mark.parametrize("error", ITS_OWN.values(), ids=ITS_OWN)
def test_an_exception_with_a_constructor_of_its_own_comes_back_as_it_was(error: Exception) -> None:
    object.__setattr__(error, "__notes__", ["said later"])
    got = again(error)
    assert type(got) is type(error)
    notes = {"__notes__": ["said later", "in the task compute"]}
    assert (str(got), got.args, vars(got)) == (str(error), error.args, vars(error) | notes)
    for name in ("code", "errno", "filename", "start", "reason"):
        assert getattr(got, name, None) == getattr(error, name, None)


def test_exceptions_in_a_value_come_back_too() -> None:
    failed, keywords = there_and_back(Returned([Failed("no luck", 12), {"k": Keywords(code=3)}]))
    assert isinstance(failed, Failed) and (failed.code, str(failed)) == (12, "failed: no luck")
    assert isinstance(keywords["k"], Keywords)


def test_attributes_that_cannot_be_pickled_stay_and_a_note_says_so() -> None:
    error, cause = Holding("the text"), Holding("the cause")
    error.port, error.__cause__, cause.cause_of = 5, cause, error  # type: ignore[attr-defined]
    got = again(error)
    for held, text in ((got, "the text"), (got.__cause__, "the cause")):
        assert isinstance(held, Holding) and str(held) == text and not hasattr(held, "lock")
        assert held.__notes__[0] == "without lock, which cannot be pickled"
    assert vars(got)["port"] == 5 and vars(got.__cause__)["cause_of"] is got
    assert hasattr(error, "lock")


def test_a_group_is_split_as_over_there() -> None:
    group = ExceptionGroup(
        "several", [ValueError(1), Coded([Failed("no luck", 12), Unpicklable("itself")], 77)]
    )
    got = again(group)
    assert isinstance(got, ExceptionGroup)
    values, rest = got.split(ValueError)
    assert values is not None and values.exceptions[0].args == (1,)
    assert rest is not None and isinstance(rest.exceptions[0], ExceptionGroup)
    coded = got.exceptions[1]
    assert isinstance(coded, Coded) and coded.code == 77
    failed, spare = coded.exceptions
    assert isinstance(failed, Failed) and failed.code == 12
    assert isinstance(spare, RemoteError) and spare.type_name == f"{__name__}.Unpicklable", (
        "only this part is lost"
    )


def test_causes_and_contexts_come_along_and_under_them_the_traceback() -> None:
    try:
        try:
            try:
                raise Unpicklable("cannot travel")
            except Unpicklable:
                raise Keywords(code=3)  # noqa: B904 - the context is what is tested
        except Keywords as error:
            raise Failed("no luck", 12) from error
    except Failed as error:
        failed = error
    got = again(failed)
    cause = got.__cause__
    assert isinstance(cause, Keywords) and got.__context__ is cause
    assert isinstance(cause.__context__, RemoteError) and "cannot travel" in str(cause.__context__)
    assert isinstance(cause.__cause__, RemoteTraceback) and "no luck" in str(cause.__cause__)


def test_a_cause_of_a_class_that_is_not_here_does_not_hide_the_exception() -> None:
    """Servers may have libraries that the client has not."""
    module = ModuleType("only_there")
    exec("class Error(Exception): pass", vars(module))
    sys.modules["only_there"] = module
    try:
        error = Failed("no luck", 12)
        error.__cause__ = module.Error("inner")
        kind, payload = pack_outcome(Plain(), caught(error), "compute", False)
    finally:
        del sys.modules["only_there"]
    with pytest.raises(Failed) as info:
        unpack(Plain(), kind, "", True, payload, "compute")
    assert info.value.code == 12
    assert isinstance(info.value.__cause__, RemoteError)
    assert info.value.__cause__.type_name == "only_there.Error" and "inner" in str(info.value.__cause__)


def test_an_exception_that_comes_by_two_ways_has_the_last_traceback_which_tells_of_both() -> None:
    got = again(again(Failed("no luck", 12)))
    assert isinstance(got.__cause__, RemoteTraceback) and got.__cause__.__cause__ is None
    assert str(got.__cause__).count("Failed: failed: no luck") == 2


def test_a_long_chain_of_contexts_is_cut_not_lost() -> None:
    error = ValueError(0)
    for number in range(1, 3000):
        later = ValueError(number)
        later.__context__ = error
        error = later
    got = again(error)
    assert isinstance(got, ValueError) and got.args == (2999,)
    assert isinstance(got.__context__, ValueError) and got.__context__.args == (2998,)


def test_errors_that_belong_to_each_other_come_back_so() -> None:
    first, second = Failed("one", 1), Failed("two", 2)
    first.__cause__, second.__context__ = second, first
    first.other = second  # type: ignore[attr-defined]
    got: Any = again(first)
    assert got.other is got.__cause__ and got.other.__context__ is got


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
        unpack(Plain(), kind, "", True, payload, "compute")


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
        unpack(Plain(), kind, "", started, None, "compute")
    assert str(info.value) == text
    with pytest.raises(error, match="the words of who speaks"):
        unpack(Plain(), kind, "the words of who speaks", started, None, "compute")


@pytest.mark.parametrize("started", [True, False])
def test_a_lost_task_says_whether_it_had_started(started: bool) -> None:
    with pytest.raises(TaskLost) as info:
        unpack(Plain(), OutcomeKind.LOST, "server died", started, None, "compute")
    assert info.value.started is started


@pytest.mark.parametrize("error", [TaskLost("gone", started=False), RemoteError("words", "mod.Name")])
def test_our_own_errors_survive_a_second_way(error: Exception) -> None:
    """A task that waits for another task raises what that one ended by."""
    with pytest.raises(type(error)) as info:
        there_and_back(caught(error))
    assert str(info.value) == str(error)
    assert vars(info.value) == {**vars(error), "__notes__": ["in the task compute"]}


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
