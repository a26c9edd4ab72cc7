"""The web server's application: the page, the stream of tables, the JSON interface, and actions.

All URLs are relative, so that it works below any prefix of a proxy. Such a proxy has to pass Host on, or the name that it uses is
given to the monitor (--web-host), and must not buffer the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dispycos.version import RELEASE

from . import old_endpoints
from .access import CSRF_HEADER, HEADERS, Access, Verdict
from .answers import Refusal, answer_json, answering, body_of, encode
from .desk import TABLES, Desk
from .endpoints import Endpoint, describe
from .metrics import exposition
from .queries import FILTERS, BadQuery, choose
from .static import Folder

STREAMS_MAX: Final = 100
SILENCE_S: Final = 10.0
PAGE: Final = ("meta", "nodes", "samples", "events", "failures")  # the tables of the first page
ACTIONS: Final = (
    "terminate",
    "terminate_where",
    "suspend",
    "resume",
    "close",
    "restart",
    "end_lease",
    "options",
)
POLL_MIN_S, POLL_MAX_S = 0.2, 3600.0


class Action(msgspec.Struct, forbid_unknown_fields=True):
    """What is posted to /api/v1/actions."""

    action: str
    ids: list[str] = []
    args: dict[str, Any] = {}


class Web:
    """The application of one desk.

    Parameters
    ----------
    desk: who watches. access: who may do what. folder: the files of the page.
    """

    def __init__(self, desk: Desk, access: Access, folder: Folder) -> None:
        self.desk = desk
        self.access = access
        self._folder = folder
        self._streams = 0
        self._farewell: str | None = None
        self._ends = asyncio.Event()
        self._deltas: dict[tuple[frozenset[str], int], bytes] = {}  # of the present version
        self._deltas_of = 0
        self.endpoints = self._make_endpoints()
        routes = [
            Route("/", self._index),
            Route("/healthz", self._health),
            *(Route(one.path, answering(one.handler), methods=[one.method]) for one in self.endpoints),
            *(
                Route(path, answering(handler), methods=[method])
                for method, path, handler in old_endpoints.routes(self)
            ),
            Route("/{name:path}", self._file),
        ]
        self.app: ASGIApp = Guard(Starlette(routes=routes), access)

    def farewell(self, text: str) -> None:
        """Each page is told that this is the last state, and its stream ends."""
        self._farewell = text
        self._ends.set()

    def _make_endpoints(self) -> list[Endpoint]:
        rows = dict.fromkeys(FILTERS, "only rows with this value") | {
            "text": "only rows that contain it",
            "sort": "a column; with - before it the largest first",
            "limit": "rows, at most 20,000",
            "offset": "rows that are left out at the start",
        }
        tables = [
            Endpoint("GET", f"/api/v1/{name}", self._table(name), f"The rows of the table {name}.", rows)
            for name in TABLES
            if name != "meta"
        ]
        return [
            Endpoint(
                "GET",
                "/api/v1/session",
                self._session,
                "What this token may do, and what a page has to know.",
            ),
            Endpoint("GET", "/api/v1/cluster", self._cluster, "The sums of the whole cluster."),
            *tables,
            Endpoint(
                "GET",
                "/api/v1/stream",
                self._stream,
                "Server-sent events: a snapshot of the tables, then what changes.",
                {"tables": "names, with commas", "since": "EPOCH.VERSION that is known, as Last-Event-ID"},
                media="text/event-stream",
            ),
            Endpoint("GET", "/api/v1/stack/{task}", self._stack, "Where a task is that runs."),
            Endpoint("GET", "/api/v1/openapi.json", self._openapi, "This description."),
            Endpoint("GET", "/metrics", self._metrics, "For Prometheus.", media="text/plain"),
            Endpoint(
                "POST",
                "/api/v1/actions",
                self._act,
                "Terminate tasks, suspend, resume, close or restart nodes and servers, end a lease, set options.",
                body=msgspec.json.schema(Action)["$defs"]["Action"],
            ),
        ]

    # --- the page ---

    async def _index(self, request: Request) -> Response:
        token = request.query_params.get("token")
        if token is not None:
            answer: Response = RedirectResponse("./", status_code=303)
            is_safe = request.url.scheme == "https"
            answer.set_cookie(
                self.access.cookie, token, httponly=True, samesite="strict", path="/", secure=is_safe
            )
            return answer
        return self._folder.answer("index.html")

    async def _file(self, request: Request) -> Response:
        return self._folder.answer(request.path_params["name"])

    async def _health(self, request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    # --- JSON ---

    async def _session(self, request: Request) -> Response:
        role = request.scope["role"]
        return answer_json(
            {"role": role, "csrf": self.access.csrf, "csrf_header": CSRF_HEADER, "release": RELEASE}
        )

    async def _openapi(self, request: Request) -> Response:
        return answer_json(describe(self.endpoints, RELEASE))

    async def _cluster(self, request: Request) -> Response:
        await self.desk.fresh(frozenset(("meta",)))
        return answer_json(self.desk.tables.rows("meta").get("cluster", {}))

    def _table(self, name: str) -> Any:
        async def answer(request: Request) -> Response:
            await self.desk.fresh(frozenset((name,)))
            told = self.desk.tables.snapshot([name])[name]
            try:
                rows = choose(told.pop("set").values(), request.query_params)
            except BadQuery as error:
                raise Refusal(400, str(error)) from None
            del told["del"]
            return answer_json({"rows": rows, **told})

        return answer

    async def _metrics(self, request: Request) -> Response:
        names = frozenset(("meta", "nodes", "functions", "clients"))
        await self.desk.fresh(names)
        tables = {name: list(self.desk.tables.rows(name).values()) for name in names}
        return Response(exposition(tables), media_type="text/plain; version=0.0.4")

    async def _stack(self, request: Request) -> Response:
        try:
            return answer_json(await self.desk.stack(request.path_params["task"]))
        except LookupError as error:
            raise Refusal(404, str(error.args[0])) from None

    # --- actions ---

    async def _act(self, request: Request) -> Response:
        try:
            action = msgspec.json.decode(await body_of(request), type=Action)
        except msgspec.DecodeError as error:
            raise Refusal(400, f"this is no action: {error}") from None
        return answer_json(await self.act(action.action, action.ids, action.args))

    async def act(self, action: str, ids: list[str], args: dict[str, Any]) -> dict[str, Any]:
        """Raises Refusal."""
        if action not in ACTIONS:
            raise Refusal(400, f"there is no action {action!r}", f"there are {', '.join(ACTIONS)}")
        if action == "options":
            args = _options(args)
        done = await self.desk.act(action, ids, args)
        return {"done": done.done, "refused": [list(one) for one in done.refused], "text": done.text}

    # --- the stream ---

    async def _stream(self, request: Request) -> Response:
        if self._streams >= STREAMS_MAX:
            raise Refusal(503, f"{STREAMS_MAX} pages are open already", "close some")
        names = frozenset(filter(None, request.query_params.get("tables", ",".join(PAGE)).split(",")))
        unknown = names - set(TABLES)
        if unknown:
            raise Refusal(400, f"there is no table {sorted(unknown)[0]!r}", f"there are {', '.join(TABLES)}")
        since = request.headers.get("last-event-id") or request.query_params.get("since", "")
        return StreamingResponse(
            self._events(names | {"meta"}, self._version_in(since)),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )

    def _version_in(self, since: str) -> int | None:
        epoch, _, version = since.rpartition(".")
        is_ours = epoch == self.desk.tables.epoch and version.isascii() and version.isdecimal()
        return int(version) if is_ours and len(version) < 16 else None

    async def _events(self, names: frozenset[str], version: int | None) -> AsyncIterator[bytes]:
        tables = self.desk.tables
        self._streams += 1
        try:
            yield b"retry: 1000\n\n"
            with self.desk.reading(names):
                if version is None:
                    await self.desk.fresh(names)
                while self._farewell is None:
                    if version is None or version != tables.version:
                        yield self._changes(names, version)
                        version = tables.version
                    elif await self._is_silent():
                        yield b": still here\n\n"
                yield b"event: gone\ndata: " + encode({"text": self._farewell}) + b"\n\n"
        finally:
            self._streams -= 1

    async def _is_silent(self) -> bool:
        """After the next tick, or some time without one."""
        ticked = asyncio.ensure_future(self.desk.ticked())
        ends = asyncio.ensure_future(self._ends.wait())
        done, open_ = await asyncio.wait(
            (ticked, ends), timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
        for one in open_:
            one.cancel()
        return not done

    def _changes(self, names: frozenset[str], since: int | None) -> bytes:
        """Most readers know the last version: what is new since is encoded once."""
        tables = self.desk.tables
        if self._deltas_of != tables.version:
            self._deltas.clear()
            self._deltas_of = tables.version
        key = names, -1 if since is None else since
        event = self._deltas.get(key)
        if event is None:
            told = tables.delta(names, since) if since is not None else None
            kind = b"delta" if told is not None else b"snapshot"
            data = {"version": tables.version, "now": tables.now, "tables": told or tables.snapshot(names)}
            head = f"id: {tables.epoch}.{tables.version}\nevent: ".encode()
            event = self._deltas[key] = b"%s%s\ndata: %s\n\n" % (head, kind, encode(data))
        return event


class Guard:
    """Judges each request before the application sees it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        verdict = self._access.judge(scope["method"], path, headers)
        if verdict.status == 401 and path == "/" and scope["method"] == "GET":
            token = Request(scope).query_params.get("token", "")
            role = self._access.role_of(token) if token else ""
            verdict = Verdict(200, role) if role else verdict
        elif path == "/" and "token=" in query and verdict.status == 200:
            role = self._access.role_of(Request(scope).query_params.get("token", ""))
            verdict = Verdict(200, role) if role else Verdict(401, "", "a wrong token", verdict.remedy)
        scope["role"] = verdict.role

        async def send_safely(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        answer = self._app if verdict.status == 200 else _refused(verdict, path)
        await answer(scope, receive, send_safely)


_HEADERS: Final = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def _refused(verdict: Verdict, path: str) -> Response:
    if path != "/":
        return answer_json({"error": verdict.text, "remedy": verdict.remedy}, verdict.status)
    words = f"dispycos: {verdict.text}.\n\n{verdict.remedy[:1].upper()}{verdict.remedy[1:]}.\n"
    return Response(words, verdict.status, media_type="text/plain")


def _options(args: dict[str, Any]) -> dict[str, Any]:
    """Raises Refusal."""
    known: dict[str, Any] = {}
    for name, value in args.items():
        if name == "poll_sec":
            is_fit = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_fit or not POLL_MIN_S <= value <= POLL_MAX_S:
                raise Refusal(
                    400, f"poll_sec must be seconds from {POLL_MIN_S} to {POLL_MAX_S:g}, not {value!r}"
                )
        elif name == "show_args":
            if not isinstance(value, bool):
                raise Refusal(400, f"show_args must be true or false, not {value!r}")
        else:
            raise Refusal(400, f"there is no option {name!r}", "there are poll_sec and show_args")
        known[name] = value
    return known
