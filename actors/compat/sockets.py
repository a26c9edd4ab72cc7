"""AsyncSocket: a socket that tasks wait for, on asyncio."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..tasks.waiting import complete, within
from .program import program
from .small import Closing

T = TypeVar("T")
LENGTH = struct.Struct(">L")  # before each message
RECORD_MAX = 1 << 14  # bytes of one of TLS


class AsyncSocket(Closing):
    """``AsyncSocket(sock)``: its methods are waited for, ``data = yield conn.recv(1024)``; what does not wait is the socket's own.

    With ``blocking=True`` it is for threads, and its methods wait themselves. `certfile`, with `keyfile`: TLS. Who accepts shows
    this certificate; who connects trusts this one, or those that it has signed, whatever host they name.
    """

    def __init__(
        self,
        sock: Any,
        blocking: bool = False,
        keyfile: Any = None,
        certfile: Any = None,
        ssl_version: Any = None,
    ) -> None:
        self._keyfile, self._certfile = keyfile, certfile
        self._sock: socket.socket = sock._sock if isinstance(sock, AsyncSocket) else sock
        self._blocking = blocking
        self._timeout: float | None = socket.getdefaulttimeout()
        self._waits: set[asyncio.Future[Any]] = set()
        self._sock.setblocking(blocking)

    # --- what waits ---

    def recv(self, bufsize: int, *flags: int) -> Any:
        """Some bytes, at most so many; none at the end, and if it is closed meanwhile."""
        return self._do(
            lambda loop: self._recv(loop, bufsize, *flags), self._sock.recv, bufsize, *flags, at_close=b""
        )

    def recvall(self, bufsize: int, *flags: int) -> Any:
        """So many bytes; fewer at the end."""
        return self._do(lambda loop: self._recvall(loop, bufsize), self._recvall_now, bufsize, at_close=b"")

    def send(self, data: Any, *flags: int) -> Any:
        """How many of these bytes were sent."""
        return self._do(lambda loop: self._sendall(loop, data, len(data)), self._sock.send, data, *flags)

    def sendall(self, data: Any, *flags: int) -> Any:
        """All of them."""
        return self._do(lambda loop: self._sendall(loop, data, None), self._sock.sendall, data, *flags)

    def recvfrom(self, bufsize: int, *flags: int) -> Any:
        """(bytes, address)."""
        return self._do(
            lambda loop: loop.sock_recvfrom(self._sock, bufsize), self._sock.recvfrom, bufsize, *flags
        )

    def sendto(self, data: Any, *args: Any) -> Any:
        """To an address; how many bytes were sent."""
        return self._do(
            lambda loop: loop.sock_sendto(self._sock, data, args[-1]), self._sock.sendto, data, *args
        )

    def connect(self, address: Any) -> Any:
        """To whom."""
        return self._do(lambda loop: self._connect(loop, address), self._connect_now, address)

    def create_connection(
        self, host_port: Any, timeout: float | None = None, source_address: Any = None
    ) -> Any:
        """As connect(), with settimeout() and bind() before."""
        if timeout is not None:
            self.settimeout(timeout)
        if source_address is not None:
            self._sock.bind(source_address)
        return self.connect(host_port)

    def accept(self) -> Any:
        """(AsyncSocket, address) of who connects next."""
        return self._do(self._accept, self._accept_now)

    def send_msg(self, data: Any) -> Any:
        """A message: its length, and the bytes."""
        whole = LENGTH.pack(len(data)) + bytes(data)
        return self.sendall(whole)

    def recv_msg(self) -> Any:
        """What send_msg() was given; empty at the end."""
        return self._do(self._recv_msg, self._recv_msg_now, at_close=b"")

    # --- what does not ---

    def settimeout(self, timeout: float | None) -> None:
        """Seconds after which what waits raises socket.timeout."""
        self._timeout = timeout
        if self._blocking:
            self._sock.settimeout(timeout)

    def gettimeout(self) -> float | None:
        """Seconds."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Whether it is for threads."""
        self._blocking = bool(flag)
        self._sock.setblocking(self._blocking)

    def setdefaulttimeout(self, timeout: float | None) -> None:
        """As settimeout()."""
        self.settimeout(timeout)

    setDefaultTimeout = setdefaulttimeout

    def close(self) -> None:
        """It. Tasks that wait for bytes of it get none, others OSError: the loop forgets its number, which the next socket has."""
        if self._waits:
            program.call(self._wake)
        self._sock.close()

    def unwrap(self) -> socket.socket:
        """The socket itself, as Python made it."""
        self._sock.setblocking(True)
        return self._sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    # --- inside ---

    def _wake(self) -> None:
        waits = list(self._waits)
        self._waits.clear()
        for ready in waits:
            ready.get_loop().remove_reader(self._sock)
            ready.get_loop().remove_writer(self._sock)
            ready.cancel()

    def _do(
        self,
        wait: Callable[[asyncio.AbstractEventLoop], Awaitable[Any]],
        block: Callable[..., Any],
        *args: Any,
        at_close: bytes | None = None,
    ) -> Any:
        return block(*args) if self._blocking else self._waited(wait, at_close)

    async def _waited(
        self, wait: Callable[[asyncio.AbstractEventLoop], Awaitable[Any]], at_close: bytes | None
    ) -> Any:
        ready = asyncio.ensure_future(wait(asyncio.get_running_loop()))
        self._waits.add(ready)
        try:
            return await within(ready, self._timeout)  # socket.timeout is TimeoutError's other name
        except asyncio.CancelledError:
            if ready in self._waits:
                raise
            if at_close is not None:
                return at_close
            raise OSError(errno.EBADF, "the socket was closed while a task waited for it") from None
        finally:
            self._waits.discard(ready)

    async def _connect(self, loop: asyncio.AbstractEventLoop, address: Any) -> None:
        if isinstance(address, tuple) and address[0] == "":  # which asyncio has looked up as a name
            address = ("::1" if self._sock.family == socket.AF_INET6 else "127.0.0.1", *address[1:])
        await loop.sock_connect(self._sock, address)
        if self._certfile:
            self._sock = tls = _trusting(self._certfile).wrap_socket(
                self._sock, do_handshake_on_connect=False
            )
            await self._tried(loop, tls.do_handshake)

    def _connect_now(self, address: Any) -> None:
        self._sock.connect(address)
        if self._certfile:
            self._sock = _trusting(self._certfile).wrap_socket(self._sock)

    async def _recv(self, loop: asyncio.AbstractEventLoop, size: int, *flags: int) -> bytes:
        if flags or isinstance(self._sock, ssl.SSLSocket):
            return await self._tried(loop, self._sock.recv, size, *flags)
        return await loop.sock_recv(self._sock, size)

    async def _sendall(self, loop: asyncio.AbstractEventLoop, data: Any, answer: int | None) -> int | None:
        if not isinstance(self._sock, ssl.SSLSocket):
            await loop.sock_sendall(self._sock, data)
            return answer
        left = memoryview(data).cast("B")
        while left:
            left = left[await self._tried(loop, self._sock.send, left[:RECORD_MAX]) :]
        return answer

    async def _tried(self, loop: asyncio.AbstractEventLoop, call: Callable[..., T], *args: Any) -> T:
        """What it returns, as soon as it need not wait: asyncio's own calls take no socket of TLS, nor flags."""
        while True:
            try:
                return call(*args)
            except (ssl.SSLWantReadError, BlockingIOError):
                add, remove = loop.add_reader, loop.remove_reader
            except ssl.SSLWantWriteError:
                add, remove = loop.add_writer, loop.remove_writer
            ready: asyncio.Future[None] = loop.create_future()
            number = self._sock.fileno()
            add(number, complete, ready, None)
            try:
                await ready
            finally:
                if self._sock.fileno() == number:  # else it was closed, and another one has the number
                    remove(number)

    async def _recvall(self, loop: asyncio.AbstractEventLoop, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            some = await self._recv(loop, size - len(received))
            if not some:
                break
            received += some
        return bytes(received)

    def _recvall_now(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size and (some := self._sock.recv(size - len(received))):
            received += some
        return bytes(received)

    async def _recv_msg(self, loop: asyncio.AbstractEventLoop) -> bytes:
        head = await self._recvall(loop, LENGTH.size)
        return await self._recvall(loop, LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""

    def _recv_msg_now(self) -> bytes:
        head = self._recvall_now(LENGTH.size)
        return self._recvall_now(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> tuple[AsyncSocket, Any]:
        conn, address = await loop.sock_accept(self._sock)
        return self._accepted(conn, blocking=False), address

    def _accept_now(self) -> tuple[AsyncSocket, Any]:
        conn, address = self._sock.accept()
        return self._accepted(conn, blocking=True), address

    def _accepted(self, conn: socket.socket, *, blocking: bool) -> AsyncSocket:
        """Hands are shaken with the first bytes, so nobody who is slow holds up the others."""
        if self._certfile:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certfile, self._keyfile)
            conn = context.wrap_socket(conn, server_side=True, do_handshake_on_connect=False)
        return AsyncSocket(conn, blocking, self._keyfile, self._certfile)


def _trusting(certfile: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certfile)
    context.check_hostname = False  # its own certificate is trusted, and nobody else's
    return context
