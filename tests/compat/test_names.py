"""Every name of pycos that is listed is there, in a process of its own: importing it changes what handles are."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

SCRIPT = """
    import sys
    import dispycos.compat
    from dispycos.actors.compat.names import ASYNCFILE, DISPYCOS, HTTPD, TASKS
    import pycos, pycos.netpycos, pycos.dispycos, pycos.httpd, pycos.asyncfile, pycos.config
    import pycos.netpycos as again
    for module, names in ((pycos, TASKS), (pycos.dispycos, DISPYCOS), (pycos.httpd, HTTPD), (pycos.asyncfile, ASYNCFILE)):
        for name in names:
            getattr(module, name)
    assert pycos.Task is pycos.netpycos.Task is pycos.dispycos.Task is again.Task
    assert not hasattr(pycos, "Nonsense")
    for line in ("from pycos import Nonsense", "import pycos.nonsense", "pycos.Nonsense", "pycos.config.Nonsense"):
        try:
            exec(line)
        except (ImportError, AttributeError) as error:
            print(type(error).__name__, error)
    from pycos.dispycos import *
    print(Client is Computation, Scheduler.TaskCreated == Scheduler.TaskStarted == 21, MinPulseInterval, dir(pycos)[-1])
    from pycos import *
    print(logger.DEBUG, Logger.ERROR, Location("host", "9705"), isinstance(Location("host", 1), Location))
    import os
    print(os.path.isfile(os.path.join(os.path.dirname(pycos.__file__), "data", "Dockerfile")))
"""


def test_all_names_are_there_and_others_are_named_with_where_to_look() -> None:
    done = subprocess.run([sys.executable, "-c", dedent(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    missing, module, attribute, config, *rest = done.stdout.splitlines()
    assert missing.startswith("ImportError cannot import name 'Nonsense' from 'pycos'")
    assert module.startswith("ModuleNotFoundError there is no pycos.nonsense here: docs/compat.md")
    assert attribute.startswith("AttributeError pycos has no 'Nonsense' here: docs/compat.md")
    assert config.startswith("AttributeError pycos.config has no 'Nonsense' here: docs/compat.md")
    assert rest[:3] == ["True True 10.0 unserialize", "10 40 host:9705 True", "True"]
