"""Payloads: by reference, by name and by value, large buffers, and errors that name the culprit."""

import abc
import dataclasses
import enum
import gc
import io
import pickle
import socket
import sys
import threading
import types
import weakref
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from dispycos.actors.shipping.pickling import OUT_OF_BAND_MIN, dumps, loads
from dispycos.errors import NotPicklable
from dispycos.protocol.envelope import buffers_of
from tests.kit.shipping_mains import main_of

T = TypeVar("T")


class Job:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def compute(n: int, lock: object = None) -> None: ...


def test_what_has_a_name_is_plain_pickle() -> None:
    assert dumps((compute, Job, 1)) == pickle.dumps((compute, Job, 1), 5)


def test_large_buffers_are_frames_of_their_own_and_small_ones_are_not() -> None:
    large, small = bytearray(OUT_OF_BAND_MIN), bytearray(10)
    payload = dumps([pickle.PickleBuffer(large), pickle.PickleBuffer(small)])
    assert isinstance(payload, list) and len(payload) == 2
    assert isinstance(payload[1], memoryview) and payload[1].obj is large, "it was copied"
    assert loads(payload) == [large, small]
    assert isinstance(dumps(pickle.PickleBuffer(small)), bytes)


def test_a_large_buffer_goes_once_though_it_is_pickled_twice() -> None:
    large = bytearray(OUT_OF_BAND_MIN)
    payload = dumps([pickle.PickleBuffer(large), weakref.ref(Job), lambda: 0])
    assert isinstance(payload, list) and len(payload) == 2
    assert loads(payload)[0] == large


@pytest.mark.parametrize("size", [100, OUT_OF_BAND_MIN, 300_000])
def test_buffers_arrive_writable_as_they_left_and_are_the_receivers_own(size: int) -> None:
    sent = bytearray(size)
    view = memoryview(sent).cast("B", (2, size // 2))
    wire = dumps([pickle.PickleBuffer(sent), view, memoryview(bytes(size))])
    if isinstance(wire, list):
        wire = [bytes(memoryview(frame)) for frame in wire]  # as frames of libzmq come
    first, second, third = loads(wire)
    first[0] = second[0, 0] = 7
    assert sent == bytes(size) and second.shape == view.shape
    assert third.readonly and third == bytes(size)


def test_chunks_that_were_put_together_here_are_not_copied_once_more() -> None:
    stream, *_ = buffers_of(dumps(pickle.PickleBuffer(bytearray(300_000))))
    arrived: Any = bytearray(300_000)
    assert loads([stream, arrived]) is arrived


def test_a_function_bound_to_another_name_goes_by_that_name(tmp_path: Path) -> None:
    text = (
        "square = lambda n: n * n\ndef make():\n    def inner(): return 1\n    return inner\nmade = make()\n"
    )
    with main_of(tmp_path, text) as (main, _):
        payload = dumps((main.square, main.made))
        assert isinstance(payload, bytes) and len(payload) < 80
        assert loads(payload) == (main.square, main.made)


def local_things(n: int) -> Any:
    class Base:
        __slots__ = ("a", "b")

        def __init__(self) -> None:
            self.a = n

    @dataclasses.dataclass
    class Data(Base):
        x: int
        y: list[int] = dataclasses.field(default_factory=list)

        def around(self) -> Any:
            return type(self), super().__init__, Base

    class Color(enum.Enum):
        RED = 1
        CRIMSON = 1  # noqa: PIE796
        BLUE = 2

        def low(self) -> str:
            return self.name.lower()

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def z(self) -> str: ...

    class Concrete(Abstract, Generic[T]):
        k = property(lambda self: n)

        @staticmethod
        def static() -> int:
            return n

        @classmethod
        def itself(cls) -> type:
            return cls

        def z(self) -> str:
            return "z"

    def factorial(k: int) -> int:
        return 1 if k < 2 else k * factorial(k - 1)

    return Data, Color, Abstract, Concrete, factorial, Data(3), Color.BLUE, Concrete()


def test_closures_and_classes_nested_in_functions_travel_by_value() -> None:
    made = loads(dumps(local_things(5)))
    kinds, factorial, data, blue, concrete = made[:4], made[4], made[5], made[6], made[7]
    assert type(data) is kinds[0] and data.around()[0] is kinds[0] and data == kinds[0](3)
    assert dataclasses.fields(data)[0].default is dataclasses.MISSING
    assert blue is kinds[1].BLUE and blue.low() == "blue" and kinds[1].CRIMSON is kinds[1].RED
    assert isinstance(concrete, kinds[2]) and (concrete.k, concrete.static(), concrete.z()) == (5, 5, "z")
    assert concrete.itself() is kinds[3] and factorial(5) == 120
    with pytest.raises(TypeError, match="abstract"):
        kinds[2]()


def function_with_globals_of_its_own() -> Any:
    scope: dict[str, Any] = {"__name__": "nowhere", "START": 3}
    exec("def up():\n    global START\n    START += 1\n    return look()\ndef look(): return START", scope)
    return scope["up"]


def test_what_pickle_alone_does_not_take_travels_too() -> None:
    table = {"a": 1}
    wrapped = types.MappingProxyType(table)
    views = table.keys(), table.values(), table.items(), wrapped
    keys, values, items, proxy = loads(dumps(views))
    assert (keys, list(values), items, proxy) == (table.keys(), [1], table.items(), wrapped)
    assert [type(view) for view in (keys, values, items, proxy)] == [type(view) for view in views]
    for thing in (
        types.FunctionType,
        types.FunctionType.__code__,
        object.__init__,
        sys,
        (lambda: 0).__code__,
    ):
        assert loads(dumps((thing, lambda: 0)))[0] == thing
    weak = weakref.WeakKeyDictionary({Job: 1}), weakref.WeakValueDictionary({1: Job}), weakref.ref(Job)
    assert loads(dumps(weak)) == weak
    gone = weakref.ref(Job())
    assert loads(dumps(gone))() is None
    bound = types.MethodType(lambda self: self, 5)
    assert loads(dumps((bound, lambda: 0)))[0]() == 5
    up = loads(dumps(function_with_globals_of_its_own()))
    assert (up(), up()) == (4, 5), "its functions share their globals"


@pytest.mark.parametrize("thing", [lambda: 0, weakref.ref(Job)])
def test_what_travels_by_value_leaves_nothing_that_refers_to_the_caller(thing: Any) -> None:
    class Caller:
        def dumps(self) -> None:
            dumps(thing)

    caller = Caller()
    gone = weakref.ref(caller)
    gc.disable()
    try:
        caller.dumps()
        del caller
        assert gone() is None
    finally:
        gc.enable()


def test_a_function_by_value_keeps_the_globals_of_its_module() -> None:
    def reads() -> type:
        return Job

    made = loads(dumps(reads))
    assert made is not reads and made() is Job and made.__globals__ is globals()


def test_what_a_copy_would_not_be_is_refused() -> None:
    with socket.socket() as plug, open(__file__) as text, open(__file__, "rb") as binary:
        for thing in (plug, text, binary, threading.RLock(), threading.Event(), threading.Thread()):
            with pytest.raises(NotPicklable, match="the value: cannot pickle"):
                dumps([thing, lambda: 0])
    assert loads(dumps((io.BytesIO(b"x"), lambda: 0)))[0].read() == b"x"


def test_beside_what_only_dill_takes_the_same_holds(tmp_path: Path) -> None:
    weak = weakref.ref(Job)
    with main_of(tmp_path, "from functools import cache\n@cache\ndef kept(): return 1\n") as (main, _):
        assert loads(dumps((main.kept, weak)))[0] is main.kept
    for refused in (threading.Lock(), types.ModuleType("made")):
        with pytest.raises(NotPicklable, match=r"the value: cannot pickle .*: item 1 of tuple") as caught:
            dumps((weak, refused))
        assert "weak" not in str(caught.value.__cause__)


def test_endless_nesting_and_errors_of_user_code_are_said() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(NotPicklable, match="nested too deeply"):
        dumps(nested)

    class Broken:
        def __reduce__(self) -> Any:
            raise OSError("broken reduce")

    with pytest.raises(NotPicklable, match="broken reduce: item 1 of list"):
        dumps([0, Broken()])
