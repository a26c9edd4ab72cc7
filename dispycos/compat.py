"""``import dispycos.compat``: from then on ``import pycos``, ``from pycos.dispycos import *`` and their kin give ours.

What is covered, and what differs, is in docs/compat.md. `dispycos run SCRIPT` does it for a script that is not to be changed.
"""

from dispycos.actors.compat import tasks as _tasks  # noqa: F401  # handles are pycos' from now on
from dispycos.actors.compat.aliases import install

install()

__all__: list[str] = []
