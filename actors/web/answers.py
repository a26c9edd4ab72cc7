"""How requests are answered: as JSON, and in words if they are refused."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

BODY_MAX: Final = 1_000_000  # bytes of what is posted

Handler = Callable[[Request], Awaitable[Response]]

_encode = msgspec.json.Encoder().encode

PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>dispycos</title>
<link rel="icon" href="data:,">
"""


class Refusal(Exception):
    def __init__(self, status: int, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.remedy = status, text, remedy


def encode(value: Any) -> bytes:
    """As JSON. A text that is no Unicode, as a file's name may be, has marks where it is not."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(_mended(value))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mended(key): _mended(one) for key, one in value.items()}
    return [_mended(one) for one in value] if isinstance(value, list | tuple) else value


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(value), status, headers, media_type="application/json")


def answer_refused(refusal: Refusal, wants_page: bool, headers: Mapping[str, str] | None = None) -> Response:
    if not wants_page:
        words = {"error": refusal.text} | ({"remedy": refusal.remedy} if refusal.remedy else {})
        return answer_json(words, refusal.status, headers)
    text, remedy = (html.escape(one[:1].upper() + one[1:]) for one in (refusal.text, refusal.remedy))
    page = f"{PAGE}<h1>dispycos</h1>\n<p>{text}.</p>\n" + (f"<p>{remedy}.</p>\n" if remedy else "")
    return Response(page, refusal.status, headers, media_type="text/html")


def answer_onward() -> Response:
    """Load "./" as if the user had asked for it there.

    A redirect does not do: who came by a link of another page, as from a notebook, would not bring the cookie along that is set
    with this answer, because it is for us only (SameSite=Strict).
    """
    page = f'{PAGE}<meta http-equiv="refresh" content="0; url=./">\n<p><a href="./">To the monitor</a></p>\n'
    return Response(page, media_type="text/html")


def wants_page(accept: str, path: str) -> bool:
    return "text/html" in accept and not path.startswith(("/api/", "/metrics"))


def answering(handler: Handler) -> Handler:
    """What it refuses is answered in words."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return answer_refused(refusal, False)

    return answer


async def body_of(request: Request) -> bytes:
    """Raises Refusal if it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise Refusal(413, f"more than {BODY_MAX:,} bytes were posted", "do it in parts")
    return bytes(body)
