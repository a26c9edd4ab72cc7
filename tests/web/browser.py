"""A headless Chromium for tests of the page, if this machine has one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
]  # fmt: skip
PATIENCE_S = 10.0
T = TypeVar("T")


def find_browser() -> tuple[str, str]:
    """Paths of Chromium and its driver; skips the test where one is missing."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip(
            f"needs Chromium and chromedriver; found {browser or 'no browser'} and {driver or 'no driver'}"
        )
    return browser, driver


class Page:
    """One tab, and what a test asks of it."""

    def __init__(self) -> None:
        browser, driver = find_browser()
        self.profile = tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True)
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in [*FLAGS, f"--user-data-dir={self.profile.name}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_page_load_timeout(PATIENCE_S)
        self.size(1440, 900)

    def close(self) -> None:
        self.driver.quit()
        self.profile.cleanup()

    def size(self, width: int, height: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def open(self, url: str, place: str = "cluster") -> None:
        """Load it anew, and wait until it shows something of the monitor."""
        self.driver.get("about:blank")
        self.js("performance.clearResourceTimings()")
        self.errors()  # what came before is no longer asked for
        self.driver.get(f"{url}#/{place}")
        self.wait(lambda: self.js("return Boolean(document.querySelector('main')?.children.length)"))
        self.wait(lambda: "first word" not in self.text("main"))

    def go(self, place: str) -> None:
        self.js("location.hash = arguments[0]", f"#/{place}")

    def js(self, script: str, *args: Any) -> Any:
        run: Callable[..., Any] = self.driver.execute_script
        return run(script, *args)

    def find(self, css: str) -> WebElement:
        return self.wait(lambda: next(iter(self.driver.find_elements(By.CSS_SELECTOR, css)), None))

    def all(self, css: str) -> list[str]:
        """Texts, read at one moment: the page changes every second."""
        found: list[str] = self.js(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())", css
        )
        return found

    def text(self, css: str) -> str:
        return next(iter(self.all(css)), "")

    def click(self, css: str) -> None:
        """As a reader who clicks on it, wherever it has moved meanwhile."""
        self.find(css)
        self.js("const e = document.querySelector(arguments[0]); e.focus(); e.click()", css)

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def point(self, css: str) -> None:
        """Move the pointer there."""
        ActionChains(self.driver).move_to_element(self.find(css)).perform()

    def later(self, script: str) -> Any:
        """The value of a promise."""
        run: Callable[[str], Any] = self.driver.execute_async_script
        return run(f"const done = arguments[0]; ({script}).then(done, e => done(String(e)))")

    def type(self, css: str, text: str) -> None:
        self.find(css).send_keys(text)

    def wait(self, asked: Callable[[], T | None]) -> T:
        """Until it is true; what it was."""
        waiting: Any = WebDriverWait(self.driver, PATIENCE_S, poll_frequency=0.05)
        try:
            found: T = waiting.until(lambda _: asked() or False)
        except TimeoutException:
            shown = " | ".join(filter(None, self.text("body").splitlines()))
            raise AssertionError(f"not within {PATIENCE_S:g} s; {self.place} shows: {shown[:2000]}") from None
        return found

    def ticks(self, n: int = 2) -> None:
        """So many words of the monitor, as the page's own clock shows them."""
        self.js(
            "if (!window.heard) { window.heard = 0; import('./stream.js').then(s => s.onData(() => { window.heard += 1; })); }"
        )
        before = self.js("return window.heard")
        self.wait(lambda: self.js("return window.heard") >= before + n)

    def errors(self) -> list[str]:
        entries: Callable[[str], list[dict[str, str]]] = self.driver.get_log
        severe = [entry["message"] for entry in entries("browser") if entry["level"] == "SEVERE"]
        # Asked for before our own is known.
        return [message for message in severe if "/favicon.ico" not in message]

    @property
    def place(self) -> str:
        return str(self.js("return location.hash"))


def row_of(name: str) -> str:
    """The table row of this title, as an expression for Page.js."""
    return f"[...document.querySelectorAll('tbody tr')].find(r => r.querySelector('.title').innerText === '{name}')"
