"""Other users of this machine, for tests that run as root: programs start where each of them can read the interpreter."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# In a mount namespace of its own: folders that only root may enter are covered by themselves, changed in a copy.
_OPEN = """
for folder in $0; do
    mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work &&
    mount -t overlay overlay -o "lowerdir=$folder,upperdir=/mnt/upper,workdir=/mnt/work" "$folder" &&
    umount -l /mnt && chmod a+rx "$folder" || exit 77
done
exec "$@"
"""


def _shut() -> list[str]:
    """Folders on the way to the interpreter, or to the checkout, that other users may not enter; the outermost first."""
    wanted = [sys.prefix, sys.base_prefix, str(ROOT), *filter(os.path.isdir, sys.path)]
    ways = {way for path in wanted for way in (Path(path), *Path(path).parents)}
    return [str(way) for way in sorted(ways) if not way.stat().st_mode & stat.S_IXOTH]


def open_to_all() -> list[str]:
    """A command runs behind it as root, and may start programs of other users."""
    return ["unshare", "--mount", "sh", "-c", _OPEN, " ".join(_shut())]


def as_user(uid: int, *groups: int) -> list[str]:
    """Behind it a command runs as this user; the first group is the primary one."""
    return ["setpriv", f"--reuid={uid}", f"--regid={groups[0]}", f"--groups={','.join(map(str, groups))}"]


def why_no_users() -> str:
    """'' where programs of other users can be started, else the reason to skip."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "programs of other users need root"
    for command in ("unshare", "setpriv"):
        if shutil.which(command) is None:
            return f"programs of other users need the command {command}"
    tried = subprocess.run(
        [*open_to_all(), *as_user(65534, 65534), sys.executable, "-c", "import dispycos, zmq"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    return "" if tried.returncode == 0 else f"other users cannot run this Python: {tried.stderr.strip()}"
