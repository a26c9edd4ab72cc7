"""Finds the `__main__` that is the user's program, where a launcher runs it in a namespace of its own.

cProfile, profile and trace (of older Pythons), runpy.run_module() and asyncio's REPL leave their own module as
`sys.modules["__main__"]`, and run the program in a dictionary that is no module's. Nothing of it could be pickled by
name then, here or in any other library. So that namespace gets the module that it lacks, as later Pythons' cProfile
does it by itself. So does a script that multiprocessing executes again, as `__mp_main__`, in the processes that it
starts by spawn or forkserver.
"""

import builtins
import sys
from collections.abc import Callable, Iterable, Iterator
from inspect import CO_NEWLOCALS
from types import FrameType, FunctionType, ModuleType
from typing import Any

from dispycos.errors import ScheduleError

from .by_value import REQUIRE

LOOK_UP = "__dispycos_look_up__"
EXECUTED_AGAIN = "__mp_main__"  # multiprocessing's name for it


def program_main() -> ModuleType:
    """`__main__`, which is the user's program from now on."""
    main = sys.modules["__main__"]
    if any(f.f_globals.get("__name__") == EXECUTED_AGAIN for f in module_frames()):
        raise ScheduleError(
            "multiprocessing executes this script once more in a process that it started, and there it has come to a Client "
            'again: put what only the program itself should do under `if __name__ == "__main__":`'
        )
    if main.__name__ == EXECUTED_AGAIN:
        return _named_main(main)
    scopes = [f.f_globals for f in module_frames() if f.f_globals.get("__name__") == "__main__"]
    is_launcher = any(scope is vars(main) for scope in scopes[1:]) and scopes[0] is not vars(main)
    if not is_launcher:
        return main
    made = sys.modules["__main__"] = NamespaceModule(scopes[0])
    return made


def _named_main(again: ModuleType) -> ModuleType:
    """The script under its own name; the module that multiprocessing made has a copy of its namespace only."""
    scopes = (thing.__globals__ for thing in vars(again).values() if isinstance(thing, FunctionType))
    scope = next((scope for scope in scopes if scope["__name__"] == EXECUTED_AGAIN), vars(again))
    made = sys.modules["__main__"] = NamespaceModule(scope)
    made.__name__ = "__main__"
    _rename(scope.values())
    return made


def _rename(things: Iterable[Any]) -> None:
    for thing in things:
        has_own = isinstance(thing, type) or type(thing).__module__ != EXECUTED_AGAIN
        if has_own and getattr(thing, "__module__", None) == EXECUTED_AGAIN:
            thing.__module__ = "__main__"
            _rename(vars(thing).values() if isinstance(thing, type) else ())


def module_frames() -> Iterator[FrameType]:
    """Those that execute the text of a module now, in any thread; of each the innermost comes first."""
    for frame in list(sys._current_frames().values()):
        current: FrameType | None = frame
        while current is not None:
            if not current.f_code.co_flags & CO_NEWLOCALS:
                yield current
            current = current.f_back


class MirrorModule(ModuleType):
    """The `__main__` of a server: tells its mirror what is looked up."""

    def __init__(self, require: Callable[[tuple[str, ...]], None], look_up: Callable[[str], None]) -> None:
        super().__init__("__main__")
        vars(self).update({"__builtins__": builtins, REQUIRE: require, LOOK_UP: look_up})

    def __getattr__(self, name: str) -> Any:
        vars(self)[LOOK_UP](name)
        if name in vars(self):
            return vars(self)[name]
        raise AttributeError(f"module '__main__' has no attribute {name!r}", name=name, obj=self)


class NamespaceModule(ModuleType):
    """A module over a dictionary that exists already."""

    def __init__(self, scope: dict[str, Any]) -> None:  # ModuleType's own would set __name__ and others
        object.__setattr__(self, "_scope", scope)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        scope: dict[str, Any] = object.__getattribute__(self, "_scope")
        return scope

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(
                f"module '__main__' has no attribute {name!r}", name=name, obj=self
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        del self.__dict__[name]
