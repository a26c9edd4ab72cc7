"""What a client wants of its cluster, as the program says it, and what may be said."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import NamedTuple

from dispycos.transport.folders import temporary_folder
from dispycos.values import parse_size

from .code import SetupCall
from .status import DispycosNodeAllocate

SETTLE_S = 10.0
SETUP_S = 86_400.0  # what loads for hours is no failure; it is told that it does


def clients_folder() -> Path:
    """Where the folders of clients are that named none."""
    return temporary_folder() / "clients"


class Wishes(NamedTuple):
    """What a client wants of its cluster, as it tells the scheduler."""

    name: str
    allocations: list[DispycosNodeAllocate]
    pulse_interval: float
    abandon_zombies: bool
    node_setup: SetupCall | None = None
    server_setup: SetupCall | None = None
    disable_nodes: bool = False
    disable_servers: bool = False
    restart_servers: bool = False
    cleanup: bool = True
    dest_path: Path = Path()
    max_file_size: int = 0  # bytes; 0: no limit

    @property
    def settle_s(self) -> float:
        """For which schedule() waits for the servers of a node."""
        if self.disable_nodes or self.disable_servers:
            return 0.0
        return SETTLE_S if self.node_setup is None and self.server_setup is None else SETUP_S


def folder_of(folder: str | os.PathLike[str] | None) -> Path:
    """For `dest_path`."""
    if folder is None:
        return clients_folder() / f"{os.getpid()}-{secrets.token_hex(4)}"
    if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
        raise TypeError(f"dest_path must be the path of a folder (str or PathLike), not {folder!r}")
    path = Path(os.path.abspath(folder))
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"dest_path: {path} is not a folder")
    return path


def size_of(size: int | str) -> int:
    """Bytes, for `max_file_size`."""
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise TypeError(f"max_file_size must be bytes (int) or text such as '10m', not {size!r}")
    try:
        return parse_size(str(size))
    except ValueError as error:
        raise ValueError(f"max_file_size: {error}") from None
