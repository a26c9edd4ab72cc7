"""What makes joblib's Parallel run on the servers of a cluster."""

from __future__ import annotations


def register_joblib() -> None:
    """Make ``joblib.parallel_config(backend="dispycos")`` known, with the parameters of an Executor beside it (``nodes=[...]``).

    ``n_jobs`` is the number of servers that are used at most, -1 (the default): all. Servers stay until the program ends. numpy
    arrays among the arguments that are larger than Parallel's `max_nbytes` (1 MiB) are mapped into memory by servers of this host,
    and sent once to each server elsewhere; they are read-only there, as with joblib's own processes. A Parallel within a task
    uses threads of its server.

    Raises
    ------
    ImportError: joblib is not installed.
    """
    try:
        import joblib
    except ImportError:
        raise ImportError(
            "register_joblib() needs joblib, which is not installed: pip install 'dispycos[joblib]'"
        ) from None
    from .joblib_backend import DispycosBackend

    joblib.register_parallel_backend("dispycos", DispycosBackend)
