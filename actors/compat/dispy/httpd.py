"""The names of dispy.httpd: the web monitor, dispycos' own."""

from __future__ import annotations

from typing import Any

from ...client.http_server import PORT
from ..httpd import HTTPServer
from .clusters import JobCluster


class DispyHTTPServer(HTTPServer):
    """Shows a cluster in browsers: ``http = DispyHTTPServer(cluster)``; its URL is printed. ``host=''`` is this host only."""

    def __init__(
        self,
        cluster: JobCluster,
        host: str = "",
        port: int = PORT,
        poll_sec: float = 10,
        DocumentRoot: Any = None,
        keyfile: Any = None,
        certfile: Any = None,
        show_job_args: bool = True,
    ) -> None:
        if not isinstance(cluster, JobCluster):
            raise TypeError(f"DispyHTTPServer needs a JobCluster, not {type(cluster).__name__}")
        options = {"keyfile": keyfile, "certfile": certfile, "show_task_args": show_job_args}
        super().__init__(cluster._client, host, port, poll_sec, DocumentRoot=DocumentRoot, **options)
