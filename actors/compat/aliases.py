"""Has pycos' modules imported under their own names, in this process only. No package of that name is installed."""

from __future__ import annotations

import builtins
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..shipping.program import MirrorModule
from .names import ASYNCFILE, DISPYCOS, DOCS, HTTPD, TASKS, Names

FACE = Path(__file__).parents[2] / "compat.py"  # its folder has examples/ and data/, which scripts read


def install() -> None:
    """From now on ``import pycos`` and its kin give ours. Twice is once."""
    pycos = sys.modules.get("pycos")
    if isinstance(pycos, Names):
        return
    if pycos is not None:
        raise ImportError(
            f"pycos itself is imported already ({pycos.__file__}): import dispycos.compat before it"
        )
    from . import config

    file = str(FACE)
    everything = {**TASKS, **DISPYCOS}
    made: dict[str, ModuleType] = {
        "pycos": Names("pycos", file, TASKS, "Concurrent tasks, as pycos has them."),
        "pycos.netpycos": Names("pycos.netpycos", file, TASKS, "As pycos."),
        "pycos.dispycos": Names("pycos.dispycos", file, everything, "Distributed tasks, as pycos has them."),
        "pycos.httpd": Names("pycos.httpd", file, HTTPD, "The web monitor."),
        "pycos.asyncfile": Names("pycos.asyncfile", file, ASYNCFILE, "Pipes and files that tasks wait for."),
        "pycos.config": config,
    }
    vars(made["pycos.dispycos"])["__all__"] = sorted(DISPYCOS)
    for name, module in made.items():
        sys.modules[name] = module
        if isinstance(module, Names):
            parent = "pycos" if name == "pycos" else name
            module.__package__ = parent
            module.__path__ = []
            module.__spec__ = ModuleSpec(name, None, origin=file)
        for outer in ("pycos", "pycos.netpycos"):
            if name.count("."):
                setattr(made[outer], name.rpartition(".")[2], module)
    made["pycos"].__version__ = "4.12.2"  # type: ignore[attr-defined]
    made["pycos.netpycos"].__version__ = "4.12.2"  # type: ignore[attr-defined]
    made["pycos.netpycos"].pycos = made["pycos"]  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Refusal())
    if isinstance(sys.modules.get("__main__"), MirrorModule):
        builtins.pycos = made["pycos"]  # type: ignore[attr-defined]  # as in pycos' servers


class _Refusal(MetaPathFinder):
    """Of modules that pycos has, and we have not."""

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith("pycos."):
            raise ModuleNotFoundError(
                f"there is no {fullname} here: {DOCS} of dispycos lists what its scripts can use",
                name=fullname,
            )
        return None
