"""The names of dispy.httpd: the web monitor, dispycos' own."""

from __future__ import annotations

from typing import Any, cast

from ...client.client import Client
from ...client.http_server import PORT
from ..httpd import HTTPServer
from .clusters import JobCluster


class _Shown:
    """Of several clusters the one that has the nodes, or had them last; as the monitor asks a client for its lease."""

    def __init__(self, cluster: JobCluster) -> None:
        self.clusters = [cluster]
        self._last = cluster

    @property
    def _lease(self) -> Any:
        self._last = next((one for one in self.clusters if one._nodes.is_holding), self._last)
        return self._last._client._lease


class DispyHTTPServer(HTTPServer):
    """Shows a cluster in browsers: ``http = DispyHTTPServer(cluster)``; its URL is printed. ``host=''`` is this host only.

    Of several clusters, see ``add_cluster()``, it shows the one that has the nodes.
    """

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
        self._shown = _Shown(cluster)
        self._post._client = cast(Client, self._shown)  # which it asks for no more than the lease

    def add_cluster(self, cluster: JobCluster) -> None:
        """Show this one, too."""
        if cluster not in self._shown.clusters:
            self._shown.clusters.append(cluster)

    def del_cluster(self, cluster: JobCluster) -> None:
        """Not this one any more."""
        if cluster in self._shown.clusters:
            self._shown.clusters.remove(cluster)

    def cluster_status(self, status: int, node: Any, job: Any) -> None:
        """For scripts that give it to a cluster as its `cluster_status`. The monitor looks itself."""
