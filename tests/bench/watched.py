"""What watching costs: a thousand nodes and a steady stream of tasks, with and without two readers of the event stream.

The nodes are simulated (farm.py); scheduler, client and readers (curl) are programs as a user starts them. With and without
readers take turns under the same stream of tasks, and the medians count. The client submits 10,000 tasks a second, or four
fifths of what this machine carries without readers. So that a scheduler is slowed down is seen in how late its turns come: a
message goes through it and back, fifty times a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

import dispycos
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Notice
from dispycos.runtime import Runtime
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys
from tests.bench.farm import find_scheduler
from tests.bench.measure import Cpu, Row, p50_p99, say
from tests.kit.programs import ROOT, Program, User

RATE = 10_000  # tasks a second
PART = 0.8  # of what this machine carries
READERS = 2
SETTLE_S = 3.0  # from where readers come or go until it is measured
IN_FLIGHT = 5_000  # when it is tried how many tasks are carried
PAGE = "meta,nodes,samples,events,failures"  # what the first page reads
ALL = f"{PAGE},servers,tasks,functions,deaths,waiting,actors,links,log,clients,leases"
FORMS = {"nobody": "", "the first page": PAGE, "nobody again": "", "all tables": ALL}
ECHO = 40  # actors of the ping


# --- the client's program ---


def noop(x: int) -> int:
    return x


class Stream:
    """Tasks at a steady rate, and how many have ended."""

    def __init__(self, client: dispycos.Client) -> None:
        self._client = client
        self._open: deque[Any] = deque()
        self.submitted = self.ended = 0

    async def give(self, rate: float, seconds: float, *, most: int = 50_000) -> dict[str, float]:
        """So many are submitted a second; no more than `most` are there at once."""
        began, cpu, ended, given = time.perf_counter(), time.process_time(), self.ended, 0
        while (passed := time.perf_counter() - began) < seconds:
            for _ in range(min(int(rate * passed) - given, most - len(self._open))):
                self._open.append(self._client.submit(noop, given))
                given += 1
            await asyncio.sleep(0.01)
            self._take()
        self.submitted += given
        passed, ended = time.perf_counter() - began, self.ended - ended
        return {
            "rate": ended / passed,
            "submitted": given / passed,
            "open": len(self._open),
            "cpu": (time.process_time() - cpu) / max(1, ended) * 1e6,
        }

    def _take(self) -> None:
        while self._open and self._open[0].done():
            self._open.popleft().result()
            self.ended += 1


async def be_client(windows: int, seconds: float) -> None:
    async with dispycos.Client([noop]) as client:
        stream = Stream(client)
        await stream.give(2000, 3.0)
        carried = await stream.give(1e9, max(4.0, seconds / 2), most=IN_FLIGHT)
        rate = min(RATE, PART * carried["rate"])
        print("carried", json.dumps({**carried, "pace": rate}), flush=True)
        for number in range(windows):
            print(f"window {number} soon", flush=True)
            await stream.give(rate, SETTLE_S)
            print(f"window {number} begins", flush=True)
            found = await stream.give(rate, seconds)
            print(f"window {number} has", json.dumps(found), flush=True)
        print("over", flush=True)


# --- the ping ---


class Ping:
    """A message through the scheduler and back."""

    def __init__(self) -> None:
        keys = Keys.from_secret(Secret.load_or_make())
        self._here, self._there = Runtime("node", "ping", keys), Runtime("node", "echo", keys)
        self._here.attach_inbox(ECHO, self._on_answer)
        self._there.attach_inbox(ECHO, self._on_ping)
        self._answered = asyncio.Event()
        self.took: list[float] = []

    async def run(self) -> None:
        endpoints = find_scheduler()
        for runtime in (self._here, self._there):
            await runtime.dial(endpoints, uplink=True).ready
        to = Address(self._there.epoch, ECHO)
        while True:
            self._answered.clear()
            start = time.perf_counter()
            self._here.send(Envelope(to, self._here.address(ECHO), Notice("")))
            await self._answered.wait()
            self.took.append(time.perf_counter() - start)
            await asyncio.sleep(0.02)

    def _on_ping(self, envelope: Envelope, now: float) -> None:
        self._there.send(Envelope(envelope.sender, envelope.to, Notice("")))

    def _on_answer(self, envelope: Envelope, now: float) -> None:
        self._answered.set()

    async def close(self) -> None:
        await self._here.close()
        await self._there.close()


# --- what is measured ---


@contextmanager
def readers(url: str, tables: str, folder: Path) -> Iterator[list[Path]]:
    """Two that read these tables for as long as it is entered, into files."""
    address, _, token = url.partition("/?token=")
    files = [folder / f"reader-{number}" for number in range(READERS)] if tables else []
    command = [
        "curl",
        "-sN",
        "-H",
        f"Authorization: Bearer {token}",
        f"{address}/api/v1/stream?tables={tables}",
    ]
    programs = [subprocess.Popen([*command, "-o", str(file)]) for file in files]
    try:
        yield files
    finally:
        for program in programs:
            program.kill()
            program.wait()
        for file in files:
            file.unlink(missing_ok=True)


def told(files: list[Path]) -> tuple[int, int]:
    """Bytes that each reader has, and how many events, on average."""
    texts = [file.read_bytes() for file in files if file.exists()] or [b""]
    return sum(map(len, texts)) // len(texts), sum(text.count(b"\nevent: ") for text in texts) // len(texts)


async def line(program: Program, pattern: str, timeout: float = 120.0) -> str:
    return (await asyncio.to_thread(program.wait_line, pattern, timeout)).text


async def measure(user: User, count: int, rounds: int, seconds: float, relayed: bool) -> None:
    scheduler = user.scheduler("--web", "0")
    url = scheduler.wait_line(r"^http://").text
    farm = user.python("-m", "tests.bench.farm", str(count), *["relayed"] * relayed)
    await line(farm, "nodes are there")
    windows = list(FORMS.items()) * rounds
    client = user.python("-m", "tests.bench.watched", "--client", str(len(windows)), str(seconds))
    ping = Ping()
    pinging = asyncio.ensure_future(ping.run())
    carried = json.loads((await line(client, "^carried")).partition(" ")[2])
    groups = {
        name: [psutil.Process(program.pid)]
        for name, program in (("scheduler", scheduler), ("farm", farm), ("client", client))
    }
    seen: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, (form, tables) in enumerate(windows):
        await line(client, f"^window {number} soon")
        with ExitStack() as stack:
            files = stack.enter_context(readers(url, tables, user.folder))
            await line(client, f"^window {number} begins")
            ping.took.clear()
            before = told(files)
            with Cpu(groups) as cpu:
                found = json.loads((await line(client, f"^window {number} has")).split(" ", 3)[3])
            figures = {**found, **{name: 100 * value / cpu.wall for name, value in cpu.seconds.items()}}
            figures["late"] = p50_p99(ping.took)[1] / 1e3 if ping.took else 0.0
            after = told(files)
            figures["bytes"], figures["events"] = (
                (then - now) / cpu.wall for now, then in zip(before, after, strict=True)
            )
        for name, value in figures.items():
            seen[form.removesuffix(" again")][name].append(value)
    await line(client, "^over")
    pinging.cancel()
    await ping.close()
    client.wait(60)
    show(count, carried, seen, relayed)


def show(
    count: int, carried: dict[str, float], seen: dict[str, dict[str, list[float]]], relayed: bool
) -> None:
    found = {
        form: {name: statistics.median(values) for name, values in figures.items()}
        for form, figures in seen.items()
    }
    without = found.pop("nobody")
    way = "relayed" if relayed else "direct"
    note = f"this machine carries {carried['rate']:,.0f} tasks/s {way} without readers, given {carried['pace']:,.0f}"
    for form, with_them in found.items():
        what = f"{count:,} nodes, {READERS} readers of {form}"
        rows = [
            ("tasks", "tasks/s", "rate", True),
            ("CPU of the client a task", "us", "cpu", False),
            ("CPU of the scheduler", "% core", "scheduler", False),
            ("CPU of the nodes", "% core", "farm", False),
            ("p99 through the scheduler", "ms", "late", False),
        ]
        for title, unit, name, more_is_better in rows:
            words = f"{with_them['bytes'] / 1e6:.2f} MB and {with_them['events']:.2f} events a second to each reader"
            words = {"rate": note, "scheduler": words}.get(name, "")
            beside = [("without readers", without[name])]
            say(Row(f"{what}: {title}", unit, with_them[name], beside, more_is_better, words))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--relayed", action="store_true", help="all tasks pass the scheduler")
    parser.add_argument("--client", nargs=2, metavar=("WINDOWS", "SECONDS"))
    given = parser.parse_args()
    if given.client:
        asyncio.run(be_client(int(given.client[0]), float(given.client[1])))
        return
    if shutil.which("curl") is None:
        print("watched: left out, there is no curl")
        return
    nodes, rounds, seconds = (200, 1, 3.0) if given.quick else (1000, 3, 6.0)
    with User(PYTHONPATH=str(ROOT)) as user:
        os.environ.update(user.environment())
        asyncio.run(measure(user, given.nodes or nodes, rounds, seconds, given.relayed))


if __name__ == "__main__":
    main()
