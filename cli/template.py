"""Forks the template of a node's servers. It imports little beside what servers need too, so it can be done early."""

from __future__ import annotations

import gc

import dispycos.runtime  # noqa: F401  # of agent and servers alike: imported before the fork it is shared
from dispycos.actors.node.processes.template import Template
from dispycos.actors.node.processes.user import TaskUser

from .sight import forbid_core_files

PRELOAD = ("dispycos.actors.server.body",)


def fork_template(user: TaskUser | None = None) -> Template:
    """A process's first act: before any thread and ZeroMQ context. `user`: whom tasks run as, if not as this process."""
    forbid_core_files()
    gc.collect()  # what is imported by now stays, and its pages are shared as long as no collector touches them
    gc.freeze()
    return Template.fork(PRELOAD, user)
