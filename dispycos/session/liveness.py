"""Decides when a silent link is asked whether it lives, and when it is given up.

Only a question that was asked and had its time counts as missed, so a process that was itself paused does not
give up its peers when it wakes.
"""

from typing import Final, Literal, NamedTuple


class Patience(NamedTuple):
    """Seconds of silence before the first question, seconds for each answer, answers that may be missed."""

    idle: float
    answer: float
    misses: int


DEFAULT: Final = Patience(1.0, 0.75, 3)
CLIENT: Final = Patience(1.0, 3.0, 3)


def patience_for(own_role: str, peer_role: str) -> Patience | None:
    """None where nobody asks: a server's death is its agent's word, and its agent's is its own end."""
    if "server" in (own_role, peer_role):
        return None
    return CLIENT if peer_role == "client" else DEFAULT


class Liveness:
    """Watches one link."""

    def __init__(self, patience: Patience, now: float) -> None:
        self._patience = patience
        self._missed = 0
        self._due = now + patience.idle
        self._heard = now

    def heard(self, now: float) -> None:
        self._heard = now
        self._missed = 0

    def deadline(self) -> float:
        return self._due

    def wake(self, now: float) -> Literal["ping", "down"] | None:
        """What to do at this moment, if anything."""
        if now < self._due:
            return None
        quiet_until = self._heard + self._patience.idle
        if not self._missed and now < quiet_until:
            self._due = quiet_until
            return None
        if self._missed >= self._patience.misses:
            return "down"
        self._missed += 1
        self._due = now + self._patience.answer
        return "ping"
