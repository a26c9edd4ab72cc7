"""`python -m tests.reliability [NAME ...]`: runs the scripts of this folder one after the other, each in its long form."""

from __future__ import annotations

import subprocess
import sys
import time

SCRIPTS = {  # with their arguments
    "scheduler_killed": ("20", "10000", "5", "75"),
    "killed": ("25",),
    "links_cut": ("100000",),
    "stopped": ("90", "40"),
    "flood": ("5", "1", "50"),
    "sleeper": ("1000000",),
    "schedules": ("10000",),
}


def main(names: list[str]) -> int:
    failed = []
    for name in names or SCRIPTS:
        began = time.monotonic()
        code = subprocess.run([sys.executable, "-m", f"{__package__}.{name}", *SCRIPTS[name]]).returncode
        print(f"{name}: {'failed' if code else 'passed'} after {time.monotonic() - began:.0f} s", flush=True)
        failed += [name] if code else []
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
