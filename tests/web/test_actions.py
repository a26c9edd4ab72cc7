"""What may be posted as an action, and how the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.actors.web.actions import Action, checked
from dispycos.actors.web.answers import Refusal


@pytest.mark.parametrize(
    ("action", "args"),
    [
        (Action("terminate", ["c1.1"]), {}),
        (Action("suspend", ["ash:1", "elm:1"]), {}),
        (Action("options", [], {"poll_sec": 0.2, "show_args": False}), {"poll_sec": 0.2, "show_args": False}),
        (Action("terminate_where", [], {"filter": {}}), {"filter": {}}),
        (
            Action(
                "terminate_where",
                [],
                {"filter": {"function": "f", "state": "queued", "node": "", "text": None}},
            ),
            {"filter": {"function": "f", "state": "queued"}},
        ),
    ],
)
def test_what_is_fit_goes_on(action: Action, args: dict[str, Any]) -> None:
    fit = checked(action)
    if "filter" in fit.args:  # a field that is empty is none
        fit.args["filter"] = {name: value for name, value in fit.args["filter"].items() if value}
    assert (fit.action, fit.ids, fit.args) == (action.action, action.ids, args)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Action("explode", ["c1.1"]), "no action 'explode'"),
        (Action("terminate"), "terminate: there is no id"),
        (Action("suspend", ["x"], {"filter": {}}), "suspend takes no args, and 'filter'"),
        (Action("terminate", ["x"] * 20_001), "20,001 ids are too many"),
        (Action("terminate_where"), "needs args.filter"),
        (Action("terminate_where", [], {"function": "f"}), "needs args.filter"),
        (Action("terminate_where", [], {"filter": {}, "state": "queued"}), "and nothing else"),
        (Action("terminate_where", [], {"filter": ["f"]}), "needs args.filter"),
        (Action("terminate_where", [], {"filter": {"longer": "5"}}), "no field 'longer'"),
        (Action("terminate_where", [], {"filter": {"function": 5}}), "function must be a text, not 5"),
        (Action("terminate_where", [], {"filter": {"state": "done"}}), "'done' cannot be terminated"),
        (Action("options"), "options: there is none"),
        (Action("options", [], {"colour": 1}), "no option 'colour'"),
        (Action("options", [], {"poll_sec": 0.1}), "poll_sec must be seconds from 0.2 to 3600, not 0.1"),
        (Action("options", [], {"poll_sec": True}), "poll_sec"),
        (Action("options", [], {"poll_sec": "1"}), "poll_sec"),
        (Action("options", [], {"poll_sec": float("nan")}), "poll_sec"),
        (Action("options", [], {"show_args": 1}), "show_args must be true or false, not 1"),
    ],
)
def test_what_is_not_fit_is_named(action: Action, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        checked(action)
    assert caught.value.status == 400 and words in caught.value.text
    assert len(caught.value.text) < 300
