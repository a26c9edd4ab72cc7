"""The page in a real browser, before a monitor of made-up rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="needs the package selenium")

from selenium.webdriver.common.keys import Keys

from tests.web.browser import Page, row_of
from tests.web.conftest import NODE, SERVER, Start
from tests.web.fake_cluster import HOSTILE
from tests.web.fake_monitor import PAGE

VIEWS = [
    "tasks",
    "tasks?view=failures&open=parse_row",
    "tasks?view=deaths",
    "tasks?view=waiting",
    "tasks?view=functions",
]
PLACES = ["cluster", "cluster?nodes=map", NODE, SERVER, *VIEWS, "actors", "messages", "log", "clients"]


# ------------------------------------------------------------ files


def test_the_page_is_whole_and_asks_nobody_else() -> None:
    html = (PAGE / "index.html").read_text()
    modules = {path.name for path in PAGE.glob("*.js")} - {"uPlot.iife.min.js"}
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', html))
    assert not {name for name in named if not (PAGE / name).is_file()}
    assert modules <= named, "each module is fetched at once, not one after the other"
    for name in modules:
        imported = set(re.findall(r"from '\./([\w.]+)'", (PAGE / name).read_text()))
        assert imported <= modules, name
    for path in [PAGE / "index.html", PAGE / "style.css", *(PAGE / name for name in modules)]:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(", text), (
            path.name
        )
    assert not re.search(r"<script>|<style|\son\w+=|\sstyle=", html)
    assert (PAGE / "uPlot.LICENSE").read_text().startswith("The MIT License")


# ------------------------------------------------------------ every page


def test_every_page_renders_and_text_stays_text(page: Page, start: Start) -> None:
    monitor = start(12, hostile=True)
    page.open(monitor.url)
    seen = {}
    for place in PLACES:
        page.go(place)
        page.wait(lambda: len(page.text("main")) > 80)
        page.ticks(1)
        seen[place] = page.text("main")
        assert page.errors() == [], place
    assert page.js("return window.bitten") is None
    for place in ["cluster", "tasks", "log", "tasks?view=waiting"]:
        assert HOSTILE in seen[place], f"{place} does not show the text as it is"
    assert page.js("return document.querySelectorAll('main img').length") == 0
    hosts = page.js(
        "return [...new Set(performance.getEntriesByType('resource').map(e => new URL(e.name).host))]"
    )
    assert hosts == [f"127.0.0.1:{monitor.port}"]


def wait_for(page: Page, css: str, words: str) -> None:
    page.wait(lambda: words in page.text(css))


def test_an_empty_cluster_says_what_to_do_next(page: Page, start: Start) -> None:
    page.open(start(0).url)
    for place, words in {
        "cluster": "dispycos node",
        "tasks": "No task yet",
        "actors": "mailbox",
        "messages": "No links",
        "log": "Nothing printed",
        "clients": "No client",
    }.items():
        page.go(place)
        wait_for(page, ".empty", words)
        assert page.all(".empty code"), f"{place}: a command to type"
        assert page.errors() == [], place


def test_no_page_is_wider_than_a_phone(page: Page, start: Start) -> None:
    page.size(390, 844)
    page.open(start(12).url)
    for place in PLACES:
        page.go(place)
        page.wait(lambda: len(page.text("main")) > 80)
        page.ticks(1)
        assert page.js("return document.documentElement.scrollWidth") == 390, place


def test_it_works_behind_a_path_prefix(page: Page, start: Start) -> None:
    page.open(start(2, prefix="/lab/monitor").url)
    page.wait(lambda: page.all("tbody td.title") == ["birch", "ash"])
    assert page.errors() == []


# ------------------------------------------------------------ tables


def first(page: Page, css: str = "tbody td.title") -> str:
    return page.text(css)


def test_nodes_are_sorted_by_address_from_the_greatest_by_octets(page: Page, start: Start) -> None:
    page.open(start(200).url)
    addresses = page.wait(lambda: page.all("tbody td:nth-child(3)"))
    assert addresses == [f"10.20.4.{n}" for n in range(210, 10, -1)]
    assert page.text("th[aria-sort=descending]") == "Address"


COLUMNS = ["Node", "State", "Servers", "Running", "Tasks/s", "Done", "CPU used", "Memory free", "Updated"]


def test_nodes_sort_by_every_column(page: Page, start: Start) -> None:
    page.open(start(12).url)
    page.wait(lambda: page.all("tbody tr"))
    assert len({sorted_by(page, column) for column in COLUMNS}) == len(COLUMNS)


def sorted_by(page: Page, column: str) -> str:
    """The page's place after two clicks at this head, which sort by it in both ways."""
    head = "[...document.querySelectorAll('th button')].find(b => b.innerText.trim() === arguments[0])"
    page.js(f"{head}.click()", column)
    way = page.wait(lambda: page.js(f"return {head}.closest('th').getAttribute('aria-sort')", column))
    one = page.all("tbody td.title")
    page.js(f"{head}.click()", column)
    page.wait(
        lambda: page.js(f"return {head}.closest('th').getAttribute('aria-sort')", column) not in (way, None)
    )
    if column in ("Node", "Memory free"):
        assert page.all("tbody td.title") != one, column
    assert "sort.n=" in page.place, column
    return page.place


def test_sort_filter_and_columns_are_in_the_address_and_survive_a_reload(page: Page, start: Start) -> None:
    page.open(start(12).url)
    page.wait(lambda: len(page.all("tbody tr")) == 12)
    page.click("th:first-child button")
    page.type("#filter", "ar")
    page.wait(lambda: len(page.all("tbody tr")) < 12)
    assert page.js("return document.activeElement.id") == "filter", "typing goes on"
    page.js("[...document.querySelectorAll('.card .btn')].find(b => b.innerText === 'Columns').click()")
    page.click("#pop label:nth-of-type(2) input")  # the address
    page.wait(lambda: "Address" not in page.all("th"))
    names, address = page.all("tbody td.title"), page.place
    assert names == sorted(names) and len(names) == len([n for n in names if "ar" in n]) > 1
    page.driver.refresh()
    page.wait(lambda: page.all("tbody td.title") == names)
    assert page.place == address and "Address" not in page.all("th")
    assert page.js("return document.getElementById('filter').value") == "ar"


def test_only_what_is_seen_is_drawn(page: Page, start: Start) -> None:
    page.open(start(1000, ended=100).url)
    page.wait(lambda: first(page) == "n1000")
    assert len(page.all("tbody tr[aria-rowindex]")) < 120
    page.js("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait(lambda: "n001" in page.all("tbody td.title"))
    assert len(page.all("tbody tr[aria-rowindex]")) < 120


def test_cells_are_patched_so_that_focus_and_marked_text_stay(page: Page, start: Start) -> None:
    page.open(start(12).url)
    page.wait(lambda: page.all("tbody tr"))
    page.js("""const row = document.querySelector('tbody tr'), name = row.querySelector('.title a');
        row.mine = true; name.focus(); getSelection().selectAllChildren(name); window.seen = row.innerText""")
    page.ticks(3)
    assert page.js("return document.querySelector('tbody tr').mine === true")
    assert page.js("return document.activeElement.closest('tr')?.mine === true")
    assert page.js("return String(getSelection())") == "yew"
    page.wait(lambda: page.js("return document.querySelector('tbody tr').innerText !== window.seen"))


def test_what_is_not_kept_is_said(page: Page, start: Start) -> None:
    page.open(start(2).url, "tasks")
    words = page.wait(lambda: page.text("footer"))
    assert re.search(r"^[\d,]+ of 1,204,\d+ ended tasks are kept", words), words


# ------------------------------------------------------------ the line


def test_the_page_goes_on_by_itself_after_the_monitor_was_started_again(page: Page, start: Start) -> None:
    monitor = start(2)
    page.open(monitor.url)
    page.wait(lambda: page.all("tbody tr"))
    monitor.stop()
    page.wait(lambda: "No word from the monitor" in page.text("#banner"))
    assert page.all("tbody td.title") == ["birch", "ash"], "the last state stays"
    assert page.js("return document.querySelector('td.act button').disabled")
    start(12, port=monitor.port)
    page.wait(lambda: len(page.all("tbody tr")) == 12)
    assert page.js("return document.getElementById('banner').hidden")


def test_a_client_that_is_gone_leaves_its_last_state(page: Page, start: Start) -> None:
    monitor = start(2)
    page.open(monitor.url)
    page.wait(lambda: page.all("tbody tr"))
    monitor.cluster.gone = "The client survey.py ended at 14:31:07."
    page.wait(lambda: "survey.py ended at 14:31:07" in page.text("#banner"))
    assert len(page.all("tbody tr")) == 2 and "last state" in page.text("#live")
    monitor.cluster.gone = ""
    page.wait(lambda: page.js("return document.getElementById('banner').hidden"))


def test_a_node_says_which_of_its_servers_are_not_there_and_why(page: Page, start: Start) -> None:
    monitor = start(2)
    with monitor.changed:
        monitor.cluster.nodes["ash:51348"]["absent"] = [
            [51307, "it starts"],
            [51310, "it starts"],
            [51313, "killed"],
        ]
    page.open(monitor.url, NODE)
    page.wait(lambda: "3 servers not there: 51307, 51310 (it starts); 51313 (killed)" in page.text("main"))
    assert "gpu=2" in page.text(".head")


def test_who_has_no_token_is_told_how_to_get_one(page: Page, start: Start) -> None:
    monitor = start(2)
    monitor.refused = True
    page.driver.get(monitor.url)
    page.wait(lambda: "Open the URL that the program printed" in page.text("main"))
    monitor.refused = False
    page.wait(lambda: page.all("tbody tr"))


def test_a_row_that_cannot_be_shown_is_said_and_the_other_pages_go_on(page: Page, start: Start) -> None:
    monitor = start(2)
    with monitor.changed:
        monitor.cluster.tables.set("failures", "odd", {"id": "odd"})
    page.open(monitor.url)
    page.wait(lambda: "cannot show what it was told" in page.text("main"))
    assert page.errors(), "the console has the place"
    page.go("log")
    page.wait(lambda: page.text("h1") == "Log")


# ------------------------------------------------------------ keys


def test_pages_are_reached_by_keys(page: Page, start: Start) -> None:
    page.open(start(2).url)
    page.wait(lambda: page.all("tbody tr"))
    page.press("?")
    page.wait(lambda: page.text("#dlg-t") == "Keyboard")
    page.press(Keys.ESCAPE)
    page.press("g", "l")
    page.wait(lambda: page.text("h1") == "Log")
    page.press("/")
    assert page.js("return document.activeElement.id") == "filter"
    page.press(Keys.TAB)
    page.press("t")
    page.wait(lambda: page.js("return document.documentElement.dataset.theme") == "light")


def test_links_go_both_ways_and_back_is_where_one_was(page: Page, start: Start) -> None:
    page.open(start(2).url)
    page.wait(lambda: page.all("tbody tr"))
    page.js(f"{row_of('ash')}.querySelector('.title a').click()")
    page.wait(lambda: page.text("h1") == "ash")
    page.click("tbody td.title a")
    page.wait(lambda: page.text("h1") == "ash:51307")
    page.click(".crumbs a:nth-of-type(2)")
    page.wait(lambda: page.text("h1") == "ash")
    page.driver.back()
    page.wait(lambda: page.text("h1") == "ash:51307")


def test_the_web_folder_is_installed() -> None:
    config = (Path(__file__).parents[2] / "setup.cfg").read_text()
    assert "data/web/*" in config


# ------------------------------------------------------------ modules, in the browser


def test_rows_hold_still_under_the_pointer_and_the_newer_ones_are_counted(page: Page, start: Start) -> None:
    page.open(start(12).url, "tasks")
    page.wait(lambda: page.all("tbody tr"))
    page.point("tbody tr:nth-child(3) td.wide")
    third = page.js("return document.querySelector('tbody tr:nth-child(3) .args').title")
    page.wait(lambda: "newer row" in page.text(".late"))
    assert page.js("return document.querySelector('tbody tr:nth-child(3) .args').title") == third
    page.point("h1")
    page.wait(lambda: not page.all(".late"))


def test_elements_are_kept_by_key_when_their_order_changes(page: Page, start: Start) -> None:
    page.open(start(0).url)
    kept = page.later("""import('./dom.js').then(({ h, patch }) => {
        const at = document.createElement('ul'), show = keys => patch(at, keys.map(k => h('li', { key: k }, k)), 'end');
        show(['a', 'b', 'c', 'd']);
        const before = Object.fromEntries([...at.children].map(e => [e.textContent, e]));
        show(['d', 'x', 'b', 'a']);
        return [at.textContent, [...at.children].map(e => before[e.textContent] === e)];
    })""")
    assert kept == ["dxbaend", [True, False, True, True]]


WORDS = {
    "t.dur(0.0204)": "20 ms",
    "t.dur(0.9999)": "1.0 s",
    "t.dur(61)": "61 s",
    "t.dur(3725)": "62 min 05 s",
    "t.dur(90000)": "25 h 00 min",
    "t.dur(null)": "\u2013",
    "t.size(1023)": "1.0 KB",
    "t.size(16213000000)": "15 GB",
    "t.size(0)": "0 B",
    "t.share(0, 10)": "0 %",
    "t.share(1, 10000000)": "0.001 %",
    "t.share(9999999, 10000000)": "99.999 %",
    "t.share(10, 10)": "100 %",
    "t.octets('10.20.4.9')": "010.020.004.009",
    "t.octets('fe80::1')": "fe80::1",
    "t.natural('n9') < t.natural('n10')": True,
    "t.N(1204331)": "1,204,331",
}
CSV = {
    "a,b": '"a,b"',
    'say "x"': '"say ""x"""',
    "=1+1": "'=1+1",
    "two\nlines": '"two\nlines"',
    "plain": "plain",
}


def test_numbers_in_words(page: Page, start: Start) -> None:
    page.open(start(0).url)
    assert page.later(f"import('./text.js').then(t => [{', '.join(WORDS)}])") == list(WORDS.values())


def test_values_with_commas_and_formulas_are_quoted_in_csv(page: Page, start: Start) -> None:
    page.open(start(0).url)
    texts = json.dumps(list(CSV))
    made = page.later(f"import('./table.js').then(t => {texts}.map(v => t.csv([['h', r => r]], [v])))")
    assert made == [f"h\n{line}\n" for line in CSV.values()]
