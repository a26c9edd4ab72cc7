"""The monitor of real programs in a real browser: what it shows is true, what a reader wishes is done, strangers can do nothing."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("selenium", reason="needs the package selenium")

from tests.kit.programs import ROOT, User
from tests.kit.web import PRINTED
from tests.web.browser import Page, find_browser, row_of

pytestmark = pytest.mark.timeout(60)

BITE = "<img src=x onerror='window.bitten=1'><script>window.bitten=1</script>"

# It does what is typed, and says what it knows by itself.
PROGRAM = """
import asyncio, logging, os, signal, sys, time
import dispycos

BITE = "BITE"

def hold(number):
    while True:
        time.sleep(0.05)  # here

def quick(number):
    print("did", number)
    return number

def fails(number):
    raise ValueError(f"no {number}")

def crashes():
    print("my last words")
    os.kill(os.getpid(), signal.SIGKILL)

def bites(text):
    print("printed", text)
    logging.getLogger("biting").warning("logged %s", text)
    raise RuntimeError(text)

bites.__name__ = bites.__qualname__ = BITE

async def keeps(name, *, task):
    task.register(name)
    await task.sleep(3600)

async def main():
    handles, boxes = [], []
    name = BITE if "--bite" in sys.argv else "survey"
    async with dispycos.Client([hold, quick, fails, crashes, keeps], name=name) as client:
        http = dispycos.HTTPServer(client, port=0, poll_sec=0.3)
        while line := await asyncio.to_thread(sys.stdin.readline):
            what, *rest = line.split()
            count = int(rest[0]) if rest else 1
            if what == "end":
                break
            if what == "box":
                boxes.append(await client.io_rtask(keeps, "letters"))
                for k in range(count):
                    boxes[-1].send(k)
            elif what == "count":
                ended = [h for h in handles if h.done()]
                errors = [type(h.exception()).__name__ if not h.cancelled() else "TaskTerminated" for h in ended]
                kinds = [errors.count(kind) for kind in ("NoneType", "ValueError", "TaskLost", "TaskTerminated")]
                print("counts", *kinds, len(handles) - len(ended))
            elif what == "where":
                print("at", *[h.location for h in handles[-count:]])
            elif what == "all":
                await asyncio.wait(handles)
            else:
                function = {"hold": hold, "quick": quick, "fails": fails, "crashes": crashes, "bites": bites}[what]
                args = [[BITE]] * count if what == "bites" else [[]] if what == "crashes" else [[k] for k in range(count)]
                handles += [client.submit(function, *given) for given in args]
                if what == "hold":
                    await asyncio.sleep(0.3)
                else:
                    await asyncio.wait(handles[-count:])
            print("ok", line.strip(), flush=True)
        for handle in [*handles, *boxes]:
            handle.terminate()
            handle.exception() if handle.done() and not handle.cancelled() else None
        await asyncio.wait([*handles, *boxes])
    await asyncio.sleep(1)
    http.shutdown()

dispycos.run(main)
""".replace('"BITE"', repr(BITE))

HERE = next(n for n, line in enumerate(PROGRAM.splitlines(), start=1) if line.endswith("# here"))


class Stage:
    """A program that does what it is told, and its monitor."""

    def __init__(self, user: User, *arguments: str) -> None:
        out, self._in = os.pipe()
        user.write({"survey.py": PROGRAM})
        self.program = user.python("survey.py", *arguments, stdin=out)
        os.close(out)
        self.url = self.program.wait_line(PRINTED).text
        self._told = 0

    def tell(self, line: str) -> None:
        """Returns when it is done."""
        seen = len(self.program.lines)
        os.write(self._in, f"{line}\n".encode())
        self._wait(rf"^ok {line}$", seen)

    def _wait(self, pattern: str, seen: int) -> str:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            for said in self.program.lines[seen:]:
                if re.search(pattern, said.text):
                    return said.text
            time.sleep(0.01)
        raise AssertionError(f"no {pattern}; {self.program.told()}")

    def ask(self, line: str, pattern: str) -> list[str]:
        seen = len(self.program.lines)
        os.write(self._in, f"{line}\n".encode())
        self._wait(rf"^ok {line}$", seen)
        return self._wait(pattern, seen).split()[1:]

    def counts(self) -> list[int]:
        """Done, failed, lost, terminated, not ended: as the program's own handles say."""
        return [int(word) for word in self.ask("count", "^counts ")]

    def end(self) -> None:
        os.close(self._in)


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    find_browser()
    with User() as user:
        yield user


@pytest.fixture(scope="module")
def stage(user: User) -> Iterator[Stage]:
    """ash with two servers and elm with one."""
    nodes = [user.node("ash", cpus=2), user.node("elm", cpus=1)]
    stage = Stage(user)
    stage.tell("quick 12")
    stage.tell("fails 3")
    stage.tell("crashes")
    stage.tell("box 7")
    yield stage
    stage.end()
    stage.program.wait(20)
    for node in nodes:
        node.end()


@pytest.fixture
def calm(stage: Stage, page: Page) -> Iterator[Page]:
    """The page of the stage; what a test lets run is ended after it."""
    page.size(1440, 900)
    page.open(stage.url)
    yield page
    if stage.counts()[4]:
        page.go("tasks?function=hold")
        page.wait(lambda: page.text(".head .danger, main .danger"))
        api(page, "terminate_where", [], {"filter": {"function": "hold"}})
        stage.tell("all")
    page.js("location.href = 'about:blank'")


def api(page: Page, action: str, ids: list[str], args: dict[str, Any]) -> Any:
    """As the page's own code asks."""
    return page.js(
        "const given = [...arguments]; return import('./session.js').then(s => s.act(...given))",
        action,
        ids,
        args,
    )


SUMS = """return [...document.querySelectorAll('.sum a')].map(
    a => [a.querySelector('.k').innerText.trim(), a.querySelector('.v').innerText])"""
BUTTON = """[...document.querySelectorAll(arguments[1] + ' button')].find(
    b => b.innerText.trim().startsWith(arguments[0]) && !b.disabled)"""
ROW = "[...document.querySelectorAll('main tbody tr')].find(r => r.querySelector('.title')?.innerText.startsWith(arguments[0]))"


def sums(page: Page) -> dict[str, int]:
    """The numbers at the top of the Cluster page."""
    found = page.js(SUMS)
    return {name: int(value.replace(",", "")) for name, value in found if name != "Tasks per second"}


def press(page: Page, text: str, within: str = "main") -> None:
    """The button of this text."""
    page.wait(lambda: page.js(f"return Boolean({BUTTON})", text, within))
    page.js(f"{BUTTON}.click()", text, within)


def cells(page: Page, row: str) -> list[str]:
    """The texts of the first row whose title begins so."""
    found: list[str] = page.js(f"return [...({ROW}?.cells || [])].map(c => c.innerText.trim())", row)
    return found


# ------------------------------------------------------------ what it shows


def test_every_page_shows_what_is_true(stage: Stage, calm: Page) -> None:
    page = calm
    done, failed, lost, _, _ = stage.counts()
    assert (done, failed, lost) == (12, 3, 1)
    page.wait(lambda: sums(page) == {"Running": 1, "Queued": 0, "Done": done, "Failed": failed, "Lost": lost})
    assert sorted(page.all("tbody td.title")) == ["ash", "elm"]
    page.wait(lambda: "ValueError in fails" in page.text(".att"))
    page.go("tasks")
    page.wait(lambda: "Done 12" in page.text(".facets").replace("\n", " "))
    assert len(page.all("tbody tr")) == 17  # with the one that keeps its letters
    page.go("tasks?view=functions")
    page.wait(lambda: cells(page, "fails")[1:5] == ["0", "0", "3", "0"])
    page.go("tasks?view=failures")
    page.wait(lambda: page.all("details.fail .cnt") == ["3", "1"])
    assert re.search(r"^no \d$", page.text("details.fail"), re.M) and "ValueError in fails" in page.text(
        "details.fail"
    )
    page.click("details.fail summary")
    page.wait(lambda: 'raise ValueError(f"no {number}")' in page.text("details.fail pre"))
    page.go("tasks?view=deaths")
    page.wait(lambda: "SIGKILL" in page.text(".cert"))
    assert "my last words" in page.text(".cert pre")
    page.go("actors")
    page.wait(lambda: cells(page, "letters"))
    assert cells(page, "letters")[1] == "keeps" and cells(page, "letters")[3].endswith("7")
    page.go("messages")
    page.wait(lambda: len(page.all("tbody tr")) >= 6)  # scheduler, two nodes, three servers
    assert set(page.all("td.state")) == {"direct"}
    page.go("log")
    page.wait(lambda: "did 11" in page.text(".log"))
    page.go("clients")
    page.wait(lambda: cells(page, "survey")[1:2] == ["active"])
    assert cells(page, "survey")[5:7] == ["12", "4"]
    assert page.errors() == []


def test_names_are_links_and_lead_back(stage: Stage, calm: Page) -> None:
    page = calm
    page.click("tbody td.title a")
    page.wait(lambda: page.text("h1") in ("ash", "elm"))
    node = page.text("h1")
    page.wait(lambda: page.all("section.card tbody td.title"))
    page.click("tbody td.title a")
    page.wait(lambda: page.text("h1").startswith(f"{node}:"))
    page.click(".crumbs a:nth-of-type(2)")
    page.wait(lambda: page.text("h1") == node)
    page.driver.back()
    page.wait(lambda: page.text("h1").startswith(f"{node}:"))


def test_sorting_and_filters_are_in_the_url_and_survive_a_reload(stage: Stage, calm: Page) -> None:
    page = calm
    head = "[...document.querySelectorAll('th button')].find(b => b.innerText.trim() === 'Node')"
    page.wait(lambda: page.js(f"return Boolean({head})"))
    page.js(f"{head}.click()")
    page.wait(lambda: page.all("tbody td.title") == ["ash", "elm"])
    page.js(f"{head}.click()")
    page.wait(lambda: page.all("tbody td.title") == ["elm", "ash"])
    page.driver.refresh()
    page.wait(lambda: page.all("tbody td.title") == ["elm", "ash"])
    page.go("tasks")
    page.type("#filter", "fails")
    page.wait(lambda: len(page.all("tbody tr")) == 3)
    page.click(".facets a[data-s=failed]")
    page.wait(lambda: "state=failed" in page.place and "q=fails" in page.place)
    page.driver.refresh()
    page.wait(lambda: len(page.all("tbody tr")) == 3)
    assert set(page.all("tbody td.state")) == {"failed"}
    assert page.js("return document.getElementById('filter').value") == "fails"


# ------------------------------------------------------------ what a reader wishes


def test_a_suspended_node_gets_no_tasks_until_it_is_resumed(stage: Stage, calm: Page) -> None:
    page = calm
    port = page.wait(
        lambda: page.js(
            "return import('./stream.js').then(s => s.list('nodes').find(n => n.name === 'ash')?.id)"
        )
    )
    page.js(f"{row_of('ash')}.querySelector('.act button').click()")
    page.wait(lambda: "suspended" in cells(page, "ash")[1])
    stage.tell("quick 6")
    page.go(f"node/{port}")
    ash = set(
        page.wait(
            lambda: [name.split(":")[1] for name in page.all("section.card tbody td.title") if ":" in name]
        )
    )
    where = {place.rpartition(":")[2] for place in stage.ask("where 6", "^at ")}
    assert len(where) == 1 and not where & ash, (where, ash)
    page.wait(lambda: "suspended" in page.text(".head"))
    press(page, "Resume", ".head")
    page.wait(lambda: "ready" in page.text(".head"))
    stage.tell("hold 3")
    page.wait(lambda: page.all("section.card td.state").count("running") == 2)


def test_a_suspended_server_gets_no_tasks_until_it_is_resumed(stage: Stage, calm: Page) -> None:
    page = calm
    servers = page.js("return fetch('api/v1/servers').then(a => a.json()).then(told => told.rows)")
    [server] = [
        row["id"] for row in servers if row["state"] in ("idle", "running") and row["node"].startswith("elm")
    ]
    page.go(f"server/{server}")
    press(page, "Suspend", ".head")
    page.wait(lambda: "suspended" in page.text(".head"))
    stage.tell("quick 6")
    assert server not in stage.ask("where 6", "^at ")
    press(page, "Resume", ".head")
    page.wait(lambda: "suspended" not in page.text(".head"))
    stage.tell("hold 3")
    page.wait(lambda: cells(page, "hold"))


def test_selected_tasks_are_terminated_and_then_all_that_the_filter_shows(stage: Stage, calm: Page) -> None:
    page = calm
    ended = stage.counts()[3]
    stage.tell("hold 8")  # three run
    page.go("tasks?function=hold&state=running")
    page.wait(lambda: len(page.all("tbody tr")) == 3)
    server = page.js("return document.querySelector('tbody td.s2 a').hash.slice(2)")
    page.go(server)
    page.wait(lambda: cells(page, "hold"))
    page.js(f"{ROW}.querySelector('td.sel input').click()", "hold")
    press(page, "Terminate 1", ".head")
    page.wait(lambda: page.text("#dlg-t") == "Terminate this task?")
    press(page, "Terminate", "#dlg")
    page.wait(lambda: stage.counts()[3:] == [ended + 1, 7])
    page.go("tasks?view=waiting&function=hold")
    press(page, "Cancel 4")
    press(page, "Cancel 4", "#dlg")
    page.wait(lambda: stage.counts()[3:] == [ended + 5, 3])
    page.go("tasks?function=hold")
    press(page, "Terminate 3")
    press(page, "Terminate 3", "#dlg")
    page.wait(lambda: stage.counts()[3:] == [ended + 8, 0])
    page.go("tasks?function=hold")
    page.wait(lambda: page.all("tbody td.state").count("cancelled") >= 8)


def test_the_stack_of_a_running_task_names_its_function_and_line(stage: Stage, calm: Page) -> None:
    page = calm
    stage.tell("hold 1")
    page.go("tasks?function=hold&state=running")
    press(page, "Stack")
    page.wait(lambda: "time.sleep(0.05)" in page.text("#drawer .frames"))
    assert re.search(rf"^hold\s+\S*survey\.py:{HERE}$", page.text("#drawer .frames"), re.M), page.text(
        "#drawer"
    )


def test_two_browsers_see_the_same_and_both_go_on(stage: Stage, calm: Page) -> None:
    other = Page()
    try:
        other.open(stage.url)
        before = stage.counts()[0]
        stage.tell("quick 5")
        calm.wait(lambda: sums(calm)["Done"] == before + 5)
        other.wait(lambda: sums(other)["Done"] == before + 5)
        assert sums(calm) == sums(other)
        other.driver.get("about:blank")
        stage.tell("quick 2")
        calm.wait(lambda: sums(calm)["Done"] == before + 7)
        other.open(stage.url)
        other.wait(lambda: sums(other)["Done"] == before + 7)
    finally:
        other.close()


# ------------------------------------------------------------ strangers


EVIL = """<!doctype html><body><iframe name=f></iframe>
<form id=form method=post enctype=text/plain action="TARGET/api/v1/actions" target=f>
  <input name='{"action": "terminate", "ids": ["TASK"], "args": {"x": "' value='"}}'></form>
<form id=old method=post action="TARGET/terminate_tasks" target=f><input name=tasks value="TASK"></form>
<img src="TARGET/terminate_tasks?tasks=TASK"><img src="TARGET/suspend_node?node=ash">
<script>
const all = [], body = '{"action": "terminate", "ids": ["TASK"], "args": {}}';
const told = asked => asked.then(a => all.push(a.type + a.status), e => all.push(String(e)));
const post = o => told(fetch("TARGET/api/v1/actions", { method: 'POST', credentials: 'include', body, ...o }));
const pause = () => new Promise(r => setTimeout(r, 300));
(async () => {
  await post({ mode: 'no-cors', headers: { 'Content-Type': 'text/plain' } });
  await post({ headers: { 'Content-Type': 'application/json', 'X-Dispycos-CSRF': 'x' } });
  await told(fetch("TARGET/api/v1/session", { credentials: 'include' }));
  document.getElementById('form').submit();
  await pause();
  document.getElementById('old').submit();
  await pause();
  window.tried = all;
})();
</script>"""


class Evil(BaseHTTPRequestHandler):
    """A page of another origin that tries all ways of a browser."""

    page = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def evil() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_page_of_another_origin_changes_and_reads_nothing(stage: Stage, calm: Page, evil: str) -> None:
    page = calm
    stage.tell("hold 1")
    page.go("tasks?function=hold&state=running")
    task = page.wait(lambda: page.js("return document.querySelector('tbody .title .args')?.title"))
    running = stage.counts()[4]
    Evil.page = EVIL.replace("TARGET", stage.url.partition("/?")[0]).replace("TASK", str(task))
    page.driver.get(evil)
    tried = page.wait(lambda: page.js("return window.tried"))
    assert len(tried) == 3 and all("Failed to fetch" in one for one in tried), "no answer can be read"
    assert stage.counts()[4] == running
    page.open(stage.url)  # the cookie is there, all the while
    page.wait(lambda: cells(page, "ash")[1:2] == ["ready"])
    assert api(page, "terminate", [task], {})["done"] == 1, "the same from the page itself"
    page.wait(lambda: stage.counts()[4] == running - 1)


def test_hostile_names_arguments_lines_and_errors_stay_text(page: Page) -> None:
    with User() as user:
        stage = Stage(user, "--bite")
        stage.tell("bites 3")
        stage.tell("hold 1")
        page.open(stage.url)
        shown = {}
        views = ["failures", "functions", "waiting"]
        for place in [
            "cluster",
            "tasks",
            *(f"tasks?view={view}" for view in views),
            "log",
            "clients",
            "actors",
        ]:
            page.go(place)
            page.wait(lambda: len(page.text("main")) > 60)
            page.ticks(1)
            shown[place] = page.text("main") + " ".join(
                page.js("return [...document.querySelectorAll('[title]')].map(e => e.title)")
            )
        assert page.js("return window.bitten") is None
        assert page.js("return document.querySelectorAll('main img, body script').length") == 0
        for place in ["cluster", "tasks", "tasks?view=failures", "tasks?view=functions", "log", "clients"]:
            assert BITE in shown[place], f"{place} does not show it as it is: {shown[place]}"
        assert page.errors() == []
        stage.end()
        stage.program.wait(20)


# ------------------------------------------------------------ from the beginning to the end


def test_reloads_during_a_run_of_the_example_and_its_end(page: Page) -> None:
    with User() as user:
        example = user.python(
            str(ROOT / "examples" / "dispycos_client1.py"), "--jobs", "8", "--port", "0", "--stay", "1"
        )
        page.open(example.wait_line(PRINTED).text)
        seen = [sums(page)["Done"]]
        while seen[-1] < 8:
            page.driver.refresh()
            page.wait(lambda: len(sums(page)) == 5)
            seen.append(sums(page)["Done"])
        assert seen == sorted(seen) and seen[-1] == 8
        assert len(re.findall(r"^job \d processed by", example.succeed(20), re.M)) == 8
        page.wait(lambda: "shut its monitor down" in page.text("#banner"))
        assert sums(page)["Done"] == 8 and page.text("#live") == "last state"
        page.go("tasks")
        page.wait(lambda: not page.all("tbody tr") or len(page.all("tbody tr")) == 8)


def test_the_page_keeps_the_last_state_of_a_program_that_is_gone(page: Page) -> None:
    with User() as user:
        stage = Stage(user)
        stage.tell("quick 4")
        page.open(stage.url)
        page.go("tasks")
        page.wait(lambda: len(page.all("tbody tr")) == 4)
        stage.program.interrupt()
        stage.end()
        page.wait(lambda: re.search("ended", page.text("#banner")))
        stage.program.wait(20)
        assert page.text("#live") == "last state" and len(page.all("tbody tr")) == 4
        names = page.all("tbody .title")
        head = "[...document.querySelectorAll('th button')].find(b => b.innerText.trim() === 'Started')"
        page.js(f"{head}.click()")
        page.wait(lambda: page.all("tbody .title") == names[::-1])


def test_a_scheduler_shows_no_client_then_one_then_its_end(page: Page) -> None:
    with User() as user:
        scheduler = user.scheduler("--web", "0")
        page.open(scheduler.wait_line(PRINTED).text)
        assert "No nodes yet" in page.text("main") and "dispycos node" in page.text("main")
        user.node("ash", cpus=1)
        page.wait(lambda: cells(page, "ash")[1:2] == ["idle"])
        page.go("clients")
        page.wait(lambda: "No client" in page.text("main"))
        stage = Stage(user)
        stage.tell("quick 3")
        page.wait(lambda: cells(page, "survey")[1:2] == ["active"])
        page.wait(lambda: cells(page, "survey")[5:7] == ["3", "0"])
        page.go("tasks")
        page.wait(lambda: len(page.all("tbody tr")) == 3)
        stage.tell("hold 1")
        page.wait(lambda: cells(page, "hold")[1:2] == ["running"])
        page.js(f"{ROW}.querySelector('button').click()", "hold")
        page.wait(lambda: "time.sleep(0.05)" in page.text("#drawer .frames"))
        page.js("document.querySelector('#drawer button').click()")
        stage.end()
        stage.program.wait(20)
        page.go("clients")
        page.wait(lambda: cells(page, "survey")[1:2] == ["ended"])
        assert cells(page, "survey")[2:5] == ["0", "0", "0"], "nothing of it runs or waits"
        page.go("cluster")
        page.wait(lambda: cells(page, "ash")[1:2] == ["idle"])
        assert page.errors() == []
        page.ticks(1)
        scheduler.interrupt()
        page.wait(lambda: "has ended" in page.text("#banner"))


def test_a_node_shows_what_its_servers_do(page: Page) -> None:
    with User() as user:
        node = user.node("ash", "--web", "0", cpus=2)
        page.open(node.wait_line(PRINTED).text)
        page.wait(lambda: cells(page, "ash")[1:2] == ["idle"])
        stage = Stage(user)
        stage.tell("hold 2")
        page.wait(lambda: cells(page, "ash")[1:2] == ["ready"] and sums(page)["Running"] == 2)
        page.click("tbody td.title a")
        page.wait(lambda: page.all("section.card td.state").count("running") == 2)
        assert page.errors() == []
        stage.end()
        stage.program.wait(20)
