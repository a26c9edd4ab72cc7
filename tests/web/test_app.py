"""The application, over HTTP on this host: pages, JSON, actions, and what is refused."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.routing import Route

from dispycos.actors.web.access import CSRF_HEADER, HEADERS
from dispycos.actors.web.app import Web
from dispycos.actors.web.desk import TABLES
from dispycos.version import RELEASE
from tests.web.fake_desk import Site


def page(role: str, site: Site) -> dict[str, str]:
    """What the page of this role sends along."""
    return site.cookie(role) | {CSRF_HEADER: site.access.csrf_of(role)}


# --- coming in ---


def test_a_program_is_sent_on_and_gets_a_cookie_that_is_not_the_token(site: Site) -> None:
    answer = site.get(f"/?token={site.access.operator}", {})

    assert (answer.status, answer.headers["location"], answer.body) == (303, "./", b"")
    name, *flags = answer.headers["set-cookie"].split("; ")
    assert name == f"dispycos-{site.port}={site.access.cookie_of('operator')}"
    assert sorted(flags) == ["HttpOnly", "Path=/", "SameSite=strict"]
    assert site.access.operator not in str(answer.headers)


def test_a_browser_gets_a_page_that_goes_on_by_itself_so_that_the_cookie_comes_along(site: Site) -> None:
    answer = site.get(f"/?token={site.access.viewer}", {"Accept": "text/html,*/*"})

    assert answer.status == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert '<meta http-equiv="refresh" content="0; url=./">' in answer.text
    assert site.access.viewer not in answer.text
    assert answer.headers["set-cookie"].startswith(f"dispycos-{site.port}={site.access.cookie_of('viewer')};")
    assert site.get("/", site.cookie("viewer")).status == 200


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_only(site: Site) -> None:
    answer = site.get(f"/?token={site.access.operator}", {"X-Forwarded-Proto": "https"})
    assert "; Secure" in answer.headers["set-cookie"]


def test_without_a_token_a_browser_gets_a_page_in_words_and_a_program_json(site: Site) -> None:
    shown = site.get("/", {"Accept": "text/html"})
    assert (shown.status, shown.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert "Open the URL with its token that was printed" in shown.text
    assert '<link rel="icon" href="data:,">' in shown.text, "else its icon would be asked for, in vain"
    assert "img-src 'self' data:;" in shown.headers["content-security-policy"]
    told = site.get("/api/v1/nodes", {"Accept": "text/html"})
    assert (told.status, told.headers["www-authenticate"]) == (401, "Bearer")
    assert set(told.json) == {"error", "remedy"}
    for answer in (shown, told):
        assert "set-cookie" not in answer.headers


def test_what_a_stranger_sends_does_not_become_html(site: Site) -> None:
    hosts = {"Host": "<script>alert(1)</script>", "Accept": "text/html"}
    answer = site.get("/", hosts)
    assert answer.status == 421 and "<script" not in answer.text

    class Tags(HTMLParser):
        found: set[str] = set()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.add(tag)

    Tags().feed(answer.text)
    assert Tags.found == {"html", "meta", "title", "link", "h1", "p"}


def test_each_answer_has_the_headers_that_bind_browsers(site: Site) -> None:
    for answer in (
        site.get("/"),
        site.get("/style.css"),
        site.get("/healthz", {}),
        site.get("/api/v1/nodes"),
        site.get("/api/v1/nodes", {}),
        site.get("/none"),
        site.ask("PUT", "/"),
        site.get("/", {"Host": "evil.example"}),
    ):
        for name, value in HEADERS.items():
            assert answer.headers.get_all(name) == [value]
        assert "server" not in answer.headers and "access-control-allow-origin" not in answer.headers


def test_healthz_tells_nothing_but_that_it_is_there(site: Site) -> None:
    answer = site.get("/healthz", {})
    assert (answer.status, answer.body) == (200, b"ok\n")


# --- files ---


def test_the_page_and_its_files_have_their_types(site: Site) -> None:
    for path, kind in [
        ("/", "text/html"),
        ("/index.html", "text/html"),
        ("/style.css", "text/css"),
        ("/app.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ]:
        answer = site.get(path)
        assert answer.status == 200 and answer.headers["content-type"].split(";")[0] == kind
        assert len(answer.body) == int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "path",
    [
        "/../setup.cfg",
        "/../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/setup.cfg",
        "/..%2f..%2fsetup.cfg",
        "/%252e%252e%252fsetup.cfg",
        "/..%5c..%5csetup.cfg",
        "/....//setup.cfg",
        "/style.css/../../setup.cfg",
        "/style.css%00.js",
        "//etc/passwd",
        "/./style.css",
        "/%c0%ae%c0%ae/setup.cfg",
        "/STYLE.CSS",
        "/.git/config",
        "/index.html/",
    ],
)
def test_no_path_leads_out_of_the_folder(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status == 404 and list(answer.json) == ["error"]
    assert answer.json["error"].startswith("there is no such file: ")


def test_a_path_of_the_interface_that_is_not_there_is_named_with_where_all_are(site: Site) -> None:
    for path in ("/api/v1/nothing", "/api/v1/nodes/", "/api/", "/api/v1/../../setup.cfg"):
        answer = site.get(path)
        assert answer.status == 404 and path in answer.json["error"]
        assert "/api/v1/openapi.json" in answer.json["remedy"]


# --- methods ---


def test_head_has_the_headers_of_get_and_no_body(site: Site) -> None:
    for path in ("/", "/style.css", "/api/v1/nodes", "/metrics", "/healthz"):
        got, head = site.get(path), site.ask("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


def test_a_head_of_the_stream_ends(site: Site) -> None:
    answer = site.ask("HEAD", "/api/v1/stream")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    site.wait(lambda desk: not +desk.readers)


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "X"])
def test_other_methods_hear_which_there_are(site: Site, method: str) -> None:
    for path, allowed in [
        ("/api/v1/nodes", {"GET", "HEAD"}),
        ("/api/v1/actions", {"POST"}),
        ("/", {"GET", "HEAD"}),
    ]:
        answer = site.ask(method, path)
        assert answer.status == 405
        assert set(answer.headers["allow"].split(", ")) == allowed
        assert path in answer.json["error"] and min(allowed) in answer.json["remedy"]


@pytest.mark.parametrize("path", ["/api/v1/actions", "/terminate_tasks", "/node_info"])
def test_what_is_posted_cannot_be_got_and_is_no_missing_file(site: Site, path: str) -> None:
    answer = site.get(path)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert path in answer.json["error"] and "POST" in answer.json["remedy"]


def test_a_websocket_is_not_opened(site: Site) -> None:
    wish = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    for path in ("/", "/api/v1/stream?tables=none"):
        answer = site.get(path, site.bearer() | wish | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert answer.status != 101 and "upgrade" not in answer.headers


# --- JSON ---


def test_a_table_is_given_with_its_counts(site: Site) -> None:
    answer = site.get("/api/v1/tasks?limit=2&sort=-run&state=done").json

    assert [row["id"] for row in answer["rows"]] == ["c1.6", "c1.2"]
    assert {name: answer[name] for name in answer if name != "rows"} == {
        "matched": 2,
        "total": 1204331,
        "kept": 10000,
        "dropped_until": 14.5,
    }
    assert site.desk.asked_fresh[-1] == {"tasks"}


def test_each_table_has_an_endpoint(site: Site) -> None:
    for name in TABLES:
        if name != "meta":
            rows = site.get(f"/api/v1/{name}").json["rows"]
            assert len(rows) == len(site.do(lambda desk, name=name: desk.tables.rows(name)))
    assert site.get("/api/v1/cluster").json["name"] == "survey.py"


@pytest.mark.parametrize(
    "query", ["colour=red", "sort=colour", "limit=-1", "limit=x", "limit=99999", "offset=1e9", "longer=nan"]
)
def test_a_bad_query_is_refused_in_words(site: Site, query: str) -> None:
    answer = site.get(f"/api/v1/tasks?{query}")
    assert answer.status == 400 and answer.json["error"].split()[0].strip(":") in (
        query.split("=")[0],
        "there",
    )


def test_a_text_that_is_no_unicode_does_not_end_the_monitor(site: Site) -> None:
    site.change(lambda tables: tables.set("leases", "x", {"id": "x", "text": "caf\udce9", "n": ["\udce9"]}))
    try:
        assert site.get("/api/v1/leases").json["rows"] == [{"id": "x", "text": "caf?", "n": ["?"]}]
        with site.stream("tables=leases") as reader:
            assert reader.next()[2]["tables"]["leases"]["set"]["x"]["text"] == "caf?"
    finally:
        site.change(lambda tables: tables.drop("leases", "x"))


def test_ids_and_texts_do_not_get_out_of_their_event(site: Site) -> None:
    key = "x\r\n\r\nevent: gone\ndata: {}\n\n\u2028</script>"
    site.change(lambda tables: tables.set("leases", key, {"id": key}))
    try:
        with site.stream("tables=leases") as reader:
            assert reader.next()[2]["tables"]["leases"]["set"] == {key: {"id": key}}
    finally:
        site.change(lambda tables: tables.drop("leases", key))


def test_the_session_tells_role_and_csrf_value(site: Site) -> None:
    for role in ("operator", "viewer"):
        assert site.get("/api/v1/session", site.cookie(role)).json == {
            "role": role,
            "csrf": site.access.csrf_of(role),
            "csrf_header": CSRF_HEADER,
            "release": RELEASE,
        }


def test_a_stack_or_why_there_is_none(site: Site) -> None:
    assert site.get("/api/v1/stack/c1.1").json == {"task": "c1.1", "frames": []}
    answer = site.get("/api/v1/stack/c1.2")
    assert (answer.status, answer.json) == (404, {"error": "task c1.2 does not run"})


def test_what_fails_is_told_to_the_log_and_not_to_strangers(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.desk.failure = ValueError("a secret detail")
    try:
        answer = site.get("/api/v1/nodes")
    finally:
        site.desk.failure = None
    assert answer.status == 500 and b"secret" not in answer.body and answer.json["remedy"]
    site.do(lambda desk: None)  # it is logged when the answer has gone
    assert "a secret detail" in caplog.text


def test_no_request_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    site.get(f"/?token={site.access.operator}", {})
    site.get("/?token=wrong", {})
    assert "token" not in caplog.text and not caplog.records


# --- actions ---


def test_an_action_is_carried_out_and_what_was_refused_is_told(site: Site) -> None:
    answer = site.act("terminate", ["c1.1", "no.1"], headers=page("operator", site))

    assert answer.json == {"done": 1, "refused": [["no.1", "there is no such thing"]], "text": "asked"}
    assert site.desk.acted == [("terminate", ["c1.1", "no.1"], {})]


def test_an_action_that_is_not_allowed_never_reaches_the_desk(site: Site) -> None:
    page_of_operator = page("operator", site)
    evil = {"Origin": "http://evil.example"}
    refused = [
        (401, {}),
        (401, {CSRF_HEADER: site.access.csrf_of("operator")}),
        (403, site.cookie()),
        (403, page("viewer", site)),
        (403, site.bearer("viewer")),
        (403, page_of_operator | evil),
        (403, site.bearer() | evil),
        (403, page_of_operator | {"Sec-Fetch-Site": "same-site"}),
        (421, page_of_operator | {"Host": "evil.example"}),
    ]
    for status, headers in refused:
        answer = site.act("terminate", ["c1.1"], headers=headers)
        assert answer.status == status and answer.json["error"]
    for path in ("/terminate_tasks", "/suspend_node", "/update"):
        assert site.post(path, {}, headers=page("viewer", site)).status == 403
        assert site.post(path, {}, headers=site.cookie()).status == 403
    assert not site.desk.acted


def test_a_form_of_another_page_is_refused_as_the_browser_would_send_it(site: Site) -> None:
    form = site.cookie() | {"Content-Type": "text/plain", "Origin": "null"}
    assert site.ask("POST", "/api/v1/actions", form, b'{"action":"terminate","ids":["c1.1"]}').status == 403
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = site.ask(
        "OPTIONS", "/api/v1/actions", preflight | {"Access-Control-Request-Headers": CSRF_HEADER}
    )
    assert answer.status == 401 and not [name for name in answer.headers if "access-control" in name.lower()]
    assert not site.desk.acted


@pytest.mark.parametrize("length", [None, 1_000_001, 10**12])
def test_a_huge_body_is_refused(site: Site, length: int | None) -> None:
    line = site.connect()
    line.putrequest("POST", "/api/v1/actions")
    for name, value in site.bearer().items():
        line.putheader(name, value)
    if length is None:
        line.putheader("Transfer-Encoding", "chunked")
        line.endheaders()
        for _ in range(11):
            line.send(b"%x\r\n%s\r\n" % (100_000, b" " * 100_000))
    else:
        line.putheader("Content-Length", str(length))
        line.endheaders()
        line.send(b" " * 1_000_001)
    answer = line.getresponse()
    assert answer.status == 413 and "1,000,000 bytes" in json.loads(answer.read())["error"]
    line.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"action": 1}',
        b'{"ids": []}',
        b'{"action": "terminate", "ids": [1]}',
        b'{"action": "terminate", "ids": "c1.1"}',
        b'{"action": "terminate", "ids": ["c1.1"], "more": 1}',
        b'{"action": "terminate", "ids": ["\xff"]}',
        b'{"action": "options", "args": {"a": ' + b"[" * 400_000,
        b'{"action": "options", "args": {"a": ' + b'{"a":' * 150_000,
    ],
)
def test_what_is_no_action_is_refused_in_words(site: Site, body: bytes) -> None:
    answer = site.ask("POST", "/api/v1/actions", body=body)
    assert answer.status == 400
    assert answer.json["error"].startswith("this is no action: ") and "post JSON" in answer.json["remedy"]


# --- its description ---


def test_the_description_has_each_route_and_no_other(site: Site) -> None:
    document = site.get("/api/v1/openapi.json").json
    web = Web(site.desk, site.access, site.server._folder)
    guarded: Any = web.app
    old = re.compile(r"/(cluster_|server_|node_|terminate_|update|suspend_|resume_)")
    there = {
        (route.path, method.lower())
        for route in guarded._app.routes
        if isinstance(route, Route) and route.path not in ("/", "/{name:path}", "/healthz")
        if not old.match(route.path)
        for method in (route.methods or set()) - {"HEAD"}
    }
    told = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert told == there and ("/api/v1/stack/{task}", "get") in told


def test_the_description_is_openapi(site: Site) -> None:
    document = site.get("/api/v1/openapi.json").json

    assert document["openapi"] == "3.1.0" and document["info"] == {
        "title": "dispycos monitor",
        "version": RELEASE,
    }
    schemas, schemes = document["components"]["schemas"], document["components"]["securitySchemes"]
    assert all(set(one) <= set(schemes) for one in document["security"])
    for path, methods in document["paths"].items():
        in_path = re.findall(r"{(\w+)}", path)
        for operation in methods.values():
            named = [(one["in"], one["name"]) for one in operation["parameters"]]
            assert len(named) == len(set(named))
            assert [name for place, name in named if place == "path"] == in_path
            assert all(one["required"] for one in operation["parameters"] if one["in"] == "path")
            assert operation["responses"]["200"]["description"] and operation["summary"]
            for code, answer in operation["responses"].items():
                assert re.fullmatch(r"[1-5](\d\d|XX)", code)
                for content in answer["content"].values():
                    reference = content.get("schema", {}).get("$ref", "#/components/schemas/Error")
                    assert reference.rpartition("/")[2] in schemas


def test_the_description_passes_a_validator(site: Site) -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="needs openapi-spec-validator")
    validator.validate(site.get("/api/v1/openapi.json").json)
