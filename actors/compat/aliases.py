"""Has the modules of pycos and dispy imported under their own names, in this process only. No package of that name is installed."""

from __future__ import annotations

import builtins
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..shipping.program import MirrorModule
from .names import ASYNCFILE, DISPY, DISPY_HTTPD, DISPYCOS, HTTPD, LACKS, TASKS, Names, explain

FACE = Path(__file__).parents[2] / "compat.py"  # its folder has examples/ and data/, which scripts read


def install() -> None:
    """From now on ``import pycos``, ``import dispy`` and their kin give ours. Twice is once."""
    if isinstance(sys.modules.get("pycos"), Names):
        return
    for name in ("pycos", "dispy"):
        theirs = sys.modules.get(name)
        if theirs is not None:
            raise ImportError(
                f"{name} itself is imported already ({theirs.__file__}): import dispycos.compat before it"
            )
    from . import config
    from .dispy import config as dispy_config

    file = str(FACE)
    everything = {**TASKS, **DISPYCOS}
    made: dict[str, ModuleType] = {
        "pycos": Names("pycos", file, TASKS, "Concurrent tasks, as pycos has them."),
        "pycos.netpycos": Names("pycos.netpycos", file, TASKS, "As pycos."),
        "pycos.dispycos": Names("pycos.dispycos", file, everything, "Distributed tasks, as pycos has them."),
        "pycos.httpd": Names("pycos.httpd", file, HTTPD, "The web monitor."),
        "pycos.asyncfile": Names("pycos.asyncfile", file, ASYNCFILE, "Pipes and files that tasks wait for."),
        "pycos.config": config,
        "dispy": Names("dispy", file, DISPY, "Clusters of jobs, as dispy has them."),
        "dispy.httpd": Names("dispy.httpd", file, DISPY_HTTPD, "The web monitor."),
        "dispy.config": dispy_config,
    }
    vars(made["pycos.dispycos"])["__all__"] = sorted(DISPYCOS)
    for name, module in made.items():
        sys.modules[name] = module
        if isinstance(module, Names):
            module.__package__ = name
            module.__path__ = []
            module.__spec__ = ModuleSpec(name, None, origin=file)
        root, _, inner = name.partition(".")
        for outer in ("pycos", "pycos.netpycos") if root == "pycos" else ("dispy",):
            if inner:
                setattr(made[outer], inner, module)
    made["pycos"].__version__ = "4.12.2"  # type: ignore[attr-defined]
    made["pycos.netpycos"].__version__ = "4.12.2"  # type: ignore[attr-defined]
    made["dispy"].__version__ = "4.15.2"  # type: ignore[attr-defined]
    made["pycos.netpycos"].pycos = made["pycos"]  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Refusal())
    if isinstance(sys.modules.get("__main__"), MirrorModule):
        builtins.pycos = made["pycos"]  # type: ignore[attr-defined]  # as in pycos' servers
        from ..shipping.mirror import Mirror

        Mirror.note = staticmethod(explain)  # type: ignore[method-assign]


class _Refusal(MetaPathFinder):
    """Of modules that they have, and we have not."""

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith(("pycos.", "dispy.")):
            raise ModuleNotFoundError(
                f"there is no {fullname} here: {LACKS}",
                name=fullname,
            )
        return None
