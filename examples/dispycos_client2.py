"""Send tasks to servers and get their results: `python dispycos_client2.py [N=10]`.

Runs alone, with a private scheduler and node; where `dispycos node` runs on this or other machines, those are used.
"""

import random
import sys
from collections.abc import Generator
from typing import Any

import dispycos
from dispycos import Task


def compute(n: float, *, task: Task) -> Generator[Any, Any, float]:
    """A generator function is a task: it yields where it waits, and returns its value."""
    yield task.sleep(n)
    return n * n


def client(jobs: int, *, task: Task) -> Generator[Any, Any, None]:
    client = dispycos.Client([compute])
    yield client.schedule()
    rtasks: list[tuple[int, Task[float]]] = []
    for i in range(jobs):
        seconds = round(random.uniform(0.5, 2), 2)
        rtask = yield client.rtask(compute, seconds)  # waits until a server is free and the task runs there
        print(f"task {i} runs at {rtask.location} for {seconds} s", file=sys.stderr)
        rtasks.append((i, rtask))
    for i, rtask in rtasks:
        value = yield rtask()
        print(f"result for {i} from {rtask.location}: {value}")
    yield client.close()


if __name__ == "__main__":
    dispycos.run(client, int(sys.argv[1]) if len(sys.argv) > 1 else 10)
