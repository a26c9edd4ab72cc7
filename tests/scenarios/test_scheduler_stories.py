"""A thousand stories of clients, nodes and servers that come, fail and go; each from a seed that a failure prints."""

from __future__ import annotations

import pytest

from dispycos.brokers import dispatch, placement, scheduler

from ..kit.scheduler import World

SEEDS = 1000
EVENTS = 120


@pytest.fixture(autouse=True)
def small_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stories are short, so what takes long in life is made to happen early."""
    monkeypatch.setattr(placement, "SAMPLES_MIN", 3)
    monkeypatch.setattr(placement, "SAMPLES_KEPT", 5)
    for module in (dispatch, scheduler):
        monkeypatch.setattr(module, "CREDIT", 32)


def tell(seed: int) -> None:
    try:
        World(seed).run(EVENTS)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


def test_a_thousand_stories_end_well() -> None:
    for seed in range(SEEDS):
        tell(seed)
