"""Names that actors/ still takes from here; goes with the old path."""

from typing import Final

from .allocation import Named as Named

FAST_S: Final = 0.005  # a run below this is a short one
