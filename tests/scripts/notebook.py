"""A notebook as people use one, run by nbclient: prints what each cell wrote, or how it ended."""

from __future__ import annotations

import asyncio
from typing import Any

import nbformat
from nbclient import NotebookClient

CELLS = {
    "define": """
        import asyncio, os, time, dispycos
        def double(x): return 2 * x
        def started(): return time.time()
        def nap(seconds): time.sleep(seconds)
        async def counter(*, task):
            while True: task.reply(await task.receive())
    """,
    "say": """
        def say(n): print(f"said {n}"); return n
        print([await client.submit(say, n) for n in range(20)])
    """,
    "client": "client = dispycos.Client(); await client.schedule()",
    "run": "print(await client.submit(double, 21), [await h for h in [client.submit(double, n) for n in range(3)]])",
    "edit": "def double(x): return f'{x}{x}'",
    "plain": "began = time.time(); handle = client.submit(started); time.sleep(2)",
    "delay": "print(await handle - began < 1.5)",
    "actor": "actor = await client.rtask(counter); print(await actor.ask('here'))",
    "gone": "print(actor.is_alive())",
    "second": "other = dispycos.Client(name='second'); await other.schedule(timeout=4)",
    "gather": """
        naps = [client.submit(nap, 60) for _ in range(3)]
        print("napping", flush=True)
        await asyncio.gather(*naps)
    """,
    "start": """
        others = [await client.rtask(nap, 60) for _ in await client.servers()]
        print("starting", flush=True)
        await client.rtask(nap, 60)
    """,
    "map": """
        print("mapping", flush=True)
        async for item in client.map(nap, [60, 60]): print(item)
    """,
    "others": """
        print(all(other.is_alive() for other in others))
        for other in others: other.terminate()
        client
    """,
    "ended": """
        while any(handle.is_alive() for handle in naps): await asyncio.sleep(0.05)
        print("all have ended")
    """,
    "asleep": "print('asleep', flush=True); time.sleep(60)",
    "close": "print(await client.close())",
    "with": """
        def doubled(client, n): return client.submit(double, n).result(30)
        with dispycos.Client() as own:
            print(doubled(own, 21), dict(own.map(double, range(3), progress=True)))
    """,
    "open": "client = dispycos.Client().open()",
    "helper": """
        def total(lengths): return sum(client.gather(*[client.submit(len, n * "x") for n in lengths]))
        print(total(range(4)))
        client
    """,
    "kept": """
        kept = client.submit(say, 7)
        while not kept.done(): time.sleep(0.05)
    """,
    "result": """
        beside, waited = client.submit(nap, 60), client.submit(nap, 60)
        print("waiting", flush=True)
        waited.result()
    """,
    "after": "print(type(waited.exception(30)).__name__, beside.is_alive())",
    "closed": "print(client.close())",
}


class Notebook:
    def __init__(self) -> None:
        self.cells = {name: nbformat.v4.new_code_cell(_dedent(text)) for name, text in CELLS.items()}
        self.notebook = nbformat.v4.new_notebook(cells=list(self.cells.values()))
        self.client = NotebookClient(self.notebook, timeout=60, kernel_name="python3", allow_errors=True)

    async def run(self, name: str, *, interrupted_at: str = "") -> None:
        """Run the cell, and interrupt the kernel when it has written that."""
        cell = self.cells[name]
        cell.outputs = []
        running = asyncio.ensure_future(self.client.async_execute_cell(cell, list(self.cells).index(name)))
        if interrupted_at:
            while interrupted_at not in text_of(cell):
                await asyncio.sleep(0.02)
            await self.client.km.interrupt_kernel()
        await running
        print(f"{name}: {text_of(cell)}", flush=True)


def text_of(cell: Any) -> str:
    """What stands under it, but for words about nodes of other clusters: those of other tests may be announced beside."""
    text = ""
    for output in cell.outputs:
        if output.output_type == "stream":
            text += output.text  # a slow kernel sends one print in several
        elif output.output_type == "error":
            text += f" {output.ename}: {output.evalue}"
            text += " with our frames" if any("/dispycos/" in line for line in output.traceback) else ""
        elif "<table>" in output.get("data", {}).get("text/html", ""):
            text += f" {output.data['text/plain']} as a table"
        elif "<progress" in output.get("data", {}).get("text/html", ""):
            text += f" {output.data['text/plain']} as a bar"
    lines = text.strip().splitlines()
    return " | ".join(line for line in lines if "has another secret than this program" not in line)


def _dedent(text: str) -> str:
    lines = text.strip("\n").splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[margin:] for line in lines).strip()


async def main() -> None:
    notebook = Notebook()
    async with notebook.client.async_setup_kernel():
        for name in ("define", "client", "run", "say", "edit", "run", "plain", "delay"):
            await notebook.run(name)
        for name in ("actor", "client", "gone", "run", "second", "run"):
            await notebook.run(name)
        await notebook.run("gather", interrupted_at="napping")
        await notebook.run("asleep", interrupted_at="asleep")
        await notebook.run("ended")
        await notebook.run("start", interrupted_at="starting")
        await notebook.run("others")
        await notebook.run("map", interrupted_at="mapping")
        for name in ("run", "close", "client", "run"):
            await notebook.run(name)
        await beside(notebook)
        await notebook.run("close")
        await without_await(notebook)


async def without_await(notebook: Notebook) -> None:
    """The sync style: a client of one cell, and one that is kept."""
    for name in ("with", "open", "helper", "kept"):
        await notebook.run(name)
    await notebook.run("result", interrupted_at="waiting")
    for name in ("after", "open", "helper", "closed"):
        await notebook.run(name)


async def beside(notebook: Notebook) -> None:
    """Another notebook at the same time, whose kernel is restarted."""
    other = Notebook()
    async with other.client.async_setup_kernel():
        for name in ("define", "client", "run"):
            await other.run(name)
        await other.client.km.restart_kernel(now=True)
        await other.client.kc.wait_for_ready()
        await notebook.run("run")
        for name in ("define", "client", "run", "close"):
            await other.run(name)


asyncio.run(main())
