"""What this program is called in status and in words for people: its script, or its notebook; and which line of it calls."""

from __future__ import annotations

import inspect
import os
import sys

from ..tasks.current import ipython

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


def place_of_caller() -> str:
    """The line outside of this package that runs, and in a notebook its cell."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("dispycos."):
        frame = frame.f_back
    if frame is None:
        return "C code"
    shell = ipython()
    if shell is not None and frame.f_globals.get("__name__") == "__main__":
        # Of the cell that runs; shell.execution_count is the next one's from IPython 9 on.
        number = len(shell.history_manager.input_hist_parsed) - 1
        return f"cell [{number}], line {frame.f_lineno}"
    return f"{os.path.basename(frame.f_code.co_filename)}, line {frame.f_lineno}"
