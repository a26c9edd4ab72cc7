"""dispycos.run: its value, its errors, its end, as a program sees them."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import dispycos
from dispycos import Task
from dispycos.actors.client.code import ClientPayloads
from dispycos.actors.client.local import GOODBYE_S, Home, home_of_this_loop
from dispycos.actors.tasks.current import current_host, host_of, hosts_of_closed_loops
from dispycos.transport.folders import find_folders

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("own_home")]


async def coroutine(x: int, *, y: int = 1) -> int:
    await asyncio.sleep(0)
    return x + y


def generator(x: int, *, y: int = 1) -> Generator[Any, Any, int]:
    yield
    slept = yield asyncio.sleep(0, 10)
    return x + y + int(slept)


def plain(x: int, *, y: int = 1) -> int:
    return x * y


@pytest.mark.parametrize(("function", "value"), [(coroutine, 7), (generator, 17), (plain, 10)])
def test_it_returns_the_value_of_a_function_of_any_kind(function: Any, value: int) -> None:
    assert dispycos.run(function, 5, y=2) == value


def test_a_coroutine_object_is_taken_as_asyncio_does() -> None:
    assert dispycos.run(coroutine(5)) == 6


def test_a_callable_without_code_of_its_own_is_a_function_too() -> None:
    assert dispycos.run(max, 3, 4) == 4
    assert dispycos.run(str, "x") == "x"


def test_the_task_is_passed_to_who_names_it() -> None:
    async def main(x: int, task: Any = None) -> tuple[int, bool, str]:
        return x, isinstance(task, Task), task.name

    assert dispycos.run(main, 3) == (3, True, "main")


class Stay:
    """A client's stay at a scheduler, as the runtime of its loop knows it."""

    def __init__(self) -> None:
        self.home: Any = None
        self.left: list[dict[str, Any]] = []
        self.is_told = False

    def leave(self, **how: Any) -> asyncio.Task[None]:
        self.left.append(how)
        return asyncio.ensure_future(self._go())

    async def _go(self) -> None:
        self.home.leave(self)

    def tell_left_open(self) -> None:
        assert not self.left, "before it is left"
        self.is_told = True

    def vanish(self) -> None:
        self.left.append({"vanished": True})
        self.home.leave(self)


class Custom(Exception):
    pass


@pytest.mark.parametrize("kind", ["coroutine", "generator", "plain"])
def test_the_tasks_exception_is_raised_itself_with_its_traceback(kind: str) -> None:
    error = Custom("mine")

    def fail_plainly() -> None:
        raise error

    def fail_in_generator() -> Generator[Any, Any, None]:
        yield
        fail_plainly()

    async def fail_in_coroutine() -> None:
        await asyncio.sleep(0)
        fail_plainly()

    main = {"coroutine": fail_in_coroutine, "generator": fail_in_generator, "plain": fail_plainly}[kind]
    with pytest.raises(Custom) as info:
        dispycos.run(main)
    assert info.value is error
    assert info.traceback[-1].name == "fail_plainly"


@pytest.mark.parametrize("code", [0, 3, "words"])
def test_sys_exit_ends_the_program_with_its_code(code: Any) -> None:
    async def main() -> None:
        sys.exit(code)

    with pytest.raises(SystemExit) as info:
        dispycos.run(main)
    assert info.value.code == code


def test_an_argument_error_is_the_callers() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        dispycos.run(coroutine, 1, z=2)  # type: ignore[call-arg]


@pytest.mark.timeout(5)
@pytest.mark.parametrize("main", [None, 5, "main"])
def test_what_is_no_function_is_a_type_error(main: Any) -> None:
    with pytest.raises(TypeError, match=type(main).__name__):
        dispycos.run(main)


def test_inside_a_running_loop_it_says_what_to_do_instead() -> None:
    async def notebook() -> None:
        with pytest.raises(RuntimeError, match="await your main"):
            dispycos.run(coroutine, 1)

    asyncio.run(notebook())


def test_inside_a_running_loop_a_coroutine_object_is_closed() -> None:
    async def notebook() -> None:
        main = coroutine(1)
        with pytest.raises(RuntimeError, match="await your main"):
            dispycos.run(main)
        assert inspect.getcoroutinestate(main) == inspect.CORO_CLOSED

    asyncio.run(notebook())


def test_it_may_be_called_again_and_again() -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for number in range(5):
        assert dispycos.run(coroutine, number) == number + 1
    assert threading.active_count() <= before[0]
    assert len(os.listdir("/proc/self/fd")) <= before[1] + 1


def test_it_runs_in_a_thread_that_is_not_the_main_one() -> None:
    values: list[int] = []
    thread = threading.Thread(target=lambda: values.append(dispycos.run(coroutine, 5)))
    thread.start()
    thread.join(10)
    assert values == [6]


def test_tasks_left_behind_get_their_keyboard_interrupt() -> None:
    heard: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(60)
        except KeyboardInterrupt:
            heard.append("child")
            raise

    async def main() -> str:
        Task(child)
        await asyncio.sleep(0.01)
        return "done"

    assert dispycos.run(main) == "done"
    assert heard == ["child"]


def test_control_c_ends_the_main_task_and_is_raised() -> None:
    heard: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(20)
        except KeyboardInterrupt:
            heard.append("main")
            raise

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        dispycos.run(main)
    assert heard == ["main"]
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("body", ["await asyncio.sleep(30)", "time.sleep(30)", "while True: pass"])
def test_control_c_at_a_program_is_one_line(tmp_path: Path, body: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio, time, dispycos\n"
        "async def main():\n    print('ready', flush=True)\n    " + body + "\n"
        "if __name__ == '__main__':\n    dispycos.run(main)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=5)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode in (130, -signal.SIGINT)
    assert complaint.splitlines() == ["interrupted"]


# --- the runtime of a loop ---


def test_a_loop_has_one_host_which_is_made_when_it_is_wanted() -> None:
    async def main() -> None:
        assert host_of(asyncio.get_running_loop()) is None
        home = home_of_this_loop(ClientPayloads(), None)
        assert home_of_this_loop(ClientPayloads(), None) is home
        assert current_host() is home.host
        stays: Any = [Stay(), Stay()]
        for stay in stays:
            home.enter(stay)
        assert home.ahead_of(stays[1]) == [stays[0]]
        home.leave(stays[0])
        assert host_of(asyncio.get_running_loop()) is home.host
        home.leave(stays[1])
        assert host_of(asyncio.get_running_loop()) is None

    asyncio.run(main())


def test_a_cluster_that_the_program_did_not_give_back_is_given_back_at_its_end() -> None:
    stay = Stay()

    async def main() -> None:
        current_host().home.enter(stay)
        stay.home = current_host().home
        raise Custom("before close()")

    with pytest.raises(Custom):
        dispycos.run(main)
    assert stay.left == [{"terminate": True, "patience": GOODBYE_S}]


def test_what_asyncio_run_leaves_open_is_given_back_at_its_end() -> None:
    stay: Any = Stay()
    threads = threading.active_count()

    async def main() -> None:
        stay.home = home_of_this_loop(ClientPayloads(), None)
        stay.home.enter(stay)

    asyncio.run(main())
    assert stay.left == [{"terminate": True, "patience": GOODBYE_S}]
    assert stay.is_told
    assert threading.active_count() <= threads, "the relief thread has ended"


def test_one_more_ctrl_c_ends_the_wait_for_what_is_given_back_at_the_end() -> None:
    class Slow(Stay):
        async def _go(self) -> None:
            await asyncio.sleep(60)

    stay: Any = Slow()

    async def main() -> None:
        stay.home = home_of_this_loop(ClientPayloads(), None)
        stay.home.enter(stay)
        ending = asyncio.ensure_future(stay.home.end())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await asyncio.wait_for(ending, 5)

    asyncio.run(main())  # which that Ctrl-C does not touch
    assert stay.left == [{"terminate": True, "patience": GOODBYE_S}, {"vanished": True}]


def test_a_loop_that_was_closed_without_a_word_is_noticed_with_the_next() -> None:
    stay: Any = Stay()

    async def main(stay: Any) -> None:
        stay.home = home_of_this_loop(ClientPayloads(), None)
        stay.home.enter(stay)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main(stay))
    loop.close()
    assert stay.left == []
    asyncio.run(main(Stay()))
    assert stay.left == [{"vanished": True}]
    assert not hosts_of_closed_loops()


def test_control_c_is_for_the_program_in_each_asyncio_run() -> None:
    """What was installed in the first, and is given back at its end, does not keep asyncio from its own."""

    async def main() -> None:
        stay: Any = Stay()
        stay.home = home_of_this_loop(ClientPayloads(), None)
        stay.home.enter(stay)

    async def interrupted() -> str:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            heard.append("cancelled, as asyncio does")
            raise
        return "not interrupted"

    heard: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    asyncio.run(main())
    assert signal.getsignal(signal.SIGINT) == before
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())
    assert heard == ["cancelled, as asyncio does"]


def test_the_secret_file_that_is_named_is_used(tmp_path: Path) -> None:
    secret = tmp_path / "the-secret"
    secret.write_text("ab" * 32)
    secret.chmod(0o600)

    async def main() -> None:
        await Home(ClientPayloads(), secret).end()

    asyncio.run(main())
    assert not (tmp_path / "dispycos").exists(), "no other was made"


def test_a_secret_that_others_can_read_is_an_error_before_anything_runs(own_home: Path) -> None:
    secret = own_home / "dispycos" / "secret"
    secret.parent.mkdir(mode=0o700)
    secret.write_text("ab" * 32)
    secret.chmod(0o644)
    with pytest.raises(Exception, match="644"):
        dispycos.run(coroutine, 1)


@pytest.mark.parametrize("trouble", ["open to others", "a file is in the way", "the path is too long"])
def test_without_a_folder_for_its_socket_a_client_has_none_and_goes_on(
    trouble: str, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_home / "dispycos"
    if trouble == "open to others":
        folder.mkdir()
        folder.chmod(0o755)
    elif trouble == "a file is in the way":
        folder.touch()
    else:
        folder = own_home / "long" / ("x" * 100)
        folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(
        "dispycos.actors.client.local.find_folders",
        lambda: dataclasses.replace(find_folders(), sockets=folder),
    )
    (own_home / "secret").write_text("ab" * 32)
    (own_home / "secret").chmod(0o600)

    async def main() -> None:
        home = Home(ClientPayloads(), own_home / "secret")
        assert home.ipc == ""
        listeners = list(home.runtime.mailbox._listeners)
        await home.end()
        assert listeners == []

    asyncio.run(main())
