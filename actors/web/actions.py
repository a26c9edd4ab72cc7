"""What may be posted to /api/v1/actions: checked before anybody is asked to carry it out."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .answers import Refusal
from .desk import FILTER

ACTIONS: Final = {
    "terminate": "tasks, by their ids",
    "terminate_where": "all tasks that args.filter fits, also those that are not listed",
    "suspend": "nodes and servers: they take no new tasks",
    "resume": "nodes and servers: they take tasks again",
    "close": "nodes and servers: what runs there ends first",
    "restart": "servers",
    "end_lease": "clients: their nodes go to the next one",
    "options": "args.poll_sec (s), args.show_args",
}
STATES: Final = ("", "queued", "running")
IDS_MAX: Final = 20_000
POLL_MIN_S, POLL_MAX_S = 0.2, 3600.0

# msgspec's own words for JSON that is nested too deeply are none.
TOO_DEEP: Final = "it is nested too deeply"


class Action(msgspec.Struct, forbid_unknown_fields=True):
    """What is posted to /api/v1/actions."""

    action: str
    ids: list[str] = []
    args: dict[str, Any] = {}


def read_action(body: bytes) -> Action:
    """Raises Refusal."""
    try:
        return msgspec.json.decode(body, type=Action)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        text = TOO_DEEP if isinstance(error, RecursionError) else str(error)
        raise Refusal(
            400,
            f"this is no action: {text}",
            'post JSON as {"action": "terminate", "ids": ["1f2e3d4c.17"], "args": {}}',
        ) from None


def checked(action: Action) -> Action:
    """Its arguments as whoever carries it out takes them. Raises Refusal."""
    name, ids, args = action.action, action.ids, action.args
    if name not in ACTIONS:
        raise Refusal(400, f"there is no action {name[:100]!r}", f"there are {', '.join(ACTIONS)}")
    if len(ids) > IDS_MAX:
        raise Refusal(400, f"{len(ids):,} ids are too many", f"post at most {IDS_MAX:,} at once")
    if name == "options":
        return Action(name, [], _options(args))
    if name == "terminate_where":
        return Action(name, [], {"filter": _filter(args)})
    if args:
        raise Refusal(400, f"{name} takes no args, and {sorted(args)[0][:100]!r} was given")
    if not ids:
        raise Refusal(400, f"{name}: there is no id", f"give ids of {ACTIONS[name].partition(':')[0]}")
    return action


def _filter(args: dict[str, Any]) -> dict[str, Any]:
    """An unknown field would let more be terminated than was meant."""
    wanted = args.get("filter")
    if not isinstance(wanted, dict) or len(args) != 1:
        raise Refusal(
            400,
            "terminate_where needs args.filter, and nothing else",
            f"its fields are {', '.join(FILTER)}; one that is empty fits all",
        )
    known = {}
    for name, value in wanted.items():
        if name not in FILTER:
            raise Refusal(400, f"filter: there is no field {name[:100]!r}", f"there are {', '.join(FILTER)}")
        if value is not None and not isinstance(value, str):
            raise Refusal(400, f"filter: {name} must be a text, not {str(value)[:100]}")
        known[name] = value or ""
    state = known.get("state", "")
    if state not in STATES:
        raise Refusal(
            400, f"filter: tasks in the state {state[:100]!r} cannot be terminated", "queued or running"
        )
    return known


def _options(args: dict[str, Any]) -> dict[str, Any]:
    if not args:
        raise Refusal(400, "options: there is none", "there are poll_sec and show_args")
    for name, value in args.items():
        told = str(value)[:100]
        if name == "poll_sec":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not POLL_MIN_S <= value <= POLL_MAX_S:
                raise Refusal(
                    400, f"poll_sec must be seconds from {POLL_MIN_S} to {POLL_MAX_S:g}, not {told}"
                )
        elif name == "show_args":
            if not isinstance(value, bool):
                raise Refusal(400, f"show_args must be true or false, not {told}")
        else:
            raise Refusal(400, f"there is no option {name[:100]!r}", "there are poll_sec and show_args")
    return args
