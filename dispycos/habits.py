"""What people write who know dask, Ray, ipyparallel or the standard library, and what it is called here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

CPUS: Final = "CPUs are counted where they are: `dispycos node --cpus 2`, or dispycos.Scheduler(cpus=2) before the Client"


def _each(told: Mapping[str, str]) -> Mapping[str, str]:
    return {name: text for names, text in told.items() for name in names.split()}


KEYWORDS: Final = _each(
    {
        "cpus ncpus num_cpus ncores num_workers n_workers workers n_jobs processes threads nthreads": CPUS,
        "max_workers": f"that is for dispycos.Executor(max_workers=2); {CPUS}",
        "address addresses scheduler scheduler_address host hosts url ip_addr": (
            "a machine is found by itself in the same network, else named by Client(nodes=['host'])"
        ),
        "gpus num_gpus ngpus": "that is said of tasks: client.options(gpus=1).submit(f, x)",
        "retries priority resources": "that is said of tasks: client.options(retries=2, priority=1).submit(f, x)",
        "secret password token": "secret_file= is the path of the file that has it",
        "batch_size chunk_size": "client.map(f, xs, chunksize=100); by default it is measured",
        "depends modules": "what travels is found by itself; components= names files beside",
        "asynchronous": "`async with` gives the async style, `with` the other",
    }
)

CLIENT: Final = _each(
    {
        "shutdown stop terminate join disconnect": "close() ends it, as the end of the `with` does",
        "apply apply_async call compute persist remote run spawn": "submit(f, x) gives a handle",
        "starmap": "map(f, xs, ys) takes several iterables",
        "imap imap_unordered map_async": "map(f, xs) gives (x, value) as they end, with ordered=True in order",
        "scatter put broadcast replicate": "what tasks need is a global of the script, or an argument: it travels by itself",
        "get results": "gather(*handles) gives the values; of one handle result(), in the async style `await handle`",
        "upload_file push execute use_dill": "functions, classes and modules travel by themselves",
        "ncores nthreads scheduler_info who_has workers": "nodes(), servers() and tasks() tell what there is",
        "dashboard dashboard_link": "dispycos.HTTPServer(client) shows it in the browser",
    }
)

HANDLE: Final = _each(
    {
        "get value compute join": "result() gives the value, in the async style `await handle`",
        "wait": "client.wait([handle], timeout)",
        "ready successful running status": "done() and exception() tell of its end, is_alive() whether it goes on",
        "add_callback then": "add_done_callback(f)",
        "kill abort stop revoke": "cancel() or terminate() ends it",
        "put write tell": "send(message)",
        "_condition": (
            "concurrent.futures does not wait for handles of tasks; client.wait() and client.as_completed() do, and in the async "
            "style asyncio's functions; the futures of a dispycos.Executor are for concurrent.futures"
        ),
    }
)

# Of what gives values one by one.
VALUES: Final = frozenset(("get", "result", "results", "compute", "gather", "wait", "join"))

MODULE: Final = _each(
    {
        "init connect Cluster LocalCluster": "`with dispycos.Client() as client:`, or `async with`",
        "Pool ProcessPoolExecutor ThreadPoolExecutor": "dispycos.Executor() is a concurrent.futures.Executor",
        "Parallel delayed": "dispycos.register_joblib() gives joblib these CPUs",
        "submit map remote wait get put gather as_completed cancel": (
            "that is a method of a client: `with dispycos.Client() as client: client.submit(f, x).result()`"
        ),
        "shutdown close": "client.close(), or the end of the `with`",
        "JobCluster SharedJobCluster Pycos Computation": "scripts of dispy and pycos: `dispycos run script.py`",
    }
)


def hint(table: Mapping[str, str], name: str) -> str:
    """To be put behind what says that there is no such name; empty if nobody calls it so."""
    return f": {table[name]}" if name in table else ""


def no_keyword(text: str, name: str, known: Iterable[str]) -> str:
    """`text` says that this keyword argument is none of a call; with what is meant, and what there is."""
    names = ", ".join(known)
    return f"{text}{hint(KEYWORDS, name)}; it has {names or 'none'}"
