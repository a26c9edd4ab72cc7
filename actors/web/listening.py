"""Where the web server listens, by which names and with which certificate; what does not work is refused in words."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final

import psutil

from dispycos.config import Misuse

BACKLOG: Final = 128
LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
ALL: Final = ("", "0.0.0.0", "::")


def listen(host: str, port: int) -> socket.socket:
    """Raises Misuse."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise Misuse(
            f"web monitor: {port!r} is no port", "give a number from 1 to 65535, or 0 for any free one"
        )
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise Misuse(
            f"web monitor: no address for host {host!r} ({error})", "give a name or address of this host"
        ) from None
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Misuse(
            f"web monitor: port {port} of {host or 'all addresses'}: {error.strerror}", _remedy_for(error)
        ) from None
    listener.setblocking(False)
    return listener


def _remedy_for(error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "give a name or address of this host, or '' for all"
    if error.errno == errno.EACCES:
        return "give a port from 1024 on: those below are for root"
    return "give another port, or 0 for any free one"


def names_of(listener: socket.socket, host: str) -> frozenset[str]:
    """What a browser may call it."""
    address = listener.getsockname()[0].partition("%")[0]
    names = {host.lower(), address}
    if address in ALL:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        names |= {one.address.partition("%")[0] for own in psutil.net_if_addrs().values() for one in own}
    return LOOPBACK | names - set(ALL)


def url_of(host: str, port: int, is_tls: bool, token: str) -> str:
    name = socket.gethostname() if host in ALL else host
    name = f"[{name}]" if ":" in name else name
    return f"{'https' if is_tls else 'http'}://{name}:{port}/?token={token}"


def tls_of(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    """Raises Misuse."""
    if certfile is None and keyfile is None:
        return None
    if certfile is None:
        raise Misuse(
            "keyfile is given, and no certfile",
            "give the certificate: certfile=... (it may hold the key, too)",
        )
    for option, path in (("certfile", certfile), ("keyfile", keyfile)):
        if path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            why = "cannot be read" if os.path.exists(path) else "is not there"
            raise Misuse(f"{option}: {path} {why}", "give the path of a PEM file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    key = keyfile or certfile
    try:
        context.load_cert_chain(certfile, keyfile, password=_no_password)
    except _Encrypted:
        raise Misuse(
            f"the key in {key} is encrypted, and nobody is there to be asked for its password",
            "give one without: openssl pkey -in KEY -out PLAIN",
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise Misuse(
            f"certfile {certfile} and key {key} do not work: {reason}",
            "both must be PEM, and belong together",
        ) from None
    return context


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    """Else OpenSSL would ask at the terminal."""
    raise _Encrypted
