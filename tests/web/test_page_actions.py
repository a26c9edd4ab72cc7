"""What a reader does on the page: suspend, terminate, look into a task, choose what is asked."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("selenium", reason="needs the package selenium")

from selenium.webdriver.common.keys import Keys

from tests.web.browser import Page, row_of
from tests.web.conftest import NODE, SERVER, Start


def test_a_node_is_suspended_and_resumed(page: Page, start: Start) -> None:
    monitor = start(2)
    page.open(monitor.url)

    def words(css: str) -> str:
        return str(page.js(f"return {row_of('ash')}?.querySelector(arguments[0]).innerText.trim()", css))

    def press(verb: str) -> None:
        page.wait(lambda: words(".act button") == verb)
        page.js(f"{row_of('ash')}.querySelector('.act button').click()")

    press("Suspend")
    page.wait(lambda: words(".state") == "suspended")
    press("Resume")
    page.wait(lambda: words(".state") == "ready")
    assert [act[:2] for act in monitor.acted] == [("suspend", ["ash:51348"]), ("resume", ["ash:51348"])]


def test_selected_tasks_are_terminated_after_a_question_that_names_their_number(
    page: Page, start: Start
) -> None:
    monitor = start(2, hold=True)
    page.open(monitor.url, SERVER)
    page.wait(lambda: page.all("td.sel"))
    assert page.js("return document.getElementById('terminate').disabled")
    page.click("td.sel input")
    page.find("tr.sel")
    chosen = page.js("return document.querySelector('tr.sel .args').title")
    page.wait(lambda: page.text("#terminate") == "Terminate 1…")
    page.click("#terminate")
    page.wait(lambda: page.text("#dlg-t") == "Terminate this task?")
    assert page.js("return document.activeElement.innerText") == "Keep running", (
        "the safe button has the focus"
    )
    page.press(Keys.ENTER)
    page.wait(lambda: not page.js("return document.getElementById('dlg').open"))
    assert monitor.acted == []
    page.click("#terminate")
    page.click("#dlg .danger")
    page.wait(lambda: monitor.acted)
    assert monitor.acted == [("terminate", [chosen], {})]
    page.wait(lambda: "cancelled" in page.all("td.state"))


def test_all_that_the_filter_shows_are_terminated_with_their_number(page: Page, start: Start) -> None:
    monitor = start(12, hold=True)
    page.open(monitor.url, "tasks?state=running&node=ash:51348")
    n = int(page.wait(lambda: page.text(".head .danger")).removeprefix("Terminate ").rstrip("…"))
    assert 1 < n <= 8
    page.click(".head .danger")
    page.wait(lambda: re.fullmatch(r"Terminate \d+ tasks\?", page.text("#dlg-t")))
    asked = int(re.sub(r"\D", "", page.text("#dlg-t")))
    page.click("#dlg .danger")
    page.wait(lambda: monitor.acted)
    action, ids, _ = monitor.acted[0]
    assert (action, len(ids)) == ("terminate", asked)


def test_queued_ones_are_cancelled_by_their_filter_since_not_all_are_listed(page: Page, start: Start) -> None:
    monitor = start(2)
    page.open(monitor.url, "tasks?view=waiting")
    page.wait(lambda: re.fullmatch(r"Cancel 12,\d+…", page.text(".head .danger")))
    page.click(".head .danger")
    page.wait(lambda: "not listed here" in page.text("#dlg"))
    page.click("#dlg .danger")
    page.wait(lambda: monitor.acted)
    assert monitor.acted[0][0] == "terminate_where"


def test_a_refusal_stays_until_it_is_read(page: Page, start: Start) -> None:
    monitor = start(2, hold=True)
    page.open(monitor.url, SERVER)
    page.click("td.sel input")
    page.click("#terminate:enabled")
    page.wait(lambda: page.text("#dlg-t"))
    with monitor.changed:
        for server in monitor.cluster.servers.values():
            server.task = None  # they ended while he was asked
    page.click("#dlg .danger")
    page.wait(lambda: "1 of 1 refused" in page.text("#dlg"))
    assert "ended before" in page.text("#dlg")
    page.press(Keys.ENTER)


def test_poll_interval_and_arguments_are_set_in_the_page(page: Page, start: Start) -> None:
    monitor = start(2)
    page.open(monitor.url)
    page.click("#live")
    page.click("#pop input[type=checkbox]")
    page.wait(lambda: not monitor.cluster.show_args)
    page.js(
        "const s = document.querySelector('#pop select'); s.value = '5'; s.dispatchEvent(new Event('change'))"
    )
    page.wait(lambda: page.text("#live") == "live · 5 s")
    page.go("tasks")
    page.wait(lambda: "arguments are not asked for: 16 servers" in page.text(".notes"))


def test_a_viewer_sees_why_he_cannot_act(page: Page, start: Start) -> None:
    monitor = start(2)
    monitor.role = "viewer"
    page.open(monitor.url, NODE)
    page.wait(lambda: page.all(".head .btn"))
    page.wait(
        lambda: page.js(
            "return [...document.querySelectorAll('.head .btn')].every(b => b.disabled && b.title.includes('operators'))"
        )
    )
    page.click("#live")
    page.wait(lambda: "operators" in page.text("#pop"))
    assert page.js("return document.querySelector('#pop select').disabled")


# ------------------------------------------------------------ looking into things


def test_the_stack_of_a_running_task_is_shown_live(page: Page, start: Start) -> None:
    page.open(start(2, hold=True).url, SERVER)
    page.wait(lambda: page.all("td.act button"))
    page.click("td.act button")
    page.wait(lambda: len(page.all("#drawer .frames li")) == 4)
    assert page.all("#drawer .f b")[0] == "_decompose"
    page.wait(lambda: "of 2" in page.text("#drawer .pct"))
    page.press(Keys.ESCAPE)
    assert page.js("return document.getElementById('drawer').hidden")
    assert "Stack" in page.js("return document.activeElement.innerText"), "the focus returns"


def test_why_a_task_waits_is_said(page: Page, start: Start) -> None:
    page.open(start(12).url, "tasks?view=waiting")
    page.click("td.reason .more")
    page.wait(lambda: "112 servers have" in page.text("#pop .verdict"))
    assert "larch" in page.text("#pop .why li"), "what is wrong comes first"


def test_the_timeline_is_zoomed_by_keys_and_its_range_is_in_the_address(page: Page, start: Start) -> None:
    page.open(start(2).url, "tasks")
    lanes = page.find("canvas.ln")
    painted = """const c = document.querySelector('canvas.ln'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return d.some((v, i) => i % 4 === 3 && v > 0)"""
    page.wait(lambda: page.js(painted))
    lanes.send_keys("+")
    page.wait(lambda: "span=" in page.place)
    lanes.send_keys(Keys.ARROW_LEFT)
    page.wait(lambda: "from=" in page.place and "to=" in page.place)
    lanes.send_keys("0")
    page.wait(lambda: "from=" not in page.place and "span=" not in page.place)


def test_the_log_is_searched_with_the_lines_around_a_hit(page: Page, start: Start) -> None:
    page.open(start(2).url, "log")
    page.wait(lambda: len(page.all(".log [data-l]")) > 20)
    page.type("#filter", "empty cell")
    page.wait(lambda: page.all(".log mark"))
    assert set(page.all(".log mark")) == {"empty cell"}
    assert page.js("return document.querySelectorAll('.log [data-l]:not(.hit)').length > 0"), (
        "one line on each side"
    )
    assert page.all(".log .gapline")
    page.go("log?level=error")
    page.wait(lambda: set(page.all(".log .lv")) == {"error"})
