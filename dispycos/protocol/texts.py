"""Texts in messages: of any length and any characters when they come, short enough and sendable when they leave."""

from typing import Any, Final

import msgspec

NAME_MAX: Final = 200  # characters of a name: of a function, client, node ...


def cut(text: str, limit: int, tail: int = 0) -> str:
    """At most about `limit` characters, the last `tail` of them from the end, with a word on what is left out.

    What cannot travel, as the lone surrogates of a file name that is not UTF-8, is written out.
    """
    count = len(text)
    if count > limit:
        said = f"... (cut: {count:,} characters)"
        text = text[: limit - tail] + (f"{said} ...{text[-tail:]}" if tail else said)
    return text.encode("utf-8", "backslashreplace").decode()


def fitted(value: Any, limit: int) -> Any:
    """The same message, with every text in it cut to `limit`."""
    if isinstance(value, str):
        return cut(value, limit)
    if isinstance(value, msgspec.Struct):
        return type(value)(*[fitted(getattr(value, name), limit) for name in value.__struct_fields__])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[fitted(item, limit) for item in value])
    if isinstance(value, list | tuple):
        return type(value)(fitted(item, limit) for item in value)
    return value
