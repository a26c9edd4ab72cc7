"""AsyncSocket: a socket that tasks wait for, on asyncio."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from .program import program

LENGTH = struct.Struct(">L")  # before each message


class AsyncSocket:
    """``AsyncSocket(sock)``: its methods are waited for, ``data = yield conn.recv(1024)``; what does not wait is the socket's own.

    With ``blocking=True`` it is for threads, and its methods wait themselves.
    """

    def __init__(
        self,
        sock: Any,
        blocking: bool = False,
        keyfile: Any = None,
        certfile: Any = None,
        ssl_version: Any = None,
    ) -> None:
        if keyfile or certfile:
            raise NotImplementedError(
                "AsyncSocket with keyfile or certfile is not covered (docs/compat.md): asyncio.start_server(ssl=...) has TLS"
            )
        self._sock: socket.socket = sock._sock if isinstance(sock, AsyncSocket) else sock
        self._blocking = blocking
        self._timeout: float | None = socket.getdefaulttimeout()
        self._waits: set[asyncio.Future[Any]] = set()
        self._sock.setblocking(blocking)

    # --- what waits ---

    def recv(self, bufsize: int, *flags: int) -> Any:
        """Some bytes, at most so many; none at the end."""
        return self._do(lambda loop: loop.sock_recv(self._sock, bufsize), self._sock.recv, bufsize, *flags)

    def recvall(self, bufsize: int, *flags: int) -> Any:
        """So many bytes; fewer at the end."""
        return self._do(lambda loop: self._recvall(loop, bufsize), self._recvall_now, bufsize)

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
        return self._do(lambda loop: loop.sock_connect(self._sock, address), self._sock.connect, address)

    def accept(self) -> Any:
        """(AsyncSocket, address) of who connects next."""
        return self._do(self._accept, self._accept_now)

    def send_msg(self, data: Any) -> Any:
        """A message: its length, and the bytes."""
        whole = LENGTH.pack(len(data)) + bytes(data)
        return self.sendall(whole)

    def recv_msg(self) -> Any:
        """What send_msg() was given; empty at the end."""
        return self._do(self._recv_msg, self._recv_msg_now)

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

    def setDefaultTimeout(self, timeout: float | None) -> None:
        """As settimeout()."""
        self.settimeout(timeout)

    def close(self) -> None:
        """It, and tasks that wait for it get OSError: the loop forgets its number, which the next socket has."""
        if self._waits:
            program.call(self._wake)
        self._sock.close()

    def unwrap(self) -> socket.socket:
        """The socket itself, as Python made it."""
        self._sock.setblocking(True)
        return self._sock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
    ) -> Any:
        return block(*args) if self._blocking else self._waited(wait)

    async def _waited(self, wait: Callable[[asyncio.AbstractEventLoop], Awaitable[Any]]) -> Any:
        ready = asyncio.ensure_future(wait(asyncio.get_running_loop()))
        self._waits.add(ready)
        try:
            async with asyncio.timeout(self._timeout):
                return await ready
        except TimeoutError:
            raise TimeoutError("timed out") from None  # socket.timeout is its other name
        except asyncio.CancelledError:
            if ready in self._waits:
                raise
            raise OSError(errno.EBADF, "the socket was closed while a task waited for it") from None
        finally:
            self._waits.discard(ready)

    async def _sendall(self, loop: asyncio.AbstractEventLoop, data: Any, answer: int | None) -> int | None:
        await loop.sock_sendall(self._sock, data)
        return answer

    async def _recvall(self, loop: asyncio.AbstractEventLoop, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            some = await loop.sock_recv(self._sock, size - len(received))
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
        return AsyncSocket(conn), address

    def _accept_now(self) -> tuple[AsyncSocket, Any]:
        conn, address = self._sock.accept()
        return AsyncSocket(conn, blocking=True), address
