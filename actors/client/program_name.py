"""What this program is called in status and in words for people: its script, or its notebook."""

from __future__ import annotations

import os
import sys

KERNEL = "ipykernel_launcher.py"  # what a notebook's cells run in


def program_name() -> str:
    """The script's file name, or its package's; in a notebook that of its file, which Jupyter tells its kernels; else "python"."""
    path = sys.argv[0] if sys.argv else ""
    name = os.path.basename(path)
    if name == "__main__.py":  # python -m package
        return os.path.basename(os.path.dirname(os.path.abspath(path))) or name
    if name == KERNEL:
        return os.path.basename(os.environ.get("JPY_SESSION_NAME", "")) or "notebook"
    return name or "python"
