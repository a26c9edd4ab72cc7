"""Parameters that pycos has and dispycos has no use for."""

from __future__ import annotations

import logging
from typing import Any

from dispycos.private_options import PRIVATE_OPTIONS

from .names import LACKS

log = logging.getLogger("dispycos")

ALSO = {
    *("udp_port", "tcp_port", "node_port", "scheduler_port", "ipv4_udp_multicast", "socket_family"),
    *("discover_peers", "notifier", "relay_nodes", "pulse_interval", "ping_interval", "clean"),
    *("secret", "certfile", "keyfile", "node_ports", "msg_timeout"),
}
NAMED_BEFORE = {"node": "ip_addr", "host": "ip_addr", "ext_host": "ext_ip_addr"}


def usable(options: dict[str, Any], what: str) -> dict[str, Any]:
    """Those of a private scheduler. Raises TypeError naming one that pycos does not have either."""
    used = {}
    for name, value in options.items():
        if name in ("secret", "certfile", "keyfile") and value:
            log.warning(
                "%s(%s=...) is not used: dispycos has a secret of its own, see `dispycos run --help`",
                what,
                name,
            )
        elif name in ALSO:
            log.debug("%s(%s=%r) has no effect: dispycos needs none", what, name, value)
        elif NAMED_BEFORE.get(name, name) not in PRIVATE_OPTIONS:
            raise TypeError(f"{what}() has no parameter {name!r} here: {LACKS}")
        elif value not in (None, "", (), []):
            used[name] = [str(one) for one in value] if isinstance(value, list | tuple) else value
    return used
