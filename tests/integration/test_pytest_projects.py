"""Projects whose tests use dispycos, laid out as people lay them out, under `python -m pytest`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import pytest

from tests.kit.programs import Program, User

pytestmark = pytest.mark.timeout(90)

FIXTURES = """
    import asyncio
    import dispycos
    import pytest

    class Doubler:
        def double(self, n):
            return 2 * n

    def seeded(n):
        return n + 100

    @pytest.fixture
    def run():
        def run(*calls):
            async def main():
                async with dispycos.Client() as client:
                    return await asyncio.gather(*[client.submit(*call) for call in calls])
            return asyncio.run(main())
        return run

    @pytest.fixture
    def parts():
        return Doubler(), seeded
"""
HELPERS = """
    from dataclasses import dataclass

    @dataclass
    class Row:
        n: int

        def times(self, k):
            return Row(self.n * k)

        def __str__(self):
            return f"row {self.n}"
"""
SHOP = {
    "shop/__init__.py": "from .prices import Basket, total\n",
    "shop/tax.txt": "7",
    "shop/prices.py": """
        from importlib.resources import files

        def total(items):
            return sum(items) + int(files("shop").joinpath("tax.txt").read_text())

        class Basket:
            def __init__(self, items):
                self.items = items

            def total(self):
                return total(self.items)
    """,
}
# The first call of a Client is of another module each time: a server knows none of them then.
TESTS = """
    import functools, sys, threading
    import pytest
    import shop
    from {helpers} import Row

    def own(n):
        return [n]

    class Own:
        def __init__(self, n):
            self.n = n

    def fail(n):
        assert n == 1, "it is another"

    def arguments():
        return sys.argv

    def test_a_method_of_a_helper(run):
        assert run((Row(3).times, 4), (str, Row(5))) == [Row(12), "row 5"]

    def test_the_code_under_test(run):
        assert run((shop.Basket([1, 2]).total,), (functools.partial(shop.total, [1]),)) == [10, 8]

    @pytest.mark.parametrize("n", [1])
    def test_what_stands_in_the_test_itself(run, n):
        got, made, by_closure = run((own, n), (Own, n), (lambda k: Row(k + n), 5))
        assert (got, type(made) is Own, by_closure) == ([1], True, Row(6))

    def test_what_a_conftest_has(run, parts):
        doubler, seeded = parts
        assert run((seeded, 1), (doubler.double, 4)) == [101, 8]

    def test_in_a_thread(run):
        said = []
        thread = threading.Thread(target=lambda: said.extend(run((own, 1), (arguments,))))
        thread.start()
        thread.join()
        assert said == [[1], sys.argv]

    def test_a_failing_assertion_is_one_here_too(run):
        with pytest.raises(AssertionError, match="it is another"):
            run((fail, 2))
"""


def under(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


LAYOUTS: dict[str, tuple[dict[str, str], list[str]]] = {
    "helpers beside the tests": (
        {
            "conftest.py": "",
            **SHOP,
            "tests/conftest.py": FIXTURES,
            "tests/helpers.py": HELPERS,
            "tests/test_shop.py": TESTS.format(helpers="helpers"),
        },
        [],
    ),
    "tests as a package and src by pythonpath": (
        {
            "pytest.ini": "[pytest]\npythonpath = src\n",
            **under("src", SHOP),
            "tests/__init__.py": "",
            "tests/conftest.py": FIXTURES,
            "tests/helpers.py": HELPERS,
            "tests/test_shop.py": TESTS.format(helpers="tests.helpers"),
        },
        [],
    ),
    "importlib mode and src by conftest": (
        {
            "conftest.py": "import sys, pathlib\nsys.path.append(str(pathlib.Path(__file__).parent / 'src'))\n",
            **under("src", SHOP),
            "src/helpers.py": HELPERS,
            "tests/conftest.py": FIXTURES,
            "tests/unit/test_shop.py": TESTS.format(helpers="helpers"),
        },
        ["--import-mode=importlib"],
    ),
}


@pytest.fixture(scope="module")
def projects(cluster: User) -> dict[str, Program]:
    """All run at once, by layout; each test of theirs waits for its turn with the cluster."""
    running = {}
    for number, (layout, (files, options)) in enumerate(LAYOUTS.items()):
        cluster.write(under(folder := f"project-{number}", files))
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        running[layout] = cluster.python(*words, folder=folder)
    return running


@pytest.mark.parametrize("layout", LAYOUTS)
def test_its_tests_pass(layout: str, projects: dict[str, Program]) -> None:
    assert "6 passed" in projects[layout].succeed(90)


BOTH_STYLES = """
    import anyio
    import dispycos
    import pytest

    def double(x):
        return 2 * x

    async def wait_for_a_message(task=None):
        return await task.receive()

    @pytest.fixture(scope="module")
    def client():
        with dispycos.Client() as client:
            yield client

    def test_sync(client):
        assert client.submit(double, 4).result(60) == 8

    def test_sync_with_the_same_client(client):
        assert client.gather(client.submit(double, 4), client.submit(double, 5)) == [8, 10]

    @pytest.mark.asyncio
    async def test_a_sync_call_in_a_running_loop(client):
        waiting = client.submit(wait_for_a_message)  # of a task that has ended the value is given, in a loop too
        with pytest.raises(RuntimeError, match="event loop that runs in this thread"):
            waiting.result()
        waiting.terminate()

    @pytest.mark.asyncio
    async def test_pytest_asyncio():
        async with dispycos.Client(local=True) as client:
            assert await client.submit(double, 4) == 8

    def test_anyio():
        async def main():
            async with dispycos.Client(local=True) as client, anyio.create_task_group() as group:
                group.start_soon(wait, client)
        async def wait(client):
            assert await client.submit(double, 4) == 8
        anyio.run(main, backend="asyncio")

    def test_trio():
        pytest.importorskip("trio")
        async def main():
            async with dispycos.Client():
                pass
        with pytest.raises(RuntimeError, match="this is trio: run it by anyio's asyncio backend"):
            anyio.run(main, backend="trio")
"""
MISSING = [name for name in ("anyio", "pytest_asyncio") if importlib.util.find_spec(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_both_styles_under_pytest_asyncio_and_anyio(cluster: User) -> None:
    cluster.write({"styles/test_styles.py": BOTH_STYLES})
    told = cluster.python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder="styles").succeed(90)
    assert "6 passed" in told or "5 passed, 1 skipped" in told
