"""Who may do what: each decision, as the function of a request that it is."""

from __future__ import annotations

import pytest

from dispycos.actors.web.access import CSRF_HEADER, OPERATOR, VIEWER, Access

ACCESS = Access("op-token", "see-token", frozenset(("localhost", "127.0.0.1", "::1", "ash")), "dispycos-8181")
HOST = {"host": "localhost:8181"}
BEARER = HOST | {"authorization": "Bearer op-token"}
ACT = "/api/v1/actions"


def cookie(role: str) -> dict[str, str]:
    return HOST | {"cookie": f"dispycos-8181={ACCESS.cookie_of(role)}"}


def csrf(role: str) -> dict[str, str]:
    return {CSRF_HEADER: ACCESS.csrf_of(role)}


def status(method: str, path: str, headers: dict[str, str], url_token: str | None = None) -> int:
    return ACCESS.judge(method, path, headers, url_token).status


# --- whom it lets in ---


def test_a_bearer_or_a_cookie_tells_the_role() -> None:
    for headers, role in [
        (BEARER, OPERATOR),
        (HOST | {"authorization": "bearer  see-token "}, VIEWER),
        (cookie(OPERATOR), OPERATOR),
        (cookie(VIEWER), VIEWER),
    ]:
        verdict = ACCESS.judge("GET", "/api/v1/nodes", headers)
        assert (verdict.status, verdict.role) == (200, role)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer op-token2"},
        {"authorization": "Bearer op-toke"},
        {"authorization": "Bearer öp-token"},
        {"authorization": "Basic op-token"},
        {"authorization": "op-token"},
        {"cookie": "dispycos-8181=op-token"},  # the token itself is none
        {"cookie": "dispycos-8181="},
        {"cookie": f"dispycos-8182={ACCESS.cookie_of(OPERATOR)}"},
        {"cookie": ";;;=;dispycos-8181"},
        {"authorization": f"Bearer {ACCESS.cookie_of(OPERATOR)}"},
    ],
)
def test_who_brings_no_token_or_a_wrong_one_hears_how_to_get_in(headers: dict[str, str]) -> None:
    for path in ("/", "/style.css", "/api/v1/nodes", "/metrics", "/cluster_status", "/none"):
        verdict = ACCESS.judge("GET", path, HOST | headers)
        assert (verdict.status, verdict.role) == (401, "")
        assert "URL" in verdict.remedy and "Bearer" in verdict.remedy
        assert status("POST", path, HOST | headers | csrf(OPERATOR)) == 401


def test_a_wrong_bearer_is_not_made_good_by_a_cookie() -> None:
    assert status("GET", "/", cookie(OPERATOR) | {"authorization": "Bearer wrong"}) == 401


def test_cookies_of_other_programs_do_not_get_in_the_way() -> None:
    right = f"dispycos-8181={ACCESS.cookie_of(OPERATOR)}"
    for others in ('prefs={"a": [1, 2]}', "dispycos-8181=stolen", 'x="', "a b c", "dispycos-8182=other"):
        assert status("GET", "/", HOST | {"cookie": f"{others}; {right}; {others}"}) == 200


def test_only_healthz_is_open() -> None:
    assert status("GET", "/healthz", HOST) == 200
    for path in ("/healthz/", "//healthz", "/healthz/../api/v1/nodes", "/HEALTHZ", "/healthz.css"):
        assert status("GET", path, HOST) == 401


def test_the_token_of_the_url_is_taken_at_the_page_only_and_changed_for_a_cookie() -> None:
    assert ACCESS.judge("GET", "/", HOST, "op-token").role == OPERATOR
    assert ACCESS.judge("GET", "/", HOST, "see-token").role == VIEWER
    assert ACCESS.judge("GET", "/", HOST, "wrong").text == "this token is wrong"
    assert status("GET", "/", cookie(OPERATOR), "wrong") == 401
    assert status("GET", "/", HOST, "") == 401
    for method, path in [("GET", "/api/v1/nodes"), ("GET", "/index.html"), ("POST", "/")]:
        assert status(method, path, HOST, "op-token") == 401


def test_what_a_viewer_gets_is_of_no_use_to_become_an_operator() -> None:
    values = [make(role) for make in (ACCESS.cookie_of, ACCESS.csrf_of) for role in (OPERATOR, VIEWER)]

    assert len({*values, ACCESS.operator, ACCESS.viewer}) == 6
    for theirs in (ACCESS.csrf_of(VIEWER), ACCESS.cookie_of(VIEWER), ACCESS.csrf_of(OPERATOR)):
        assert ACCESS.role_of(theirs) == ""
        assert status("GET", "/", HOST | {"cookie": f"dispycos-8181={theirs}"}) in (
            [200] if theirs == ACCESS.cookie_of(VIEWER) else [401]
        )


# --- Host ---


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:8181",
        "[::1]:8181",
        "[::1]",
        "ash:80",
        "Ash.",
        "localhost.:8181",
    ],
)
def test_it_is_reached_by_its_names_at_any_port(host: str) -> None:
    assert status("GET", "/", BEARER | {"host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "evil.example:8181",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost/evil",
        "localhost:8181/x",
        "localhost:port",
        "localhost:",
        "localhost:123456",
        "localhost..",
        " localhost",
        "local host",
        "localhost\t",
        "[::2]",
        "[::1",
        "::1",
        "[::1]x",
        "[::1].evil.example",
        "127.0.0.2",
        "127.1",
        "2130706433",
        "ash\u0131",
        "localhost\r\nx: y",
    ],
)
def test_a_name_that_is_not_its_own_is_refused_before_all_else(host: str) -> None:
    for path in ("/", "/healthz", ACT):
        verdict = ACCESS.judge("GET", path, BEARER | {"host": host}, "op-token")
        assert verdict.status == 421 and verdict.text and verdict.remedy


@pytest.mark.parametrize("path", ["http://localhost/", "*", "localhost:80", ""])
def test_it_is_no_proxy(path: str) -> None:
    assert status("GET", path, BEARER) == 400


# --- acting ---


def test_an_operators_page_acts_with_cookie_and_csrf_header_and_a_program_with_its_token() -> None:
    for origin in ({}, {"origin": "http://localhost:8181"}, {"origin": "HTTPS://Localhost:8181"}):
        assert status("POST", ACT, cookie(OPERATOR) | csrf(OPERATOR) | origin) == 200
        assert status("POST", ACT, BEARER | origin) == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "post", "get", "X"])
def test_whatever_does_not_only_look_needs_the_csrf_header(method: str) -> None:
    for header in ({}, {CSRF_HEADER: ""}, {CSRF_HEADER: "x"}, csrf(VIEWER), {CSRF_HEADER: ACCESS.operator}):
        verdict = ACCESS.judge(method, ACT, cookie(OPERATOR) | header)
        assert verdict.status == 403 and CSRF_HEADER in verdict.text


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost",
        "http://localhost:9999",
        "http://127.0.0.1:8181",
        "http://localhost:8181.evil.example",
        "http://evil.example@localhost:8181",
        "null",
        "",
        "ftp://localhost:8181",
        "http://localhost:8181/",
    ],
)
def test_a_page_elsewhere_does_not_act_even_with_the_csrf_value(origin: str) -> None:
    for headers in (cookie(OPERATOR) | csrf(OPERATOR), BEARER):
        assert status("POST", ACT, headers | {"origin": origin}) == 403


@pytest.mark.parametrize(
    "headers", [cookie(VIEWER) | csrf(VIEWER), HOST | {"authorization": "Bearer see-token"}]
)
def test_a_viewer_does_not_act_whatever_it_sends(headers: dict[str, str]) -> None:
    verdict = ACCESS.judge("POST", ACT, headers)
    assert (verdict.status, verdict.text) == (403, "this token may look, and not act")
    assert status("POST", ACT, headers | csrf(OPERATOR)) == 403


# --- pages elsewhere ---


def fetched(site: str, mode: str = "cors", dest: str = "empty") -> dict[str, str]:
    return {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_elsewhere_neither_fetches_nor_frames_it(site: str) -> None:
    assert status("GET", "/api/v1/stream", cookie(OPERATOR) | fetched(site)) == 403
    assert status("GET", "/app.js", cookie(OPERATOR) | fetched(site, "no-cors", "script")) == 403
    assert status("GET", "/", cookie(OPERATOR) | fetched(site, "navigate", "iframe")) == 403
    assert status("GET", "/", HOST | fetched(site, "no-cors", "image"), "op-token") == 403
    deed = cookie(OPERATOR) | csrf(OPERATOR) | fetched(site, "navigate", "document")
    assert status("POST", ACT, deed) == 403


def test_a_link_of_a_page_elsewhere_may_be_followed() -> None:
    assert status("GET", "/", cookie(OPERATOR) | fetched("cross-site", "navigate", "document")) == 200
    assert status("GET", "/", HOST | fetched("cross-site", "navigate", "document"), "op-token") == 200


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_its_own_page_and_the_user_are_not_elsewhere(site: str) -> None:
    assert status("GET", "/api/v1/stream", cookie(OPERATOR) | fetched(site)) == 200
