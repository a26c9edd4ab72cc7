"""Code as people write it runs on servers, and is the same code at both ends."""

from __future__ import annotations

import pytest

from tests.kit.programs import User

pytestmark = pytest.mark.timeout(60)

EVERYTHING = {
    "helper.py": '''
        from dataclasses import dataclass

        @dataclass
        class Helped:
            n: int

        def help_with(n):
            from second import offset
            return Helped(n + offset)
    ''',
    "second.py": "offset = 10\n",
    "late.py": "value = 'imported late'\n",
    "package/__init__.py": "from .inner import Leaf\n",
    "package/inner.py": '''
        class Leaf:
            def grow(self):
                from . import deeper
                return deeper.WORD
    ''',
    "package/deeper.py": "WORD = 'grown'\n",
    "everything.py": '''
        import collections, dataclasses, enum, functools, math, threading, typing
        from math import sqrt

        import numpy
        import package
        from helper import Helped, help_with
        from package import Leaf

        import dispycos

        class Color(enum.Enum):
            RED = 1
            BLUE = 2

        class Flags(enum.IntFlag):
            A = 1
            B = 2

        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int
            color: Color = Color.RED
            more: "Point | None" = None

        class Base:
            def name(self):
                return "base"

        class Child(Base):
            count = 0

            def name(self):
                return "child of " + super().name()

            @property
            def doubled(self):
                return self.n * 2

            @classmethod
            def make(cls, n):
                self = cls()
                self.n = n
                return self

            @staticmethod
            def static(n):
                return n + 1

            def method(self, n):
                return self.n + n

        Pair = collections.namedtuple("Pair", "left right")

        class Typed(typing.NamedTuple):
            left: int
            right: str = "r"

        class Slotted:
            __slots__ = ("a",)

        class Fault(Exception):
            def __init__(self, text, code=0):
                super().__init__(text, code)
                self.code = code

        try:
            import no_such_module
        except ImportError:
            def fallback():
                return "fallback"

        if math.pi > 3:
            def inside_if():
                return "inside if"

        for_all = 7
        square = lambda x: x * x
        FACTOR, OTHER = 3, {"k": [1, 2]}
        lock = threading.Lock()
        registry = {}

        def register(function):
            registry[function.__name__] = function
            return function

        @register
        def registered(n):
            with lock:
                return n * FACTOR + OTHER["k"][1]

        def by_registry(name, n):
            return registry[name](n)

        @functools.lru_cache
        def cached(n):
            return n + 1

        @functools.wraps(square)
        def wrapped(n):
            return square(n)

        def even(n):
            return n == 0 or odd(n - 1)

        def odd(n):
            return n != 0 and even(n - 1)

        def adder(k):
            def add(n):
                return n + k + FACTOR
            return add

        add_five = adder(5)

        def with_default(n, point=Point(9)):
            return n + point.x

        def is_ours(value):
            checks = [isinstance(value, kind) for kind in (Point, Color, Child, Pair, Typed, Helped, Leaf, Flags)]
            return checks, value

        def late_import():
            import late
            return late.value

        def late_package():
            from package.inner import Leaf as Again
            return Again is Leaf, Leaf().grow()

        def raises(code):
            raise Fault("ours", code)

        def uses_sqrt(n):
            return sqrt(n) + math.floor(n)

        def doubles(array):
            return numpy.multiply(array, 2)

        def stars(*args, key, **kwargs):
            return args, key, kwargs

        async def make_class_there():
            return Color.BLUE, Point(1, Color.BLUE, Point(2)), Pair(1, 2), Typed(1), Child.make(4), Helped(5), Leaf()

        def modify_global():
            global for_all
            for_all += 1
            return for_all

        def same(value):
            return value

        async def main(*, task):
            async with dispycos.Client([Point]) as client:
                run = client.submit
                values = [Point(1, Color.BLUE), Color.RED, Child.make(3), Pair(1, 2), Typed(5), Helped(1), Leaf()]
                for value in (*values, Flags.A | Flags.B):
                    checks, back = await run(is_ours, value)
                    assert sum(checks) == 1 and type(back) is type(value), value
                    assert back == value or isinstance(value, (Child, Leaf)), (value, back)
                made = await run(make_class_there)
                assert [type(v) for v in made] == [Color, Point, Pair, Typed, Child, Helped, Leaf] and made[0] is Color.BLUE
                assert made[1].more == Point(2) and made[1].color is Color.BLUE
                assert await run(help_with, 1) == Helped(11)
                assert await run(square, 5) == 25 and await run(wrapped, 6) == 36 and await run(cached, 1) == 2
                assert await run(lambda x: x * FACTOR, 5) == 15
                assert await run(adder(1), 1) == 5 and await run(add_five, 1) == 9
                assert await run(fallback) == "fallback" and await run(inside_if) == "inside if"
                assert await run(registered, 2) == 8 and await run(by_registry, "registered", 1) == 5
                assert await run(even, 10) is True and await run(odd, 10) is False
                assert await run(with_default, 1) == 10
                assert await run(late_import) == "imported late" and await run(late_package) == (True, "grown")
                assert await run(uses_sqrt, 4) == 6
                assert (await run(doubles, numpy.arange(3))).tolist() == [0, 2, 4]
                assert await run(stars, 1, 2, key=3, other=4) == ((1, 2), 3, {"other": 4})
                assert await run(Child.make(3).name) == "child of base" and await run(Child.make(3).method, 4) == 7
                assert await run(Child.make, 5) is not None and await run(Child.static, 1) == 2
                assert await run(functools.partial(registered, 3)) == 11
                assert await run(Point, 5) == Point(5)
                assert await run(modify_global) == 8 and for_all == 7
                assert await run(same, Point) is Point and await run(same, square) is square
                assert (await run(same, Leaf)) is Leaf
                try:
                    await run(raises, 5)
                except Fault as error:
                    assert error.code == 5 and type(error) is Fault
                else:
                    raise AssertionError
                print("all the same at both ends")

        if __name__ == "__main__":
            dispycos.run(main)
    ''',
}  # fmt: skip


def test_code_as_people_write_it_is_the_same_at_both_ends(cluster: User) -> None:
    cluster.write(EVERYTHING)
    assert cluster.python("everything.py").succeed() == "all the same at both ends\n"


def test_it_runs_privately_from_another_folder_too(user: User) -> None:
    user.write({f"project/{name}": text for name, text in EVERYTHING.items()})
    (user.folder / "elsewhere").mkdir()
    program = user.python("../project/everything.py", folder="elsewhere")
    assert program.succeed() == "all the same at both ends\n"


REBOUND = """
    import dispycos

    FACTOR = 1

    def helper():
        return "old"

    def compute(n):
        return n * FACTOR, helper()

    async def main():
        global FACTOR, helper
        async with dispycos.Client([compute]) as client:
            servers = await client.servers()
            async def everywhere():
                return {await (await client.rtask_at(server, compute, 2)) for server in servers}
            print(await everywhere())
            FACTOR = 100
            print(await everywhere())
            def helper():
                return "new"
            print(await everywhere())

    dispycos.run(main)
"""


def test_a_constant_and_a_function_rebound_between_two_calls_are_seen_by_all_servers(cluster: User) -> None:
    said = cluster.script("rebound.py", REBOUND).succeed()
    assert said.splitlines() == ["{(2, 'old')}", "{(200, 'old')}", "{(200, 'new')}"]


EDITED = """
    import pathlib, dispycos, beside

    class Point:
        word = 'old'

    def compute():
        return Point().word, beside.WORD

    def edit():
        for path in (pathlib.Path(__file__), pathlib.Path(beside.__file__)):
            text = path.read_text().replace("= 'o" "ld'", "= 'new'")
            path.write_text("# a line more\\n" * 9 + text)

    async def main():
        async with dispycos.Client() as client:
            edit()
            print(await client.submit(compute))

    if __name__ == "__main__":
        dispycos.run(main)
"""


def test_a_script_that_is_edited_while_it_runs_goes_on_as_it_was(cluster: User) -> None:
    cluster.write({"beside.py": "WORD = 'old'\n", "edited.py": EDITED})
    assert cluster.python("edited.py").succeed() == "('old', 'old')\n"
    assert cluster.python("edited.py").succeed() == "('new', 'new')\n"


def test_a_module_that_was_edited_between_two_runs_is_sent_anew(cluster: User) -> None:
    text = """
        import dispycos, tool
        async def main():
            async with dispycos.Client([tool]) as client:
                print(await client.submit(tool.answer))
        dispycos.run(main)
    """
    for word in ("first", "second"):
        cluster.write({"tool.py": f"def answer():\n    return '{word}'\n"})
        assert cluster.script("uses_tool.py", text).succeed() == f"{word}\n"


def test_python_m_package_runs(cluster: User) -> None:
    cluster.write(
        {
            "app/__init__.py": "NAME = 'app'\n",
            "app/parts.py": "class Part:\n    pass\n",
            "app/__main__.py": """
                import dispycos
                from . import NAME
                from .parts import Part

                class Own:
                    pass

                def compute(part):
                    from .parts import Part as Again
                    return NAME, type(part) is Part is Again, Own(), part

                async def main():
                    async with dispycos.Client([compute]) as client:
                        name, same, own, part = await client.submit(compute, Part())
                        print(name, same, type(own) is Own, type(part) is Part)

                dispycos.run(main)
            """,
        }
    )
    assert cluster.python("-m", "app").succeed() == "app True True True\n"


def test_code_from_the_command_line_and_from_standard_input_runs(cluster: User) -> None:
    text = "\n".join(
        [
            "import dispycos",
            "K = 4",
            "def compute(n): return n * K",
            "async def main():",
            "    async with dispycos.Client([compute]) as client:",
            "        print(await client.submit(compute, 5))",
            "dispycos.run(main)",
        ]
    )
    assert cluster.python("-c", text).succeed() == "20\n"
    cluster.write({"piped.py": text})
    assert cluster.python("-", stdin="piped.py").succeed() == "20\n"


FIRST = """
    import asyncio, functools, os, sys, threading, dispycos, shapes
    from shapes import Square, area

    def die():
        os._exit(1)

    def arguments():
        return sys.argv

    async def each(*calls):
        async with dispycos.Client() as client:
            return await asyncio.gather(*[client.submit(*call) for call in calls])

    async def main():
        assert await each((Square(4).area,), (functools.partial(area, Square(4)),)) == [16, 16]
        assert await each((str, Square(5)), (arguments,)) == ["square 5", sys.argv]
        found = []
        thread = threading.Thread(target=lambda: found.extend(asyncio.run(each((Square(7).area,)))))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert found == [49]
        async with dispycos.Client() as client:
            await asyncio.gather(*[client.submit(die) for _ in await client.servers()], return_exceptions=True)
            assert await asyncio.gather(*[client.submit(area, Square(n)) for n in range(20)]) == [n * n for n in range(20)]
        print("its values", sys.argv[1:])

    if __name__ == "__main__":
        dispycos.run(main)
"""
SHAPES = """
    import dataclasses

    @dataclasses.dataclass
    class Square:
        side: int

        def area(self):
            return area(self)

        def __str__(self):
            return f"square {self.side}"

    def area(square):
        return square.side ** 2
"""


@pytest.mark.parametrize(
    "way",
    [["first.py"], ["-m", "first"], ["-c", "import runpy; runpy.run_path('first.py', run_name='__main__')"]],
)
def test_a_servers_first_call_may_be_of_any_module(cluster: User, way: list[str]) -> None:
    cluster.write({"first.py": FIRST, "shapes.py": SHAPES})
    assert cluster.python(*way, "fast", "--n=2").succeed(40) == "its values ['fast', '--n=2']\n"


def test_a_module_found_by_any_entry_of_sys_path_travels(cluster: User) -> None:
    text = """
        import os, sys
        here = os.path.dirname(os.path.abspath(__file__))
        sys.path.append(os.path.dirname(here))
        sys.path.insert(0, os.path.join(os.path.dirname(here), "src"))
        import dispycos, sibling.part, layered

        def both():
            return sibling.part.NAME, layered.NAME

        async def main():
            async with dispycos.Client() as client:
                print(*await client.submit(layered.name), *await client.submit(both))

        dispycos.run(main)
    """
    cluster.write(
        {
            "folders/scripts/uses.py": text,
            "folders/sibling/part.py": "NAME = 'sibling'\n",
            "folders/src/layered/__init__.py": "NAME = 'src'\ndef name():\n    return [NAME]\n",
        }
    )
    assert cluster.python("uses.py", folder="folders/scripts").succeed() == "src sibling src\n"


@pytest.mark.parametrize("launcher", [["-m", "pdb", "-c", "continue"], ["-m", "cProfile", "-o", "profile"]])
def test_a_program_in_a_debugger_or_profiler_is_the_same_program(cluster: User, launcher: list[str]) -> None:
    text = """
        import sys, dispycos

        class Point:
            pass

        def make():
            return Point(), sys.argv

        async def main():
            async with dispycos.Client() as client:
                made, argv = await client.submit(make)
                print("same", type(made) is Point, argv == sys.argv)

        if __name__ == "__main__":
            dispycos.run(main)
    """
    cluster.write({"launched.py": text, "quit.txt": "q\n"})
    program = cluster.python(*launcher, "launched.py", stdin="quit.txt")
    assert "same True True\n" in program.succeed(30)


def test_a_module_that_is_nowhere_on_the_servers_is_an_error_that_names_it(cluster: User) -> None:
    text = """
        import dispycos
        def compute():
            import surely_not_installed_anywhere
        async def main():
            async with dispycos.Client([compute]) as client:
                try:
                    await client.submit(compute)
                except ImportError as error:
                    print(error)
        dispycos.run(main)
    """
    assert "surely_not_installed_anywhere" in cluster.script("missing.py", text).succeed()


def test_two_clients_one_after_the_other_do_not_see_each_others_globals(cluster: User) -> None:
    text = """
        import builtins, sys, dispycos
        def mark():
            found = getattr(builtins, "marked", "clean")
            builtins.marked = "dirty"
            return found, sys.argv[0]
        async def main():
            async with dispycos.Client([mark]) as client:
                print(*{await (await client.rtask_at(server, mark)) for server in await client.servers()})
        dispycos.run(main)
    """
    for _ in range(2):
        assert cluster.script("marks.py", text).succeed() == "('clean', 'marks.py')\n"
