"""The web server's application: the page, the stream of tables, the JSON interface, and actions.

All URLs are relative, so that it works below any prefix of a proxy. Such a proxy has to pass Host on, whose name is given to the
monitor, and must not buffer the stream (docs/web.md).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispycos.version import RELEASE

from . import old_endpoints
from .access import CSRF_HEADER, HEADERS, Access
from .actions import ACTIONS, Action, checked, read_action
from .answers import (
    Handler,
    Refusal,
    answer_json,
    answer_onward,
    answer_refused,
    answering,
    body_of,
    wants_page,
)
from .desk import TABLES, Desk
from .endpoints import Endpoint, describe
from .metrics import exposition
from .queries import PARAMETERS, BadQuery, choose_and_count
from .static import Folder
from .streams import Streams

PAGE: Final = ("meta", "nodes", "samples", "events", "failures")  # the tables of the first page


class Web:
    """The application of one desk.

    Parameters
    ----------
    desk: who watches. access: who may do what. folder: the files of the page.
    """

    def __init__(self, desk: Desk, access: Access, folder: Folder) -> None:
        self.desk = desk
        self.streams = Streams(desk)
        self._access = access
        self._folder = folder
        self.endpoints = self._make_endpoints()
        old = old_endpoints.routes(self)
        posts = [*((one.method, one.path) for one in self.endpoints), *((one[0], one[1]) for one in old)]
        self._posts = {path for method, path in posts if method == "POST"}
        routes = [
            Route("/", answering(self._index)),
            Route("/healthz", self._health),
            *(Route(one.path, answering(one.handler), methods=[one.method]) for one in self.endpoints),
            *(Route(path, answering(handler), methods=[method]) for method, path, handler in old),
            Route("/{name:path}", answering(self._file)),
        ]
        in_words = {HTTPException: _answer_in_words, Exception: _answer_failed}
        self.app: ASGIApp = Guard(Starlette(routes=routes, exception_handlers=in_words), access)

    def _make_endpoints(self) -> list[Endpoint]:
        tables = [
            Endpoint(
                "GET", f"/api/v1/{name}", self._table(name), f"The rows of the table {name}.", PARAMETERS
            )
            for name in TABLES
            if name != "meta"
        ]
        return [
            Endpoint(
                "GET", "/api/v1/session", self._session, "What this token may do; what a page has to know."
            ),
            Endpoint("GET", "/api/v1/cluster", self._cluster, "The sums of the whole cluster."),
            *tables,
            Endpoint(
                "GET",
                "/api/v1/stream",
                self._stream,
                "Server-sent events: a snapshot of the tables, then what changes.",
                {
                    "tables": "names, with commas",
                    "since": "id of the last event that is known, as Last-Event-ID",
                },
                media="text/event-stream",
            ),
            Endpoint("GET", "/api/v1/stack/{task}", self._stack, "Where a task is that runs."),
            Endpoint("GET", "/api/v1/openapi.json", self._openapi, "This description."),
            Endpoint("GET", "/metrics", self._metrics, "For Prometheus.", media="text/plain"),
            Endpoint(
                "POST",
                "/api/v1/actions",
                self._act,
                "Act: " + "; ".join(f"{name} - {text}" for name, text in ACTIONS.items()) + ".",
                body=msgspec.json.schema(Action)["$defs"]["Action"],
            ),
        ]

    # --- the page ---

    async def _index(self, request: Request) -> Response:
        if "token" not in request.query_params:
            return self._folder.answer("index.html")
        is_browser = wants_page(request.headers.get("accept", ""), "/")
        answer = answer_onward() if is_browser else RedirectResponse("./", status_code=303)
        answer.set_cookie(
            self._access.cookie,
            self._access.cookie_of(request.scope["role"]),
            httponly=True,
            samesite="strict",
            path="/",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _file(self, request: Request) -> Response:
        """Whatever is asked for and is nothing else comes here."""
        path = request.scope["path"]
        if path in self._posts:
            raise HTTPException(405, headers={"Allow": "POST"})
        if path.startswith("/api/"):
            raise Refusal(404, f"there is no {path[:100]}", "/api/v1/openapi.json has what there is")
        return self._folder.answer(request.path_params["name"])

    async def _health(self, request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    # --- JSON ---

    async def _session(self, request: Request) -> Response:
        role = request.scope["role"]
        words = {"csrf": self._access.csrf_of(role), "csrf_header": CSRF_HEADER, "release": RELEASE}
        return answer_json({"role": role, **words})

    async def _openapi(self, request: Request) -> Response:
        return answer_json(describe(self.endpoints, RELEASE))

    async def _cluster(self, request: Request) -> Response:
        await self.desk.fresh(frozenset(("meta",)))
        return answer_json(self.desk.tables.rows("meta").get("cluster", {}))

    def _table(self, name: str) -> Handler:
        async def answer(request: Request) -> Response:
            await self.desk.fresh(frozenset((name,)))
            told = self.desk.tables.snapshot([name])[name]
            try:
                rows, matched = choose_and_count(told.pop("set").values(), request.query_params)
            except BadQuery as error:
                raise Refusal(400, str(error)) from None
            del told["del"]
            return answer_json({"rows": rows, "matched": matched, **told})

        return answer

    async def _metrics(self, request: Request) -> Response:
        names = frozenset(("meta", "nodes", "functions", "clients"))
        await self.desk.fresh(names)
        text = exposition({name: list(self.desk.tables.rows(name).values()) for name in names})
        return Response(
            text.encode("utf-8", "replace"), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def _stack(self, request: Request) -> Response:
        try:
            return answer_json(await self.desk.stack(request.path_params["task"]))
        except LookupError as error:
            raise Refusal(404, str(error.args[0])) from None

    async def _stream(self, request: Request) -> Response:
        names = set(filter(None, request.query_params.get("tables", ",".join(PAGE)).split(",")))
        unknown = sorted(names - set(TABLES))
        if unknown:
            raise Refusal(400, f"there is no table {unknown[0][:100]!r}", f"there are {', '.join(TABLES)}")
        since = request.headers.get("last-event-id") or request.query_params.get("since", "")
        return self.streams.stream(names | {"meta"}, since)

    # --- actions ---

    async def _act(self, request: Request) -> Response:
        return answer_json(await self.act(read_action(await body_of(request))))

    async def act(self, action: Action) -> dict[str, Any]:
        """Raises Refusal."""
        fit = checked(action)
        done = await self.desk.act(fit.action, fit.ids, fit.args)
        return {"done": done.done, "refused": [list(one) for one in done.refused], "text": done.text}


class Guard:
    """Judges each request before the application sees it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is served, not {scope['type']}")
        path, method = scope["path"], scope["method"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        url_token = Request(scope).query_params.get("token") if path == "/" else None
        verdict = self._access.judge(method, path, headers, url_token)
        scope["role"] = verdict.role

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        answer = self._app
        if verdict.status != 200:
            own = {"www-authenticate": "Bearer"} if verdict.status == 401 else {}
            refusal = Refusal(verdict.status, verdict.text, verdict.remedy)
            answer = answer_refused(refusal, wants_page(headers.get("accept", ""), path), own)
        try:
            await answer(scope, receive, send_safely)
        except (ClientDisconnect, asyncio.CancelledError):
            pass  # there is nobody to answer: it left while it posted, or the server ends


_HEADERS: Final = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


async def _answer_in_words(request: Request, error: Exception) -> Response:
    """There is only one kind: a path that is there, for another method."""
    assert isinstance(error, HTTPException)
    remedy = f"there is {error.headers['Allow']}" if error.headers and "Allow" in error.headers else ""
    text = f"{request.method[:20]} {request.url.path[:100]}: {error.detail}"
    return answer_refused(Refusal(error.status_code, text, remedy), False, error.headers)


async def _answer_failed(request: Request, error: Exception) -> Response:
    """Our own fault: what it is stands in the log."""
    return answer_json({"error": "the monitor has failed at this", "remedy": "its log says why"}, 500)
