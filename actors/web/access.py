"""Who may do what at the web server: decided on what a request says, before anything else is done with it.

Two tokens: an operator may act, a viewer may look. A browser changes its token, which came in the URL, for a cookie that no other
site can use (SameSite=Strict) and no script can read; programs bring it as `Authorization: Bearer`. A page elsewhere that points a
name of its own at this address (DNS rebinding) is caught by the Host header; one that posts here by Origin, and by a header that
only our own page can set; one that makes the browser fetch from here, as of another port of this host, by Sec-Fetch-Site: all
three as OWASP's cheat sheet on cross-site request forgery has it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

OPERATOR: Final = "operator"
VIEWER: Final = "viewer"
CSRF_HEADER: Final = "x-dispycos-csrf"
OPEN_PATHS: Final = frozenset(("/healthz",))
LOOKS: Final = frozenset(("/node_info", "/server_info"))  # posted, as pycos has it, and nothing is done
SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
ELSEWHERE: Final = frozenset(("cross-site", "same-site"))  # same-site: another port, for one
REMEDY: Final = (
    "open the URL with its token that was printed when the monitor was started, or send the token as "
    "Authorization: Bearer TOKEN"
)

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Status 200: let it pass, as this role. Else the answer, in words."""

    status: int
    role: str = ""
    text: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """The tokens of one monitor, and the names that it is reached by.

    Parameters
    ----------
    operator, viewer: the tokens. hosts: names and addresses that may stand in the Host header, in lower case, without a port.
    cookie: its name; a host may have several monitors, and cookies do not know ports.
    """

    operator: str
    viewer: str
    hosts: frozenset[str]
    cookie: str = "dispycos"

    def cookie_of(self, role: str) -> str:
        """What a browser of this role brings: not the token, which would be of use as Bearer."""
        return self._made_of(role, b"cookie")

    def csrf_of(self, role: str) -> str:
        """What the page of this role sends along with each POST."""
        return self._made_of(role, b"csrf")

    def _made_of(self, role: str, use: bytes) -> str:
        token = self.operator if role == OPERATOR else self.viewer
        return hmac.new(token.encode(), use, sha256).hexdigest()

    def role_of(self, token: str) -> str:
        """Empty: of nobody."""
        return self._role(token, self.operator, self.viewer)

    def _role(self, given: str, operator: str, viewer: str) -> str:
        is_operator, is_viewer = _is_same(given, operator), _is_same(given, viewer)
        return OPERATOR if is_operator else VIEWER if is_viewer else ""

    def judge(
        self, method: str, path: str, headers: Mapping[str, str], url_token: str | None = None
    ) -> Verdict:
        """`headers`: by their names in lower case. `url_token`: that stands in the URL, which is only taken at "/"."""
        host = headers.get("host", "")
        if not path.startswith("/"):
            return Verdict(400, "", "this is no proxy", "ask for a path: GET / HTTP/1.1")
        if _name_of(host) not in self.hosts:
            told = f"{host!r} is no name of this monitor" if host else "there is no Host in this request"
            return Verdict(
                421, "", told, "use its address; or give it that name when it is started (docs/web.md)"
            )
        if path in OPEN_PATHS:
            return Verdict(200)
        if _is_from_elsewhere(method, headers):
            return Verdict(403, "", "a page of another site may not use this monitor", "open its own page")
        if url_token is not None and path == "/" and method in SAFE:
            role = self.role_of(url_token)
            return Verdict(200, role) if role else Verdict(401, "", "this token is wrong", REMEDY)
        bearer = _bearer(headers.get("authorization", ""))
        role = self.role_of(bearer) if bearer is not None else self._role_of_cookie(headers.get("cookie", ""))
        if not role:
            return Verdict(401, "", "no token came with this request, or a wrong one", REMEDY)
        if method in SAFE:
            return Verdict(200, role)
        return self._judge_post(role, path, bearer is not None, headers)

    def _judge_post(self, role: str, path: str, is_program: bool, headers: Mapping[str, str]) -> Verdict:
        origin, host = headers.get("origin"), headers["host"].lower()
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            return Verdict(
                403, role, f"a page of {origin} may not act here", "a proxy has to pass Host on, as it came"
            )
        if not is_program and not _is_same(headers.get(CSRF_HEADER, ""), self.csrf_of(role)):
            return Verdict(
                403, role, f"the header {CSRF_HEADER} is missing or wrong", "its value is in /api/v1/session"
            )
        if role != OPERATOR and path not in LOOKS:
            return Verdict(403, role, "this token may look, and not act", "open the operator's URL")
        return Verdict(200, role)

    def _role_of_cookie(self, header: str) -> str:
        """Other programs of this host may have set any, even of this name: one of them has to be right."""
        operator, viewer = self.cookie_of(OPERATOR), self.cookie_of(VIEWER)
        for one in header.split(";"):
            name, _, value = one.strip().partition("=")
            if name == self.cookie and (role := self._role(value, operator, viewer)):
                return role
        return ""


def _is_same(given: str, right: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


def _is_from_elsewhere(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a page of another origin has the browser ask, other than by a link that the user follows."""
    if headers.get("sec-fetch-site") not in ELSEWHERE:
        return False
    is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return not (is_link and method in SAFE)


def _bearer(header: str) -> str | None:
    kind, _, token = header.partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _name_of(host: str) -> str:
    """Without the port, a dot at the end, and the brackets of an IPv6 address. Empty if it is none."""
    found = _HOST.fullmatch(host)
    return found[1].lower().removesuffix(".").strip("[]") if found else ""
