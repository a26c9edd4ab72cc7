"""How requests are answered: as JSON, and in words if they are refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

BODY_MAX: Final = 1_000_000  # bytes of what is posted

Handler = Callable[[Request], Awaitable[Response]]

encode = msgspec.json.Encoder().encode


class Refusal(Exception):
    def __init__(self, status: int, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.remedy = status, text, remedy


def answer_json(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def answering(handler: Handler) -> Handler:
    """What it refuses is answered in words."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            words = {"error": refusal.text} | ({"remedy": refusal.remedy} if refusal.remedy else {})
            return answer_json(words, refusal.status)

    return answer


async def body_of(request: Request) -> bytes:
    """Raises Refusal if it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise Refusal(413, f"more than {BODY_MAX:,} bytes")
    return bytes(body)
