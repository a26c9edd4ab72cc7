"""The endpoints that scripts know from pycos' web server (spec 6.8), as thin views of the tables.

They answer with the names and forms of old: lists of nodes, their servers and tasks; actions are posted as forms. As everywhere
a token is needed: cookie and CSRF header, or `Authorization: Bearer`.
"""

from __future__ import annotations

from typing import Any, Final, Protocol
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .actions import IDS_MAX, Action
from .answers import Handler, Refusal, answer_json, body_of
from .desk import Desk

LIMIT: Final = 100  # tasks of a server, if none is asked for


class Acting(Protocol):
    """Who carries out actions, and whose tables these are."""

    desk: Desk

    async def act(self, action: Action) -> dict[str, Any]: ...


def routes(web: Acting) -> list[tuple[str, str, Handler]]:
    """(method, path, handler) of each."""
    views = Views(web)
    return [
        ("GET", "/cluster_status", views.cluster),
        ("GET", "/cluster_updates", views.cluster),
        ("POST", "/server_info", views.server_info),
        ("POST", "/node_info", views.node_info),
        ("POST", "/terminate_tasks", views.terminate),
        ("POST", "/update", views.update),
        ("POST", "/suspend_node", views.control("suspend", "nodes")),
        ("POST", "/resume_node", views.control("resume", "nodes")),
        ("POST", "/suspend_server", views.control("suspend", "servers")),
        ("POST", "/resume_server", views.control("resume", "servers")),
    ]


class Views:
    def __init__(self, web: Acting) -> None:
        self._web = web

    async def _rows(self, *names: str) -> list[dict[str, Any]]:
        await self._web.desk.fresh(frozenset(names))
        return list(self._web.desk.tables.rows(names[0]).values())

    async def cluster(self, request: Request) -> Response:
        """Updates are the whole: nobody takes them away from another reader."""
        return answer_json([_node(row) for row in await self._rows("nodes")])

    async def node_info(self, request: Request) -> Response:
        host = _one(await _form(request), "host")
        servers = await self._rows("servers", "nodes")
        found = [row for row in self._web.desk.tables.rows("nodes").values() if host in _names(row)]
        if not found:
            raise Refusal(404, f"there is no node {host[:100]!r}")
        own = [
            {
                "location": row["id"],
                "tasks_submitted": row["submitted"],
                "tasks_done": row["done"] + row["failed"],
                "tasks_running": row["running"],
                "update_time": row["seen"],
            }
            for row in servers
            if row["node"] == found[0]["id"]
        ]
        return answer_json({**_node(found[0]), "servers": own})

    async def server_info(self, request: Request) -> Response:
        form = await _form(request)
        location, limit = _one(form, "location"), _limit(form.get("limit", [str(LIMIT)])[0])
        tasks = await self._rows("tasks", "servers")
        server = self._web.desk.tables.rows("servers").get(location)
        if server is None:
            raise Refusal(404, f"there is no server {location[:100]!r}")
        running = [row for row in tasks if row["server"] == location and row["state"] == "running"]
        return answer_json(
            {
                "location": location,
                "status": server["state"],
                "tasks_submitted": server["submitted"],
                "tasks_done": server["done"] + server["failed"],
                "update_time": server["seen"],
                "tasks": [
                    {
                        "task": row["id"],
                        "name": row["function"],
                        "args": row["args"] or "",
                        "kwargs": "",
                        "start_time": row["start"],
                    }
                    for row in running[:limit]
                ],
            }
        )

    async def terminate(self, request: Request) -> Response:
        """The ids of those that were told to end."""
        wanted = (await _form(request)).get("task", [])
        if not wanted:
            return answer_json([])
        done = await self._web.act(Action("terminate", wanted))
        refused = {one[0] for one in done["refused"]}
        return answer_json([task for task in wanted if task not in refused])

    async def update(self, request: Request) -> Response:
        form = await _form(request)
        options: dict[str, Any] = {}
        if "timeout" in form:
            options["poll_sec"] = _seconds(form["timeout"][0])
        if "show_task_args" in form:
            options["show_args"] = form["show_task_args"][0].lower() in ("true", "1", "on", "yes")
        if options:
            await self._web.act(Action("options", [], options))
        return Response("", media_type="text/html")

    def control(self, action: str, names: str) -> Handler:
        async def answer(request: Request) -> Response:
            text = _one(await _form(request), names)
            try:
                wanted = msgspec.json.decode(text, type=list[str])
            except (msgspec.DecodeError, RecursionError):
                raise Refusal(400, f"{names} must be a JSON list of texts, not {text[:100]!r}") from None
            if names == "nodes":
                ids: dict[str, dict[str, None]] = {}  # an address may be of several
                for row in await self._rows("nodes"):
                    for name in _names(row):
                        ids.setdefault(name, {})[row["id"]] = None
                wanted = [node for one in wanted for node in ids.get(one, [one])]
            if not wanted:
                return answer_json({"done": 0, "refused": [], "text": ""})
            return answer_json(await self._web.act(Action(action, wanted)))

        return answer


def _names(node: dict[str, Any]) -> tuple[str, ...]:
    return node["id"], node["addr"], node["name"], f"{node['addr']}:{node['port']}"


def _node(row: dict[str, Any]) -> dict[str, Any]:
    used = row["cpu"]
    return {
        "name": row["name"],
        "addr": row["addr"],
        "status": row["state"],
        "servers": row["servers"],
        "update_time": row["seen"],
        "tasks_submitted": row["submitted"],
        "tasks_done": row["done"] + row["failed"],
        "avail_info": {
            "cpu": round(100.0 - used, 1) if used is not None else None,
            "memory": row["memory"],
            "disk": row["disk"],
            "swap": row["swap"],
        },
    }


async def _form(request: Request) -> dict[str, list[str]]:
    text = (await body_of(request)).decode("utf-8", "replace")
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=IDS_MAX)
    except ValueError:
        raise Refusal(400, f"more than {IDS_MAX:,} fields were posted", "do it in parts") from None


def _one(form: dict[str, list[str]], name: str) -> str:
    if name not in form:
        raise Refusal(400, f"the field {name} is missing")
    return form[name][0]


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refusal(400, f"timeout must be seconds, not {text[:100]!r}") from None


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Refusal(400, f"limit must be a whole number, not {text[:100]!r}")
    return int(text)
