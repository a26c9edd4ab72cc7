"""Many small downloads, tried again when they fail, and what failed in the end: `python retry_downloads.py [URL ...]`.

Downloads wait more than they compute, so they are io tasks: hundreds share one server. Each is tried some times with growing
pauses; what still fails is listed at the end with its reason, and stops nothing else. Without URLs a small web server is
started on this machine which fails on purpose, now and then. Runs alone; where `dispycos node` runs on this or other machines,
those are used.
"""

import asyncio
import http.server
import random
import threading
import urllib.error
import urllib.request

import click

import dispycos

TIMEOUT_S = 5


async def download(url: str, tries: int, *, task: dispycos.Task) -> tuple[str, int]:
    """Remote task: its bytes, and at which try."""
    for attempt in range(1, tries + 1):
        try:
            data = await asyncio.to_thread(fetch, url)
        except (OSError, urllib.error.URLError):
            if attempt == tries:
                raise
            await task.sleep(0.05 * 2**attempt * random.uniform(0.5, 1.5))
        else:
            return f"{len(data):,} bytes", attempt
    raise ValueError("tries must be positive")


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        data: bytes = answer.read()
        return data


class Moody(http.server.BaseHTTPRequestHandler):
    """Answers /N, but fails one time in four, and every tenth N always."""

    def do_GET(self) -> None:
        number = int(self.path[1:])
        if number % 10 == 9 or random.random() < 0.25:
            self.send_error(503, "not now")
            return
        body = b"x" * (100 * number + 1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


async def main(urls: list[str], tries: int) -> None:
    failed: list[tuple[str, BaseException]] = []
    again = 0
    async with dispycos.Client([download]) as client:
        handles = [client.io_submit(download, url, tries) for url in urls]
        results = await asyncio.gather(*handles, return_exceptions=True)
        for url, result in zip(urls, results, strict=True):
            if isinstance(result, BaseException):
                failed.append((url, result))
            else:
                again += result[1] > 1
    print(f"{len(urls) - len(failed)} of {len(urls)} downloads came, {again} of them not at the first try")
    for url, error in failed:
        print(f"failed: {url}: {type(error).__name__}: {error}")


@click.command()
@click.argument("urls", nargs=-1)
@click.option("--jobs", default=40, show_default=True, help="How many downloads, if no URL is given.")
@click.option("--tries", default=6, show_default=True, help="Of each download.")
def command(urls: tuple[str, ...], jobs: int, tries: int) -> None:
    """Download URLS, and list what failed."""
    if urls:
        dispycos.run(main, list(urls), tries)
        return
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        dispycos.run(
            main, [f"http://127.0.0.1:{server.server_port}/{number}" for number in range(jobs)], tries
        )
        server.shutdown()


if __name__ == "__main__":
    command()
