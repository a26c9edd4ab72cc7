"""CUDA_VISIBLE_DEVICES of a task that has GPUs, and of those after it."""

from __future__ import annotations

import os

import pytest

from dispycos.actors.server.devices import Devices, visible
from dispycos.protocol.messages import TaskId

VARIABLE = "CUDA_VISIBLE_DEVICES"


def test_numbers_are_those_of_the_nodes_own_list() -> None:
    assert visible([1], None) == "1"
    assert visible([0, 1], "4, 5") == "4,5"
    assert visible([1], "GPU-8f,GPU-9a") == "GPU-9a"


@pytest.mark.parametrize("before", [None, "4,5"])
def test_it_is_put_back_when_the_task_ends(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.setenv(VARIABLE, before or "")
    if before is None:
        monkeypatch.delenv(VARIABLE)
    devices, one, other = Devices(), TaskId(1, 1), TaskId(1, 2)
    devices.begin(one, {"gpu": [1]})
    devices.begin(one, {"gpu": [1]})  # once more, when its code has come
    assert os.environ[VARIABLE] == ("5" if before else "1")
    devices.end(other)
    assert os.environ[VARIABLE] == ("5" if before else "1")
    devices.end(one)
    assert os.environ.get(VARIABLE) == before
    devices.begin(other, {"licence": [0]})
    assert os.environ.get(VARIABLE) == before
