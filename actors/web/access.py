"""Who may do what at the web server: decided on what a request says, before anything else is done with it.

Two tokens: an operator may act, a viewer may look. A browser brings its token in a cookie that no other site can use
(SameSite=Strict) and no script can read; programs bring it as `Authorization: Bearer`. A page elsewhere that points a name of its
own at this address (DNS rebinding) is caught by the Host header, one that posts here by Origin and by a header that only our own
page can set: both as OWASP's cheat sheet on cross-site request forgery has it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

OPERATOR: Final = "operator"
VIEWER: Final = "viewer"
CSRF_HEADER: Final = "x-dispycos-csrf"
OPEN_PATHS: Final = frozenset(("/healthz",))
SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
REMEDY: Final = (
    "open the URL with its token that was printed when the monitor was started, or send the token as "
    "Authorization: Bearer TOKEN"
)

HEADERS: Final = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


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
    cookie: the name of the cookie; a host may have several monitors, and cookies do not know ports.
    """

    operator: str
    viewer: str
    hosts: frozenset[str]
    cookie: str = "dispycos"

    @property
    def csrf(self) -> str:
        """What our page sends along with each POST."""
        return hmac.new(self.operator.encode(), b"csrf", sha256).hexdigest()

    def role_of(self, token: str) -> str:
        """Empty: of nobody."""
        given = token.encode("utf-8", "replace")
        is_operator = hmac.compare_digest(given, self.operator.encode())
        is_viewer = hmac.compare_digest(given, self.viewer.encode())
        return OPERATOR if is_operator else VIEWER if is_viewer else ""

    def judge(self, method: str, path: str, headers: Mapping[str, str]) -> Verdict:
        """`headers`: by their names in lower case."""
        host = headers.get("host", "")
        if _name_of(host) not in self.hosts:
            return Verdict(
                421,
                "",
                f"this monitor is not {host or 'without a Host'}",
                "use its address, or start it with --web-host NAME",
            )
        if path in OPEN_PATHS:
            return Verdict(200)
        bearer = _bearer(headers.get("authorization", ""))
        role = self.role_of(bearer if bearer is not None else self._cookie_of(headers.get("cookie", "")))
        if not role:
            return Verdict(401, "", "no token, or a wrong one", REMEDY)
        if method in SAFE:
            return Verdict(200, role)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return Verdict(403, role, f"a page of {origin} may not act here")
        if bearer is None and not hmac.compare_digest(
            headers.get(CSRF_HEADER, "").encode(), self.csrf.encode()
        ):
            return Verdict(
                403, role, f"the header {CSRF_HEADER} is missing or wrong", "its value is in /api/v1/session"
            )
        if role != OPERATOR:
            return Verdict(403, role, "this token may look, and not act", "open the operator's URL")
        return Verdict(200, role)

    def _cookie_of(self, header: str) -> str:
        try:
            morsel = SimpleCookie(header).get(self.cookie)
        except CookieError:
            return ""
        return morsel.value if morsel is not None else ""


def _bearer(header: str) -> str | None:
    kind, _, token = header.partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _name_of(host: str) -> str:
    """Without the port; an IPv6 address without its brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
