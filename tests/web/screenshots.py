"""Draws the pictures of docs/web: `python -m tests.web.screenshots`, with Chromium, chromedriver, selenium and Pillow.

The cluster is made up, as in the tests of the page: what is seen does not depend on this machine.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image  # type: ignore[import-not-found, unused-ignore]

from tests.web.browser import Page
from tests.web.fake_cluster import Cluster
from tests.web.fake_monitor import Monitor

FOLDER = Path(__file__).parents[2] / "docs" / "web"
NODES = 12
DESK, TALL, PHONE = (1360, 900), (1360, 1240), (390, 844)
SETTLED_S = 4.0  # curves have some seconds to show


class Shot(NamedTuple):
    name: str
    place: str
    theme: str = "light"
    size: tuple[int, int] = DESK
    press: str = ""  # what is clicked on before


SHOTS = [
    Shot("cluster", "cluster", size=TALL),
    Shot("cluster-dark", "cluster", "dark", TALL),
    Shot("tasks", "tasks"),
    Shot("failures", "tasks?view=failures&open=parse_row"),
    Shot("stack", "server/10.20.4.11:51307", press="td.act button"),
    Shot("phone", "cluster", size=PHONE),
]


def keep(name: str, png: bytes) -> int:
    """As few colours as a page has; how large it became."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(192, dither=Image.Dither.NONE)
    path = FOLDER / f"{name}.png"
    picture.save(path, optimize=True)
    return path.stat().st_size


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(NODES, time.time())
    monitor = Monitor(cluster, 0, "", 1.0).start()
    page = Page()
    try:
        for shot in SHOTS:
            page.size(*shot.size)
            page.open(f"{monitor.url}?theme={shot.theme}", shot.place)
            time.sleep(SETTLED_S)
            if shot.press:
                cluster.hold()  # what is looked into does not end meanwhile
                page.ticks(2)
                page.click(shot.press)
                time.sleep(SETTLED_S)
            size = keep(shot.name, page.driver.get_screenshot_as_png())
            print(f"{shot.name}.png {size:,} bytes")
    finally:
        page.close()
        monitor.stop()


if __name__ == "__main__":
    main()
