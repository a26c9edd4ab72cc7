"""The error of what cannot be pickled names the true culprit: which argument, which attribute or variable, of which type."""

import collections
import dataclasses
import functools
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from dispycos.actors.shipping.culprits import STEPS_MAX
from dispycos.actors.shipping.pickling import dumps, dumps_call
from dispycos.errors import NotPicklable

LOCK = threading.Lock()
REFUSED_LOCK = "cannot pickle '_thread.lock' object"


class Job:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Slotted:
    __slots__ = ("lock",)


class Broken:
    def __reduce__(self) -> Any:
        raise OSError("no reduce today")


class Kept:
    """Leaves its lock out, and keeps something worse in."""

    def __init__(self) -> None:
        self.lock = LOCK
        self.numbers = numbers()

    def __getstate__(self) -> Any:
        return {"numbers": self.numbers}


class Made:
    def __init__(self, guard: Any) -> None:
        self.guard = guard

    def __reduce__(self) -> Any:
        return Made, (self.guard,)


class Point(collections.namedtuple("Point", "x y")):
    pass


@dataclasses.dataclass(slots=True)
class Record:
    name: str
    guard: Any


AS_A_LIST = "; a list of its values can be sent: list(...)"


def numbers() -> Iterator[int]:
    yield 1


def compute(n: Any, lock: Any = None) -> None: ...


def refusal(*args: Any, **kwargs: Any) -> NotPicklable:
    with pytest.raises(NotPicklable) as caught:
        dumps_call(compute, args, kwargs)
    return caught.value


def culprit(*args: Any, **kwargs: Any) -> str:
    return str(refusal(*args, **kwargs))


def part(value: Any) -> str:
    """What is said of a value beyond which argument it was."""
    said = culprit(value)
    start = "argument 1 ('n') of compute: "
    assert said.startswith(start)
    return said.removeprefix(start)


def test_the_argument_is_named() -> None:
    assert culprit(1, LOCK) == f"argument 2 ('lock') of compute: {REFUSED_LOCK}"
    assert culprit(1, lock=LOCK) == f"argument 'lock' of compute: {REFUSED_LOCK}"
    assert culprit(*range(2), LOCK) == f"argument 3 of compute: {REFUSED_LOCK}"


def test_the_function_is_named() -> None:
    lock = LOCK

    def guarded() -> None:
        with lock:
            pass

    with pytest.raises(NotPicklable) as caught:
        dumps_call(guarded, (1,), {})
    name = guarded.__qualname__
    assert str(caught.value) == f"the function {name}: {REFUSED_LOCK}: variable 'lock' of {name}"


def test_a_value_that_is_no_call_is_named_by_who_sends_it() -> None:
    with pytest.raises(NotPicklable) as caught:
        dumps({"a": LOCK}, "the message to painter")
    assert str(caught.value) == f"the message to painter: {REFUSED_LOCK}: item 'a' of dict"


def test_attributes_are_named_from_the_inside_out() -> None:
    assert part(Job(lock=LOCK)) == f"{REFUSED_LOCK}: attribute 'lock' of Job"
    assert part([1, {"a": Job(b=(0, LOCK))}]) == (
        f"{REFUSED_LOCK}: item 1 of tuple, attribute 'b' of Job, item 'a' of dict, item 1 of list"
    )


def test_what_is_in_slots_is_an_attribute() -> None:
    slotted = Slotted()
    slotted.lock = LOCK  # type: ignore[attr-defined]
    assert part(slotted) == f"{REFUSED_LOCK}: attribute 'lock' of Slotted"
    assert "of Record" in part(Record("r", LOCK))


def test_a_reduce_that_raises_is_said_with_its_error_and_type() -> None:
    error = refusal({"jobs": [1, Broken()]})
    assert str(error) == (
        f"argument 1 ('n') of compute: cannot pickle '{__name__}.Broken' object: OSError: no reduce today: "
        "item 1 of list, item 'jobs' of dict"
    )
    assert isinstance(error.__cause__, OSError), "its traceback leads into the __reduce__"
    assert error.__cause__.__context__ is None, "what the faster ways had to say is of no interest"


def test_a_getstate_that_raises_is_said_with_its_error_and_type() -> None:
    class Stateless:
        def __getstate__(self) -> Any:
            raise KeyError("state")

    assert part([Stateless()]).endswith("Stateless' object: KeyError: 'state': item 0 of list")


def test_a_reduce_that_gives_nonsense_is_the_culprit() -> None:
    class Nonsense:
        def __reduce__(self) -> Any:
            return Nonsense, 5, 6, 7, 8

    assert "Nonsense" in part([Nonsense()]) and part([Nonsense()]).endswith("item 0 of list")


def test_what_a_getstate_leaves_out_is_not_blamed() -> None:
    assert part(Kept()) == f"cannot pickle 'generator' object: attribute 'numbers' of Kept{AS_A_LIST}"


def test_what_an_object_is_made_of_is_named_as_its_attribute_or_argument() -> None:
    assert part(Made(LOCK)) == f"{REFUSED_LOCK}: attribute 'guard' of Made"
    assert part(Point(1, LOCK)) == f"{REFUSED_LOCK}: argument 2 of Point()"
    assert part(ValueError("x", LOCK)) == f"{REFUSED_LOCK}: argument 2 of ValueError()"


@pytest.mark.parametrize("kind", ["file", "socket", "lock"])
def test_what_a_lambda_holds_in_its_closure_is_named(kind: str) -> None:
    with open(__file__) as file, socket.socket() as plug:
        held, type_name = {
            "file": (file, "_io.TextIOWrapper"),
            "socket": (plug, "socket.socket"),
            "lock": (LOCK, "_thread.lock"),
        }[kind]
        hold = lambda: held  # noqa: E731
        where = f"variable 'held' of {hold.__qualname__}"
        assert part(hold) == f"cannot pickle '{type_name}' object: {where}"
        assert part([{"f": hold}]).endswith(f"{where}, item 'f' of dict, item 0 of list")


def test_defaults_of_a_function_are_named() -> None:
    def guarded(n: int = 0, lock: Any = LOCK) -> None: ...
    def strict(*, lock: Any = LOCK) -> None: ...

    assert part(guarded) == f"{REFUSED_LOCK}: default 2 of {guarded.__qualname__}"
    assert part(strict) == f"{REFUSED_LOCK}: default of 'lock' of {strict.__qualname__}"


def test_a_generator_is_named_where_it_is() -> None:
    assert part(numbers()) == f"cannot pickle 'generator' object{AS_A_LIST}"
    said = f"cannot pickle 'generator' object: item 0 of list, item 'g' of dict{AS_A_LIST}"
    assert part({"g": [numbers()]}) == said
    assert part([sys._getframe()]) == "cannot pickle 'frame' object: item 0 of list"


def test_a_global_of_a_module_in_a_nested_container_is_named() -> None:
    assert part({"x": [1, (LOCK,)]}) == f"{REFUSED_LOCK}: item 0 of tuple, item 1 of list, item 'x' of dict"
    assert part(frozenset([LOCK])) == f"{REFUSED_LOCK}: an item of frozenset"
    assert part({LOCK: 1}).startswith(f"{REFUSED_LOCK}: key <unlocked _thread.lock object")


def test_containers_and_wrappers_of_the_library_are_looked_into() -> None:
    assert part(collections.deque([1, LOCK])) == f"{REFUSED_LOCK}: item 1 of deque"
    assert part(collections.OrderedDict(a=LOCK)) == f"{REFUSED_LOCK}: item 'a' of OrderedDict"
    assert (
        part(collections.UserDict(a=LOCK))
        == f"{REFUSED_LOCK}: item 'a' of dict, attribute 'data' of UserDict"
    )
    assert part(functools.partial(compute, 1, LOCK)) == f"{REFUSED_LOCK}: argument 2 of partial compute"
    assert (
        part(functools.partial(compute, lock=LOCK)) == f"{REFUSED_LOCK}: argument 'lock' of partial compute"
    )
    assert (
        part(Made(LOCK).__reduce__)
        == f"{REFUSED_LOCK}: attribute 'guard' of Made, the object of method Made.__reduce__"
    )
    lock = LOCK
    cached = functools.lru_cache(lambda: lock)
    assert "variable 'lock' of " in part(cached) and "attribute '__wrapped__' of " in part(cached)


def test_a_class_made_in_a_function_says_which_attribute_or_method_it_is() -> None:
    lock = LOCK

    class Local:
        guard = LOCK

    class Method:
        def enter(self) -> Any:
            return lock

    class Derived(Local):
        pass

    class Property:
        @property
        def guard(self) -> Any:
            return lock

    guard = f"{REFUSED_LOCK}: attribute 'guard' of class {Local.__qualname__}"
    assert part(Local) == guard
    assert part(Local()) == f"{guard}, the class of {Local.__qualname__}"
    assert part(Derived) == f"{guard}, base {Local.__qualname__} of class {Derived.__qualname__}"
    assert part(Method).startswith(
        f"{REFUSED_LOCK}: variable 'lock' of {Method.__qualname__}.enter, attribute 'enter'"
    )
    assert ", argument 1 of property(), attribute 'guard' of class " in part(Property)


def test_a_local_class_with_a_metaclass_says_what_of_the_metaclass_it_is() -> None:
    lock = LOCK

    class Meta(type):
        guard = LOCK

    class Calling(type):
        def __call__(cls, *args: Any) -> Any:
            with lock:
                return super().__call__(*args)

    class Local(metaclass=Meta):
        pass

    class Called(metaclass=Calling):
        pass

    meta = f"attribute 'guard' of class {Meta.__qualname__}, metaclass {Meta.__qualname__} of class {Local.__qualname__}"
    assert part(Local) == f"{REFUSED_LOCK}: {meta}"
    assert part([Local()]) == f"{REFUSED_LOCK}: {meta}, the class of {Local.__qualname__}, item 0 of list"
    assert part(Called).startswith(f"{REFUSED_LOCK}: variable 'lock' of {Calling.__qualname__}.__call__, ")


def test_a_circle_is_walked_once() -> None:
    circle: list[Any] = []
    circle.append(Job(up=circle, down={"lock": LOCK}))
    assert part(circle) == f"{REFUSED_LOCK}: item 'lock' of dict, attribute 'down' of Job, item 0 of list"


def test_deep_down_the_reason_is_told_not_the_limits_of_the_search() -> None:
    """The search is written in Python, and hits the recursion limit where pickling does not."""
    nested: Any = LOCK
    for _ in range(350):
        nested = [nested]
    said = part(nested)
    assert said.startswith(f"{REFUSED_LOCK}: further in, item 0 of list, ")
    assert said.count("item 0 of list") == STEPS_MAX


def test_what_is_too_deep_for_every_way_says_so() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert "nested too deeply" in part(nested)


def test_a_key_that_cannot_be_shown_hides_no_error() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise ValueError("not me")

    assert part({Shy(): LOCK}) == f"{REFUSED_LOCK}: item of type Shy of dict"


def test_printed_it_is_short_and_shows_the_users_code_that_failed() -> None:
    first, *notes = traceback.format_exception(refusal(LOCK).__cause__)
    assert first == f"TypeError: {REFUSED_LOCK}\n"
    assert all(note.startswith("when serializing") for note in notes), "pickle's own, since Python 3.14"
    told = "".join(traceback.format_exception(refusal(Broken()).__cause__))
    assert told.count("File ") == 1 and "in __reduce__" in told


def test_it_is_found_among_many() -> None:
    assert part([*range(5000), LOCK]).endswith("item 5000 of list")
